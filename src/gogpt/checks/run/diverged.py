"""RUN650: the loss stands far above its own best and stays there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

RAISED = 8
"""Steps in a row above the limit. Single hard batches and spikes come back before."""

GUESSING = 5
"""Steps in a row that are worse than guessing."""

MESSAGE = Text(
    en="the loss has stood above {loss_limit:.3f} since step {raised_since} and does not come back: {loss_now:.3f} at step {step}, "
    "where the best was {loss_best:.3f} (noise {loss_noise:.3f}, learning rate {lr:.3g})",
    zh="损失自第 {raised_since} 步起一直高于 {loss_limit:.3f}，没有回落：第 {step} 步为 {loss_now:.3f}，此前最好为 {loss_best:.3f}（噪声 {loss_noise:.3f}，学习率 {lr:.3g}）",
)
WORSE = Text(
    en="the loss is worse than guessing since step {raised_since}: {loss_now:.3f} at step {step}, where every token alike gives "
    "{loss_uniform:.3f} (learning rate {lr:.3g})",
    zh="自第 {raised_since} 步起损失比瞎猜还差：第 {step} 步为 {loss_now:.3f}，而对每个 token 一视同仁也只有 {loss_uniform:.3f}（学习率 {lr:.3g}）",
)
FIX = Text(
    en="lower train.learning_rate (a tenth of it), lengthen train.warmup, and look at the rows of step {raised_since}; "
    "train.rollbacks: 1 goes back and leaves them out",
    zh="把 train.learning_rate 降到十分之一，加长 train.warmup，并查看第 {raised_since} 步的数据行；train.rollbacks: 1 会回退并跳过它们",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    guessing = vitals.guessing_steps >= GUESSING
    if last is None or vitals.recovering or not (guessing or vitals.raised_steps >= RAISED):
        return
    evidence = to_json({
        "step": last.step, "loss": last.loss, "loss_now": vitals.loss_now, "loss_best": vitals.loss_best, "loss_start": vitals.loss_start,
        "loss_noise": vitals.loss_noise, "loss_limit": vitals.loss_limit, "loss_uniform": vitals.loss_uniform, "raised_since": vitals.raised_since,
        "raised_steps": vitals.raised_steps, "guessing_steps": vitals.guessing_steps, "grad_norm": last.grad_norm, "lr": last.lr,
    })
    yield Finding(code="RUN650", severity=Severity.ERROR, message=WORSE if guessing else MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN650",
    name="diverged",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the run diverged", zh="训练发散"),
        what=Text(
            en="Two signatures. The loss of 8 steps in a row lies above best + half of what was learned + the larger of 1 nat and 3 "
            "times the noise (the 90th percentile of the difference between neighbouring steps), and a quarter above each of the "
            "last 32 losses that were not raised. Or that of 5 steps in a row lies above 1.2 times ln(vocabulary size), which is "
            "what guessing costs, and 1 nat above the lowest. In neither is the loss on its way back.",
            zh="两种特征。连续 8 步的损失高于“最好值＋已学到部分的一半＋max（1 nat，3 倍噪声）”，噪声是相邻两步之差的 9"
            "0% 分位数，且比此前 32 个正常损失中的每一个都高四分之一；或连续 5 步高于 1.2 倍 ln（词表大小），即瞎猜"
            "的损失，且比最低值高 1 nat。两种情况下损失都没有回落的趋势。",
        ),
        why=Text(
            en="A diverged run prints finite numbers, ends with exit code 0 and saves a ruined model: TRL 1.16 and LLaMA-Factory 0.9.5"
            " both went from 10.8 to above 20 at a rate of 0.5 without a word. Reported of real runs: 0.8 to 6.2 with LoRA, 1.7 to "
            "11.5 in full fine-tuning (haotian-liu/LLaVA#1375, #1301; Lightning-AI/litgpt#628).",
            zh="发散的训练打印的都是有限数，退出码为 0，并保存一个被毁掉的模型：学习率 0.5 时 TRL 1.16 和 LLaMA-"
            "Factory 0.9.5 的损失都从 10.8 升到 20 以上而不作声。真实报告：LoRA 从 0.8 到 6.2，"
            "全量微调从 1.7 到 11.5（haotian-liu/LLaVA#1375、#1301；Lightning-AI/l"
            "itgpt#628）。",
        ),
        fix=Text(
            en="Lower the learning rate first; then lengthen the warm-up. If it happened in the middle of a good run, look at the rows"
            " of the step at which it began, and let train.rollbacks go back to the checkpoint before it and leave those rows out. "
            "checks.policy: {RUN650: warn} lets the run go on.",
            zh="先降低学习率，再加长预热。若发生在正常训练途中，查看开始那一步的数据行，并用 train.rollbacks 回到之前的"
            "检查点、跳过这些行。checks.policy: {RUN650: warn} 可让训练继续。",
        ),
        example="""RUN650: the loss has stood above 3.430 since step 193 and does not come back: 6.213 at step 200, where the best was 1.840 (noise 0.110, learning rate 0.00019)
  fix:      lower train.learning_rate (a tenth of it), lengthen train.warmup, and look at the rows of step 193; train.rollbacks: 1 goes back and leaves them out

train:
  learning_rate: 2e-5
  rollbacks: 1""",
    ),
    fires=(
        _case(raised_steps=8, raised_since=193, loss_now=6.213),
        _case(guessing_steps=5, raised_since=196, loss_now=20.4),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(raised_steps=7, raised_since=194),
        _case(raised_steps=30, raised_since=171, recovering=True),
        _case(guessing_steps=4, raised_since=197),
    ),
)
