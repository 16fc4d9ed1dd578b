"""Records to HistoryFacts: the numbers that the checks judge, each derived here once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from gogpt.autopsy.checkpoints import Checkpoint
from gogpt.autopsy.rates import Plan, story
from gogpt.autopsy.records import History, Record
from gogpt.facts import HistoryFacts

SCALE_FOUND = 30
"""Steps in which an fp16 loss scale is found: 2**16 halves sixteen times at most before it is 1."""


def facts_of(history: History, path: str, checkpoint: Checkpoint | None = None) -> HistoryFacts:
    """All that the records say."""
    steps_from = _number_steps(history)
    records = [r for r in history.records if r.loss is not None or r.lr is not None]
    plan, planned_from = _plan(history, records)
    steps = [r.step for r in records if r.step is not None]
    points = [(r.step, r.lr) for r in records if r.step is not None and r.lr is not None]
    told = story(points, plan, history.rates) if history.rates or steps_from != "lines" or plan.steps else story(points, plan)
    known = history.known
    finite_rates = [lr for _, lr in points if math.isfinite(lr)]
    norms = [r.grad_norm for r in records if r.grad_norm is not None]
    return HistoryFacts(
        path=path, tool=history.tool, num_records=len(records), first_step=min(steps, default=None), last_step=max(steps, default=None),
        steps_from=steps_from, last_epoch=max((r.epoch for r in records if r.epoch is not None), default=None), steps_planned=plan.steps,
        planned_from=planned_from, epochs_planned=known.get("epochs") if not _asked_steps(history) else None, finished=history.finished,
        world_size=known.get("world_size"), precision=known.get("precision"), accumulation=known.get("accumulation"),
        vocab_size=known.get("vocab_size"), best_kept=history.best_kept,
        num_rates=len(points), peak_lr=max(finite_rates, default=None), last_lr=finite_rates[-1] if finite_rates else None,
        lr_mechanism=told[0] if told else None, lr_evidence=told[1] if told else {},
        num_grad_norms=len(norms), zero_grad_norms=sum(g == 0 for g in norms),
        **_losses(records, path), **_non_finite(history.records), **_zeros(records, path), **_evals(history.records, records),
        **_skipped(history), **_checkpoint(checkpoint),
    )


def _asked_steps(history: History) -> bool:
    """max_steps was asked for, and is not only what the trainer made of the epochs."""
    return history.known.sources.get("max_steps") in ("command line",) and "epochs" not in history.known.values


# -- steps -----------------------------------------------------------------------------------------


def _number_steps(history: History) -> str:
    """Give every record its step: logged, by the progress bar, by the epochs, or counted."""
    records = [r for r in history.records if r.loss is not None or r.lr is not None]
    if all(r.step is not None for r in records):
        return "step"
    if sum(r.counter is not None for r in records) >= max(1, len(records) // 2):
        for r in records:
            r.step = r.counter if r.step is None else r.step
        _fill(records)
        _place_evals(history.records)
        return "counter"
    epochs, steps = history.known.get("epochs"), history.known.get("max_steps")
    if epochs and steps and all(r.epoch is not None for r in records):
        for r in records:
            r.step = max(1, round((r.epoch or 0) / epochs * steps))
        _place_evals(history.records)
        return "epoch"
    for i, r in enumerate(records, start=1):
        r.step = i
    _place_evals(history.records)
    return "lines"


def _fill(records: Sequence[Record]) -> None:
    """Steps that a bar did not show: from the epochs of one that it did, else between its neighbours."""
    known = [(r.step, r.epoch) for r in records if r.step is not None]
    pace = next((s / e for s, e in reversed(known) if s and e), None)
    last = 0
    for r in records:
        if r.step is None:
            r.step = round(r.epoch * pace) if r.epoch is not None and pace else last + 1
        last = r.step


def _place_evals(records: Sequence[Record]) -> None:
    last = 0
    for r in records:
        if r.step is None:
            r.step = last
        last = r.step


def _plan(history: History, records: Sequence[Record]) -> tuple[Plan, str | None]:
    """The planned steps, and where they are known from: told, or by the epoch counter."""
    known = history.known
    steps, source = known.get("max_steps"), known.sources.get("max_steps")
    if steps:
        return Plan(steps=int(steps), slack=0.0, exact=True, known=known), source
    pace = _steps_per_epoch(records)
    if pace is None:
        return Plan(steps=None, slack=0.0, exact=False, known=known), None
    per_epoch, slack = pace
    last = max(r.epoch for r in records if r.epoch is not None)
    epochs = known.get("epochs") or known.get("epochs_told") or max(1, math.ceil(round(last, 6)))
    return Plan(steps=round(per_epoch * float(epochs)), slack=slack, exact=False, known=known), "epoch counter"


def _steps_per_epoch(records: Sequence[Record]) -> tuple[float, float] | None:
    """Steps of an epoch and their relative error, from every (step, epoch): each rounded epoch gives bounds."""
    pairs = [(r.step, r.epoch) for r in records if r.step and r.epoch is not None and math.isfinite(r.epoch) and r.epoch > 0]
    if not pairs:
        return None
    room = 0.0051 if all(abs(e - round(e, 2)) < 1e-6 for _, e in pairs) else 1e-6
    low = max(s / (e + room) for s, e in pairs)
    high = min((s / (e - room) for s, e in pairs if e > 2 * room), default=math.inf)
    if low <= high < math.inf:
        middle = (low + high) / 2
        return middle, (high - low) / 2 / middle
    s, e = max(pairs, key=lambda p: p[1])
    return s / e, room / e


# -- losses ----------------------------------------------------------------------------------------


def _losses(records: Sequence[Record], path: str) -> dict[str, Any]:
    seen = [(r.step, r.loss) for r in records if r.loss is not None]
    good = [x for _, x in seen if math.isfinite(x)]
    out: dict[str, Any] = {"num_losses": len(seen)}
    if not good:
        return out
    tenth = max(3, len(good) // 10)
    running = [median(good[i : i + 5]) for i in range(max(1, len(good) - 4))]
    mean = sum(good) / len(good)
    return {**out, "first_loss": seen[0][1] if math.isfinite(seen[0][1]) else None, "first_loss_step": seen[0][0],
            "early_loss": median(good[:tenth]), "late_loss": median(good[-tenth:]), "lowest_loss": min(running),
            "loss_spread": (max(good) - min(good)) / abs(mean) if mean else None}


def _non_finite(records: Sequence[Record]) -> dict[str, Any]:
    """What was printed as NaN or infinity: a loss, else an evaluation loss, else gradient norms that never recover.

    Beside a loss of exactly 0 it is the filter's work, which ``zero_*`` tells. Single infinite norms are what an fp16 scaler is for.
    """
    losses = [r for r in records if r.loss is not None and not math.isfinite(r.loss)]
    hidden = any(r.loss == 0 for r in records)
    evals = [] if hidden else [r for r in records if r.eval_loss is not None and not math.isfinite(r.eval_loss)]
    norms = [r for r in records if r.grad_norm is not None]
    bad: list[Record] = []
    for r in reversed(norms):
        if r.grad_norm is None or math.isfinite(r.grad_norm) or r.loss == 0:
            break
        bad.append(r)
    found = ("loss", losses) if losses else ("evaluation loss", evals) if evals else ("grad_norm", bad[::-1]) if len(bad) >= 3 and not hidden else None
    if found is None:
        return {}
    return {"non_finite": found[0], "non_finite_step": found[1][0].step, "non_finite_count": len(found[1])}


def _zeros(records: Sequence[Record], path: str) -> dict[str, Any]:
    losses = [r for r in records if r.loss is not None]
    zeros = [r for r in losses if r.loss == 0]
    if not zeros:
        return {}
    tail = next((i for i, r in enumerate(reversed(losses)) if r.loss != 0), len(losses))
    at = losses.index(zeros[0])
    before = next((r.loss for r in reversed(losses[:at]) if r.loss is not None and math.isfinite(r.loss)), None)
    norms = [r.grad_norm for r in zeros if r.grad_norm is not None]
    kind = "nan" if any(not math.isfinite(g) for g in norms) else "none" if not norms else "zero" if all(g == 0 for g in norms) else "positive"
    worst = next((g for g in norms if not math.isfinite(g)), max(norms, default=None))
    return {"zero_losses": len(zeros), "zero_step": zeros[0].step, "zero_place": f"{path}:{zeros[0].line}" if zeros[0].line else None, "zero_grad": kind,
            "zero_grad_norm": worst, "zero_tail": tail, "before_zero": before}


def _evals(every: Sequence[Record], records: Sequence[Record]) -> dict[str, Any]:
    seen = [(r.step, r.eval_loss) for r in every if r.eval_loss is not None and math.isfinite(r.eval_loss) and r.step is not None]
    seen = list(dict(seen).items())  # the last evaluation of a step
    if not seen:
        return {"num_evals": sum(r.eval_loss is not None for r in every)}
    at = min(range(len(seen)), key=lambda i: seen[i][1])
    step = seen[at][0]
    losses = sorted(((abs((r.step or 0) - step), r.loss) for r in records if r.loss is not None and math.isfinite(r.loss)), key=lambda x: x[0])[:5]
    return {"num_evals": len(seen), "last_eval": seen[-1][1], "lowest_eval": seen[at][1], "lowest_eval_step": step,
            "evals_after_lowest": len(seen) - 1 - at, "loss_at_lowest_eval": median(x for _, x in losses) if losses else None}


def _skipped(history: History) -> dict[str, Any]:
    if history.skipped_total is not None:
        late = max(0, history.skipped_total - SCALE_FOUND)
        return {"skipped_steps": history.skipped_total, "skipped_late": late, "steps_seen": history.counted_steps}
    if not history.skipped:
        return {}
    last = max((r.step for r in history.records if r.step is not None), default=None)
    return {"skipped_steps": len(history.skipped), "skipped_late": max(0, len(history.skipped) - SCALE_FOUND), "steps_seen": last}


def _checkpoint(seen: Checkpoint | None) -> dict[str, Any]:
    if seen is None:
        return {}
    ranks = set(seen.ranks)
    gone = tuple(sorted(set(range(max(ranks) + 1)) - ranks)) if ranks else ()
    return {"checkpoint": str(seen.path), "checkpoint_missing": seen.missing, "empty_files": seen.empty, "shard_ranks": len(ranks), "missing_ranks": gone,
            "zero_stage": seen.zero_stage, "consolidated": seen.consolidated, "latest_missing": seen.latest_missing}
