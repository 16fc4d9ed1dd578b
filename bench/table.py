"""Runs to rows: medians, rates, ratios, and the tables that are printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GOGPT, CEILING = "GoGPT", "ceiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one contender."""

    who: str
    setting: str
    conversations: int
    tokens: int
    trained_tokens: int | None
    seconds: float
    """from file to disk, told by the contender itself"""
    process_seconds: float
    """of the whole command, imports and all"""
    peak_rss_mb: float
    """of the largest process"""
    tree_rss_mb: float = 0.0
    """of all its processes together"""
    compared: int | None = None
    equal: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Several runs of the same: medians; memory is the highest that was seen."""

    who: str
    setting: str
    runs: int
    conversations: int
    tokens: int
    trained_tokens: int | None
    seconds: float
    seconds_min: float
    seconds_max: float
    process_seconds: float
    peak_rss_mb: float
    tree_rss_mb: float
    compared: int | None
    equal: int | None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def conversations_per_second(self) -> float:
        return self.conversations / self.seconds

    @property
    def exact(self) -> bool:
        return self.compared == self.equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """GoGPT's tokens/s over those of the fastest setting of any peer, and over those of the fastest exact library alone."""

    peer: Row | None
    over_peer: float | None
    ceiling: Row | None
    over_ceiling: float | None


def row_of(runs: Sequence[Run]) -> Row:
    """Raises ValueError where repeats do not agree on what was made."""
    counts = {(r.who, r.setting, r.conversations, r.tokens, r.trained_tokens, r.equal) for r in runs}
    if len(counts) != 1:
        raise ValueError(f"repeats of one contender differ: {sorted(map(str, counts))}")
    first, seconds = runs[0], [r.seconds for r in runs]
    return Row(
        who=first.who, setting=first.setting, runs=len(runs), conversations=first.conversations, tokens=first.tokens,
        trained_tokens=first.trained_tokens, seconds=statistics.median(seconds), seconds_min=min(seconds), seconds_max=max(seconds),
        process_seconds=statistics.median(r.process_seconds for r in runs), peak_rss_mb=max(r.peak_rss_mb for r in runs),
        tree_rss_mb=max(r.tree_rss_mb for r in runs), compared=first.compared, equal=first.equal)


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """One row for each contender, in the order of their first runs."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.who, run.setting), []).append(run)
    return [row_of(group) for group in groups.values()]


def _fastest(rows: Iterable[Row]) -> Row | None:
    return max(rows, key=lambda r: r.tokens_per_second, default=None)


def ratios(rows: Sequence[Row]) -> Ratios:
    mine = _fastest(r for r in rows if r.who == GOGPT)
    peer = _fastest(r for r in rows if r.who not in (GOGPT, CEILING))
    ceiling = _fastest(r for r in rows if r.who == CEILING and r.exact)

    def over(other: Row | None) -> float | None:
        return mine.tokens_per_second / other.tokens_per_second if mine and other else None

    return Ratios(peer=peer, over_peer=over(peer), ceiling=ceiling, over_ceiling=over(ceiling))


# -- text ------------------------------------------------------------------------------------------

_HEADER = ("who", "setting", "conversations/s", "tokens/s", "tokens", "trained", "seconds", "from - to", "whole command", "largest MB", "all MB")


def rate(value: float) -> str:
    """Three significant figures: 13.3 M, 285 k, 41."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _cells(row: Row) -> tuple[str, ...]:
    trained = "-" if row.trained_tokens is None else f"{row.trained_tokens:,}"
    return (row.who, row.setting, rate(row.conversations_per_second), rate(row.tokens_per_second), f"{row.tokens:,}", trained,
            f"{row.seconds:.2f}", f"{row.seconds_min:.2f} - {row.seconds_max:.2f}", f"{row.process_seconds:.1f}",
            f"{row.peak_rss_mb:,.0f}", f"{row.tree_rss_mb:,.0f}")


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table that reads as text and as Markdown; the first two columns are names, the others figures."""
    cells = [tuple(header), *map(tuple, lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]

    def line(of: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(of, widths, strict=True))) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < 2 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def table(rows: Sequence[Row]) -> str:
    return markdown(_HEADER, map(_cells, rows))


def ratio_lines(found: Ratios) -> list[str]:
    out = []
    if found.over_peer is not None and found.peer is not None:
        out.append(f"GoGPT over the faster peer ({found.peer.who}, {found.peer.setting}): {found.over_peer:.1f} times the tokens/s")
    if found.over_ceiling is not None and found.ceiling is not None:
        out.append(f"GoGPT over the ceiling ({found.ceiling.setting} alone): {found.over_ceiling:.3f} of its tokens/s")
    return out
