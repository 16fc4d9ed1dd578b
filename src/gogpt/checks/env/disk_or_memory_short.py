"""ENV125: Disk or memory is short of what the plan needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DOCTOR
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

DISK = Text(
    en="{disk} has {free:.1f} GiB free, and the recipe's checkpoints and model need about {needed:.1f} GiB",
    zh="{disk} 剩余 {free:.1f} GiB，而配方的检查点和模型约需 {needed:.1f} GiB",
)
LITTLE = Text(
    en="{disk} has {free:.1f} GiB free: less than most models and their checkpoints need",
    zh="{disk} 剩余 {free:.1f} GiB：少于多数模型及其检查点所需",
)
MEMORY = Text(
    en="a step needs about {memory_needed:.1f} GiB, and there are {memory:.1f} GiB",
    zh="一步训练约需 {memory_needed:.1f} GiB 内存，而只有 {memory:.1f} GiB",
)
FIX_DISK = Text(
    en="free some room (du -xh {disk} | sort -h | tail; hf cache delete), lower train.keep_checkpoints, or write to another disk (output=...)",
    zh="释放空间（du -xh {disk} | sort -h | tail；hf cache delete），减小 train.keep_checkpoints，或写到另一块磁盘（output=...）",
)
FIX_MEMORY = Text(
    en="gogpt plan RECIPE train.micro_batch_size=1 train.gradient_checkpointing=true; then a smaller data.max_length, or method.kind=lora",
    zh="执行 gogpt plan RECIPE train.micro_batch_size=1 train.gradient_checkpointing=true；仍不够则减小 data.max_length，或用 method.kind=lora",
)
LEAST = 5 * 2**30


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.doctor
    assert seen is not None
    evidence = {"disk": seen.disk, "free": seen.disk_free / 2**30, "needed": seen.disk_needed / 2**30, "memory": seen.memory / 2**30, "memory_needed": seen.memory_needed / 2**30}
    if seen.disk_needed > seen.disk_free:
        yield Finding(code="ENV125", severity=Severity.ERROR, message=DISK, evidence=evidence, fix=FIX_DISK)
    elif seen.disk_free < LEAST and not seen.disk_needed:
        yield Finding(code="ENV125", severity=Severity.WARNING, message=LITTLE, evidence=evidence, fix=FIX_DISK)
    elif seen.memory_needed > seen.memory:
        yield Finding(code="ENV125", severity=Severity.WARNING, message=MEMORY, evidence=evidence, fix=FIX_MEMORY)


CHECK = Check(
    code="ENV125",
    name="disk_or_memory_short",
    stage=Stage.ENV,
    severity=Severity.WARNING,
    needs=("doctor",),
    run=run,
    page=Page(
        title=Text(en="disk or memory is short", zh="磁盘或内存不足"),
        what=Text(
            en="With a recipe: whether the disk of output holds its checkpoints and its model (an error if not), and whether the estimated peak of a step fits the device. Without one: whether 5 GiB are free in this folder.",
            zh="给出配方时：检查 output 所在磁盘能否容纳检查点和模型（不能则为错误），以及估计的单步峰值能否放入设备。没有配方时：检查当前目录是否有 5 GiB 可用。",
        ),
        why=Text(
            en="A disk that fills up ends a run at a checkpoint, after hours; memory that is short ends it at the longest row.",
            zh="磁盘写满会让训练在几小时后的检查点处终止；内存不足会让它在最长的一行处终止。",
        ),
        fix=Text(
            en="Free some room, keep fewer checkpoints, or write elsewhere. gogpt plan shows the parts of the memory estimate.",
            zh="释放空间、少保留检查点，或写到别处。gogpt plan 会列出内存估计的各部分。",
        ),
        example="""warning ENV125: runs has 1.0 GiB free: less than most models and their checkpoints need
  fix: free some room (du -xh runs | sort -h | tail; hf cache delete), lower train.keep_checkpoints, or write to another disk (output=...)

df -h .
gogpt plan recipe.yaml""",
    ),
    fires=(
        Facts(doctor=replace(DOCTOR, disk_free=2**30, disk_needed=0)),
        Facts(doctor=replace(DOCTOR, disk_free=2**30)),
        Facts(doctor=replace(DOCTOR, memory_needed=80 * 2**30)),
    ),
    silent=(
        Facts(doctor=DOCTOR),
        Facts(doctor=replace(DOCTOR, disk_needed=0, memory_needed=0)),
    ),
)
