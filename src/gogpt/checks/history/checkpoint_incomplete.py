"""RUN663: a checkpoint from which a run cannot go on as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the checkpoint holds weights but no state of the {missing}: a run resumed from it starts them anew",
    zh="该检查点有权重，却没有 {missing} 的状态：从它续训时这些会重新开始",
)
FIX = Text(
    en="do not resume from it as from a checkpoint (its weights are whole); save with save_only_model: false",
    zh="不要把它当作检查点续训（其权重是完整的）；保存时设 save_only_model: false",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    if not seen.checkpoint_missing or seen.finished:
        return  # nobody goes on from a finished run
    evidence = {"missing": " and ".join(seen.checkpoint_missing), "checkpoint": seen.checkpoint, "last_step": seen.last_step, "steps_planned": seen.steps_planned}
    yield Finding(code="RUN663", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.checkpoint)


BARE = replace(PAST, finished=False, last_step=200, checkpoint="out/checkpoint-200", checkpoint_missing=("optimizer", "scheduler"))

CHECK = Check(
    code="RUN663",
    name="checkpoint_incomplete",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="a checkpoint without optimizer or scheduler", zh="检查点缺少优化器或调度器"),
        what=Text(
            en="Whether the newest checkpoint of an unfinished run holds the states that resuming needs beside the weights: optimizer and scheduler, in one "
            "of the forms of the Trainer, FSDP or DeepSpeed.",
            zh="检查未完成训练的最新检查点除权重外是否有续训所需的状态：优化器和调度器（Trainer、FSDP 或 DeepSpeed 的任一形式）。",
        ),
        why=Text(
            en="Without them a resumed run warms up again from step 1 with empty moments, or its learning rate restarts, without a word "
            "(huggingface/transformers#27749, #23099, #34053; modelscope/ms-swift#10050).",
            zh="没有这些，续训会悄悄以空的动量从第 1 步重新预热，或学习率从头开始（huggingface/transformers#27749、#23099、#34053；modelscope/ms-swift#10050）。",
        ),
        fix=Text(
            en="Take an earlier checkpoint that is whole, or start a new run from these weights with a schedule of its own.",
            zh="改用更早的完整检查点，或以这些权重开始一次有自己学习率计划的新训练。",
        ),
        example="""warning RUN663 out/checkpoint-200: the checkpoint holds weights but no state of the optimizer and scheduler: a run resumed from it starts them anew
  fix: do not resume from it as from a checkpoint (its weights are whole); save with save_only_model: false

save_only_model: false""",
    ),
    fires=(Facts(history=BARE),),
    silent=(Facts(history=PAST), Facts(history=replace(BARE, finished=True)), Facts(history=replace(BARE, checkpoint_missing=()))),
)
