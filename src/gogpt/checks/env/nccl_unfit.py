"""ENV124: NCCL's settings or /dev/shm do not fit several GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

INTERFACE = Text(
    en="NCCL_SOCKET_IFNAME={value} names no network interface of this machine ({interfaces})",
    zh="NCCL_SOCKET_IFNAME={value} 不是本机的网络接口（{interfaces}）",
)
SHM = Text(
    en="/dev/shm holds {shm_mib} MiB for {num_gpus} GPUs; NCCL and data loaders need about 1 GiB (a container gets 64 MiB unless told)",
    zh="/dev/shm 只有 {shm_mib} MiB，而有 {num_gpus} 个 GPU；NCCL 和数据加载约需 1 GiB（容器默认只有 64 MiB）",
)
SLOW = Text(
    en="{settings} switches off a fast path of NCCL: {num_gpus} GPUs would exchange gradients much more slowly",
    zh="{settings} 关闭了 NCCL 的快速通道：{num_gpus} 个 GPU 交换梯度会慢很多",
)
FIX_INTERFACE = Text(en="unset NCCL_SOCKET_IFNAME, or export NCCL_SOCKET_IFNAME={first}", zh="执行 unset NCCL_SOCKET_IFNAME，或 export NCCL_SOCKET_IFNAME={first}")
FIX_SHM = Text(
    en="docker run --shm-size=16g (or --ipc=host); in Kubernetes mount an emptyDir with medium: Memory at /dev/shm; else sudo mount -o remount,size=16G /dev/shm",
    zh="docker run --shm-size=16g（或 --ipc=host）；Kubernetes 中把 medium: Memory 的 emptyDir 挂载到 /dev/shm；或 sudo mount -o remount,size=16G /dev/shm",
)
FIX_SLOW = Text(en="unset {names}, unless this machine hangs without it", zh="执行 unset {names}，除非本机不设就会卡住")


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    if len(seen.gpus) < 2:
        return
    value = seen.variables.get("NCCL_SOCKET_IFNAME", "")
    slow = {k: v for k, v in seen.variables.items() if k in ("NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE") and v == "1"}
    others = [name for name in seen.interfaces if name != "lo"]
    evidence = {
        "value": value or "-", "interfaces": ", ".join(seen.interfaces) or "-", "first": next(iter(others), "lo"), "num_gpus": len(seen.gpus),
        "shm_mib": (seen.shm_total or 0) // 2**20, "settings": ", ".join(f"{k}={v}" for k, v in slow.items()) or "-", "names": " ".join(slow) or "-",
    }
    if value and seen.interfaces and not _matches(value, seen.interfaces):
        yield Finding(code="ENV124", severity=Severity.ERROR, message=INTERFACE, evidence=evidence, fix=FIX_INTERFACE)
    elif seen.shm_total is not None and seen.shm_total < 2**30 and "NCCL_SHM_DISABLE" not in slow:
        yield Finding(code="ENV124", severity=Severity.WARNING, message=SHM, evidence=evidence, fix=FIX_SHM)
    elif slow:
        yield Finding(code="ENV124", severity=Severity.WARNING, message=SLOW, evidence=evidence, fix=FIX_SLOW)


def _matches(value: str, interfaces: tuple[str, ...]) -> bool:
    """NCCL's own rule: a list of prefixes; ``=`` before it: whole names; ``^``: all but those."""
    excluded = value.startswith("^")
    exact = value.lstrip("^").startswith("=")
    names = [name for name in value.lstrip("^=").split(",") if name]
    hit = {i for i in interfaces for n in names if (i == n if exact else i.startswith(n))}
    return bool(set(interfaces) - hit if excluded else hit)


CHECK = Check(
    code="ENV124",
    name="nccl_unfit",
    stage=Stage.ENV,
    severity=Severity.WARNING,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="NCCL's settings do not fit this machine", zh="NCCL 的设置与本机不符"),
        what=Text(
            en="With several GPUs: whether NCCL_SOCKET_IFNAME names an interface that is there (an error if not), whether /dev/shm holds 1 GiB, and whether NCCL_P2P_DISABLE or NCCL_SHM_DISABLE is set.",
            zh="有多个 GPU 时，检查 NCCL_SOCKET_IFNAME 是否为存在的网络接口（不存在为错误）、/dev/shm 是否有 1 GiB，以及是否设置了 NCCL_P2P_DISABLE 或 NCCL_SHM_DISABLE。",
        ),
        why=Text(
            en="Without its interface NCCL ends at the first collective. In a container /dev/shm holds 64 MiB, and NCCL fails with No space left on device while the disks are empty (NVIDIA/nccl#342, NVIDIA/nccl#290). Switches that were set for another machine make every step slower and say nothing.",
            zh="找不到网络接口时，NCCL 在第一次集合通信就终止。容器中 /dev/shm 默认 64 MiB，磁盘很空而 NCCL 却报 No space left on device（NVIDIA/nccl#342、NVIDIA/nccl#290）。为别的机器设置的开关会不声不响地拖慢每一步。",
        ),
        fix=Text(
            en="Take settings out that were made for another machine; NCCL_DEBUG=INFO shows what NCCL chooses. Give a container more shared memory.",
            zh="去掉为别的机器所做的设置；NCCL_DEBUG=INFO 会显示 NCCL 的选择。给容器更多共享内存。",
        ),
        example="""warning ENV124: /dev/shm holds 64 MiB for 2 GPUs; NCCL and data loaders need about 1 GiB (a container gets 64 MiB unless told)
  fix: docker run --shm-size=16g (or --ipc=host); in Kubernetes mount an emptyDir with medium: Memory at /dev/shm; else sudo mount -o remount,size=16G /dev/shm

df -h /dev/shm
docker run --shm-size=16g ...""",
    ),
    fires=(
        Facts(doctor=replace(DOCTOR, shm_total=64 * 2**20)),
        Facts(doctor=replace(DOCTOR, variables={"NCCL_SOCKET_IFNAME": "ib0"})),
        Facts(doctor=replace(DOCTOR, variables={"NCCL_P2P_DISABLE": "1"})),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, gpus=DOCTOR.gpus[:1], shm_total=64 * 2**20)),
        Facts(doctor=replace(DOCTOR, variables={"NCCL_SOCKET_IFNAME": "^lo,docker"})),
        Facts(doctor=replace(DOCTOR, variables={"NCCL_SOCKET_IFNAME": "eth"})),
    ),
)
