"""EXP712: the generation prompt is no prefix of the trained text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import SERVED
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the generation prompt of {count} of {probes} probe conversations is no prefix of the text with the answer: {names}",
    zh="{probes} 个探针对话中有 {count} 个的生成提示不是含答案文本的前缀：{names}",
)
FIX = Text(
    en="make add_generation_prompt write what stands before an answer; the nearest declared template is {nearest}",
    zh="让 add_generation_prompt 写出答案之前的文本；最接近的已声明模板是 {nearest}",
)


def run(facts: Facts) -> Iterator[Finding]:
    served = facts.served
    assert served is not None
    if served.not_prefix:
        evidence = {
            "count": len(served.not_prefix), "probes": served.probes, "names": ", ".join(served.not_prefix), "nearest": served.nearest,
        }
        yield Finding(code="EXP712", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=served.path)


CHECK = Check(
    code="EXP712",
    name="prompt_not_prefix",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("served",),
    run=run,
    page=Page(
        title=Text(en="the generation prompt is no prefix of the trained text", zh="生成提示不是训练文本的前缀"),
        what=Text(
            en="Whether, for probe conversations, the chat template with a generation prompt gives a prefix of the text that it gives for the same conversation with its answer.",
            zh="对探针对话，检查聊天模板加生成提示的文本是否为含答案文本的前缀。",
        ),
        why=Text(
            en="Where it is none, the model is asked in a form that it never saw in training, and answers worse without any error (hiyouga/LLaMA-Factory#2509: 26% against 57%).",
            zh="若不是前缀，提问的形式在训练中从未出现，回答变差却没有任何报错（hiyouga/LLaMA-Factory#2509：26% 对 57%）。",
        ),
        fix=Text(
            en="Correct the template so that add_generation_prompt writes exactly what stands before an answer, or save a declared one (template: NAME).",
            zh="修改模板，使 add_generation_prompt 写出的内容与答案之前的文本完全一致；或保存一个已声明的模板（template: NAME）。",
        ),
        example="""error EXP712 models/mine: the generation prompt of 2 of 8 probe conversations is no prefix of the text with the answer: single, two_turns
  fix: make add_generation_prompt write what stands before an answer; the nearest declared template is chatml

data:
  template: chatml""",
    ),
    fires=(Facts(served=replace(SERVED, not_prefix=("single", "two_turns"))),),
    silent=(Facts(served=SERVED),),
)
