"""How much of each source an epoch holds, and the held-out split: targets met within one example, nothing on both sides."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import rows, write_jsonl
from gogpt.config import MixConfig, SourceConfig
from gogpt.data.mix import Mixed, check_mix, hold_out, mix, mix_lines
from gogpt.errors import GogptError

UNITS = st.sampled_from(["examples", "tokens", "trained_tokens"])
SAMPLING = st.sampled_from(["under", "over"])


def sources(*changes: dict[str, Any]) -> list[SourceConfig]:
    return [SourceConfig.model_validate({"path": f"{i}.jsonl", **change}) for i, change in enumerate(changes)]


def made(config: dict[str, Any], given_sources: list[SourceConfig], source: Any, tokens: Any = None, trained: Any = None,
         language: Any = None, seed: int = 0) -> Mixed:
    source = np.asarray(source, dtype=np.int64)
    tokens = np.full(source.size, 10) if tokens is None else np.asarray(tokens, dtype=np.int64)
    trained = np.full(source.size, 4) if trained is None else np.asarray(trained, dtype=np.int64)
    return mix(MixConfig.model_validate(config), given_sources, source, tokens, trained, language, seed)


def made_unless_too_often(config: dict[str, Any], *args: Any) -> Mixed | None:
    """None where over-sampling is refused, because it would repeat an example more often than anybody means."""
    if config["sampling"] == "under":
        return made(config, *args)
    with contextlib.suppress(GogptError):
        return made(config, *args)
    with pytest.raises(GogptError, match="repeat an example") as caught:
        made(config, *args)
    assert caught.value.code == "CFG244"
    return None


def times(mixed: Mixed, num: int) -> Any:
    return np.bincount(mixed.index, minlength=num)


@st.composite
def examples(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """(group of each of N, tokens, trained), with at least one example in each of two to four groups."""
    groups = draw(st.integers(2, 4))
    group = list(range(groups)) + draw(st.lists(st.integers(0, groups - 1), max_size=60))
    tokens = draw(st.lists(st.integers(2, 500), min_size=len(group), max_size=len(group)))
    trained = [draw(st.integers(1, t - 1)) for t in tokens]
    return np.array(group), np.array(tokens), np.array(trained)


def within_one_example(mixed: Mixed, group: Any, units: Any, weights: Any, sampling: str) -> None:
    """Each group's units against its target; the targets are derived here from the groups' sizes alone."""
    num = len(weights)
    sizes = np.bincount(group, units, num)
    scale = (sizes / weights).min() if sampling == "under" else (sizes / weights).max()
    used = np.bincount(group[mixed.index], units[mixed.index], num)
    largest = np.array([units[group == g].max() for g in range(num)])
    assert (np.abs(used - weights * scale) <= largest + 1e-6).all()
    counts = times(mixed, len(group))
    assert counts.max() <= 1 or sampling == "over"
    assert counts.min() >= 1 or sampling == "under"
    for g in range(num):
        own = counts[group == g]
        assert own.max() - own.min() <= 1, "what repeats repeats evenly"


@settings(max_examples=80, deadline=None)
@given(examples(), st.floats(0.2, 20), UNITS, SAMPLING)
def test_temperature_meets_its_shares(data: Any, temperature: float, unit: str, sampling: str) -> None:
    group, tokens, trained = data
    own = sources(*[{}] * (group.max() + 1))
    mixed = made_unless_too_often({"temperature": temperature, "unit": unit, "sampling": sampling}, own, group, tokens, trained)
    if mixed is None:
        return
    units = {"examples": np.ones_like(tokens), "tokens": tokens, "trained_tokens": trained}[unit]
    weights = np.bincount(group, units) ** (1 / temperature)
    within_one_example(mixed, group, units, weights, sampling)
    assert [r.share for r in mixed.table] == pytest.approx(np.bincount(group[mixed.index], units[mixed.index], len(own)) / units[mixed.index].sum())


@settings(max_examples=80, deadline=None)
@given(examples(), UNITS, SAMPLING, st.lists(st.floats(0.05, 20), min_size=4, max_size=4))
def test_languages_meet_their_shares_and_others_keep_their_number(data: Any, unit: str, sampling: str, shares: list[float]) -> None:
    group, tokens, trained = data
    names = np.array(["zh", "en", "fr", "de"])
    num = int(group.max()) + 1
    mixing = dict(zip(names[:num].tolist(), shares, strict=False))
    group, tokens, trained = np.append(group, [num, num]), np.append(tokens, [7, 8]), np.append(trained, [3, 4])
    language = [names[g] if g < num else c for g, c in zip(group, [""] * (len(group) - 2) + [None, "ja"], strict=True)]
    mixed = made_unless_too_often({"languages": mixing, "unit": unit, "sampling": sampling}, sources({}), np.zeros(len(group)), tokens, trained, language)
    if mixed is None:
        return
    units = {"examples": np.ones_like(tokens), "tokens": tokens, "trained_tokens": trained}[unit]
    assert times(mixed, len(group))[-2:].tolist() == [1, 1]
    inner = Mixed(index=mixed.index[mixed.index < len(group) - 2], table=())
    within_one_example(inner, group[:-2], units[:-2], np.array(shares[:num]), sampling)
    assert [r.name for r in mixed.table] == ["0.jsonl", *mixing, "ja", "und"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 200), st.floats(0.02, 6), st.integers(0, 9))
def test_counts_and_weights(source: list[int], count: int, weight: float, seed: int) -> None:
    source = [0, 1, 2, *source]
    mixed = made({}, sources({"count": count}, {"weight": weight}, {}), source, seed=seed)
    counts, array = times(mixed, len(source)), np.array(source)
    assert counts[array == 0].sum() == count
    assert counts[array == 1].sum() == int(weight) * (array == 1).sum() + round(weight % 1 * (array == 1).sum())
    assert (counts[array == 2] == 1).all()
    assert all(np.ptp(counts[array == i]) <= 1 for i in range(3))
    assert [r.used for r in mixed.table] == [counts[array == i].sum() for i in range(3)]
    assert (np.diff(mixed.index) >= 0).all()
    again = made({}, sources({"count": count}, {"weight": weight}, {}), source, seed=seed)
    assert np.array_equal(again.index, mixed.index)


def test_another_seed_draws_others_and_another_source_changes_no_draw() -> None:
    half = made({}, sources({"weight": 0.5}), [0] * 40)
    assert not np.array_equal(half.index, made({}, sources({"weight": 0.5}), [0] * 40, seed=1).index)
    beside = made({}, sources({"weight": 0.5}, {"count": 3}), [0] * 40 + [1] * 9)
    assert np.array_equal(half.index, beside.index[beside.index < 40])


def test_temperature_by_hand() -> None:
    """100 and 25 examples: T = 2 gives 10 : 5, T = 1 leaves them, a large T makes them equal."""
    source = [0] * 100 + [1] * 25
    for temperature, under, over in ((2, [50, 25], [100, 50]), (1, [100, 25], [100, 25]), (100, [25, 25], [100, 99])):
        for sampling, used in (("under", under), ("over", over)):
            mixed = made({"temperature": temperature, "sampling": sampling}, sources({}, {}), source)
            assert [r.used for r in mixed.table] == used


def test_a_source_without_examples_takes_no_part_in_temperature() -> None:
    mixed = made({"temperature": 2}, sources({}, {}, {}), [0] * 4 + [2] * 16)
    assert [(r.found, r.used, r.share) for r in mixed.table] == [(4, 4, pytest.approx(1 / 3)), (0, 0, 0.0), (16, 8, pytest.approx(2 / 3))]
    assert made({"temperature": 0.01}, sources({}, {}), [0] * 30 + [1] * 31).index.size >= 31


def test_no_examples() -> None:
    for config in ({}, {"temperature": 2}):
        mixed = made(config, sources({}), [])
        assert mixed.index.size == 0
        assert mixed.table[0].repeats == 0


@pytest.mark.parametrize(("config", "changes", "says"), [
    ({}, [{"weight": 2, "count": 5}], "weight and a count"),
    ({"temperature": 2, "languages": {"zh": 1}}, [{}], "temperature and languages"),
    ({"temperature": 2}, [{}, {"weight": 0.5}], r"data\.train\[1\]"),
    ({"temperature": 2}, [{"count": 5}], "data.mix.temperature"),
    ({"languages": {"zh": 1}}, [{"count": 5}], "data.mix.languages"),
    ({"languages": {"zh": 1, "en": 0}}, [{}], "not positive"),
    ({"languages": {"zh": -1}}, [{}], "not positive"),
])
def test_settings_at_odds_are_refused(config: dict[str, Any], changes: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(GogptError, match=says) as caught:
        check_mix(MixConfig.model_validate(config), sources(*changes))
    assert caught.value.code == "CFG243"
    assert caught.value.got
    assert caught.value.expected
    assert caught.value.fix


@pytest.mark.parametrize(("own", "says"), [({"weight": 0.5}, "weight"), ({"count": 5}, "count")])
def test_an_evaluation_source_is_not_mixed(own: dict[str, Any], says: str, gogpt: Any, recipe: Any, tmp_path: Any) -> None:
    with pytest.raises(GogptError, match=rf"data\.eval\[1\] has a {says}") as caught:
        check_mix(MixConfig(), sources({}), sources({}, own))
    assert caught.value.code == "CFG243"
    write_jsonl(tmp_path / "held.jsonl", rows(6, start=50))
    path = recipe(data={"eval": [{"path": str(tmp_path / "held.jsonl"), **own}]})
    for command in ("prepare", "check", "plan"):
        ran = gogpt(command, path)
        assert ran.code == 2
        assert "CFG243" in ran.err
        assert f"data.eval[0] has a {says}" in ran.err
    assert gogpt("prepare", recipe(data={"eval": [{"path": str(tmp_path / "held.jsonl"), "limit": 4}]}), "--format", "json").json["eval_examples"] == 4


@pytest.mark.parametrize(("config", "changes"), [
    ({}, [{"weight": 2}, {"count": 5}]), ({"temperature": 2}, [{"weight": 1}, {}]), ({"languages": {"zh": 1}}, [{}]),
])
def test_settings_that_go_together(config: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    check_mix(MixConfig.model_validate(config), sources(*changes))


def test_what_is_not_in_the_data_is_told() -> None:
    with pytest.raises(GogptError, match="without examples: fr") as caught:
        made({"languages": {"zh": 1, "fr": 1}}, sources({}), [0, 0], language=["zh", None])
    assert caught.value.code == "CFG244"
    assert caught.value.got == "examples by language: zh 1, und 1"
    with pytest.raises(GogptError, match="no examples to take 5 of") as caught:
        made({}, sources({}, {"count": 5}), [0, 0])
    assert caught.value.code == "CFG244"
    with pytest.raises(GogptError, match="no training example is left") as caught:
        made({}, sources({"weight": 0.01}), [0, 0])
    assert caught.value.code == "DAT308"


def test_the_table_as_text() -> None:
    lines = mix_lines(made({}, sources({"count": 1500}, {}), [0, 0, 0, 1]).table)
    assert lines == [["", "examples", "in an epoch", "share", "tokens", "trained tokens", "repeats"],
                     ["0.jsonl", "3", "1,500", "99.9%", "15,000", "6,000", "500.00"], ["1.jsonl", "1", "1", "0.1%", "10", "4", "1.00"]]


# -- held out --------------------------------------------------------------------------------------


def groups_by_hand(rows: list[int], keys: list[int]) -> list[set[int]]:
    """Connected components, one example at a time."""
    out: list[set[int]] = []
    for i in range(len(rows)):
        joined = [g for g in out if any(rows[i] == rows[j] or keys[i] == keys[j] for j in g)]
        out = [g for g in out if g not in joined] + [{i}.union(*joined)]
    return out


PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(-12, 12)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(PAIRS, st.floats(0.01, 0.9), st.integers(0, 5))
def test_nothing_is_on_both_sides(pairs: list[tuple[int, int]], fraction: float, seed: int) -> None:
    rows, keys = [r for r, _ in pairs], [k for _, k in pairs]
    train, held = hold_out(np.array(rows), np.array(keys), fraction, seed)
    assert sorted([*train, *held]) == list(range(len(pairs)))
    groups = groups_by_hand(rows, keys)
    sides = set(train.tolist()), set(held.tolist())
    assert all(g <= sides[0] or g <= sides[1] for g in groups)
    assert len(train) >= 1
    assert (len(held) >= 1) == (len(groups) > 1)
    if held.size:
        assert abs(len(held) - fraction * len(pairs)) <= max(map(len, groups)) * 1.5


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order(pairs: list[tuple[int, int]], random: Any) -> None:
    def held(given_pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        _, out = hold_out(np.array([r for r, _ in given_pairs]), np.array([k for _, k in given_pairs]), 0.3, 0)
        return sorted(given_pairs[i] for i in out)

    before = held(pairs)
    random.shuffle(pairs)
    assert held(pairs) == before


def test_a_long_chain_is_one_group() -> None:
    number = np.random.default_rng(0).permutation(20_001)
    rows, keys = number[np.arange(20_000) // 2], number[(np.arange(20_000) + 1) // 2]
    train, held = hold_out(rows, keys, 0.5, 0)
    assert (train.size, held.size) == (20_000, 0)
    train, held = hold_out(np.append(rows, 99_999), np.append(keys, 99_999), 0.5, 0)
    assert {train.size, held.size} == {20_000, 1}


def test_nothing_to_split() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert [a.size for a in hold_out(none, none, 0.1, 0)] == [0, 0]
