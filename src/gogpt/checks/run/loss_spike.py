"""RUN659: the loss jumped and came back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the loss rose to {spike_loss:.3f} at step {spike_step} and came back (best {loss_best:.3f}; spikes so far: {spikes})",
    zh="损失在第 {spike_step} 步升到 {spike_loss:.3f}，随后回落（最好 {loss_best:.3f}；至今共 {spikes} 次）",
)
FIX = Text(
    en="if it happens again: lower train.learning_rate, and look at the rows of that step",
    zh="若再次发生：降低 train.learning_rate，并查看那一步的数据行",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or not vitals.spikes or vitals.spike_step is None:
        return
    evidence = to_json({
        "step": last.step, "spikes": vitals.spikes, "spike_step": vitals.spike_step, "spike_loss": vitals.spike_loss, "loss_best": vitals.loss_best,
        "loss_noise": vitals.loss_noise, "loss_limit": vitals.loss_limit, "loss": last.loss,
    })
    yield Finding(code="RUN659", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN659",
    name="loss_spike",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the loss jumped and came back", zh="损失突升后回落"),
        what=Text(
            en="Whether the loss stood for 4 steps or more above the limit from which RUN650 counts, and then fell below it again.",
            zh="检查损失是否曾连续 4 步以上高于 RUN650 所用的界限，然后又降回其下。",
        ),
        why=Text(
            en="A spike that comes back is survived, but it is the first sign of a learning rate at its edge or of rows unlike the "
            "others, and part of what was learned has to be learned again (bigscience-workshop/Megatron-DeepSpeed#57; stanford-"
            "crfm/mistral#115).",
            zh="能回落的尖峰算是挺过去了，但它往往是学习率已到边缘、或某些数据行与众不同的第一个迹象，而且学过的一部分得重学（bigsc"
            "ience-workshop/Megatron-DeepSpeed#57；stanford-crfm/mistral#1"
            "15）。",
        ),
        fix=Text(
            en="Nothing has to be done for one. For several: lower the learning rate or its peak, and look at the rows of the step "
            "that began it.",
            zh="只有一次则无需处理。多次出现：降低学习率或其峰值，并查看起始那一步的数据行。",
        ),
        example="""RUN659: the loss rose to 7.920 at step 131 and came back (best 1.840; spikes so far: 1)
  fix:      if it happens again: lower train.learning_rate, and look at the rows of that step

train:
  learning_rate: 1e-4""",
    ),
    fires=(
        _case(spikes=1, spike_step=131, spike_loss=7.92),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(raised_steps=3, raised_since=198),
    ),
)
