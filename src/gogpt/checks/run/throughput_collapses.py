"""RUN655: far fewer tokens per second than usual in this run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

STEPS = 16
"""in a row"""

LONGER = 1.5
"""times the tokens of a usual step, or as much less"""

MESSAGE = Text(
    en="{rate_now:.4g} tokens per second for {slow_steps} steps (up to step {step}), where {rate_usual:.4g} was usual, at about the "
    "same tokens per step ({tokens_slow:.0f} and {tokens_usual:.0f}): something else uses the machine, it swaps or throttles, or "
    "data comes slowly",
    zh="已连续 {slow_steps} 步（至第 {step} 步）每秒 {rate_now:.4g} 个 token，通常为 {rate_usual:.4g}，而每步 token 数相近（{tokens_slow:.0f} 与 {tokens_usual:.0f}）：有别的程序占用机器、正在换页或降频，或数据供应变慢",
)
LONG = Text(
    en="{rate_now:.4g} tokens per second for {slow_steps} steps (up to step {step}), where {rate_usual:.4g} was usual: the steps hold"
    " {tokens_slow:.0f} tokens in place of {tokens_usual:.0f}, and longer rows cost more for each token",
    zh="已连续 {slow_steps} 步（至第 {step} 步）每秒 {rate_now:.4g} 个 token，通常为 {rate_usual:.4g}：每步 {tokens_slow:.0f} 个 token，原为 {tokens_usual:.0f}，行越长每个 token 越贵",
)
SHORT = Text(
    en="{rate_now:.4g} tokens per second for {slow_steps} steps (up to step {step}), where {rate_usual:.4g} was usual: the steps hold"
    " {tokens_slow:.0f} tokens in place of {tokens_usual:.0f}, too few to be worth their fixed cost",
    zh="已连续 {slow_steps} 步（至第 {step} 步）每秒 {rate_now:.4g} 个 token，通常为 {rate_usual:.4g}：每步只有 {tokens_slow:.0f} 个 token，原为 {tokens_usual:.0f}，抵不上固定开销",
)
FIX = Text(
    en="look at the machine (other processes, temperature, free memory, disk)",
    zh="查看机器（其他进程、温度、空闲内存、磁盘）",
)
FIX_ROWS = Text(
    en="data.packing: true makes rows of about one length",
    zh="data.packing: true 使各行长度相近",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    if last is None or vitals.slow_steps < STEPS or vitals.tokens_slow is None or vitals.tokens_usual is None:
        return
    evidence = to_json({
        "step": last.step, "rate_now": vitals.rate_now, "rate_usual": vitals.rate_usual, "slow_steps": vitals.slow_steps, "tokens_slow": vitals.tokens_slow,
        "tokens_usual": vitals.tokens_usual, "seconds": last.seconds, "memory_now": last.memory_now,
    })
    ratio = vitals.tokens_slow / vitals.tokens_usual
    message = LONG if ratio >= LONGER else SHORT if ratio * LONGER <= 1 else MESSAGE
    yield Finding(code="RUN655", severity=Severity.WARNING, message=message, evidence=evidence, fix=FIX if message is MESSAGE else FIX_ROWS)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN655",
    name="throughput_collapses",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="throughput collapses", zh="吞吐量骤降"),
        what=Text(
            en="Whether 16 steps in a row have less than a third of the tokens per second that are the median of the last 64 usual "
            "steps. The first 10 steps, evaluation and saving are left out.",
            zh="检查是否连续 16 步的每秒 token 数不到最近 64 个正常步中位数的三分之一。前 10 步、评估和保存不计在内。",
        ),
        why=Text(
            en="A run that goes on at a fraction of its speed costs days and says nothing (huggingface/transformers#34685; "
            "Unbabel/COMET#158). Two processes of two threads on two cores fall to a tenth.",
            zh="以几分之一的速度继续的训练会多花几天而不作声（huggingface/transformers#34685；Unbabe"
            "l/COMET#158）。两个各两线程的进程挤在两个核上，速度会降到十分之一。",
        ),
        fix=Text(
            en="The message tells what the numbers allow: with the same tokens per step it is the machine (another process, heat, "
            "swapping, a slow disk); with longer or far shorter steps it is the order of the rows. OMP_NUM_THREADS=1 for processes "
            "that share cores.",
            zh="消息会说明数字所能说明的：每步 token 数相同，原因在机器（其他进程、过热、换页、慢磁盘）；每步变长或变得很短，原因"
            "在行的次序。共用核心的进程请设 OMP_NUM_THREADS=1。",
        ),
        example="""RUN655: 181.4 tokens per second for 16 steps (up to step 200), where 1805 was usual, at about the same tokens per step (7390 and 7400): something else uses the machine, it swaps or throttles, or data comes slowly
  fix:      look at the machine (other processes, temperature, free memory, disk)

data:
  packing: true""",
    ),
    fires=(
        _case(slow_steps=16, rate_now=181.4, tokens_slow=7390.0),
        _case(slow_steps=16, rate_now=181.4, tokens_slow=14800.0),
        _case(slow_steps=16, rate_now=181.4, tokens_slow=730.0),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(slow_steps=15, rate_now=181.4, tokens_slow=7390.0),
    ),
)
