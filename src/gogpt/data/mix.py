"""Which examples an epoch holds, and which are held out for evaluation; deterministic by seed.

Everything here works on arrays with a place for each example: its source, row, key, tokens, language. No text is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gogpt.config import MixConfig, SourceConfig
from gogpt.data.languages import UNKNOWN
from gogpt.errors import GogptError

Indices = npt.NDArray[np.int64]

_MIX, _HOLD = 0x6D6978, 0x6576616C
"""What tells the draws of mixing and of holding out apart under one seed."""


MOST_REPEATS = 1000
"""As often as a weight may repeat an example; a share that needs more asks for what the data does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRow:
    """What an epoch holds of one source or one language. ``kind``: source or language; ``name``: path, or ISO 639 code.

    ``found``: examples there are; ``used``: examples of an epoch, repeats included; ``share`` of the epoch, in the mix's unit;
    ``tokens`` and ``trained``: of an epoch; ``repeats``: used / found (0.5: half of them, 3: each three times).
    """

    kind: str
    name: str
    found: int
    used: int
    share: float
    tokens: int
    trained: int
    repeats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """``index`` (int64 ``[M]``): the examples of an epoch in ascending order; one that repeats stands several times.
    ``table``: a row for each source, then, where languages are mixed, for each language."""

    index: Indices
    table: tuple[MixRow, ...]


def check_mix(config: MixConfig, sources: Sequence[SourceConfig], evaluation: Sequence[SourceConfig] = ()) -> None:
    """The settings of a mix against each other, before any data is read.

    Raises GogptError CFG243: weight and count on one source, temperature beside languages, either of them beside weights or
    counts, a share that is not positive; a weight or count on a source of ``evaluation``, which is read once and whole.
    """
    for i, source in enumerate(evaluation):
        if source.count is not None or source.weight != 1.0:
            raise _at_odds(f"data.eval[{i}] has a {_own(source).partition(':')[0]}, and an evaluation set is not mixed", _own(source),
                           "every example of an evaluation source once", "leave it out of data.eval; limit reads only the first rows of a source")
    for i, source in enumerate(sources):
        if source.count is not None and source.weight != 1.0:
            raise _at_odds(f"data.train[{i}] has a weight and a count", f"weight: {source.weight:g}, count: {source.count}",
                           "one of them", "leave one of them out: weight is relative to what the source holds, count is not")
    if config.temperature is not None and config.languages:
        raise _at_odds("data.mix has temperature and languages", f"temperature: {config.temperature:g}, languages: {_shown(config.languages)}",
                       "one of them", "leave one of them out: temperature balances sources, languages balance languages")
    asked = "temperature" if config.temperature is not None else "languages" if config.languages else None
    for i, source in enumerate(sources):
        if asked and (source.count is not None or source.weight != 1.0):
            raise _at_odds(f"data.mix.{asked} decides how much of each source an epoch holds, and so does data.train[{i}]", _own(source),
                           f"data.mix.{asked}, or weights and counts", f"leave out data.mix.{asked}, or the weights and counts of data.train")
    wrong = {k: v for k, v in config.languages.items() if not (math.isfinite(v) and v > 0)}
    if wrong:
        raise _at_odds("data.mix.languages holds a share that is not positive", _shown(wrong), "numbers above 0, as in {zh: 1, en: 1}",
                       "leave a language out of the mix to keep its number, or of data.clean.languages to drop it")


def _own(source: SourceConfig) -> str:
    """What a source says of its own number."""
    return f"weight: {source.weight:g}" if source.count is None else f"count: {source.count}"


def _at_odds(message: str, got: str, expected: str, fix: str) -> GogptError:
    return GogptError("CFG243", message, where="recipe", got=got, expected=expected, fix=fix)


def _shown(shares: dict[str, float]) -> str:
    return "{" + ", ".join(f"{k}: {v:g}" for k, v in shares.items()) + "}"


def mix(
    config: MixConfig, sources: Sequence[SourceConfig], source: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64],
    trained: npt.NDArray[np.int64], language: Sequence[str | None] | npt.NDArray[np.str_] | None = None, seed: int = 0,
) -> Mixed:
    """The examples of an epoch.

    ``source`` (int64 ``[N]``, numbers into ``sources``), ``tokens`` and ``trained`` (int64 ``[N]``) and ``language`` (N codes; None
    or ``und`` where it cannot be told) describe the examples. Without temperature and languages, a source gives ``weight`` times
    its examples, or ``count`` of them. With them, shares are met within one example (unit: examples) or within one
    example's tokens. Draws are without replacement, and what repeats repeats evenly.

    Raises GogptError CFG243 (settings at odds), CFG244 (what is asked for is not in the data), DAT308 (nothing is left).
    """
    check_mix(config, sources)
    num = len(source)
    units = {"examples": np.ones(num, dtype=np.int64), "tokens": np.asarray(tokens), "trained_tokens": np.asarray(trained)}[config.unit]
    codes = np.array([code or UNKNOWN for code in language], dtype=np.str_) if language is not None else np.full(num, UNKNOWN)
    times = np.ones(num, dtype=np.int64)
    if config.languages:
        members = {code: np.flatnonzero(codes == code) for code in config.languages}
        _missing_languages(members, codes)
        _balance(times, list(members.values()), np.array(list(config.languages.values())), units, config.sampling, seed)
    elif config.temperature is not None:
        groups = [m for i in range(len(sources)) if units[m := np.flatnonzero(source == i)].sum()]
        sizes = np.array([units[m].sum() for m in groups], dtype=np.float64)
        # Scaled by the largest, so that a small temperature does not overflow.
        _balance(times, groups, (sizes / sizes.max(initial=1)) ** (1 / config.temperature), units, config.sampling, seed)
    else:
        for i, s in enumerate(sources):
            _draw_number(times, np.flatnonzero(source == i), s, f"data.train[{i}]", np.random.default_rng([seed, _MIX, i]))
    if num and not times.any():
        raise GogptError("DAT308", "no training example is left", where="recipe: data.train", got=f"{num} examples, of which the weights take none",
                         expected="a weight of at least 1 / the number of the source's examples",
                         fix="raise the weight in data.train, or leave it out")
    if num and times.max() > MOST_REPEATS:
        raise GogptError("CFG244", f"the mix would repeat an example {times.max():,} times an epoch", where="recipe: data.mix", got=f"{times.sum():,} examples of {num:,}",
                         expected=f"at most {MOST_REPEATS:,} repeats", fix="raise data.mix.temperature, or take sampling: under")
    rows = [_row("source", s.path, source == i, times, units, tokens, trained) for i, s in enumerate(sources)]
    if config.languages:
        named = [*config.languages, *sorted(set(np.unique(codes)) - set(config.languages))]
        rows += [_row("language", str(code), codes == code, times, units, tokens, trained) for code in named]
    return Mixed(index=np.repeat(np.arange(num, dtype=np.int64), times), table=tuple(rows))


def _missing_languages(members: dict[str, Indices], codes: npt.NDArray[np.str_]) -> None:
    missing = [code for code, found in members.items() if not found.size]
    if missing:
        names, counts = np.unique(codes, return_counts=True)
        held = ", ".join(f"{code} {n}" for n, code in sorted(zip(counts.tolist(), names.tolist(), strict=True), reverse=True)[:8])
        raise GogptError("CFG244", f"data.mix.languages names a language without examples: {', '.join(missing)}", where="recipe: data.mix.languages",
                         got=f"examples by language: {held or 'none'}", expected="at least one example of each",
                         fix="leave it out, or add a source; `und` is what cannot be told")


def _draw_number(times: Indices, members: Indices, source: SourceConfig, place: str, rng: np.random.Generator) -> None:
    """``times`` of one source's members, by its count or weight."""
    if source.count is None:
        wanted = math.floor(source.weight) * members.size + round((source.weight % 1) * members.size)
    elif members.size:
        wanted = source.count
    else:
        raise GogptError("CFG244", f"{place} has no examples to take {source.count} of", where="recipe: data.train", got=source.path,
                         expected="at least one example", fix="see in the ledger why its rows were dropped, or leave its count out")
    if members.size:
        whole, rest = divmod(wanted, members.size)
        times[members] = whole
        if rest:
            times[rng.choice(members, size=rest, replace=False)] += 1


def _balance(
    times: Indices, groups: Sequence[Indices], weights: npt.NDArray[np.float64], units: npt.NDArray[np.int64], sampling: str, seed: int,
) -> None:
    """``times`` of the groups' members, so that each group has its share (weights, of any sum) of their units together."""
    sizes = np.array([units[m].sum() for m in groups], dtype=np.float64)
    if not sizes.size:
        return
    scale = sizes / weights
    targets = weights * (scale.min() if sampling == "under" else scale.max())
    for i, (members, size, target) in enumerate(zip(groups, sizes, targets, strict=True)):
        whole = int(target / size + 1e-12)
        rest = target - whole * size
        order = np.random.default_rng([seed, _MIX, i]).permutation(members)
        times[members] = whole
        if rest > 0:  # the beginning of the order that comes nearest
            ends = np.concatenate([[0], np.cumsum(units[order])])
            at = int(np.searchsorted(ends, rest))
            near = at - 1 if at and (at == ends.size or rest - ends[at - 1] <= ends[at] - rest) else at
            times[order[:near]] += 1


def _row(
    kind: str, name: str, which: npt.NDArray[np.bool_], times: Indices, units: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64],
    trained: npt.NDArray[np.int64],
) -> MixRow:
    found, own = int(np.count_nonzero(which)), times[which]
    used, total = int(own.sum()), int((times * units).sum())
    return MixRow(kind=kind, name=name, found=found, used=used, share=int((own * units[which]).sum()) / total if total else 0.0,
                  tokens=int((own * np.asarray(tokens)[which]).sum()), trained=int((own * np.asarray(trained)[which]).sum()),
                  repeats=used / found if found else 0.0)


def mix_lines(table: Sequence[MixRow]) -> list[list[str]]:
    """The table as text, cell by cell: a line of headings, then a line for each row. Numbers are to be aligned right."""
    out = [["", "examples", "in an epoch", "share", "tokens", "trained tokens", "repeats"]]
    return out + [[r.name, f"{r.found:,}", f"{r.used:,}", f"{r.share:.1%}", f"{r.tokens:,}", f"{r.trained:,}", f"{r.repeats:.2f}"] for r in table]


# -- held out --------------------------------------------------------------------------------------


def hold_out(
    rows: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Indices (int64) of the training and of the held-out examples, each in ascending order.

    ``rows`` (int64 ``[N]``): a number for the source row of each example; ``keys`` (int64 ``[N]``): equal for equal conversations.
    Examples of one row, and those of equal keys, stay on one side, and so does what they join: equal text on both sides
    would make the evaluation measure memory. At least one group is held out, and at least one stays; a single group stays.
    The split depends on keys, rows and seed, not on the order of the examples.
    """
    return _split(np.asarray(rows, dtype=np.int64), np.asarray(keys, dtype=np.int64), fraction, seed)


def _split(rows: Indices, keys: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    if not rows.size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    group = _groups(rows, keys)
    order = np.random.default_rng([seed, _HOLD]).permutation(int(group.max()) + 1)
    sizes = np.bincount(group)[order[:-1]]
    before = np.cumsum(sizes) - sizes
    # A group goes over where that comes nearer to the fraction than leaving it does; the first one always.
    enough = np.flatnonzero(before + sizes / 2 > fraction * rows.size)
    enough = enough[enough > 0]
    held = np.zeros(len(order), dtype=bool)
    held[order[: int(enough[0]) if enough.size else len(sizes)]] = True
    mask = held[group]
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _groups(rows: Indices, keys: Indices) -> Indices:
    """Number of the group of each example, by ascending smallest key: joined are those of one row, and those of equal keys.

    Connected components by label propagation over the keys, each label being the smallest known key of its group, with
    labels followed to their ends in every round (Shiloach and Vishkin 1982): the rounds grow with the logarithm of the longest chain.
    """
    _, row = np.unique(rows, return_inverse=True)
    distinct, key = np.unique(keys, return_inverse=True)
    row, key = row.reshape(-1), key.reshape(-1)
    label = np.arange(distinct.size)
    while True:
        smallest = np.full(int(row.max()) + 1, distinct.size)
        np.minimum.at(smallest, row, label[key])
        joined = label.copy()
        np.minimum.at(joined, label[key], smallest[row])
        while not np.array_equal(further := joined[joined], joined):
            joined = further
        if np.array_equal(joined, label):
            break
        label = joined
    return np.asarray(np.unique(label[key], return_inverse=True)[1].reshape(-1), dtype=np.int64)
