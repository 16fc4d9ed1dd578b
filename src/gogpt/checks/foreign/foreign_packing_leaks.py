"""CFG221: packed conversations attend to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

CERTAIN = Text(
    en="{why}: conversations that share a row attend to each other in {release}",
    zh="{why}：在 {release} 中，同一行里的对话会互相注意",
)
LIKELY = Text(
    en="{why}: conversations that share a row can attend to each other in {release}",
    zh="{why}：在 {release} 中，同一行里的对话可能互相注意",
)
FIX = Text(
    en="{cure}, or no packing",
    zh="设 {cure}，或不打包",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if not file.packing_leaks:
        return
    certain = file.packing_leaks == "certain"
    yield Finding(
        code="CFG221", severity=Severity.ERROR if certain else Severity.WARNING, message=CERTAIN if certain else LIKELY,
        evidence={"why": file.packing_why, "release": file.release, "cure": file.packing_fix}, fix=FIX, where=file.at(file.key("packing"), "packing_strategy", "packing"),
    )


CHECK = Check(
    code="CFG221",
    name="foreign_packing_leaks",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="packing leaks between conversations",
            zh="打包使对话互相泄漏",
        ),
        what=Text(
            en="Whether the configuration packs conversations into one row without keeping them apart: LLaMA-Factory with packing and without neat_packing; TRL with packing_strategy wrapped; Axolotl and ms-swift without an attention that knows the borders. A warning where it depends on the attention that is installed.",
            zh="检查配置是否把多个对话打包进一行却没有隔开：LLaMA-Factory 用 packing 而无 neat_packing；TRL 用 packing_strategy: wrapped；Axolotl 和 ms-swift 没有使用识别边界的注意力。取决于所装注意力实现时为警告。",
        ),
        why=Text(
            en="The answer is then conditioned on strangers' conversations, as it never is when served; nothing is said. Measured on CPU by changing one document of a row: LLaMA-Factory 0.9.5 with packing: true moves another's logits by 0.98, TRL 1.16 with wrapped its log-probability by 0.33; neat_packing and bfd by 0.0. Axolotl logs a warning and trains (axolotl-ai-cloud/axolotl PR#3796, #449; huggingface/transformers PR#46634).",
            zh="这样答案会以无关的对话为条件，而部署时绝不会如此，且没有任何提示。在 CPU 上改动一行中的一个文档测得：LLaMA-Factory 0.9.5 的 packing: true 使另一文档的 logits 变动 0.98，TRL 1.16 的 wrapped 使其对数概率变动 0.33；neat_packing 和 bfd 为 0.0。Axolotl 只记一条警告便继续训练（axolotl-ai-cloud/axolotl PR#3796、#449；huggingface/transformers PR#46634）。",
        ),
        fix=Text(
            en="Set what the finding names. GoGPT's own packing never lets conversations meet.",
            zh="按报告所写设置。GoGPT 自己的打包从不让对话互相可见。",
        ),
        example="""error CFG221 lf.yaml:7: packing: true without neat_packing: conversations that share a row attend to each other in LLaMA-Factory 0.9.5
  fix: neat_packing: true, or no packing

packing: true
neat_packing: true""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, packing=True, packing_leaks="certain", packing_why="packing: true without neat_packing", packing_fix="neat_packing: true")),
        Facts(foreign=replace(FOREIGN, tool="axolotl", release="Axolotl", packing=True, packing_leaks="likely", packing_why="sample_packing: true with sdpa attention", packing_fix="flash_attention: true")),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, packing=True)),
    ),
)
