"""ENV126: The Hugging Face cache cannot be used, or its offline switches are at odds with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

UNWRITABLE = Text(en="the Hugging Face cache {cache} cannot be written to", zh="Hugging Face 缓存 {cache} 不可写")
OFFLINE = Text(
    en="{switches} forbids downloads, and the cache {cache} does not exist: no hub id can be loaded",
    zh="{switches} 禁止下载，而缓存 {cache} 不存在：无法加载任何 hub id",
)
HALF = Text(
    en="{switches} forbids some downloads, and {unset} does not: models and data sets are treated differently",
    zh="{switches} 禁止了部分下载，而 {unset} 没有：模型与数据集的处理不一致",
)
TRANSFER = Text(
    en="HF_HUB_ENABLE_HF_TRANSFER is set, and the package hf_transfer is not installed: downloads fail",
    zh="设置了 HF_HUB_ENABLE_HF_TRANSFER，却没有安装 hf_transfer：下载会失败",
)
FIX_UNWRITABLE = Text(en="export HF_HOME=/a/folder/of/yours, or sudo chown -R $USER {cache}", zh="执行 export HF_HOME=/你的目录，或 sudo chown -R $USER {cache}")
FIX_OFFLINE = Text(
    en="unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE, or copy a filled cache and export HF_HOME=its folder",
    zh="执行 unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE，或复制一份已有内容的缓存并 export HF_HOME 指向它",
)
FIX_HALF = Text(en="export HF_HUB_OFFLINE=1 alone (it covers all three), or unset all of them", zh="只设 export HF_HUB_OFFLINE=1（它涵盖三者），或全部 unset")
FIX_TRANSFER = Text(en="pip install hf_transfer, or unset HF_HUB_ENABLE_HF_TRANSFER", zh="执行 pip install hf_transfer，或 unset HF_HUB_ENABLE_HF_TRANSFER")
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
ON = ("1", "ON", "YES", "TRUE")


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    on = [name for name in SWITCHES if seen.variables.get(name, "").upper() in ON]
    unset = [name for name in SWITCHES if name not in on]
    evidence = {"cache": seen.hub_cache, "switches": ", ".join(f"{name}={seen.variables[name]}" for name in on) or "-", "unset": ", ".join(unset) or "-"}
    transfer = seen.variables.get("HF_HUB_ENABLE_HF_TRANSFER", "").upper() in ON and _major(seen.versions.get("huggingface-hub", "0")) < 1
    if not seen.hub_cache_writable:
        yield Finding(code="ENV126", severity=Severity.ERROR, message=UNWRITABLE, evidence=evidence, fix=FIX_UNWRITABLE)
    elif on and not seen.hub_cache_exists:
        yield Finding(code="ENV126", severity=Severity.WARNING, message=OFFLINE, evidence=evidence, fix=FIX_OFFLINE)
    elif on and "HF_HUB_OFFLINE" in unset:
        yield Finding(code="ENV126", severity=Severity.WARNING, message=HALF, evidence=evidence, fix=FIX_HALF)
    elif transfer and "hf_transfer" not in seen.versions:
        yield Finding(code="ENV126", severity=Severity.WARNING, message=TRANSFER, evidence=evidence, fix=FIX_TRANSFER)


def _major(version: str) -> int:
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 0


CHECK = Check(
    code="ENV126",
    name="hub_cache_unfit",
    stage=Stage.ENV,
    severity=Severity.WARNING,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="the Hugging Face cache or its switches do not fit", zh="Hugging Face 缓存或其开关不当"),
        what=Text(
            en="Whether the hub cache (HF_HUB_CACHE, HF_HOME) can be written to (an error if not), whether offline switches leave something to load, whether they agree, and whether HF_HUB_ENABLE_HF_TRANSFER has its package.",
            zh="检查 hub 缓存（HF_HUB_CACHE、HF_HOME）是否可写（不可写为错误）、离线开关下是否还有可加载的内容、各开关是否一致，以及 HF_HUB_ENABLE_HF_TRANSFER 是否有相应的包。",
        ),
        why=Text(
            en="An offline switch left in a shell makes every hub id fail as if it did not exist; a cache on a read-only or foreign home fails in the middle of a download.",
            zh="shell 中遗留的离线开关会让所有 hub id 看似不存在；只读或属于他人的缓存目录会让下载中途失败。",
        ),
        fix=Text(
            en="Unset the switch, or fill the cache on a machine with a network (hf download) and copy it. HF_HOME moves the cache.",
            zh="去掉开关，或在有网络的机器上用 hf download 填充缓存后复制过来。HF_HOME 可移动缓存。",
        ),
        example="""warning ENV126: HF_HUB_OFFLINE=1 forbids downloads, and the cache /data/hf/hub does not exist: no hub id can be loaded
  fix: unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE, or copy a filled cache and export HF_HOME=its folder

env | grep HF_
unset HF_HUB_OFFLINE""",
    ),
    fires=(
        Facts(doctor=replace(DOCTOR, variables={"HF_HUB_OFFLINE": "1"}, hub_cache_exists=False)),
        Facts(doctor=replace(DOCTOR, hub_cache_writable=False)),
        Facts(doctor=replace(DOCTOR, variables={"TRANSFORMERS_OFFLINE": "1"})),
        Facts(doctor=replace(DOCTOR, variables={"HF_HUB_ENABLE_HF_TRANSFER": "1"})),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, variables={"HF_HUB_OFFLINE": "1"})),
        Facts(doctor=replace(DOCTOR, hub_cache_exists=False)),
        Facts(doctor=replace(DOCTOR, variables={"HF_HUB_ENABLE_HF_TRANSFER": "1"}, versions={"huggingface-hub": "1.2.0"})),
    ),
)
