"""RUN661: the training loss is near 0, and nothing says that it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

TINY = 0.01
"""Nats a token. Text that was not seen before costs ten to a hundred times as much."""

MEMORISED = Text(
    en="the training loss is {late} at the end, the evaluation loss {last_eval}: the training rows are memorised",
    zh="结束时训练损失为 {late}，而评估损失为 {last_eval}：训练数据已被背诵",
)
MESSAGE = Text(
    en="the training loss is {late} at the end (from {early}), and no evaluation says whether it holds elsewhere: the rows are memorised, or the answers leak into their prompts",
    zh="结束时训练损失为 {late}（开始时 {early}），且没有评估说明在别处是否也如此：数据已被背诵，或答案泄漏到提示中",
)
FIX = Text(
    en="hold rows out for evaluation, train fewer epochs, and look for repeated rows and for answers that stand in their own prompt (gogpt data inspect DATA)",
    zh="留出数据用于评估，减少训练轮数，并检查重复的行以及已出现在提示中的答案（gogpt data inspect DATA）",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    if seen.late_loss is None or not 0 < seen.late_loss < TINY or seen.num_losses < 10 or seen.zero_losses:
        return
    if seen.last_eval is not None and seen.last_eval < 10 * seen.late_loss:
        return  # it holds on other rows, too: an easy task
    message = MESSAGE if seen.last_eval is None else MEMORISED
    evidence = {"late": seen.late_loss, "early": seen.early_loss, "last_eval": seen.last_eval, "records": seen.num_losses}
    yield Finding(code="RUN661", severity=Severity.WARNING, message=message, evidence=evidence, fix=FIX, where=seen.path)


LEARNT = replace(PAST, early_loss=2.1, late_loss=0.0031, lowest_loss=0.003, lowest_eval=1.4, last_eval=1.45, loss_at_lowest_eval=0.0032)

CHECK = Check(
    code="RUN661",
    name="loss_near_zero",
    stage=Stage.HISTORY,
    severity=Severity.WARNING,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the training loss is near 0", zh="训练损失接近 0"),
        what=Text(
            en="Whether the training loss of the last tenth of the records is below 0.01 without being 0, and the evaluation loss ten times as high or not there.",
            zh="检查最后十分之一记录的训练损失是否低于 0.01 而不为 0，且评估损失高出十倍以上或没有评估。",
        ),
        why=Text(
            en="A tiny loss with a tiny gradient means that the rows are memorised, or that the answer can be read off the prompt. Scores on rows that "
            "stand in the training set look just as good (OpenRLHF/OpenRLHF#1089).",
            zh="极小的损失和极小的梯度意味着数据已被背诵，或答案能从提示中直接读出。用训练集里的行来评分，结果同样好看（OpenRLHF/OpenRLHF#1089）。",
        ),
        fix=Text(
            en="Evaluate on rows that were never trained on. gogpt data inspect DATA finds repeats and answers in prompts; DAT310 finds rows on both sides.",
            zh="用从未训练过的行评估。gogpt data inspect DATA 能找出重复和提示中的答案；DAT310 能找出两边都有的行。",
        ),
        example="""warning RUN661 out: the training loss is 0.0031 at the end, the evaluation loss 1.45: the training rows are memorised
  fix: hold rows out for evaluation, train fewer epochs, and look for repeated rows and for answers that stand in their own prompt (gogpt data inspect DATA)

data:
  eval: 0.02""",
    ),
    fires=(Facts(history=LEARNT), Facts(history=replace(LEARNT, num_evals=0, last_eval=None, lowest_eval=None))),
    silent=(Facts(history=PAST), Facts(history=replace(LEARNT, late_loss=0.05)), Facts(history=replace(LEARNT, last_eval=0.004)),
            Facts(history=replace(LEARNT, num_losses=4))),
)
