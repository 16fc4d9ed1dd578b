"""RUN669: the first loss is more than guessing could cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

FACTOR = 2.0
"""Times ln(vocabulary), which guessing every token at random costs."""
EARLY = 50
"""A first record after more steps may be of a run that has diverged already."""

SUMMED = Text(
    en="the first loss is {loss}, and guessing among {vocab} tokens costs {guess}: it is a sum over the {accumulation} accumulated micro-batches ({share} each), so gradients are "
    "as many times too large",
    zh="最初的损失为 {loss}，而在 {vocab} 个 token 中随机猜测也只有 {guess}：它是 {accumulation} 个累积微批次之和（每个 {share}），梯度也大了同样的倍数",
)
MESSAGE = Text(
    en="the first loss is {loss}, and guessing among {vocab} tokens costs {guess}: losses are summed, not averaged, or the tokenizer is another model's",
    zh="最初的损失为 {loss}，而在 {vocab} 个 token 中随机猜测也只有 {guess}：损失被求和而未取平均，或分词器属于另一个模型",
)
FIX = Text(
    en="a compute_loss of your own must divide by num_items_in_batch, or set average_tokens_across_devices and update the trainer; see that model and tokenizer belong together",
    zh="自己的 compute_loss 必须除以 num_items_in_batch，或升级训练器；并确认模型与分词器配套",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    loss, vocab = seen.first_loss, seen.vocab_size
    if loss is None or not vocab or vocab < 2 or seen.first_loss_step is None or seen.first_loss_step > EARLY:
        return
    guess = math.log(vocab)
    if loss <= FACTOR * guess:
        return
    share = loss / seen.accumulation if seen.accumulation and seen.accumulation > 1 else loss
    evidence = {"loss": loss, "vocab": vocab, "guess": round(guess, 2), "accumulation": seen.accumulation, "share": round(share, 3), "step": seen.first_loss_step}
    yield Finding(code="RUN669", severity=Severity.WARNING, message=SUMMED if share <= 1.1 * guess else MESSAGE, evidence=evidence, fix=FIX, where=seen.path)


CHECK = Check(
    code="RUN669",
    name="loss_too_large",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the first loss is larger than guessing costs", zh="最初的损失大于随机猜测"),
        what=Text(
            en="Where the vocabulary is known (config.json beside the run, or the settings in an event file): whether the first logged loss is above twice ln(vocabulary).",
            zh="若已知词表大小（训练目录旁的 config.json，或事件文件中的设置）：检查最初记录的损失是否超过 ln(词表大小) 的两倍。",
        ),
        why=Text(
            en="A loss that grows with accumulation is a sum where a mean should be: gradients are as many times too large and the learning rate with them "
            "(huggingface/transformers#34191, #37766; axolotl-ai-cloud/axolotl#2262: eight times; modelscope/ms-swift#2363).",
            zh="随累积步数增大的损失是把平均算成了求和：梯度大了同样的倍数，学习率也等于放大了（huggingface/transformers#34191、#37766；"
            "axolotl-ai-cloud/axolotl#2262：8 倍；modelscope/ms-swift#2363）。",
        ),
        fix=Text(
            en="Train a few steps with accumulation 1: if the loss falls to 1/k, it was a sum. GoGPT divides by the trained tokens of the whole step.",
            zh="用累积 1 训练几步：若损失降到 1/k，就是求和所致。GoGPT 除以整个优化步中被训练的 token 数。",
        ),
        example="""warning RUN669 out: the first loss is 41.6, and guessing among 49152 tokens costs 10.8: it is a sum over the 4 accumulated micro-batches (10.4 each), so gradients are as many times too large
  fix: a compute_loss of your own must divide by num_items_in_batch, or set average_tokens_across_devices and update the trainer; see that model and tokenizer belong together

train:
  batch_size: 16
  micro_batch_size: 4""",
    ),
    fires=(Facts(history=replace(PAST, first_loss=41.6)), Facts(history=replace(PAST, first_loss=310.0)), Facts(history=replace(PAST, first_loss=31.0, accumulation=None))),
    silent=(Facts(history=PAST), Facts(history=replace(PAST, first_loss=12.0)), Facts(history=replace(PAST, first_loss=41.6, vocab_size=None)),
            Facts(history=replace(PAST, first_loss=41.6, first_loss_step=500))),
)
