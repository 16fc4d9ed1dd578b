"""RUN602: the learning rate of a step is not the planned one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST, RUN, STEP
from gogpt.facts import Facts, HistoryFacts, RunFacts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

TOLERANCE = 1e-6
"""Of the peak learning rate: more than the rounding of a scheduler, less than one step of any schedule."""

AT = "the learning rate is {lr} at step {step} of {steps_planned} (planned {planned_lr}): "
AT_ZH = "第 {step} 步（共 {steps_planned} 步）的学习率为 {lr}（计划 {planned_lr}）："


def _live(en: str, zh: str) -> Text:
    return Text(en=AT + en, zh=AT_ZH + zh)


LIVE = {
    "per_process": _live("what the plan has for step {at}, so the scheduler is likeliest stepped once per process ({world_size}), and ends at step {end}",
                         "这是计划第 {at} 步的值，调度器很可能由每个进程（共 {world_size} 个）各推进一次，会在第 {end} 步走完"),
    "stepped_often": _live("what the plan has for step {at}, so the scheduler is likeliest stepped {factor} times a step, and ends at step {end}",
                           "这是计划第 {at} 步的值，调度器很可能每步被推进 {factor} 次，会在第 {end} 步走完"),
    "ended": _live("the schedule is at its end already, so the scheduler is likeliest stepped at least {factor} times a step, or was built for fewer steps",
                   "学习率计划已经走完，调度器很可能每步至少被推进 {factor} 次，或按更少的总步数构建"),
    "no_decay": _live("still the peak, so a schedule without decay is likeliest in charge (DeepSpeed's WarmupLR has none)",
                      "仍是峰值，起作用的很可能是没有衰减的调度器（DeepSpeed 的 WarmupLR 没有衰减）"),
    "restarted": _live("what the plan has for step {at}, so the run resumed at step {resumed} without the state of its scheduler, likeliest",
                       "这是计划第 {at} 步的值，训练很可能在第 {resumed} 步续训时没有恢复调度器的状态"),
    "skipped": _live("what the plan has for step {at}, so the scheduler was likeliest not stepped after the step before (as after an fp16 overflow)",
                     "这是计划第 {at} 步的值，调度器很可能在前一步之后没有推进（如 fp16 溢出之后）"),
    "scaled": _live("{ratio} times the plan, so another learning rate is likeliest in charge (DeepSpeed's default warmup_max_lr is 0.001)",
                    "是计划的 {ratio} 倍，起作用的很可能是另一个学习率（DeepSpeed 的 warmup_max_lr 默认为 0.001）"),
    "from_zero": _live("no step of the plan is at 0, but the warm-ups of DeepSpeed's and transformers' own schedulers begin there",
                       "计划中没有学习率为 0 的步，而 DeepSpeed 与 transformers 自带调度器的预热从 0 开始"),
    "above": _live("above the peak {peak_lr} of the recipe, so another optimizer or scheduler sets it (DeepSpeed's default warmup_max_lr is 0.001)",
                   "高于配方的峰值 {peak_lr}，由另一个优化器或调度器设定（DeepSpeed 的 warmup_max_lr 默认为 0.001）"),
    "unknown": Text(en="the learning rate is {lr} at step {step} of {steps_planned}, the plan says {planned_lr}",
                    zh="第 {step} 步（共 {steps_planned} 步）的学习率为 {lr}，计划为 {planned_lr}"),
}
"""Of a run that goes on: the first step off the plan is the only one seen."""

ENDED = "the learning rate is 0 from step {end} on, at 1/{factor} of the {steps_planned} planned steps: the scheduler was "
ENDED_ZH = "学习率从第 {end} 步起为 0，只到计划的 {steps_planned} 步的 1/{factor}："
HISTORY = {
    "per_process": Text(en=ENDED + "stepped once per process ({factor} processes)", zh=ENDED_ZH + "调度器由每个进程（共 {factor} 个）各推进一次"),
    "stepped_often": Text(en=ENDED + "stepped {factor} times a step, as with {factor} processes", zh=ENDED_ZH + "调度器每步被推进 {factor} 次，如同有 {factor} 个进程"),
    "fast_process": Text(en="the learning rate falls {factor} times as fast as planned ({steps_planned} steps): the scheduler is stepped once per process ({factor} processes)",
                         zh="学习率下降的速度是计划（{steps_planned} 步）的 {factor} 倍：调度器由每个进程（共 {factor} 个）各推进一次"),
    "fast": Text(en="the learning rate falls {factor} times as fast as planned ({steps_planned} steps): the scheduler is stepped {factor} times a step, as with "
                    "{factor} processes", zh="学习率下降的速度是计划（{steps_planned} 步）的 {factor} 倍：调度器每步被推进 {factor} 次，如同有 {factor} 个进程"),
    "ends_early": Text(en="the learning rate is 0 from step {end} on, and the run goes on to step {last_step} (planned {steps_planned}): the scheduler was built for fewer "
                          "steps, or stepped too often", zh="学习率从第 {end} 步起为 0，而训练继续到第 {last_step} 步（计划 {steps_planned} 步）：调度器按更少的步数构建，或被推进得过多"),
    "no_decay": Text(en="the learning rate stays at {constant} from step {from} to step {to} of {steps_planned}, although {schedule} was asked for: a schedule without "
                        "decay is in charge (DeepSpeed's WarmupLR has none)",
                     zh="要求的是 {schedule}，学习率从第 {from} 步到第 {to} 步（共 {steps_planned} 步）却一直是 {constant}：起作用的是没有衰减的调度器（DeepSpeed 的 WarmupLR 没有衰减）"),
    "other_schedule": Text(en="{schedule} was asked for, and the learning rate follows a {got} schedule: another scheduler is in charge (one in the DeepSpeed file overrides "
                              "the arguments)", zh="要求的是 {schedule}，学习率走的却是 {got}：起作用的是另一个调度器（DeepSpeed 配置中的会覆盖参数）"),
    "restarted": Text(en="the learning rate begins again at step {at}, as at the first step: the run was resumed without the state of its scheduler",
                      zh="学习率在第 {at} 步重新从头开始：续训时没有恢复调度器的状态"),
    "skipped": Text(en="the learning rate is {skipped} steps behind its plan: the scheduler was not stepped after as many steps (as after fp16 overflows)",
                    zh="学习率比计划落后 {skipped} 步：有同样多的步之后调度器没有推进（如 fp16 溢出之后）"),
    "scaled": Text(en="the learning rate is {ratio} times what was asked for (reached {reached}): another learning rate is in charge (DeepSpeed's default warmup_max_lr is 0.001)",
                   zh="学习率是所要求的 {ratio} 倍（达到 {reached}）：起作用的是另一个学习率（DeepSpeed 的 warmup_max_lr 默认为 0.001）"),
    "log_warmup": Text(en="the warm-up rises as a logarithm: DeepSpeed's own scheduler is in charge (warmup_type is log by default)",
                       zh="预热按对数上升：起作用的是 DeepSpeed 自带的调度器（warmup_type 默认为 log）"),
    "all_zero": Text(en="the learning rate is 0 in all of {observations} records (up to step {last_step}): nothing is learned", zh="全部 {observations} 条记录（至第 {last_step} 步）的学习率都是 0：什么也没有学到"),
    "unknown": Text(en="the learning rate is {lr} at step {first_off} of {steps_planned}, what was asked for gives {planned_lr}",
                    zh="第 {first_off} 步（共 {steps_planned} 步）的学习率为 {lr}，按所要求的应为 {planned_lr}"),
}
"""Of a run that left its records."""

FIX = Text(
    en="let one scheduler set the learning rate, stepped once per optimizer step: take optimizer and scheduler out of the DeepSpeed "
    "file, and do not pass the scheduler to accelerate's prepare()",
    zh="只让一个调度器设定学习率，每个优化步推进一次：从 DeepSpeed 配置中去掉 optimizer 和 scheduler，不要把调度器交给 accelerate 的 prepare()",
)
FIX_RESUME = Text(en="resume from a checkpoint that holds the scheduler's state (scheduler.pt), with the option that restores it (resume_from_checkpoint)",
                  zh="从含有调度器状态（scheduler.pt）的检查点续训，并使用会恢复它的选项（resume_from_checkpoint）")
FIX_SKIPPED = Text(en="use bf16 or fp32 instead of fp16, or a lower initial loss scale", zh="用 bf16 或 fp32 代替 fp16，或降低初始损失缩放")
FIXES = {"restarted": FIX_RESUME, "skipped": FIX_SKIPPED}


def run(facts: Facts) -> Iterator[Finding]:
    if facts.run is not None:
        yield from _of_a_run(facts.run)
    elif facts.history is not None:
        yield from _of_a_history(facts.history)


def _of_a_run(seen: RunFacts) -> Iterator[Finding]:
    last, planned = seen.last, seen.planned_lr
    if last is None or planned is None:
        return
    if abs(last.lr - planned) <= TOLERANCE * max(seen.peak_lr, sys.float_info.min):  # False for NaN
        return
    more, name = seen.lr_evidence, seen.lr_mechanism or "unknown"
    factor = more.get("factor")
    at = {"restarted": last.step - more.get("at", 1) + 1, "skipped": last.step - more.get("skipped", 0)}.get(name, 1 + (last.step - 1) * (factor or 1))
    if name == "stepped_often" and more.get("at_least"):
        name = "ended"
    if name == "unknown" and last.lr > seen.peak_lr * (1 + TOLERANCE):
        name = "above"
    evidence = to_json({
        "step": last.step, "lr": last.lr, "planned_lr": planned, "peak_lr": seen.peak_lr, "steps_planned": seen.steps_planned,
        "world_size": seen.world_size, "ratio": last.lr / planned if planned else None, "mechanism": seen.lr_mechanism,
        "also": list(seen.lr_also), "factor": factor, "at": at, "end": more.get("planned_end"), "resumed": more.get("at"),
    })
    yield Finding(code="RUN602", severity=Severity.ERROR, message=LIVE.get(name, LIVE["unknown"]), evidence=evidence, fix=FIXES.get(name, FIX))


def _of_a_history(seen: HistoryFacts) -> Iterator[Finding]:
    name = seen.lr_mechanism
    if name is None:
        return
    evidence = to_json({"steps_planned": seen.steps_planned, "planned_from": seen.planned_from, "world_size": seen.world_size, "peak_lr": seen.peak_lr,
                        "last_step": seen.last_step, "steps_from": seen.steps_from, "mechanism": name, **seen.lr_evidence})
    if name in ("per_process", "stepped_often") and evidence.get("end") is None:
        name = "fast_process" if name == "per_process" else "fast"
    yield Finding(code="RUN602", severity=Severity.ERROR, message=HISTORY.get(name, HISTORY["unknown"]), evidence=evidence, fix=FIXES.get(name, FIX),
                  where=seen.path)


WENT_BY = Facts(history=replace(
    PAST, steps_planned=9200, planned_from="epoch counter", world_size=8, last_step=5500, lr_mechanism="per_process",
    lr_evidence={"end": 1151, "factor": 8, "observations": 550}))


def _past(name: str, **evidence: object) -> Facts:
    return Facts(history=replace(PAST, lr_mechanism=name, lr_evidence=evidence))


def _now(step: int, lr: float, planned: float, name: str | None, *, also: tuple[str, ...] = (), world_size: int = 1, **evidence: object) -> Facts:
    return Facts(run=replace(RUN, planned_lr=planned, world_size=world_size, last=replace(STEP, step=step, lr=lr), lr_mechanism=name, lr_evidence=evidence,
                             lr_also=also))


CHECK = Check(
    code="RUN602",
    name="lr_left_plan",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    instead="history",
    run=run,
    page=Page(
        title=Text(en="the learning rate left its plan", zh="学习率偏离了计划"),
        what=Text(
            en="Whether the learning rate that the step used equals the one that the plan has for it, within a millionth of the "
            "peak. The plan is arithmetic over the recipe; the rate is read from the optimizer. The mechanism is the likeliest one that fits. Of another "
            "trainer's records: whether the rate is 0 long before the planned end, begins again, or has a shape or height that was not asked for.",
            zh="检查该步实际使用的学习率与计划是否相等，误差不超过峰值的百万分之一。计划由配方计算得出，实际值从优化器读取，给出的是最可能的机制。"
            "对其他训练器的记录：检查学习率是否远早于计划终点降到 0、是否从头再来、形状或高度是否与要求不符。",
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
        example="""RUN602: the learning rate is 0.00016 at step 41 of 300 (planned 0.000197): what the plan has for step 81, so the scheduler is likeliest stepped once per process (2), and ends at step 151
  fix:      let one scheduler set the learning rate, stepped once per optimizer step: take optimizer and scheduler out of the DeepSpeed file, and do not pass the scheduler to accelerate's prepare()

# ds.json: no "optimizer", no "scheduler"
train:
  schedule: cosine
  learning_rate: 2e-4""",
    ),
    fires=(
        _now(41, 1.6e-4, 1.97e-4, "per_process", world_size=2, factor=2, planned_end=151),
        _now(41, 1.6e-4, 1.97e-4, "stepped_often", factor=2, planned_end=151, also=("skipped",)),
        _now(100, 0.0, 1.5e-4, "stepped_often", factor=4, planned_end=76, at_least=True),
        _now(41, 2e-4, 1.97e-4, "no_decay"),
        _now(101, 2e-5, 1.5e-4, "restarted", at=101),
        _now(41, 1.975e-4, 1.97e-4, "skipped", skipped=1),
        _now(1, 1e-5, 2e-5, "scaled", ratio=0.5),
        _now(1, 0.0, 2e-5, "from_zero"),
        _now(100, 1e-3, 1.5e-4, None),
        _now(100, 1.4e-4, 1.5e-4, "unknown"),
        Facts(run=replace(RUN, last=replace(STEP, lr=float("nan")))),
        WENT_BY,
        _past("stepped_often", end=151, factor=2),
        _past("per_process", factor=2),
        _past("stepped_often", factor=3),
        _past("ends_early", end=120),
        _past("no_decay", **{"constant": 2e-4, "from": 11, "to": 300, "schedule": "cosine"}),
        _past("other_schedule", schedule="cosine", got="linear"),
        _past("restarted", at=101),
        _past("skipped", skipped=4),
        _past("scaled", ratio=5.0, reached=1e-3),
        _past("log_warmup"),
        _past("all_zero", observations=40),
        _past("unknown", first_off=40, lr=1e-4, planned_lr=1.9e-4),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None)),
        Facts(run=replace(RUN, planned_lr=None, last=replace(STEP, lr=0.0))),
        Facts(run=replace(RUN, planned_lr=1.9e-4 * (1 + 1e-8))),
        Facts(history=PAST),
    ),
)
