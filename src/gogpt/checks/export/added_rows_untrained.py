"""EXP735: tokens that were added and have never been trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{count} tokens were added to the vocabulary (gogpt_extension.json), and their rows have not been trained",
    zh="词表中添加了 {count} 个 token（gogpt_extension.json），它们的行尚未训练",
)
FIX = Text(
    en="train with method.new_tokens: rows",
    zh="用 method.new_tokens: rows 训练",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    if model.added_tokens and not model.added_trained:
        yield Finding(code="EXP735", severity=Severity.WARNING, message=MESSAGE, evidence={"count": model.added_tokens}, fix=FIX, where=model.path)


CHECK = Check(
    code="EXP735",
    name="added_rows_untrained",
    stage=Stage.EXPORT,
    severity=Severity.WARNING,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="added tokens have not been trained",
            zh="新增 token 尚未训练",
        ),
        what=Text(
            en="Whether a run has trained the rows that gogpt tokenizer extend added.",
            zh="检查 gogpt tokenizer extend 添加的行是否经过训练。",
        ),
        why=Text(
            en="The rows begin as means of others: texts with the new tokens are read, but worse than before, until a run has trained them (artidoro/qlora#214).",
            zh="新行以其他行的均值开始：带有新 token 的文本可以读入，但在训练之前效果比原来差（artidoro/qlora#214）。",
        ),
        fix=Text(
            en="Train on text of the new vocabulary; the note is then set by the run.",
            zh="用新词表的文本训练；训练后会更新该记录。",
        ),
        example="""warning EXP735 models/mine: 400 tokens were added to the vocabulary (gogpt_extension.json), and their rows have not been trained
  fix: train with method.new_tokens: rows

method: {kind: lora, new_tokens: rows}""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, added_tokens=400, added_trained=False)),
    ),
    silent=(
        Facts(weights=WEIGHTS),
        Facts(weights=replace(WEIGHTS, added_tokens=400)),
    ),
)
