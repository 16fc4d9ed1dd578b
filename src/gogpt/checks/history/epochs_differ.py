"""RUN662: the epochs that the steps make are not those that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

ROOM = 0.05
"""Of the epochs: the last, incomplete step of each epoch moves the counter by less."""

FEWER = Text(
    en="{epochs} epochs were asked for, and the {steps_planned} planned steps make {would} of them: part of the data is never seen, or the steps were counted before packing",
    zh="要求训练 {epochs} 轮，而计划的 {steps_planned} 步只合 {would} 轮：部分数据从未用到，或步数是在打包之前计算的",
)
MORE = Text(
    en="{epochs} epochs were asked for, and the {steps_planned} planned steps make {would} of them: the data is repeated, or the steps were counted before packing",
    zh="要求训练 {epochs} 轮，而计划的 {steps_planned} 步合 {would} 轮：数据被重复使用，或步数是在打包之前计算的",
)
FIX = Text(
    en="count the steps from the rows that are really batched (packed, over all processes), or set max_steps to steps of an epoch x epochs",
    zh="按真正组成批次的行（打包后、所有进程合计）计算步数，或把 max_steps 设为每轮步数 x 轮数",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    asked, steps, epoch, last = seen.epochs_planned, seen.steps_planned, seen.last_epoch, seen.last_step
    if not asked or not steps or not epoch or not last or seen.planned_from == "epoch counter" or seen.steps_from in ("lines", "epoch"):
        return
    would = epoch / last * steps
    if epoch < 0.1 or abs(would - asked) <= ROOM * asked + 0.02:
        return
    evidence = {"epochs": asked, "would": round(would, 2), "steps_planned": steps, "last_epoch": epoch, "last_step": last}
    yield Finding(code="RUN662", severity=Severity.WARNING, message=FEWER if would < asked else MORE, evidence=evidence, fix=FIX, where=seen.path)


CHECK = Check(
    code="RUN662",
    name="epochs_differ",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the steps do not make the epochs that were asked for", zh="步数与要求的轮数不符"),
        what=Text(
            en="Where a run was asked for by epochs: whether its planned steps, at the pace of its epoch counter, make as many epochs, within 5%.",
            zh="对按轮数设定的训练：按其轮数计数器的速度，计划的步数是否正好合要求的轮数（误差 5%）。",
        ),
        why=Text(
            en="Where packing comes after counting, the schedule is made for steps that never come: the learning rate never falls as planned "
            "(axolotl-ai-cloud/axolotl#3152). With fewer steps than epochs part of the data is never seen.",
            zh="若先计步后打包，学习率计划就是为永远到不了的步数制定的，学习率不会按计划下降（axolotl-ai-cloud/axolotl#3152）。步数不足时，部分数据从未用到。",
        ),
        fix=Text(
            en="Compare the steps of an epoch with rows / (micro batch x accumulation x processes), rows counted after packing. gogpt plan RECIPE counts packed rows.",
            zh="把每轮步数与 行数 /（微批次 x 累积 x 进程数）比较，行数按打包后计。gogpt plan RECIPE 按打包后的行计算。",
        ),
        example="""warning RUN662 out: 3.0 epochs were asked for, and the 300 planned steps make 1.1 of them: part of the data is never seen, or the steps were counted before packing
  fix: count the steps from the rows that are really batched (packed, over all processes), or set max_steps to steps of an epoch x epochs

train:
  epochs: 3""",
    ),
    fires=(Facts(history=replace(PAST, last_epoch=1.1)), Facts(history=replace(PAST, last_epoch=9.0))),
    silent=(Facts(history=PAST), Facts(history=replace(PAST, epochs_planned=None, last_epoch=0.4)), Facts(history=replace(PAST, last_step=150, last_epoch=1.49)),
            Facts(history=replace(PAST, planned_from="epoch counter", last_epoch=1.1))),
)
