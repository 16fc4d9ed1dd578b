"""RUN670: the loss ended above where it began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

ABOVE = 1.3
"""Times the loss of the start; a run that ends so has lost what it had."""

MESSAGE = Text(
    en="the loss rose from {early} to {late} (lowest {lowest}) and did not come back: the run diverged (learning rate up to {peak_lr})",
    zh="损失从 {early} 升到 {late}（最低 {lowest}）且没有回落：训练已发散（学习率最高 {peak_lr}）",
)
FIX = Text(
    en="start again with a learning rate three to ten times lower, a warm-up and max_grad_norm 1.0; keep nothing of this run after the lowest loss",
    zh="以低三到十倍的学习率、预热和 max_grad_norm 1.0 重新开始；最低损失之后的检查点都不要用",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    early, late, lowest = seen.early_loss, seen.late_loss, seen.lowest_loss
    if early is None or late is None or lowest is None or seen.num_losses < 10 or seen.zero_losses or seen.non_finite == "loss":
        return
    if late > ABOVE * early and late > ABOVE * lowest and late > 0.5:
        evidence = {"early": early, "late": late, "lowest": lowest, "peak_lr": seen.peak_lr if seen.peak_lr is not None else "?", "records": seen.num_losses}
        yield Finding(code="RUN670", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.path)


AWAY = replace(PAST, early_loss=10.8, lowest_loss=9.6, late_loss=20.1, peak_lr=0.5)

CHECK = Check(
    code="RUN670",
    name="loss_diverged",
    stage=Stage.HISTORY,
    severity=Severity.ERROR,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="the loss ended above where it began", zh="损失最终高于起点"),
        what=Text(
            en="Whether the median loss of the last tenth of the records is more than 1.3 times that of the first tenth. Peaks that come back are no finding.",
            zh="检查最后十分之一记录的损失中位数是否超过最初十分之一的 1.3 倍。会回落的尖峰不报。",
        ),
        why=Text(
            en="With a learning rate of 0.5, TRL 1.16 and LLaMA-Factory 0.9.5 went from 10.8 to 20 and 23, and ended with exit code 0 and no warning; 0.05 was "
            "somebody's real setting (hiyouga/LLaMA-Factory#2810).",
            zh="学习率为 0.5 时，TRL 1.16 和 LLaMA-Factory 0.9.5 的损失从 10.8 升到 20 和 23，没有任何警告，退出码为 0；0.05 则是真实有人用过的设置"
            "（hiyouga/LLaMA-Factory#2810）。",
        ),
        fix=Text(en="Full fine-tuning wants rates of about 1e-5, LoRA of about 2e-4 (CFG211).", zh="全量微调的学习率约为 1e-5，LoRA 约为 2e-4（CFG211）。"),
        example="""error RUN670 out: the loss rose from 10.8 to 20.1 (lowest 9.6) and did not come back: the run diverged (learning rate up to 0.5)
  fix: start again with a learning rate three to ten times lower, a warm-up and max_grad_norm 1.0; keep nothing of this run after the lowest loss

train:
  learning_rate: 2e-5""",
    ),
    fires=(Facts(history=AWAY), Facts(history=replace(AWAY, peak_lr=None))),
    silent=(Facts(history=PAST), Facts(history=replace(AWAY, late_loss=11.0)), Facts(history=replace(AWAY, num_losses=5))),
)
