"""CFG274: resuming from checkpoints that hold no optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{key}: true saves no optimizer and no schedule, and {resume_key} {resume} would go on from such a checkpoint",
    zh="{key}: true 不保存优化器和学习率计划，而 {resume_key} {resume} 要从这样的检查点继续",
)
FIX = Text(
    en="{key}: false while the run may have to be resumed",
    zh="需要续训时设 {key}: false",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.save_only_model and file.resume:
        yield Finding(code="CFG274", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=file.at(file.key("save_only_model")),
                      evidence={"key": file.key("save_only_model"), "resume_key": file.key("resume"), "resume": file.resume})


CHECK = Check(
    code="CFG274",
    name="foreign_resume_without_optimizer",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="checkpoints from which nothing can be resumed",
            zh="检查点无法用于续训",
        ),
        what=Text(
            en="Whether save_only_model is set together with resume_from_checkpoint.",
            zh="检查 save_only_model 是否与 resume_from_checkpoint 同时设置。",
        ),
        why=Text(
            en="Such checkpoints hold weights alone: after resuming, Adam's moments start from nothing and the learning rate from its warm-up, and the curve goes on as if nothing had happened (modelscope/ms-swift#10050; huggingface/transformers PR#40691, #34053, #27749).",
            zh="这样的检查点只有权重：续训后 Adam 的动量从零开始，学习率重新预热，而曲线看起来一切如常（modelscope/ms-swift#10050；huggingface/transformers PR#40691、#34053、#27749）。",
        ),
        fix=Text(
            en="Save whole checkpoints, and keep fewer of them (save_total_limit) if the disk is short.",
            zh="保存完整的检查点；磁盘不足时减少保留数量（save_total_limit）。",
        ),
        example="""error CFG274 lf.yaml:15: save_only_model: true saves no optimizer and no schedule, and resume_from_checkpoint true would go on from such a checkpoint
  fix: save_only_model: false while the run may have to be resumed

save_only_model: false
save_total_limit: 2""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, save_only_model=True, resume="true")),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, save_only_model=True)),
        Facts(foreign=replace(FOREIGN, resume="true")),
    ),
)
