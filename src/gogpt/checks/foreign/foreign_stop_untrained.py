"""CFG223: no answer's end is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{why}: {release} then trains no stop token, and the model does not learn to end an answer",
    zh="{why}：{release} 因此不训练任何停止符，模型学不会结束答案",
)
FIX = Text(
    en="name the template of the model; for a base model one that ends answers (default, alpaca)",
    zh="写模型自己的模板；基座模型请用会结束答案的模板（default、alpaca）",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.stop_untrained:
        yield Finding(code="CFG223", severity=Severity.ERROR, message=MESSAGE, evidence={"why": file.stop_untrained, "release": file.release}, fix=FIX,
                      where=file.at(file.key("template")))


CHECK = Check(
    code="CFG223",
    name="foreign_stop_untrained",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="no stop token is trained",
            zh="没有训练停止符",
        ),
        what=Text(
            en="Whether the template that is named writes anything at the end of an answer: LLaMA-Factory's template empty does not, and neither does no template with a tokenizer that has none.",
            zh="检查所选模板是否在答案末尾写入内容：LLaMA-Factory 的 empty 模板不写；未写模板而分词器又没有聊天模板时也一样。",
        ),
        why=Text(
            en="Measured with LLaMA-Factory 0.9.5 and template: empty: EOS is trained 0 times, nothing is said, and the model runs on until the limit (axolotl-ai-cloud/axolotl#3754 and huggingface/trl PR#7230 are the same fault in other places).",
            zh="在 LLaMA-Factory 0.9.5 上用 template: empty 测得：EOS 被训练 0 次，没有任何提示，模型会一直生成到上限（axolotl-ai-cloud/axolotl#3754 和 huggingface/trl PR#7230 是同一故障的其他形式）。",
        ),
        fix=Text(
            en="Write the template by name. gogpt check shows the rest on the tokens themselves where the model and the data are here.",
            zh="写明模板名称。模型和数据都在本地时，gogpt check 会在 token 上检查其余部分。",
        ),
        example="""error CFG223 lf.yaml:4: template: empty: LLaMA-Factory 0.9.5 then trains no stop token, and the model does not learn to end an answer
  fix: name the template of the model; for a base model one that ends answers (default, alpaca)

template: llama3""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, template="empty", template_fits=None, stop_untrained="template: empty")),
    ),
    silent=(
        Facts(foreign=FOREIGN),
    ),
)
