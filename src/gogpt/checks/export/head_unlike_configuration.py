"""EXP734: an output head that is not as config.json says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MISSING = Text(
    en="config.json says that the head is not tied, and no head is stored: it would be random",
    zh="config.json 说输出头不与嵌入共享，却没有保存输出头：加载后它是随机的",
)
DIFFERS = Text(
    en="config.json says that the head is tied to the embedding, and another one is stored: it is left out on loading",
    zh="config.json 说输出头与嵌入共享，却另存了一个不同的输出头：加载时会被忽略",
)
FIX = Text(
    en="set tie_word_embeddings as the model was trained, or save it again",
    zh="按训练时的情况设置 tie_word_embeddings，或重新保存",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    if model.head:
        missing = model.head == "missing"
        yield Finding(code="EXP734", severity=Severity.ERROR if missing else Severity.WARNING, message=MISSING if missing else DIFFERS, fix=FIX, where=model.path,
                      evidence={"head": model.head, "tied": model.tied})


CHECK = Check(
    code="EXP734",
    name="head_unlike_configuration",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="the output head is not as config.json says",
            zh="输出头与 config.json 不符",
        ),
        what=Text(
            en="Whether a head is stored exactly where tie_word_embeddings is false, and, where it is true, is no other than the embedding.",
            zh="检查 tie_word_embeddings 为 false 时是否保存了输出头；为 true 时所存输出头是否与嵌入相同。",
        ),
        why=Text(
            en="A head that was trained by itself and is tied on loading is lost; one that is missing is filled with random values. Both load with a line among many (huggingface/peft#334; axolotl-ai-cloud/axolotl#1570).",
            zh="单独训练的输出头若在加载时被共享就会丢失；缺失的输出头会被随机填充。两者加载时都只有一行不起眼的日志（huggingface/peft#334；axolotl-ai-cloud/axolotl#1570）。",
        ),
        fix=Text(
            en="gogpt merge saves a head that was trained as one of its own, and says so in config.json.",
            zh="gogpt merge 会把单独训练的输出头单独保存，并写入 config.json。",
        ),
        example="""error EXP734 models/mine: config.json says that the head is not tied, and no head is stored: it would be random
  fix: set tie_word_embeddings as the model was trained, or save it again

{"tie_word_embeddings": false}""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, tied=False, head="missing")),
        Facts(weights=replace(WEIGHTS, head="differs")),
    ),
    silent=(
        Facts(weights=WEIGHTS),
        Facts(weights=replace(WEIGHTS, tied=False)),
    ),
)
