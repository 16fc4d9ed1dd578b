"""Why a learning rate left its plan: each mechanism's curve is computed from the plan and laid over what was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gogpt.schedules import Rate, per_process, restarted, without_decay

Mechanism = Literal["none", "per_process", "stepped_often", "no_decay", "log_warmup", "restarted", "skipped", "scaled", "from_zero", "unknown"]

MAX_FACTOR = 64
MIN_SEEN = 3
"""Observations off the plan that a curve must explain before it is named: one or two fit too many curves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRates:
    """What the rates should have been. ``rate`` also answers beyond ``steps``, with what the schedule ends at."""

    rate: Rate
    steps: int
    warmup_steps: int = 0
    world_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The likeliest mechanism, with the numbers that show it.

    none: the plan was followed. per_process: stepped once per process. stepped_often: ``factor`` times a step (gradient accumulation, as a
    rule). no_decay: at the peak after the warm-up. log_warmup: DeepSpeed's default warm-up. restarted: from step ``at`` on as from the first.
    skipped: behind by ``skipped`` steps, as after overflows. scaled: ``ratio`` times the plan. from_zero: the first step uses 0, as with
    DeepSpeed's and transformers' own warm-ups. unknown: none of these fits. ``also``: others that fit as well.
    """

    mechanism: Mechanism
    evidence: dict[str, Any] = field(default_factory=dict)
    also: tuple[Mechanism, ...] = ()


def diagnose(observed: Sequence[tuple[int, float]], plan: PlannedRates, *, tolerance: float = 1e-6) -> Diagnosis:
    """Name what happened to (step, learning rate) pairs, steps from 1 and ascending. ``tolerance``: share of the peak that two rates may
    differ by (logs that print three digits need about 0.005)."""
    seen = [(s, lr) for s, lr in observed if s >= 1]
    if not seen:
        return Diagnosis(mechanism="none", evidence={"observations": 0})
    planned = _Table(plan)
    room = tolerance * planned.peak
    off = [(s, lr) for s, lr in seen if not abs(lr - planned[s]) <= room]
    base: dict[str, Any] = {"observations": len(seen), "off_plan": len(off), "steps_planned": plan.steps, "world_size": plan.world_size,
                            "peak": planned.peak}
    if not off:
        return Diagnosis(mechanism="none", evidence=base)
    base |= {"first_off": off[0][0], "lr": off[0][1], "planned_lr": planned[off[0][0]]}
    if len(off) >= MIN_SEEN:
        for found in (_often(seen, plan, room), _flat(seen, off, plan, room), _log_warmup(seen, off, plan, room),
                      _behind(seen, off, planned, room), _scaled(seen, planned, room)):
            if found is not None:
                return Diagnosis(mechanism=found.mechanism, evidence={**base, **found.evidence})
    return Diagnosis(mechanism="unknown", evidence=base)


def first_off(observed: Sequence[tuple[int, float]], plan: PlannedRates, *, resumed_at: int = 1, tolerance: float = 1e-6) -> Diagnosis:
    """Name what happened at the last of ``observed``, the only one off the plan: the likeliest mechanism, and the others that fit.

    ``observed``: steps and rates of this process, in order, each before the last as planned. ``resumed_at``: its first step. One rate fits
    several curves, so that the order is by what must coincide for it: a resumed run that begins anew, the number of processes, a rate that
    stands still at the peak, a rate that stands still elsewhere, a scheduler that runs ahead, a constant ratio.
    """
    step, lr = observed[-1]
    planned = _Table(plan)
    room = tolerance * planned.peak
    told: dict[str, Any] = {"steps_planned": plan.steps, "world_size": plan.world_size, "peak": planned.peak, "first_off": step, "lr": lr,
                            "planned_lr": planned[step]}
    if not math.isfinite(lr) or lr < 0:
        return Diagnosis(mechanism="unknown", evidence=told)
    end = max(plan.steps, 1)

    def fits(at: int) -> bool:
        known = [planned[max(1, at)], planned[min(max(1, at), end)], *([0.0] if at > end else [])]  # an ended schedule stays, or is 0
        return any(abs(lr - rate) <= room for rate in known)

    rate = planned[step]
    found: list[tuple[Mechanism, dict[str, Any]]] = []
    if 1 < resumed_at <= step and fits(step - resumed_at + 1):
        found.append(("restarted", {"at": resumed_at, "lost": resumed_at - 1}))
    if step == 1 and lr == 0:
        found.append(("from_zero", {}))
    if plan.world_size > 1 and fits(1 + (step - 1) * plan.world_size):
        found.append(("per_process", {"factor": plan.world_size, "planned_end": math.ceil(plan.steps / plan.world_size) + 1, "share": 1 / plan.world_size}))
    if step > plan.warmup_steps + 1 and abs(lr - planned.peak) <= room:
        found.append(("no_decay", {"constant": lr, "from": plan.warmup_steps + 1}))
    before = [s for s, _ in observed[:-1]]
    if before and fits(step - 1) and step - 1 <= end:
        found.append(("skipped", {"skipped": 1}))
    often = [k for k in range(2, max(MAX_FACTOR, plan.steps) + 1) if fits(1 + (step - 1) * k)] if step > 1 else []
    if often:
        at_end = 1 + (step - 1) * often[0] >= end
        found.append(("stepped_often", {"factor": often[0], "at_least": at_end, "planned_end": math.ceil(plan.steps / often[0]) + 1, "share": 1 / often[0]}))
    if rate > 0 and lr > 0 and not before:
        found.append(("scaled", {"ratio": lr / rate, "reached": lr}))
    if not found:
        return Diagnosis(mechanism="unknown", evidence=told)
    return Diagnosis(mechanism=found[0][0], evidence={**told, **found[0][1]}, also=tuple(name for name, _ in found[1:]))


class _Table:
    """The plan's rates, each computed once."""

    def __init__(self, plan: PlannedRates) -> None:
        self.rate = plan.rate
        self.known: dict[int, float] = {}
        self.peak = max(max((self[s] for s in range(1, plan.steps + 1)), default=0.0), 1e-30)

    def __getitem__(self, step: int) -> float:
        if step not in self.known:
            self.known[step] = self.rate(step)
        return self.known[step]


def _fits(seen: Sequence[tuple[int, float]], rate: Rate, room: float) -> bool:
    return all(abs(lr - rate(s)) <= room for s, lr in seen)


def _often(seen: Sequence[tuple[int, float]], plan: PlannedRates, room: float) -> Diagnosis | None:
    """Stepped k times a step: the plan is at its end after 1/k of the run."""
    for k in dict.fromkeys((plan.world_size, *range(2, MAX_FACTOR + 1))):
        if k < 2 or not _fits(seen, per_process(plan.rate, k), room):
            continue
        end = math.ceil(plan.steps / k) + 1
        return Diagnosis(mechanism="per_process" if k == plan.world_size else "stepped_often",
                         evidence={"factor": k, "planned_end": end, "share": 1 / k})
    return None


def _flat(seen: Sequence[tuple[int, float]], off: Sequence[tuple[int, float]], plan: PlannedRates, room: float) -> Diagnosis | None:
    """After the warm-up one rate for ever: the peak of the plan, or another, as of a file's warmup_max_lr."""
    after = [(s, lr) for s, lr in seen if s > plan.warmup_steps + 1]
    late = [s for s, _ in off if s > plan.warmup_steps + 1]
    if len(late) < MIN_SEEN or not after[0][1] > room or any(abs(lr - after[0][1]) > room for _, lr in after):
        return None
    if abs(plan.rate(after[0][0]) - plan.rate(after[-1][0])) <= room:
        return None  # the plan is as flat: it is another level, not a lost decay
    warm = [p for p in seen if p[0] <= plan.warmup_steps]
    straight = _fits(warm, without_decay(plan.rate, plan.warmup_steps), room)
    return Diagnosis(mechanism="no_decay", evidence={"constant": after[0][1], "from": after[0][0], "to": after[-1][0], "warmup_as_planned": straight})


def _log_warmup(seen: Sequence[tuple[int, float]], off: Sequence[tuple[int, float]], plan: PlannedRates, room: float) -> Diagnosis | None:
    """The logarithmic rise of DeepSpeed: step s is at log(s - 1) / log(warm-up) of the peak."""
    for steps in (plan.warmup_steps, plan.warmup_steps + 1):
        num = max(2, steps)
        warm = [(s, lr) for s, lr in seen if 2 < s < num + 2]
        bent = [s for s, _ in off if 2 < s < num + 2]
        if len(bent) < MIN_SEEN:
            continue
        share = [(lr, math.log(s - 1) / math.log(num)) for s, lr in warm]
        top = max(lr / part for lr, part in share)
        if top > room and all(abs(lr - top * part) <= room for lr, part in share):
            return Diagnosis(mechanism="log_warmup", evidence={"warmup_steps": steps, "reached": top})
    return None


def _behind(seen: Sequence[tuple[int, float]], off: Sequence[tuple[int, float]], planned: _Table, room: float) -> Diagnosis | None:
    """Behind the plan: by a restart (all progress lost at once), or by steps lost one at a time."""
    first = off[0][0]
    before = max((s for s, _ in seen if s < first), default=0)
    for at in range(first, 1, -1):
        if not _fits(seen, restarted(planned.__getitem__, at), room):
            continue
        if at - 1 > max(1, first - before):  # more lost than steps went by: skipping cannot do that
            return Diagnosis(mechanism="restarted", evidence={"at": at, "lost": at - 1})
    lags, last = {0}, 0
    for s, lr in seen:
        gap = s - max(1, last)
        lags = {d for d in range(min(lags), max(lags) + gap + 1)
                if d < s and abs(lr - planned[s - d]) <= room and any(e <= d <= e + gap for e in lags)}
        if not lags:
            return None
        last = s
    return Diagnosis(mechanism="skipped", evidence={"skipped": min(lags)})


def _scaled(seen: Sequence[tuple[int, float]], planned: _Table, room: float) -> Diagnosis | None:
    """The right shape at another height: another learning rate is in charge."""
    step, lr = max(seen, key=lambda p: planned[p[0]])
    ratio = lr / planned[step] if planned[step] else 0.0
    if ratio <= 0 or not all(abs(lr - ratio * planned[s]) <= room * max(1.0, ratio) for s, lr in seen):
        return None
    return Diagnosis(mechanism="scaled", evidence={"ratio": ratio, "reached": lr})
