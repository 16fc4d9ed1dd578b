"""EXP732: a tokenizer with more ids than the model has rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the tokenizer has ids up to {highest}, and the embedding {rows} rows",
    zh="分词器的 id 最大为 {highest}，而嵌入只有 {rows} 行",
)
FIX = Text(
    en="save the tokenizer that belongs to these weights, or extend the model: gogpt tokenizer extend",
    zh="保存与这些权重配套的分词器，或扩展模型：gogpt tokenizer extend",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    if model.tokenizer_size and model.embedding_rows and model.tokenizer_size > model.embedding_rows:
        yield Finding(code="EXP732", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=model.path,
                      evidence={"highest": model.tokenizer_size - 1, "rows": model.embedding_rows, "vocab_size": model.vocab_size})


CHECK = Check(
    code="EXP732",
    name="vocabulary_beyond_rows",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="the tokenizer has more ids than the model rows",
            zh="分词器的 id 多于模型的行",
        ),
        what=Text(
            en="The tokenizer's highest id against the rows of the input embedding.",
            zh="比较分词器的最大 id 与输入嵌入的行数。",
        ),
        why=Text(
            en="Such an id is an index error on CPU, and on a GPU reads what lies behind the matrix or ends in a device-side assertion (artidoro/qlora#214, axolotl-ai-cloud/axolotl#1570: added tokens without rows).",
            zh="这样的 id 在 CPU 上是下标越界，在 GPU 上会读到矩阵之后的内容或触发 device-side assertion（artidoro/qlora#214、axolotl-ai-cloud/axolotl#1570：新增 token 没有对应的行）。",
        ),
        fix=Text(
            en="Keep tokenizer and weights of one save together.",
            zh="分词器和权重应来自同一次保存。",
        ),
        example="""error EXP732 models/mine: the tokenizer has ids up to 49199, and the embedding 49152 rows
  fix: save the tokenizer that belongs to these weights, or extend the model: gogpt tokenizer extend

gogpt check models/mine""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, tokenizer_size=49200)),
    ),
    silent=(
        Facts(weights=WEIGHTS),
        Facts(weights=replace(WEIGHTS, tokenizer_size=49000)),
        Facts(weights=replace(WEIGHTS, tokenizer_size=None)),
    ),
)
