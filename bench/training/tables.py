"""Runs to rows, who is honest, ratios, and the tables that are printed. Nothing here starts anything."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from table import markdown

from training.operations import Shape, is_close, standing_bytes, useful
from training.runs import GOGPT, LLAMAFACTORY, TRL, TrainRun, TrainSet

AGREES = 1e-3
"""Relative difference of losses at a step up to which trajectories agree."""

REFERENCES = ((LLAMAFACTORY, "micro batch 1"), (TRL, "best"), (TRL, "micro batch 1"))
"""Whose losses others are held against, the first that ran: one sequence at a time without padding, where nothing can leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """All runs of one contender on one set by one method. Seconds are of an optimizer step; rates are per second; bytes."""

    set_name: str
    method: str
    who: str
    setting: str
    default: bool
    steps: int
    """measured ones, of all repeats"""
    seconds: float
    seconds_min: float
    seconds_max: float
    tokens: int
    computed: int
    trained: int
    peak: int
    above_floor: int
    floor: int
    """imports, weights, gradients, optimizer state"""
    useful_operations: float
    computed_operations: float
    multiply: float
    """operations a second of the layer's product around the runs"""
    multiply_large: float
    process_seconds: float
    loss_first: float
    loss_last: float
    off: float | None
    """largest relative difference of its losses from the reference's; None: it is the reference"""
    grad_off: float | None
    problems: tuple[str, ...]

    @property
    def trained_per_second(self) -> float:
        return self.trained / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def useful_fraction(self) -> float:
        return self.useful_operations / self.seconds / self.multiply

    @property
    def computed_fraction(self) -> float:
        return self.computed_operations / self.seconds / self.multiply

    @property
    def honest(self) -> bool:
        return not self.problems


def reference_of(runs: Sequence[TrainRun]) -> TrainRun | None:
    """Of the runs of one set and method."""
    for who, setting in REFERENCES:
        for run in runs:
            if (run.who, run.setting) == (who, setting):
                return run
    return next((r for r in runs if r.who == GOGPT), runs[0] if runs else None)


def problems_of(run: TrainRun, data: TrainSet, reference: TrainRun | None) -> tuple[str, ...]:
    """Why a contender is in no ratio: it trains other tokens, or walks another trajectory."""
    out = []
    other = sorted({n for n in run.trained if n != data.trained})
    if other:
        out.append(f"trains {', '.join(map(str, other))} tokens a step in place of {data.trained}")
    if run.checksum is not None and run.checksum != data.checksum:
        out.append("trains other tokens")
    if reference is not None and (off := is_close(run.losses, reference.losses)) > AGREES:
        out.append(f"its losses differ by {off:.1e}: another gradient (documents that see each other, or another loss)")
    return tuple(out)


def grad_difference(run: TrainRun, reference: TrainRun) -> float | None:
    pairs = [(a, b) for a, b in zip(run.grad_norms, reference.grad_norms, strict=False) if a is not None and b]
    return max(abs(a - b) / b for a, b in pairs) if pairs else None


def row_of(runs: Sequence[TrainRun], data: TrainSet, shape: Shape, reference: TrainRun | None) -> TrainRow:
    """``runs``: repeats of one contender on ``data``."""
    first, seconds = runs[0], [s for r in runs for s in r.measured]
    operations = useful(shape, data.lengths, data.trained, first.method)
    computed = first.computed[-1]
    floor = max(r.floor for r in runs) + standing_bytes(shape, first.method)
    peak = max(r.peak for r in runs)
    alone = reference is None or (first.who, first.setting) == (reference.who, reference.setting)
    return TrainRow(
        set_name=first.set_name, method=first.method, who=first.who, setting=first.setting, default=first.default, steps=len(seconds),
        seconds=statistics.median(seconds), seconds_min=min(seconds), seconds_max=max(seconds), tokens=first.tokens, computed=computed,
        trained=first.trained[-1], peak=peak, above_floor=peak - floor, floor=floor, useful_operations=operations.total,
        computed_operations=operations.of_computed(min(computed, first.tokens), first.tokens), multiply=statistics.mean(r.rate for r in runs),
        multiply_large=statistics.mean((r.rates[0].large + r.rates[1].large) / 2 for r in runs),
        process_seconds=statistics.median(r.process_seconds for r in runs), loss_first=first.losses[0], loss_last=first.losses[-1],
        off=None if alone or reference is None else max(is_close(r.losses, reference.losses) for r in runs),
        grad_off=None if alone or reference is None else grad_difference(first, reference),
        problems=tuple(dict.fromkeys(p for r in runs for p in problems_of(r, data, reference))))


def rows_of(runs: Iterable[TrainRun], sets: dict[str, TrainSet], shape: Shape) -> list[TrainRow]:
    """One row for each set, method and contender, in the order of their first runs."""
    parts: dict[tuple[str, str], dict[tuple[str, str], list[TrainRun]]] = {}
    for run in runs:
        parts.setdefault((run.set_name, run.method), {}).setdefault((run.who, run.setting), []).append(run)
    out = []
    for (name, _), contenders in parts.items():
        reference = reference_of([group[0] for group in contenders.values()])
        out += [row_of(group, sets[name], shape, reference) for group in contenders.values()]
    return out


# -- ratios ------------------------------------------------------------------------------------------


def _fastest(rows: Iterable[TrainRow]) -> TrainRow | None:
    return max(rows, key=lambda r: r.trained_per_second, default=None)


def summary(rows: Sequence[TrainRow]) -> dict[str, float | str]:
    """GoGPT against the others, of the rows of one set and method. Who is not honest is in none of it; empty where GoGPT is not, or alone."""
    honest = [r for r in rows if r.honest]
    mine = next((r for r in honest if r.who == GOGPT and r.default), None) or _fastest(r for r in honest if r.who == GOGPT)
    peers = [r for r in honest if r.who != GOGPT]
    best = _fastest(peers)
    if mine is None or best is None:
        return {}
    out: dict[str, float | str] = {"best_peer": f"{best.who}, {best.setting}", "over_best": mine.trained_per_second / best.trained_per_second}
    for peer in peers:
        if peer.default:
            out[f"over_default_{peer.who}"] = mine.trained_per_second / peer.trained_per_second
    leanest = min(peers, key=lambda r: r.above_floor)
    if leanest.above_floor > 0:
        out |= {"leanest_peer": f"{leanest.who}, {leanest.setting}", "memory_over_leanest": mine.above_floor / leanest.above_floor}
    # As many tokens in a micro-batch on both sides: one example.
    single = [r for r in peers if not r.default and "packing" not in r.setting]
    short = next((r for r in honest if r.who == GOGPT and r.setting == "short rows"), None)
    if short is not None and single and (least := min(single, key=lambda r: r.above_floor)).above_floor > 0:
        out |= {"same_micro_batch_peer": f"{least.who}, {least.setting}", "memory_same_micro_batch": short.above_floor / least.above_floor}
    return out


def summary_line(name: str, method: str, found: dict[str, float | str]) -> str:
    if not found:
        return f"{name}, {method}: no ratio (GoGPT or every peer is missing or not honest)"
    out = f"{name}, {method}: GoGPT trains {found['over_best']:.2f} times as many tokens/s as the better peer's best ({found['best_peer']})"
    defaults = [f"{value:.2f} times {key.removeprefix('over_default_')}'s default" for key, value in found.items() if key.startswith("over_default_")]
    out += "".join(f", {text}" for text in defaults)
    if "memory_over_leanest" in found:
        out += f"; memory above the floor {found['memory_over_leanest']:.2f} of the leanest peer's ({found['leanest_peer']})"
    if "memory_same_micro_batch" in found:
        out += f", with rows of one example {found['memory_same_micro_batch']:.2f} of {found['same_micro_batch_peer']}"
    return out


# -- text --------------------------------------------------------------------------------------------

HEADER = ("who", "setting", "trained tokens/s", "tokens/s", "computed", "s/step", "from - to", "peak GB", "above floor GB", "useful", "of computed",
          "GFLOP/s", "large", "whole s", "loss", "off", "norm off")


def _off(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}"


def _cells(row: TrainRow) -> tuple[str, ...]:
    return (row.who, row.setting + ("" if row.honest else " (not honest)"), f"{row.trained_per_second:.1f}", f"{row.tokens_per_second:.1f}", f"{row.computed:,}",
            f"{row.seconds:.2f}", f"{row.seconds_min:.2f} - {row.seconds_max:.2f}", f"{row.peak / 1e9:.2f}", f"{row.above_floor / 1e9:.2f}",
            f"{row.useful_fraction:.2f}", f"{row.computed_fraction:.2f}", f"{row.multiply / 1e9:.0f}", f"{row.multiply_large / 1e9:.0f}",
            f"{row.process_seconds:.0f}", f"{row.loss_first:.4f} - {row.loss_last:.4f}", _off(row.off), _off(row.grad_off))


def table(rows: Sequence[TrainRow]) -> str:
    return markdown(HEADER, map(_cells, rows))


def clock_line(runs: Sequence[TrainRun]) -> str | None:
    """How far GoGPT's own seconds (metrics.jsonl) are from the clock outside, over all measured steps."""
    own = [(sum(r.told[r.warmup :]), sum(r.measured)) for r in runs if r.told and len(r.told) > r.warmup]
    if not own or not sum(a for a, _ in own):
        return None
    told, clock = (sum(x) for x in zip(*own, strict=True))
    return f"GoGPT's own seconds of these steps: {told:.2f}, by the clock outside {clock:.2f} ({clock / told - 1:+.1%}); the clock's are told"


def problem_lines(rows: Sequence[TrainRow]) -> list[str]:
    return [f"not honest: {r.who}, {r.setting} ({r.set_name}, {r.method}): {'; '.join(r.problems)}" for r in rows if r.problems]


# -- one pass against n samples ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """GoGPT on an n-turn conversation: in one pass, and as its n samples."""

    turns: int
    method: str
    one: TrainRun
    samples: TrainRun

    @property
    def loss_off(self) -> float:
        return is_close(self.samples.losses, self.one.losses)

    @property
    def norm_off(self) -> float | None:
        return grad_difference(self.samples, self.one)

    @property
    def update_off(self) -> float | None:
        pairs = [(a, b) for a, b in zip(self.samples.update_norms, self.one.update_norms, strict=False) if a is not None and b]
        return max(abs(a - b) / b for a, b in pairs) if pairs else None

    @property
    def ratio(self) -> float:
        """Seconds of the samples over those of the one pass."""
        return statistics.median(self.samples.measured) / statistics.median(self.one.measured)


def turns_table(found: Sequence[Turns]) -> str:
    header = ("turns", "method", "trained", "tokens, one pass", "tokens, samples", "computed", "s/step, one pass", "s/step, samples", "samples/one pass",
              "loss off", "norm off", "update off")
    return markdown(header, ((
        str(t.turns), t.method, f"{t.one.trained[-1]:,}" + ("" if t.one.trained == t.samples.trained else f" / {t.samples.trained[-1]:,}"), f"{t.one.tokens:,}",
        f"{t.samples.tokens:,}", f"{t.samples.computed[-1]:,}", f"{statistics.median(t.one.measured):.2f}", f"{statistics.median(t.samples.measured):.2f}",
        f"{t.ratio:.2f}", _off(t.loss_off), _off(t.norm_off), _off(t.update_off)) for t in found))
