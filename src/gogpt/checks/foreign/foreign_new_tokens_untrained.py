"""CFG227: tokens are added, and their rows do not train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{keys} adds tokens, and {method} trains neither the embedding nor the head: their rows stay random",
    zh="{keys} 添加了 token，而 {method} 既不训练嵌入也不训练输出头：新行保持随机",
)
FIX = Text(
    en="{saved}: embed_tokens,lm_head (the names of this model's matrices), or method full",
    zh="设 {saved}: embed_tokens,lm_head（该模型矩阵的名称），或用全参数训练",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.new_tokens and not file.new_tokens_trained:
        yield Finding(code="CFG227", severity=Severity.ERROR, message=MESSAGE, evidence={"keys": ", ".join(file.new_tokens), "method": file.method, "saved": file.saved_key},
                      fix=FIX, where=file.at(*file.new_tokens))


CHECK = Check(
    code="CFG227",
    name="foreign_new_tokens_untrained",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="added tokens are never trained",
            zh="新增 token 从未被训练",
        ),
        what=Text(
            en="Whether a configuration that adds tokens to the vocabulary under LoRA also trains the embedding and the head.",
            zh="检查在 LoRA 下向词表添加 token 的配置是否也训练嵌入和输出头。",
        ),
        why=Text(
            en="LoRA leaves those matrices alone: the new rows keep the values that resizing gave them, and a reloaded adapter does not even hold those (artidoro/qlora#214, huggingface/peft#334, axolotl-ai-cloud/axolotl#1570).",
            zh="LoRA 不动这些矩阵：新行停留在扩表时的数值，重新加载适配器时连这些值也没有（artidoro/qlora#214、huggingface/peft#334、axolotl-ai-cloud/axolotl#1570）。",
        ),
        fix=Text(
            en="Name the matrices in additional_target (LLaMA-Factory), lora_modules_to_save (Axolotl, TRL) or modules_to_save (ms-swift).",
            zh="在 additional_target（LLaMA-Factory）、lora_modules_to_save（Axolotl、TRL）或 modules_to_save（ms-swift）中写上这些矩阵。",
        ),
        example="""error CFG227 lf.yaml:20: add_tokens adds tokens, and lora trains neither the embedding nor the head: their rows stay random
  fix: additional_target: embed_tokens,lm_head (the names of this model's matrices), or method full

add_tokens: <call>,</call>
additional_target: embed_tokens,lm_head""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, new_tokens=("add_tokens",), new_tokens_trained=False, saved_key="additional_target", places={"add_tokens": "lf.yaml:20"})),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, new_tokens=("add_tokens",))),
    ),
)
