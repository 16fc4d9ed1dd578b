"""EXP713: text and ids disagree: BOS twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import SERVED
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the chat template writes BOS and the tokenizer adds another: text that is rendered first and encoded with special tokens begins with two",
    zh="聊天模板写了 BOS，分词器又会再加一个：先渲染再带特殊 token 编码的文本会以两个 BOS 开头",
)
FIX = Text(
    en="encode rendered text with add_special_tokens=False",
    zh="编码渲染后的文本时使用 add_special_tokens=False",
)


def run(facts: Facts) -> Iterator[Finding]:
    served = facts.served
    assert served is not None
    if served.bos_twice:
        evidence = {"path": served.path}
        yield Finding(code="EXP713", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=served.path)


CHECK = Check(
    code="EXP713",
    name="served_double_bos",
    stage=Stage.EXPORT,
    severity=Severity.WARNING,
    needs=("served",),
    run=run,
    page=Page(
        title=Text(en="text and ids disagree: BOS twice", zh="文本与 id 不一致：BOS 出现两次"),
        what=Text(
            en="Whether the chat template writes BOS as text while the tokenizer adds one of its own to every text that it encodes.",
            zh="检查聊天模板是否已把 BOS 写成文本，而分词器编码任何文本时又会再加一个。",
        ),
        why=Text(
            en="Whoever renders the template to text and encodes that text the usual way gets two BOS, which no training had (OpenRLHF/OpenRLHF#393, deepseek-ai/DeepSeek-R1#151). apply_chat_template with tokenize=True, vLLM and GoGPT encode it without special tokens and get one.",
            zh="把模板渲染成文本再按常规方式编码，会得到训练中从未出现的两个 BOS（OpenRLHF/OpenRLHF#393、deepseek-ai/DeepSeek-R1#151）。apply_chat_template(tokenize=True)、vLLM 和 GoGPT 编码时不加特殊 token，只有一个。",
        ),
        fix=Text(
            en="Encode rendered text with add_special_tokens=False.",
            zh="编码渲染后的文本时使用 add_special_tokens=False。",
        ),
        example="""warning EXP713 models/mine: the chat template writes BOS and the tokenizer adds another: text that is rendered first and encoded with special tokens begins with two
  fix: encode rendered text with add_special_tokens=False

tokenizer(text, add_special_tokens=False)""",
    ),
    fires=(Facts(served=replace(SERVED, bos_twice=True)),),
    silent=(Facts(served=SERVED),),
)
