"""RUN602: the learning rate of a step is not the planned one."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP
from gogpt.facts import Facts, RunFacts, StepStats, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

TOLERANCE = 1e-6
"""Of the peak learning rate: more than the rounding of a scheduler, less than one step of any schedule."""

PER_PROCESS = Text(
    en="the learning rate is 0 at step {step} of {steps_planned} (planned {planned_lr}): the scheduler was stepped more than once "
    "per step; once per process ({world_size}) ends it at step {end_per_process}",
    zh="第 {step} 步（共 {steps_planned} 步）的学习率为 0（计划 {planned_lr}）：调度器在每步被推进了多次；"
    "若每个进程（共 {world_size} 个）各推进一次，会在第 {end_per_process} 步降到 0",
)
ENDED_EARLY = Text(
    en="the learning rate is 0 at step {step} of {steps_planned} (planned {planned_lr}): the scheduler was stepped more than once "
    "per step, or was built for fewer steps",
    zh="第 {step} 步（共 {steps_planned} 步）的学习率为 0（计划 {planned_lr}）：调度器在每步被推进了多次，或按更少的总步数构建",
)
STAYS_AT_PEAK = Text(
    en="the learning rate is still the peak {lr} at step {step} of {steps_planned} (planned {planned_lr}): a schedule without decay is in "
    "charge (DeepSpeed's WarmupLR has none)",
    zh="第 {step} 步（共 {steps_planned} 步）的学习率仍是峰值 {lr}（计划 {planned_lr}）：起作用的是没有衰减的调度器（DeepSpeed 的 WarmupLR 没有衰减）",
)
ABOVE_PEAK = Text(
    en="the learning rate is {lr} at step {step}, above the peak {peak_lr} of the recipe: another optimizer or scheduler sets it "
    "(DeepSpeed's default warmup_max_lr is 0.001)",
    zh="第 {step} 步的学习率为 {lr}，高于配方的峰值 {peak_lr}：由另一个优化器或调度器设定（DeepSpeed 的 warmup_max_lr 默认为 0.001）",
)
DIFFERS = Text(
    en="the learning rate is {lr} at step {step} of {steps_planned}, the plan says {planned_lr}",
    zh="第 {step} 步（共 {steps_planned} 步）的学习率为 {lr}，计划为 {planned_lr}",
)
FIX = Text(
    en="let one scheduler set the learning rate, stepped once per optimizer step: take optimizer and scheduler out of the DeepSpeed "
    "file, and do not pass the scheduler to accelerate's prepare()",
    zh="只让一个调度器设定学习率，每个优化步推进一次：从 DeepSpeed 配置中去掉 optimizer 和 scheduler，不要把调度器交给 accelerate 的 prepare()",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    last, planned = seen.last, seen.planned_lr
    if last is None or planned is None:
        return
    if abs(last.lr - planned) <= TOLERANCE * max(seen.peak_lr, sys.float_info.min):  # False for NaN
        return
    evidence = to_json({
        "step": last.step, "lr": last.lr, "planned_lr": planned, "peak_lr": seen.peak_lr,
        "steps_planned": seen.steps_planned, "world_size": seen.world_size,
        "ratio": last.lr / planned if planned else None,
        "end_per_process": math.ceil(seen.steps_planned / max(1, seen.world_size)),
    })
    yield Finding(code="RUN602", severity=Severity.ERROR, message=_mechanism(seen, last), evidence=evidence, fix=FIX)


def _mechanism(seen: RunFacts, last: StepStats) -> Text:
    """The likeliest cause that the numbers allow to name."""
    if last.lr == 0 and 1 < last.step < seen.steps_planned:
        once_per_process = seen.world_size > 1 and last.step * seen.world_size >= seen.steps_planned
        return PER_PROCESS if once_per_process else ENDED_EARLY
    if last.lr > seen.peak_lr * (1 + TOLERANCE):
        return ABOVE_PEAK
    if last.lr == seen.peak_lr and last.step > 1:
        return STAYS_AT_PEAK
    return DIFFERS


CHECK = Check(
    code="RUN602",
    name="lr_left_plan",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the learning rate left its plan", zh="学习率偏离了计划"),
        what=Text(
            en="Whether the learning rate that the step used equals the one that the plan has for it, within a millionth of the "
            "peak. The plan is arithmetic over the recipe; the rate is read from the optimizer.",
            zh="检查该步实际使用的学习率与计划是否相等，误差不超过峰值的百万分之一。计划由配方计算得出，实际值从优化器读取。",
        ),
        why=Text(
            en="A run of 9,200 planned steps on 8 GPUs had its learning rate at 0 from step 1,200 on: a scheduler stepped once per "
            "process reaches its end after 1/8 of the run, silently. Schedulers in a DeepSpeed file override the recipe: cosine "
            "asked, constant got (hiyouga/LLaMA-Factory#2495, #394; haotian-liu/LLaVA#1433; deepspeedai/DeepSpeed#7303).",
            zh="一次在 8 块 GPU 上计划 9200 步的训练，从第 1200 步起学习率就是 0：每个进程各推进一次的调度器在 1/8 处悄悄走完。"
            "DeepSpeed 配置中的调度器会覆盖配方：要的是余弦，得到的是常数"
            "（hiyouga/LLaMA-Factory#2495、#394；haotian-liu/LLaVA#1433；deepspeedai/DeepSpeed#7303）。",
        ),
        fix=Text(
            en="Let one place own the schedule. Remove optimizer and scheduler from the DeepSpeed file. In code of your own, step "
            "the scheduler once per optimizer step, or prepare it with split_batches=True. gogpt plan RECIPE prints the planned "
            "rates.",
            zh="学习率计划只由一处管理。从 DeepSpeed 配置中删除 optimizer 和 scheduler。自己的代码中，每个优化步只推进一次调度器，"
            "或以 split_batches=True 交给 prepare。gogpt plan RECIPE 会列出计划的学习率。",
        ),
        example="""RUN602: the learning rate is 0 at step 1200 of 9200 (planned 0.00019): the scheduler was stepped more than once per step; once per process (8) ends it at step 1150
  fix:      let one scheduler set the learning rate, stepped once per optimizer step: take optimizer and scheduler out of the DeepSpeed file, and do not pass the scheduler to accelerate's prepare()

# ds.json: no "optimizer", no "scheduler"
train:
  schedule: cosine
  learning_rate: 2e-4""",
    ),
    fires=(
        Facts(run=replace(RUN, steps_planned=9200, world_size=8, planned_lr=1.9e-4, last=replace(STEP, step=1200, lr=0.0))),
        Facts(run=replace(RUN, planned_lr=1.5e-4, last=replace(STEP, step=100, lr=0.0))),
        Facts(run=replace(RUN, planned_lr=1.5e-4, last=replace(STEP, step=100, lr=2e-4))),
        Facts(run=replace(RUN, planned_lr=1.5e-4, last=replace(STEP, step=100, lr=1e-3))),
        Facts(run=replace(RUN, planned_lr=1.5e-4, last=replace(STEP, step=100, lr=1.4e-4))),
        Facts(run=replace(RUN, last=replace(STEP, lr=float("nan")))),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None)),
        Facts(run=replace(RUN, planned_lr=None, last=replace(STEP, lr=0.0))),
        Facts(run=replace(RUN, planned_lr=1.9e-4 * (1 + 1e-8))),
    ),
)
