"""RUN656: memory in use grows steadily."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP, VITALS
from gogpt.facts import Facts, RunVitals, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

BLOCKS = 8

GROWTH = 0.1
"""over all blocks, as a part of the first"""

LEAST = 64 * 2**20
"""bytes"""

MORE_TOKENS = 1.1

MESSAGE = Text(
    en="memory in use grew in every one of the last {blocks} blocks of {block} steps, from {first_mib:,.0f} to {last_mib:,.0f} MiB up"
    " to step {step}, at the same tokens per step: about {mib_per_step:.2f} MiB a step are not given back",
    zh="最近 {blocks} 段（每段 {block} 步）的内存占用段段增长，至第 {step} 步由 {first_mib:,.0f} 增至 {last_mib:,.0f} MiB，而每步 token 数相同：每步约有 {mib_per_step:.2f} MiB 没有归还",
)
FIX = Text(
    en="look for what keeps tensors or rows of past steps (train.report_to, a callback, a cache); save often (train.save_every): a "
    "run that is killed goes on with --resume",
    zh="查找留住往步张量或数据行的东西（train.report_to、回调、缓存）；勤保存（train.save_every）：被杀掉的训练可用 --resume 继续",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    vitals, last = seen.vitals, seen.last
    sizes, tokens = vitals.memory_blocks, vitals.memory_tokens
    if last is None or len(sizes) < BLOCKS or len(tokens) < BLOCKS:
        return
    steps = [b - a for a, b in itertools.pairwise(sizes)]
    growth, half = sizes[-1] - sizes[0], len(sizes) // 2
    slowing = sizes[-1] - sizes[half] < 0.5 * (sizes[half] - sizes[0])
    if min(steps) <= 0 or slowing or growth < max(LEAST, GROWTH * sizes[0]) or tokens[-1] > MORE_TOKENS * tokens[0]:
        return
    evidence = to_json({
        "step": last.step, "memory_blocks": sizes, "memory_tokens": tokens, "blocks": BLOCKS, "block": 10, "growth": growth,
        "first_mib": sizes[0] / 2**20, "last_mib": sizes[-1] / 2**20, "mib_per_step": growth / 2**20 / (10 * (BLOCKS - 1)), "memory": last.memory,
    })
    yield Finding(code="RUN656", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX)


def _case(step: int = 200, /, **figures: object) -> Facts:
    return Facts(run=replace(RUN, last=replace(STEP, step=step), vitals=replace(VITALS, **figures)))  # type: ignore[arg-type]


CHECK = Check(
    code="RUN656",
    name="memory_creeps",
    stage=Stage.RUN,
    severity=Severity.WARNING,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="memory creeps up", zh="内存持续增长"),
        what=Text(
            en="Bytes in use after each step (allocated on the GPU; resident set on the CPU), as medians of blocks of 10 steps, the "
            "first two blocks left out. It fires when each of the last 8 blocks is above the one before, the growth is at least 10%"
            " and 64 MiB and does not slow down, and the steps hold no more tokens.",
            zh="每步之后的内存占用（GPU 上为已分配量，CPU 上为常驻集），以每 10 步一段的中位数计，前两段除外。最近 8 段段"
            "段增长、增幅至少 10% 且不少于 64 MiB、没有放缓、每步 token 数也没有变多时报出。",
        ),
        why=Text(
            en="A leak ends a run after hours with out-of-memory or a killed process, far from its cause (instadeepai/Mava#77; "
            "tensorflow/tensorflow#73457). The peak alone does not show it: it only ever grows.",
            zh="内存泄漏会在数小时后以内存不足或进程被杀告终，那时已远离原因（instadeepai/Mava#77；tensorflo"
            "w/tensorflow#73457）。只看峰值看不出来：峰值本来就只升不降。",
        ),
        fix=Text(
            en="Take trackers and callbacks out one after the other until it stops. Until it is found, train.save_every bounds what is"
            " lost.",
            zh="逐个去掉跟踪器和回调，直到不再增长。在找到之前，train.save_every 能限制损失。",
        ),
        example="""RUN656: memory in use grew in every one of the last 8 blocks of 10 steps, from 1,024 to 1,304 MiB up to step 200, at the same tokens per step: about 4.00 MiB a step are not given back
  fix:      look for what keeps tensors or rows of past steps (train.report_to, a callback, a cache); save often (train.save_every): a run that is killed goes on with --resume

train:
  save_every: 100
  report_to: []""",
    ),
    fires=(
        _case(memory_blocks=tuple(2**30 + i * 40 * 2**20 for i in range(8)), memory_tokens=(7400.0,) * 8),
    ),
    silent=(
        Facts(run=RUN),
        Facts(run=replace(RUN, last=None, planned_lr=None, vitals=RunVitals())),
        _case(memory_blocks=tuple(2**30 + i * 2**20 for i in range(8)), memory_tokens=(7400.0,) * 8),
        _case(memory_blocks=tuple(2**30 + i * 40 * 2**20 for i in range(8)), memory_tokens=tuple(7400.0 + 200 * i for i in range(8))),
        _case(memory_blocks=tuple(2**30 + round(400 * 2**20 * (1 - 0.5**i)) for i in range(8)), memory_tokens=(7400.0,) * 8),
        _case(memory_blocks=(2**30, 2**31) * 4, memory_tokens=(7400.0,) * 8),
    ),
)
