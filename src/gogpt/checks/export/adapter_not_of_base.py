"""EXP722: an adapter whose modules are not the base's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ADAPTER
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{count} of {tensors} tensors of the adapter fit no module of {base} (first {first})",
    zh="适配器的 {tensors} 个张量中有 {count} 个不对应 {base} 的任何模块（首个：{first}）",
)
FIX = Text(
    en="name the base that it was trained on (--base), and use the PEFT release that it was saved with",
    zh="指明训练所用的基座（--base），并使用保存它的 PEFT 版本",
)


def run(facts: Facts) -> Iterator[Finding]:
    adapter = facts.adapter
    assert adapter is not None
    if adapter.strangers.count:
        yield Finding(code="EXP722", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=adapter.path,
                      evidence={"count": adapter.strangers.count, "tensors": adapter.tensors, "base": adapter.base_found, "first": adapter.strangers.first[0]})


CHECK = Check(
    code="EXP722",
    name="adapter_not_of_base",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("adapter",),
    run=run,
    page=Page(
        title=Text(
            en="the adapter's keys fit no module of the base",
            zh="适配器的键不对应基座的模块",
        ),
        what=Text(
            en="Where the base is here: whether the module that each key of the adapter names is one of the base's, with rows and columns that fit.",
            zh="基座在本地时：检查适配器每个键所指的模块是否存在于基座，且行列数相符。",
        ),
        why=Text(
            en="PEFT leaves such keys out with a warning, and the merged or loaded model behaves as its base (hiyouga/LLaMA-Factory#8134, #9346; unslothai/unsloth#2142, #869).",
            zh="PEFT 会略过这些键并只给一条警告，合并或加载后的模型行为与基座相同（hiyouga/LLaMA-Factory#8134、#9346；unslothai/unsloth#2142、#869）。",
        ),
        fix=Text(
            en="Find the base by adapter_config.json (base_model_name_or_path), and merge with gogpt merge, which proves what it writes.",
            zh="根据 adapter_config.json 的 base_model_name_or_path 找到基座，并用 gogpt merge 合并，它会验证所写的结果。",
        ),
        example="""error EXP722 runs/a/final: 120 of 120 tensors of the adapter fit no module of models/base (first model.language_model.layers.0.self_attn.q_proj)
  fix: name the base that it was trained on (--base), and use the PEFT release that it was saved with

gogpt check runs/a/final --base models/base""",
    ),
    fires=(
        Facts(adapter=replace(ADAPTER, strangers=Tally(count=120, first=("model.language_model.layers.0.self_attn.q_proj",)))),
    ),
    silent=(
        Facts(adapter=ADAPTER),
        Facts(adapter=replace(ADAPTER, base_found=None)),
    ),
)
