"""EXP725: a model without a chat template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the tokenizer of {path} has no chat template: a server falls back to its own, or refuses chat",
    zh="{path} 的分词器没有聊天模板：服务器会改用自己的模板，或拒绝聊天",
)
FIX = Text(
    en="save the template that it was trained with; for a base model allow this: --allow EXP725",
    zh="保存训练所用的模板；若是基座模型，用 --allow EXP725 放行",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    if model.chat_template is False:
        yield Finding(code="EXP725", severity=Severity.WARNING, message=MESSAGE, evidence={"path": model.path}, fix=FIX, where=model.path)


CHECK = Check(
    code="EXP725",
    name="chat_template_missing",
    stage=Stage.EXPORT,
    severity=Severity.WARNING,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="no chat template is saved",
            zh="没有保存聊天模板",
        ),
        what=Text(
            en="Whether a tokenizer in a model folder has a chat template (tokenizer_config.json or chat_template.jinja).",
            zh="检查模型目录中的分词器是否带有聊天模板（tokenizer_config.json 或 chat_template.jinja）。",
        ),
        why=Text(
            en="Trained in one form and served in another, a good model answers badly (hiyouga/LLaMA-Factory#2509: 26% against 57%, #8399; Lightning-AI/litgpt#1986; ollama/ollama#8363).",
            zh="训练用一种格式、部署用另一种，好模型也会答得很差（hiyouga/LLaMA-Factory#2509：26% 对 57%，#8399；Lightning-AI/litgpt#1986；ollama/ollama#8363）。",
        ),
        fix=Text(
            en="Models that GoGPT saves have it. For others: write it to chat_template.jinja, and hold it against the declared ones with gogpt template verify.",
            zh="GoGPT 保存的模型都带有模板。其他模型：写入 chat_template.jinja，并用 gogpt template verify 对照内置模板。",
        ),
        example="""warning EXP725 models/mine: the tokenizer of models/mine has no chat template: a server falls back to its own, or refuses chat
  fix: save the template that it was trained with; for a base model allow this: --allow EXP725

gogpt template verify models/mine""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, chat_template=False)),
    ),
    silent=(
        Facts(weights=WEIGHTS),
        Facts(weights=replace(WEIGHTS, chat_template=None)),
    ),
)
