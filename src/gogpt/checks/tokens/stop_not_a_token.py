"""TOK407: the template's stop marker is not one token of this tokenizer, or there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SEVERAL = Text(
    en="the stop marker {stop} of template {template} is not one token of this tokenizer: generation cannot stop at it",
    zh="模板 {template} 的停止符 {stop} 在该分词器中不是单个 token：生成时无法据此停止",
)
NONE = Text(
    en="template {template} writes no stop marker after an answer: the {answers} trained answers have no end to learn",
    zh="模板 {template} 在答案后不写停止符：{answers} 个训练答案没有可学的结尾",
)
FIX = Text(
    en="data.template: auto (the tokenizer's own), or one that ends answers with the tokenizer's EOS: alpaca",
    zh="设为 data.template: auto（分词器自带的模板），或以分词器 EOS 结束答案的模板：alpaca",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    if data.stop_is_token or not data.answers:
        return
    evidence = {"template": data.template, "stop_texts": list(data.stop_texts), "stop": next(iter(data.stop_texts), ""),
                "stop_ids": list(data.stop_ids), "eos_id": data.eos_id, "answers": data.answers}
    message = SEVERAL if data.stop_texts else NONE
    yield Finding(code="TOK407", severity=Severity.ERROR, message=message, evidence=evidence, fix=FIX)


CHECK = Check(
    code="TOK407",
    name="stop_not_a_token",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="the stop marker is not a token", zh="停止符不是单个 token"),
        what=Text(
            en="Whether the text with which the template ends an answer is a single token of the base model's tokenizer, and "
            "whether the template writes such a text at all. Plain text data is not concerned.",
            zh="检查模板结束答案所用的文本是否为基座分词器的单个 token，以及模板是否写了这样的文本。纯文本数据不受影响。",
        ),
        why=Text(
            en="Generation stops at token ids. With ChatML on a tokenizer without <|im_end|>, the marker becomes several "
            "ordinary tokens: the model learns to write them, nothing stops there, and the marker shows in the answers. "
            "Without any marker, answers never end; LLaMA-Factory 0.9.5 with template empty trains EOS 0 times in silence.",
            zh="生成按 token id 停止。若分词器没有 <|im_end|> 却使用 ChatML，停止符会变成几个普通 token：模型学会把它写出来，"
            "却不会停下，标记会出现在答案里。完全没有停止符时，答案永远不会结束；LLaMA-Factory 0.9.5 使用 empty 模板时一次也不训练 EOS，且没有提示。",
        ),
        fix=Text(
            en="Use the chat template of the tokenizer (auto) where it has one. For a base model without a chat template, take "
            "a template that ends with the tokenizer's own EOS (alpaca), or add the marker to tokenizer and model as a special "
            "token and train its embedding (method.modules_to_save).",
            zh="分词器自带聊天模板时用 auto。没有聊天模板的基座模型，请用以分词器自身 EOS 结束的模板（alpaca），"
            "或把停止符作为特殊 token 加入分词器和模型，并训练其嵌入（method.modules_to_save）。",
        ),
        example="""error TOK407: the stop marker <|im_end|> of template chatml is not one token of this tokenizer: generation cannot stop at it
  fix: data.template: auto (the tokenizer's own), or one that ends answers with the tokenizer's EOS: alpaca

data:
  template: alpaca""",
    ),
    fires=(
        Facts(data=replace(DATA, template="chatml", stop_is_token=False, stop_ids=(), answers_stopped=0)),
        Facts(data=replace(DATA, template="mine.jinja", stop_texts=(), stop_is_token=False, stop_ids=(), answers_stopped=0)),
    ),
    silent=(
        Facts(data=DATA),
        Facts(data=replace(DATA, stop_is_token=False, stop_texts=(), stop_ids=(), answers=0, answers_stopped=0, text_examples=2000)),
    ),
)
