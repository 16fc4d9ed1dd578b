"""RUN651: the loss has not fallen since the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SHARE = 0.01
"""of the first loss that the fall cannot have reached"""

NOTHING_TO_LEARN = 0.5
"""nats"""

MESSAGE = Text(
    en="the loss has not fallen in {begin_steps} steps after the warm-up: {begin_loss:.4f} then, {begin_now:.4f} at step {step}; with"
    " its noise it cannot have fallen by more than {begin_gain:.4f} (learning rate {lr:.3g}, update norm {update_norm})",
    zh="预热后 {begin_steps} 步损失没有下降：当初 {begin_loss:.4f}，第 {step} 步 {begin_now:.4f}；计入噪声，降幅不可能超过 {begin_gain:.4f}（学习率 {lr:.3g}，更新量范数 {update_norm}）",
)
FIX = Text(
    en="raise train.learning_rate, or method.rank and method.targets; see that the trained tokens are those you mean (gogpt show "
    "FILE:ROW)",
    zh="提高 train.learning_rate，或 method.rank、method.targets；用 gogpt show FILE:ROW 确认被训练的 token 正是想要的",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or vitals.begin_loss is None or vitals.begin_gain is None or last.lr <= 0:
        return
    if vitals.begin_loss < NOTHING_TO_LEARN or vitals.begin_gain >= SHARE * vitals.begin_loss:
        return
    evidence = to_json({
        "step": last.step, "begin_loss": vitals.begin_loss, "begin_now": vitals.begin_now, "begin_gain": vitals.begin_gain,
        "begin_steps": vitals.begin_steps, "share": SHARE, "lr": last.lr, "grad_norm": last.grad_norm, "update_norm": last.update_norm,
    })
    yield Finding(code="RUN651", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN651",
    name="no_improvement",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="nothing is learned from the start", zh="从一开始就没有学到东西"),
        what=Text(
            en="At 128 and at 256 steps after the warm-up: whether the mean loss of the last 32 steps, with three standard errors in "
            "its favour, can have fallen by 1% below that of the first 32. It says nothing where the noise leaves that open, or "
            "where the loss is below 0.5 nat.",
            zh="在预热后第 128 步和第 256 步：最近 32 步的平均损失，即使把三个标准误都算作下降，是否可能比最初 32 步低"
            " 1%。噪声大到无法判断，或损失低于 0.5 nat 时，不作结论。",
        ),
        why=Text(
            en="A learning rate that is too small by powers of ten, adapters on the wrong modules or labels in the wrong place give a "
            "flat loss, moving weights and no error (bghira/SimpleTuner#1756; haotian-liu/LLaVA#1172).",
            zh="学习率小了几个数量级、适配器加错模块、标签位置不对，都表现为损失平坦、权重在动、没有任何报错（bghira/Simple"
            "Tuner#1756；haotian-liu/LLaVA#1172）。",
        ),
        fix=Text(
            en="Compare the update norm with the norm of the weights: below a millionth of it nothing can change. Raise the learning "
            "rate tenfold. A model that knows the data already has a flat loss too: then there is nothing to mend.",
            zh="把更新量范数与权重范数相比：不到百万分之一时什么也不会改变。把学习率提高十倍。模型若早已熟悉这些数据，损失也会平坦，那就"
            "无需修正。",
        ),
        example="""RUN651: the loss has not fallen in 128 steps after the warm-up: 2.1034 then, 2.1029 at step 137; with its noise it cannot have fallen by more than 0.0147 (learning rate 0.00019, update norm 0.012)
  fix:      raise train.learning_rate, or method.rank and method.targets; see that the trained tokens are those you mean (gogpt show FILE:ROW)

train:
  learning_rate: 2e-4
method: {kind: lora, rank: 16, targets: all-linear}""",
    ),
    fires=(
        _case(137, begin_loss=2.1034, begin_now=2.1029, begin_gain=0.0147, begin_steps=128),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(137, begin_loss=2.1, begin_now=2.09, begin_gain=0.12, begin_steps=128),
        _case(137, begin_loss=0.3, begin_now=0.3, begin_gain=0.001, begin_steps=128),
    ),
)
