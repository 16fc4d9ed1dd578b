"""Learning rates as a run logged them, against what was asked for, or what is known of it.

What another trainer was asked for is often known in part: the steps but not the schedule, the schedule but not the warm-up. So the
curve is measured first (where it is 0, how fast it falls, as which shape), and a fault is named only from what is known for certain:
a rate of 0 long before the end of the plan, a shape that was not asked for, a run that begins again. A schedule that nobody told is no fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gogpt.autopsy.records import Known
from gogpt.diagnosis import PlannedRates, diagnose
from gogpt.schedules import Rate, transformers_rate, warmup_decay_lr

Points = Sequence[tuple[int, float]]

ROUNDED = 0.006
"""Of the peak: what a log with three digits may be off by."""
MIN_POINTS = 5
MIN_ZERO = 3
MAX_FACTOR = 1024
MOST_LAID = 300
"""Records that curves are laid over: a mechanism shows in some hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is known of the plan. ``slack``: relative error of ``steps`` (an epoch counter is rounded)."""

    steps: int | None
    slack: float
    exact: bool
    known: Known

    @property
    def world_size(self) -> int | None:
        value = self.known.get("world_size")
        return int(value) if value else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """The falling part of a curve. ``end``: where it would be 0; ``covered``: share of the peak that it was seen to fall by."""

    shape: str
    end: float
    error: float
    other_error: float
    covered: float


def story(points: Points, plan: Plan, rates: dict[int, float] | None = None) -> tuple[str, dict[str, Any]] | None:
    """The mechanism that drove a rate off its plan, and its evidence; None: nothing is wrong with it, or too little is known."""
    points = sorted({s: lr for s, lr in points if math.isfinite(lr) and lr >= 0}.items())
    if rates:
        return _against_table(points, plan, rates)
    if len(points) < MIN_POINTS:
        return None
    peak = max(lr for _, lr in points)
    if peak == 0:
        return ("all_zero", {"observations": len(points)}) if len(points) >= 2 * MIN_POINTS else None
    exact = list(_exact_plans(plan))
    if any(_follows(points, p, peak) for p in exact):
        return None
    told = _ended(points, plan, peak) or _restart(points, plan, peak) or _shape(points, plan, peak)
    return told or _laid_over(points[:: max(1, len(points) // MOST_LAID)], plan, exact)


def _laid_over(points: Points, plan: Plan, exact: Sequence[PlannedRates]) -> tuple[str, dict[str, Any]] | None:
    """Where everything was told: the curves of ``diagnosis``, over each way that it may have been written."""
    strange: dict[str, Any] | None = None
    for planned in exact:
        d = diagnose(points, planned, tolerance=ROUNDED)
        off = d.evidence.get("off_plan", 0)
        if d.mechanism in ("log_warmup", "skipped", "restarted", "scaled", "no_decay") and off >= MIN_POINTS:
            return d.mechanism, {**d.evidence, "schedule": plan.known.get("schedule")}
        if d.mechanism == "unknown" and off > 0.1 * d.evidence["observations"]:
            strange = strange or d.evidence
    return ("unknown", strange) if strange is not None and plan.known.sources.get("schedule") == "command line" else None


def _follows(points: Points, planned: PlannedRates, peak: float) -> bool:
    """Every record is on the plan."""
    room = ROUNDED * max(peak, planned.rate(planned.warmup_steps + 1))
    return all(abs(lr - planned.rate(s)) <= room for s, lr in points)


def _against_table(points: Points, plan: Plan, rates: dict[int, float]) -> tuple[str, dict[str, Any]] | None:
    """The plan's own rates, as a run folder of GoGPT lists them; between two of its steps the straight line (plan.json lists 2,000)."""
    steps = np.array(sorted(rates), dtype=float)
    values = np.array([rates[int(s)] for s in steps])

    def rate(step: int) -> float:
        return float(np.interp(step, steps, values))

    whole = len(rates) == (plan.steps or 0)
    planned = PlannedRates(rate=rate, steps=plan.steps or int(steps[-1]), warmup_steps=int(plan.known.get("warmup") or 0), world_size=plan.world_size or 1)
    found = diagnose(points, planned, tolerance=1e-6 if whole else 1e-4)
    fp16 = plan.known.get("precision") == "fp16"
    if found.mechanism == "none" or (found.mechanism == "skipped" and fp16):
        return None
    evidence = dict(found.evidence)
    if "planned_end" in evidence and any(lr == 0 for _, lr in points):
        evidence["end"] = evidence["planned_end"]
    return found.mechanism, {**evidence, "schedule": "plan.json"}


def _exact_plans(plan: Plan) -> Iterator[PlannedRates]:
    """Every way that the asked schedule may have been written: of transformers, of this project, of DeepSpeed; logged before or after
    the update; a share of warm-up rounded up or down. Nothing where one of its numbers is not known."""
    known, steps = plan.known, plan.steps
    schedule, peak = known.get("schedule"), known.get("rate")
    if schedule not in ("linear", "cosine", "constant") or not peak or not steps or not plan.exact:
        return
    share = float(known.get("warmup") or 0.0)
    warmups = {int(share)} if share >= 1 else {math.ceil(share * steps), int(share * steps)}
    for warmup in sorted(warmups):
        ways: list[Rate] = [transformers_rate("constant_with_warmup" if schedule == "constant" else schedule, learning_rate=peak, warmup_steps=warmup, steps=steps),
                            _from_one(schedule, peak, warmup, steps)]
        if schedule == "linear" and warmup:
            ways.append(warmup_decay_lr(total_num_steps=steps, warmup_max_lr=peak, warmup_num_steps=warmup, warmup_type="linear"))
        for way in ways:
            for later in (0, 1):
                yield PlannedRates(rate=_shifted(way, later, steps), steps=steps, warmup_steps=warmup, world_size=plan.world_size or 1)


def _shifted(rate: Rate, later: int, steps: int) -> Rate:
    """Logged after the scheduler's step (older transformers, and where DeepSpeed owns it): the next step's. Past its end a plan stays."""
    return lambda step: rate(min(step + later, steps + 1))


def _from_one(schedule: str, peak: float, warmup: int, steps: int) -> Rate:
    """As plan.RunPlan.lr_at: no step uses 0."""
    after = transformers_rate(schedule, learning_rate=peak, warmup_steps=0, steps=max(1, steps - warmup))
    return lambda step: peak * step / (warmup + 1) if step <= warmup else after(step - warmup)


# -- a rate of 0 before the end --------------------------------------------------------------------


def _ended(points: Points, plan: Plan, peak: float) -> tuple[str, dict[str, Any]] | None:
    """0 from one step on to the last record, at a share of the plan: which share names the mechanism."""
    last = next((i for i in range(len(points) - 1, -1, -1) if points[i][1] > 0), 0)
    if len(points) - 1 - last < MIN_ZERO:
        return None
    before, end = points[last][0], points[last + 1][0]
    steps = max(plan.steps or 0, points[-1][0])
    if end > 0.9 * steps:
        return None
    evidence: dict[str, Any] = {"end": end, "zero_records": len(points) - 1 - last, "observations": len(points), "peak": peak,
                                "peak_step": next(s for s, lr in points if lr == peak), "steps_planned": steps}
    low, high = steps * (1 - plan.slack) / end * 0.985, steps * (1 + plan.slack) / max(1, before - 1) * 1.015
    factors = [k for k in range(2, MAX_FACTOR + 1) if low <= k <= high] if plan.steps else []
    world = plan.world_size or 1
    if world in factors:
        return "per_process", {**evidence, "factor": world, "share": 1 / world}
    if factors:
        nearest = min(factors, key=lambda k: abs(k - steps / _crossing(points[: last + 1], before, end)))
        return "stepped_often", {**evidence, "factor": nearest, "share": 1 / nearest}
    return "ends_early", evidence


def _crossing(points: Points, before: int, end: int) -> float:
    """Where the last two rates above 0 point to, within (before, end]."""
    if len(points) < 2 or points[-2][1] <= points[-1][1]:
        return float(end)
    (s0, a), (s1, b) = points[-2], points[-1]
    return min(float(end), max(before + 0.5, s1 + b * (s1 - s0) / (a - b)))


# -- a run that begins again -----------------------------------------------------------------------


def _restart(points: Points, plan: Plan, peak: float) -> tuple[str, dict[str, Any]] | None:
    """The curve's beginning once more, later. Without a warm-up in it only where a schedule without restarts was asked for."""
    steps = np.array([s for s, _ in points], dtype=float)
    values = np.array([lr for _, lr in points])
    top = int(values.argmax())
    for i in range(2, len(points) - 2):
        if not _jumps(values, i, peak):
            continue
        rises = values[0] < 0.9 * peak and values[i] < 0.9 * peak
        if not rises and plan.known.get("schedule") not in ("linear", "cosine"):
            continue
        if steps[i - 1] < steps[min(top, i - 1)]:
            continue
        size = min(i, len(points) - i)
        for at in range(int(steps[i - 1]) + 1, int(steps[i]) + 1):
            again = np.interp(steps[i : i + size] - at + 1, steps[:i], values[:i])
            if steps[i] - at + 1 < steps[0] - max(1.0, steps[1] - steps[0]):
                continue
            if np.abs(again[1:] - values[i : i + size][1:]).max() <= max(ROUNDED, 0.02 if rises else 0) * peak:
                return "restarted", {"at": at, "lr_before": float(values[i - 1]), "lr": float(values[i]), "peak": peak, "observations": len(points)}
    return None


def _jumps(values: np.ndarray[Any, Any], i: int, peak: float) -> bool:
    """A drop into a rise (a warm-up begins), or a rise out of a fall."""
    drop = values[i] < 0.6 * values[i - 1] and values[i + 1] > values[i]
    rise = values[i] > values[i - 1] + 0.05 * peak and values[i - 1] <= values[i - 2]
    return bool(drop or rise)


# -- a shape that was not asked for ----------------------------------------------------------------


def _shape(points: Points, plan: Plan, peak: float) -> tuple[str, dict[str, Any]] | None:
    asked, steps = plan.known.get("schedule"), plan.steps
    rate = plan.known.get("rate")
    if rate and peak > 1.02 * rate:
        return "scaled", {"ratio": round(peak / rate, 4), "reached": peak, "asked": rate, "observations": len(points)}
    flat = _flat(points, peak)
    if flat is not None:
        return _flat_story(flat, plan, peak)
    fall = _fall(points, peak)
    if fall is None or fall.error > 0.01 or fall.covered < 0.1:
        return None
    told: dict[str, Any] = {"got": fall.shape, "schedule": asked, "ends": round(fall.end), "covered": round(fall.covered, 3), "observations": len(points), "peak": peak}
    if asked == "constant":
        return "other_schedule", told
    if steps and fall.end > 1:
        factor = steps / fall.end
        world = plan.world_size or 1
        near = abs(factor - round(factor)) <= (0.05 + plan.slack) * factor and round(factor) >= 2
        sure = asked == fall.shape or (fall.shape == "linear" and round(factor) == world)
        if near and sure and fall.covered >= 0.2:
            return "per_process" if round(factor) == world else "stepped_often", {**told, "factor": round(factor), "share": 1 / round(factor)}
    if asked in ("linear", "cosine") and asked != fall.shape and fall.covered >= 0.5 and fall.other_error > max(0.02, 4 * fall.error):
        return "other_schedule", told
    return None


def _flat(points: Points, peak: float) -> Points | None:
    """The records after the warm-up, where all of them are at the peak."""
    first = next(i for i, (_, lr) in enumerate(points) if lr >= (1 - ROUNDED) * peak)
    after = points[first:]
    return after if len(after) >= MIN_POINTS and all(lr >= (1 - ROUNDED) * peak for _, lr in after) else None


def _flat_story(after: Points, plan: Plan, peak: float) -> tuple[str, dict[str, Any]] | None:
    asked, steps, rate = plan.known.get("schedule"), plan.steps, plan.known.get("rate")
    start, end = after[0][0], after[-1][0]
    if asked in ("linear", "cosine") and steps and steps > start:
        progress = min(1.0, (end - start) / (steps - start))
        fallen = progress if asked == "linear" else 0.5 * (1 - math.cos(math.pi * progress))
        if fallen > 0.05:
            return "no_decay", {"constant": peak, "from": start, "to": end, "schedule": asked, "planned_share": round(1 - fallen, 3), "observations": len(after)}
    if rate and peak < 0.98 * rate and asked == "constant":
        return "scaled", {"ratio": round(peak / rate, 4), "reached": peak, "asked": rate, "observations": len(after)}
    return None


def _fall(points: Points, peak: float) -> Fall | None:
    """The falling part as a straight line and as half a cosine, whichever is nearer; None: too short, or neither up nor down."""
    top = max(i for i, (_, lr) in enumerate(points) if lr >= (1 - ROUNDED) * peak)
    steps = np.array([s for s, _ in points[top:]], dtype=float)
    parts = np.array([lr for _, lr in points[top:]]) / peak
    inside = (parts > 0.02) & (parts < 0.98)
    if inside.sum() < MIN_POINTS or (np.diff(parts) > ROUNDED).any():
        return None
    steps, parts = steps[inside], parts[inside]
    slope, base = np.polyfit(steps, parts, 1)
    turned = np.arccos(2 * parts - 1) / math.pi
    pace, start = np.polyfit(steps, turned, 1)
    if slope >= 0 or pace <= 0:
        return None
    line = float(np.abs(slope * steps + base - parts).max())
    wave = float(np.abs(0.5 * (1 + np.cos(math.pi * np.clip(pace * steps + start, 0, 1))) - parts).max())
    linear = line <= wave
    return Fall(shape="linear" if linear else "cosine", end=float(-base / slope if linear else (1 - start) / pace), error=min(line, wave),
                other_error=max(line, wave), covered=float(parts.max() - parts.min()))
