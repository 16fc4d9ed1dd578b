"""MOD522: documents packed into a row see each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PACKING, PROOFS
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

LEAKS = Text(
    en="one of {documents} documents packed into a row was changed, and the logits of another moved by {leak} of the largest logit "
    "(tolerance {tolerance})",
    zh="一行中打包了 {documents} 篇文档，只改动其中一篇，另一篇的 logits 就变动了最大 logit 的 {leak}（容差 {tolerance}）",
)
DIFFERS = Text(
    en="the logits of a document in a packed row differ from those it has alone by {alone} of the largest logit (tolerance {tolerance})",
    zh="文档在打包行中的 logits 与它单独成行时相差最大 logit 的 {alone}（容差 {tolerance}）",
)
SHARED = Text(
    en="the logits of examples whose common beginning is computed once differ from those they have alone by {shared} of the largest logit (tolerance {tolerance})",
    zh="共同前缀只计算一次时，样本的 logits 与单独计算时相差最大 logit 的 {shared}（容差 {tolerance}）",
)
FIX_SHARED = Text(en="train.shared_prefixes: off", zh="设为 train.shared_prefixes: off")
FIX = Text(
    en="data.packing: false; or another attention implementation (model.attention: sdpa or eager)",
    zh="设为 data.packing: false；或换一种注意力实现（model.attention: sdpa 或 eager）",
)


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.packing
    assert proof is not None
    differs = proof.shared is not None and proof.shared > proof.tolerance
    message = LEAKS if proof.leak > proof.tolerance else DIFFERS if proof.alone > proof.tolerance else SHARED if differs else None
    if message is not None:
        figures = {name: float(f"{value:.3g}") for name in ("leak", "alone", "shared") if (value := getattr(proof, name)) is not None}
        yield Finding(code="MOD522", severity=Severity.ERROR, message=message, evidence=to_json({**to_json(proof), **figures}),
                      fix=FIX_SHARED if message is SHARED else FIX)


CHECK = Check(
    code="MOD522",
    name="packing_leaks",
    stage=Stage.PROOF,
    severity=Severity.ERROR,
    needs=("proofs.packing",),
    run=run,
    page=Page(
        title=Text(en="packed documents see each other", zh="打包在一起的文档互相可见"),
        what=Text(
            en="Before the first step, a packed row of the run's own documents goes through the model with the mask of training; then the "
            "first document's tokens are replaced, then the last one's. The logits of the others must stay, and each document's logits must "
            "be those that it has in a row by itself (and where the run shares prefixes, those of two examples with a common beginning), within 0.001 of the largest logit in fp32 (0.05 in bf16, 0.02 in fp16). Measured on "
            "SmolLM2-135M in float32: 0 and 2e-6; with a mask that is causal only, 0.49 and 0.62.",
            zh="在第一步之前，把本次训练自己的文档打包成一行，以训练所用的掩码送入模型；然后替换第一篇文档的 token，再替换最后一篇的。"
            "其余文档的 logits 必须不变，且每篇文档的 logits 必须与它单独成行时相同（共享前缀时，两个开头相同的样本也是如此），fp32 下误差不超过最大 logit 的 0.001（bf16 为 0.05，fp16 为 0.02）。"
            "在 SmolLM2-135M（float32）上实测：0 与 2e-6；只有因果掩码时为 0.49 与 0.62。",
        ),
        why=Text(
            en="A conversation that attends to its neighbour learns to answer from text that will not be there. SDPA and eager attention "
            "ignore sequence boundaries unless a mask says otherwise, and trainers only warn (axolotl-ai-cloud/axolotl#3796, #449; "
            "huggingface/transformers#46634; OpenRLHF/OpenRLHF#587).",
            zh="能看到邻居的对话，会学着根据推理时并不存在的文字来回答。SDPA 和 eager 注意力在没有掩码时会忽略序列边界，而训练器只给警告"
            "（axolotl-ai-cloud/axolotl#3796、#449；huggingface/transformers#46634；OpenRLHF/OpenRLHF#587）。",
        ),
        fix=Text(
            en="Train unpacked, or with an attention implementation that takes a 4-D mask. An architecture whose layers carry a state along "
            "the row (convolution, recurrence) cannot be packed at all.",
            zh="不打包训练，或使用接受 4 维掩码的注意力实现。层间沿行传递状态（卷积、循环）的架构完全不能打包。",
        ),
        example="""error MOD522: one of 3 documents packed into a row was changed, and the logits of another moved by 0.31 of the largest logit (tolerance 0.001)
  fix: data.packing: false; or another attention implementation (model.attention: sdpa or eager)

data:
  packing: false""",
    ),
    fires=(
        Facts(proofs=replace(PROOFS, packing=replace(PACKING, leak=0.31, alone=0.4))),
        Facts(proofs=replace(PROOFS, packing=replace(PACKING, alone=0.4))),
        Facts(proofs=replace(PROOFS, packing=replace(PACKING, shared=0.4))),
    ),
    silent=(Facts(proofs=PROOFS), Facts(proofs=replace(PROOFS, packing=replace(PACKING, shared=1e-6))), Facts(proofs=replace(PROOFS, precision="bf16", packing=replace(PACKING, alone=0.02, tolerance=0.05)))),
)
