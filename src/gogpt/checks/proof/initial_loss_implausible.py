"""MOD525: the untrained model's loss is not that of a model which knows these tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import INITIAL, PROOFS
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NUM_TOKENS = 16
"""Below that nothing is said: single words can have any loss."""
SHARE = 0.9
"""Of ln(vocabulary). Entropy above it: a model with random weights, which knows nothing yet and is no fault."""
ABOVE = 0.5
"""Nats above ln(vocabulary), from which a model with opinions is refused."""
FAR_ABOVE = 1.5
"""Nats above ln(vocabulary), from which any model is refused."""
ORDER = 2.0
"""Nats that text in its own order must be better than shuffled, where it is bad."""

ABOVE_UNIFORM = Text(
    en="the untrained model's loss on {tokens} tokens of {answers} answers is {loss:.4g} (without prompt {alone:.4g}): worse than guessing "
    "among {vocab_size} tokens ({uniform:.4g}), and {shuffled:.4g} with their order shuffled",
    zh="未训练的模型在 {answers} 个回答的 {tokens} 个 token 上损失为 {loss:.4g}（不带提示为 {alone:.4g}）：比在 {vocab_size} 个 token 中瞎猜（{uniform:.4g}）"
    "还差，打乱顺序后为 {shuffled:.4g}",
)
ORDER_BLIND = Text(
    en="to the untrained model {answers} answers are no text: a loss of {alone:.4g} without prompt, {shuffled:.4g} with their {tokens} tokens "
    "shuffled; guessing among {vocab_size} tokens gives {uniform:.4g}",
    zh="在未训练的模型看来，这 {answers} 个回答不成文：不带提示的损失为 {alone:.4g}，把其 {tokens} 个 token 打乱后为 {shuffled:.4g}；"
    "在 {vocab_size} 个 token 中瞎猜为 {uniform:.4g}",
)
FIX_TOKENS = Text(
    en="use the tokenizer that the model was trained with, and check its weights (download both again)",
    zh="使用与该模型一同训练的分词器，并检查其权重（两者都可重新下载）",
)


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.initial_loss
    assert proof is not None
    if proof.tokens < NUM_TOKENS or not all(math.isfinite(x) for x in (proof.loss, proof.alone, proof.shuffled)):
        return
    uniform = math.log(proof.vocab_size)
    knows = proof.entropy < SHARE * uniform
    blind = knows and proof.shuffled - proof.alone < ORDER
    severity = Severity.ERROR
    if min(proof.loss, proof.alone) > uniform + FAR_ABOVE or (blind and proof.alone > uniform + ABOVE):
        message = ABOVE_UNIFORM
    elif blind and proof.alone >= SHARE * uniform:
        message, severity = ORDER_BLIND, Severity.WARNING
    else:
        return
    yield Finding(code="MOD525", severity=severity, message=message, evidence={**to_json(proof), "uniform": uniform}, fix=FIX_TOKENS)


CHECK = Check(
    code="MOD525",
    name="initial_loss_implausible",
    stage=Stage.PROOF,
    severity=Severity.ERROR,
    needs=("proofs.initial_loss",),
    run=run,
    page=Page(
        title=Text(en="the initial loss is implausible", zh="初始损失不合理"),
        what=Text(
            en="Before the first step, the mean loss of the untrained model over the same tokens of up to 6 answers: as trained; alone, without "
            "prompt and template; alone and shuffled. An error: alone more than 0.5 nats above ln(vocabulary) and less than "
            "2 better than shuffled, or both more than 1.5 above. A warning: alone above 0.9 ln(vocabulary) and order-blind in "
            "that way. A model with random weights (entropy above 0.9 ln(vocabulary)) is no fault. Measured on "
            "SmolLM2-135M-Instruct (ln(vocabulary) 10.8; four sets, five templates; bench/initial_loss.py): 0.6 to 3.8 as trained, 1.7 to 5.4 alone, "
            "7.8 to 10.3 shuffled. Its ids in another order: 9.1 to 13.0, 13.1 to 13.9, 13.6 to 14.3. Tokenizers of GPT-2, Llama 2 and Mistral: 10.7 to "
            "13.7 alone. A layer of noise: 19 to 21; the first layer zero: 11.8; rows of the embedding one further: 10.1 and 11.1. Not seen: one matrix with its "
            "columns in another order (2.9 and 4.8), and an embedding of noise, which is like a fresh model's.",
            zh="在第一步之前，对至多 6 个回答的同一批 token 计算未训练模型的平均损失：按训练时的样子；不带提示和模板；不带且打乱顺序。"
            "错误：不带提示时比 ln(词表) 高 0.5 nat 以上且只比打乱后好不到 2，或两者都高出 1.5 以上。警告：不带提示时高于 0.9 ln(词表) 且同样不辨顺序。"
            "权重随机的模型（熵高于 0.9 ln(词表)）不算错。在 SmolLM2-135M-Instruct 上实测（ln(词表) 为 10.8；四个数据集、五个模板；bench/initial_loss.py）：按训练 0.6 至 3.8，不带提示 1.7 至 5.4，"
            "打乱 7.8 至 10.3。其 id 换了次序：9.1 至 13.0、13.1 至 13.9、13.6 至 14.3。用 GPT-2、Llama 2、Mistral 的分词器：不带提示 10.7 至 13.7。"
            "一层为噪声：19 至 21；第一层为零：11.8；嵌入行错开一位：10.1 与 11.1。看不出的：一个矩阵的列换了次序（2.9 与 4.8），"
            "以及嵌入全为噪声，那与全新的模型无异。",
        ),
        why=Text(
            en="A model trained on another model's tokens starts at a loss of 10 instead of 4, learns to parrot, and nothing says so "
            "(axolotl-ai-cloud/axolotl#1265: a stale cache of another tokenizer's ids). Damaged or half-converted weights look the same.",
            zh="用别的模型的 token 训练，起始损失是 10 而不是 4，模型只学会鹦鹉学舌，而没有任何提示"
            "（axolotl-ai-cloud/axolotl#1265：缓存里是另一个分词器的 id）。损坏或转换了一半的权重看上去也是这样。",
        ),
        fix=Text(
            en="See gogpt show FILE:1 for the tokens, and gogpt generate MODEL for whether the base speaks at all. Take tokenizer and weights "
            "from one place. What this proof cannot tell: a template that is not the model's own but readable costs a few tenths of a nat "
            "and is learned within the run.",
            zh="用 gogpt show FILE:1 查看 token，用 gogpt generate MODEL 看基座会不会说话。分词器与权重要来自同一处。此证明看不出的："
            "不是模型自带但能读懂的模板，只差零点几 nat，训练中很快学会。",
        ),
        example="""error MOD525: the untrained model's loss on 132 tokens of 6 answers is 13 (without prompt 13.87): worse than guessing among 49152 tokens (10.8), and 14.02 with their order shuffled
  fix: use the tokenizer that the model was trained with, and check its weights (download both again)

model: models/base   # tokenizer.json and model.safetensors of one release""",
    ),
    fires=(
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=13.0, alone=13.87, shuffled=14.02, entropy=7.38))),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=19.95, alone=21.04, shuffled=19.33, entropy=2.38))),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=1e15, alone=1e15, shuffled=1e15, entropy=0.0))),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=7.66, alone=10.7, shuffled=12.24, entropy=5.21))),
    ),
    silent=(
        Facts(proofs=PROOFS),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=1.98, alone=2.69, shuffled=7.91, entropy=1.73))),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=6.05, alone=6.06, shuffled=6.05, entropy=6.02, vocab_size=420))),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, tokens=6, loss=14.0, alone=14.0, shuffled=14.0, entropy=3.0))),
        Facts(proofs=replace(PROOFS, initial_loss=replace(INITIAL, loss=float("nan")))),
    ),
)
