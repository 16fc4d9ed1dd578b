"""CFG213: no optimizer step, or a single one that warm-up takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NO_STEP = Text(
    en="the run has no optimizer step: {num_rows} rows x {epochs} epochs at batch_size {batch_size} make {steps}",
    zh="训练没有任何优化步：{num_rows} 行 × {epochs} 轮，batch_size {batch_size}，得到 {steps} 步",
)
FIX_NO_STEP = Text(en="raise train.epochs, or set train.max_steps", zh="增大 train.epochs，或设置 train.max_steps")
ONE_STEP = Text(
    en="the run is 1 optimizer step and warm-up takes it (warmup_steps {warmup_steps}): the learning rate never reaches {learning_rate}",
    zh="训练只有 1 个优化步，且全部用于预热（warmup_steps {warmup_steps}）：学习率永远达不到 {learning_rate}",
)
FIX_ONE_STEP = Text(
    en="train.warmup: 0, or more steps: a train.batch_size below {batch_size}, or more epochs",
    zh="设为 train.warmup: 0，或增加步数：train.batch_size 小于 {batch_size}，或增加轮数",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan = facts.plan
    assert plan is not None
    evidence = {
        "steps": plan.steps, "warmup_steps": plan.warmup_steps, "schedule": plan.schedule,
        "learning_rate": plan.learning_rate, "epochs": plan.epochs, "num_rows": plan.num_rows, "batch_size": plan.batch_size,
    }
    if plan.steps == 0:
        if facts.data is not None and facts.data.examples == 0:
            return  # no example is left: what took them away is told by the checks of the data
        yield Finding(code="CFG213", severity=Severity.ERROR, message=NO_STEP, evidence=evidence, fix=FIX_NO_STEP,
                      allowable=False)
    elif plan.steps == 1 and plan.warmup_steps > 0:
        yield Finding(code="CFG213", severity=Severity.ERROR, message=ONE_STEP, evidence=evidence, fix=FIX_ONE_STEP)


CHECK = Check(
    code="CFG213",
    name="learning_rate_never_moves",
    stage=Stage.CONFIG,
    severity=Severity.ERROR,
    needs=("plan",),
    run=run,
    page=Page(
        title=Text(en="the learning rate has no room to move", zh="学习率没有变化的余地"),
        what=Text(
            en="Whether the run has at least one optimizer step, and whether a run of a single step spends it on warm-up.",
            zh="检查训练是否至少有一个优化步，以及只有一步时这一步是否被预热占用。",
        ),
        why=Text(
            en="Schedule, warm-up and number of steps have to fit each other. With few rows, packing and a large batch a run "
            "can shrink to one step, and under the usual warm-up formula that step uses a learning rate of 0: the run "
            "succeeds and the weights do not move.",
            zh="学习率计划、预热和步数必须相互匹配。行数少、又有打包和大批量时，训练可能只剩一步；按常见的预热公式，这一步的学习率为 0："
            "训练成功结束，权重却没有变化。",
        ),
        fix=Text(
            en="Lower train.batch_size or raise train.epochs until there are tens of steps, or switch warm-up off "
            "(train.warmup: 0). gogpt plan RECIPE prints the steps and the learning rate of each.",
            zh="减小 train.batch_size 或增加 train.epochs，使步数达到几十步；或关闭预热（train.warmup: 0）。"
            "gogpt plan RECIPE 会列出步数和每步的学习率。",
        ),
        example="""error CFG213: the run is 1 optimizer step and warm-up takes it (warmup_steps 1): the learning rate never reaches 0.0002
  fix: train.warmup: 0, or more steps: a train.batch_size below 16, or more epochs

train:
  batch_size: 4
  epochs: 3""",
    ),
    fires=(
        Facts(plan=replace(PLAN, steps=1, warmup_steps=1, num_rows=12, epochs=1.0)),
        Facts(plan=replace(PLAN, steps=0, warmup_steps=0, num_rows=0)),
    ),
    silent=(
        Facts(plan=PLAN),
        Facts(plan=replace(PLAN, steps=1, warmup_steps=0)),
        Facts(plan=replace(PLAN, steps=2, warmup_steps=1)),
        Facts(plan=replace(PLAN, steps=0, warmup_steps=0, num_rows=0), data=replace(DATA, examples=0)),
    ),
)
