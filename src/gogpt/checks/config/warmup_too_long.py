"""CFG210: warm-up takes the whole run, so that the peak of the learning rate is never reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="warm-up lasts {warmup_steps} steps and the whole run {steps}: the peak learning rate {learning_rate} is never reached",
    zh="预热 {warmup_steps} 步，而整个训练只有 {steps} 步：永远达不到峰值学习率 {learning_rate}",
)
FIX = Text(
    en="set train.warmup below {steps} (0.03 means 3% of all steps), or train for more than {warmup_steps} steps",
    zh="把 train.warmup 设为小于 {steps}（0.03 表示总步数的 3%），或训练超过 {warmup_steps} 步",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan = facts.plan
    assert plan is not None
    if plan.steps > 1 and plan.warmup_steps >= plan.steps:  # a run of one step is CFG213's
        evidence = {"steps": plan.steps, "warmup_steps": plan.warmup_steps, "learning_rate": plan.learning_rate}
        yield Finding(code="CFG210", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX)


CHECK = Check(
    code="CFG210",
    name="warmup_too_long",
    stage=Stage.CONFIG,
    severity=Severity.ERROR,
    needs=("plan",),
    run=run,
    page=Page(
        title=Text(en="warm-up is longer than the run", zh="预热比整个训练还长"),
        what=Text(
            en="Whether the warm-up steps are fewer than the optimizer steps of the run. train.warmup below 1 is a share of "
            "all steps; from 1 on it is a number of steps.",
            zh="检查预热步数是否少于总优化步数。train.warmup 小于 1 时是总步数的比例，大于等于 1 时是步数。",
        ),
        why=Text(
            en="The run would end while the learning rate is still rising: the peak that the recipe names is never used and "
            "there is no decay. It happens when a warm-up of a long recipe is kept for a short run, or when accumulation "
            "and packing leave fewer steps than expected (axolotl-ai-cloud/axolotl#3152). The loss looks plausible all the way.",
            zh="训练会在学习率仍在上升时结束：配方中的峰值从未用上，也没有衰减。常见原因是把长训练的预热步数照搬到短训练，"
            "或梯度累积与打包使步数比预想的少（axolotl-ai-cloud/axolotl#3152）。而损失曲线始终看似正常。",
        ),
        fix=Text(
            en="Give warm-up as a share (train.warmup: 0.03), or train longer. gogpt plan RECIPE prints steps, warm-up and "
            "the learning rate of every step.",
            zh="用比例写预热（train.warmup: 0.03），或训练更久。gogpt plan RECIPE 会列出步数、预热和每步的学习率。",
        ),
        example="""error CFG210: warm-up lasts 100 steps and the whole run 60: the peak learning rate 0.0002 is never reached
  fix: set train.warmup below 60 (0.03 means 3% of all steps), or train for more than 100 steps

train:
  warmup: 0.03""",
    ),
    fires=(
        Facts(plan=replace(PLAN, steps=60, warmup_steps=100)),
        Facts(plan=replace(PLAN, steps=10, warmup_steps=10)),
    ),
    silent=(
        Facts(plan=PLAN),
        Facts(plan=replace(PLAN, steps=10, warmup_steps=9)),
        Facts(plan=replace(PLAN, steps=10, warmup_steps=0)),
    ),
)
