"""TOK402: examples that begin with two BOS tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{count} of {examples} examples begin with two BOS tokens (id {bos_id}), template {template}",
    zh="{examples} 个样本中有 {count} 个以两个 BOS（id {bos_id}）开头，模板 {template}",
)
FIX = Text(
    en="take the BOS text out of the template or out of the data: one of them writes a BOS that is added anyway",
    zh="从模板或数据中去掉 BOS 文本：其中之一多写了本来就会添加的 BOS",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    if not data.double_bos.count:
        return
    evidence = {
        "count": data.double_bos.count, "examples": data.examples + data.eval_examples, "bos_id": data.bos_id,
        "template": data.template, "first": list(data.double_bos.first),
    }
    where = data.double_bos.first[0] if data.double_bos.first else None
    yield Finding(code="TOK402", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=where)


CHECK = Check(
    code="TOK402",
    name="double_bos",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="two BOS tokens at the start", zh="开头有两个 BOS"),
        what=Text(
            en="Whether the first two token ids of an example are both the tokenizer's BOS.",
            zh="检查样本的前两个 token 是否都是分词器的 BOS。",
        ),
        why=Text(
            en="The template writes BOS as text and the tokenizer adds another one. Nothing fails, but every example begins in "
            "a way that the base model never saw and that inference may not repeat: quality drops without an error "
            "(OpenRLHF/OpenRLHF#393, huggingface/trl PR#1114, deepseek-ai/DeepSeek-R1#151).",
            zh="模板以文本写入 BOS，分词器又加一个。不会报错，但每个样本的开头都是基座模型从未见过的形式，推理时也未必重现："
            "质量悄悄下降（OpenRLHF/OpenRLHF#393、huggingface/trl PR#1114、deepseek-ai/DeepSeek-R1#151）。",
        ),
        fix=Text(
            en="Look at one row with gogpt show FILE:ROW. If its own text begins with the BOS text, clean the data; if a .jinja "
            "file writes {{ bos_token }} twice, remove one.",
            zh="用 gogpt show FILE:ROW 查看一行。若其文本以 BOS 开头，请清理数据；若 .jinja 文件写了两次 {{ bos_token }}，请删去一次。",
        ),
        example="""error TOK402 data/a.jsonl:1: 2000 of 2000 examples begin with two BOS tokens (id 1), template mine.jinja
  fix: take the BOS text out of the template or out of the data: one of them writes a BOS that is added anyway

data:
  template: auto""",
    ),
    fires=(Facts(data=replace(DATA, template="mine.jinja", double_bos=Tally(count=2000, first=("data/a.jsonl:1",)))),),
    silent=(Facts(data=DATA), Facts(data=replace(DATA, bos_id=None))),
)
