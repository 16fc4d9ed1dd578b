"""Vitals: what fires on shapes of runs that went wrong, and stays silent on shapes of runs that did not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gogpt.facts import StepStats, from_json
from gogpt.findings import Finding
from gogpt.vitals import Vitals, course, first_findings

FIXTURES = Path(__file__).parent / "fixtures"
VOCAB = 49152
MIB = 2**20


def steps_of(losses: Sequence[float], **columns: Any) -> list[StepStats]:
    """Steps with these losses; a column is one value for all or one for each."""
    usual: dict[str, Any] = {"lr": 2e-4, "grad_norm": 0.6, "trained_tokens": 300, "tokens": 1000, "update_norm": 0.1, "seconds": 2.0, "memory": 2**30,
                             "memory_now": 2**29, "one_label": 0.0}
    filled = {k: [v] * len(losses) if np.isscalar(v) or v is None else list(v) for k, v in {**usual, **columns}.items()}
    return [StepStats(step=i + 1, loss=float(losses[i]), **{k: v[i] for k, v in filled.items()}) for i in range(len(losses))]


def told(steps: Sequence[StepStats], **known: Any) -> dict[str, tuple[int, Finding]]:
    return first_findings(steps, **{"steps_planned": len(steps), "peak_lr": 2e-4, "vocab_size": VOCAB, "epoch_steps": len(steps), **known})


def falling(n: int, *, start: float = 3.0, end: float = 1.2, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return end + (start - end) * np.exp(-np.arange(n) / 25) + noise * rng.standard_normal(n)


def at(found: dict[str, tuple[int, Finding]], code: str) -> int:
    assert list(found) == [code], {c: s for c, (s, _) in found.items()}
    return found[code][0]


# -- what went wrong -------------------------------------------------------------------------------


def test_divergence_is_told_after_eight_steps_and_not_before() -> None:
    losses = falling(120)
    losses[80:] = 6.0
    found = told(steps_of(losses))
    assert at(found, "RUN650") == 88
    evidence = found["RUN650"][1].evidence
    assert (evidence["raised_since"], evidence["raised_steps"]) == (81, 8)
    assert evidence["loss_limit"] < 6.0
    assert evidence["loss_best"] == pytest.approx(1.2, abs=0.2)


def test_worse_than_guessing_is_told_within_five_steps() -> None:
    """The shape that two peers print at a rate of 0.5 without a word: 10.8, 9.6, 20 and more."""
    found = told(steps_of([10.8, 9.6, 20.0, 21.5, 22.3, 22.9, 23.0, 23.0]))
    assert at(found, "RUN650") == 7
    assert found["RUN650"][1].evidence["raised_since"] == 3
    assert "worse than guessing" in found["RUN650"][1].message.format("en", found["RUN650"][1].evidence)


def test_a_spike_that_comes_back_is_only_told() -> None:
    losses = falling(160)
    losses[80:100] = 1.2 + 6.0 * np.exp(-np.arange(20) / 4)
    assert at(told(steps_of(losses)), "RUN659") < 100


def test_one_odd_step_is_nothing() -> None:
    losses = falling(120)
    losses[[60, 80, 81, 100]] = 9.0
    assert told(steps_of(losses)) == {}


def test_no_improvement() -> None:
    rng = np.random.default_rng(0)
    flat = 2.1 + 0.01 * rng.standard_normal(200)
    found = told(steps_of(flat), warmup_steps=10)
    assert at(found, "RUN651") == 138
    assert told(steps_of(flat * 0.1), warmup_steps=10) == {}  # nothing left to learn
    assert told(steps_of(flat, lr=0.0), warmup_steps=10) == {}  # RUN602's business
    assert told(steps_of(2.1 + 0.5 * rng.standard_normal(400))) == {}  # noise leaves it open


@pytest.mark.parametrize("factor", [40.0, 1e4])
def test_gradient_explosion(factor: float) -> None:
    norms = np.full(100, 0.6)
    norms[50:] *= factor
    assert at(told(steps_of(falling(100), grad_norm=norms)), "RUN652") == 58


def test_gradient_vanishes_only_where_the_loss_does_not() -> None:
    norms = np.full(100, 0.6)
    norms[50:] = 1e-5
    assert at(told(steps_of(falling(100), grad_norm=norms)), "RUN653") == 66
    by_heart = np.concatenate([falling(50), np.full(50, 0.02)])
    assert told(steps_of(by_heart, grad_norm=norms)) == {}


def test_skipped_steps() -> None:
    start = [i < 16 for i in range(100)]
    assert told(steps_of(falling(100), skipped=start)) == {}  # the loss scale finds its value
    every_third = [i % 3 == 0 for i in range(100)]
    assert at(told(steps_of(falling(100), skipped=every_third)), "RUN654") == 84
    row = [40 <= i < 60 for i in range(100)]
    assert at(told(steps_of(falling(100), skipped=row)), "RUN654") == 48
    rare = [i % 20 == 0 for i in range(100)]
    assert told(steps_of(falling(100), skipped=rare)) == {}


@pytest.mark.parametrize(("tokens", "why"), [(1000, "something else uses the machine"), (2000, "longer rows cost more"), (100, "fixed cost")])
def test_throughput_and_what_it_likely_is(tokens: int, why: str) -> None:
    counts, seconds = np.full(100, 1000), np.full(100, 2.0)
    counts[60:] = tokens
    seconds[60:] = tokens / 100  # 100 tokens per second in place of 500
    found = told(steps_of(falling(100), tokens=counts, seconds=seconds))
    assert at(found, "RUN655") == 76
    finding = found["RUN655"][1]
    assert why in finding.message.format("en", finding.evidence)
    assert (finding.evidence["rate_usual"], finding.evidence["rate_now"]) == (500.0, 100.0)


def test_throughput_that_recovers_is_nothing() -> None:
    seconds = np.full(200, 2.0)
    seconds[:10] = 30.0  # compiling, filling caches
    seconds[50:64] = 20.0
    seconds[100:114] = 20.0
    assert told(steps_of(falling(200), seconds=seconds)) == {}


def test_memory_creep() -> None:
    n = 140
    growing = 500 * MIB + np.arange(n) * MIB * 2
    found = told(steps_of(falling(n), memory_now=growing))
    assert at(found, "RUN656") == 100
    assert found["RUN656"][1].evidence["mib_per_step"] == pytest.approx(2.0)
    levels_off = 500 * MIB + 200 * MIB * (1 - np.exp(-np.arange(n) / 15))
    assert told(steps_of(falling(n), memory_now=levels_off.astype(int))) == {}
    assert told(steps_of(falling(n), memory_now=growing, tokens=1000 + 10 * np.arange(n))) == {}
    sawtooth = 500 * MIB + (np.arange(n) % 25) * MIB * 10
    assert told(steps_of(falling(n), memory_now=sawtooth)) == {}
    assert told(steps_of(falling(n), memory_now=0)) == {}  # not measured


def test_a_loss_that_is_too_small() -> None:
    losses = [3.0, 0.5, *[0.004] * 20]
    assert at(told(steps_of(losses, grad_norm=0.01), epoch_steps=100), "RUN657") == 7
    assert at(told(steps_of(losses, grad_norm=0.01), epoch_steps=None), "RUN657") == 7
    assert told(steps_of(losses, grad_norm=0.01), epoch_steps=5) == {}  # by heart
    assert told(steps_of([3.0, 0.5, *[0.004, 0.02] * 10]), epoch_steps=100) == {}


def test_one_label() -> None:
    assert at(told(steps_of(falling(10), one_label=1.0)), "RUN658") == 3
    assert told(steps_of(falling(10), one_label=0.95)) == {}
    assert told(steps_of(falling(10), one_label=None)) == {}
    assert told(steps_of(falling(10), one_label=1.0, trained_tokens=4)) == {}


# -- what did not ----------------------------------------------------------------------------------


def test_the_quickstart_run() -> None:
    """SmolLM2-135M, LoRA, 34 steps on two cores, as ``gogpt train examples/identity.yaml`` recorded them; four steps were slow."""
    lines = (FIXTURES / "smollm2_lora_metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [from_json(StepStats, json.loads(line)) for line in lines]
    assert len(steps) == 34
    assert told(steps, warmup_steps=4, epoch_steps=11) == {}


def shape(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Losses of healthy runs."""
    t = np.arange(n)
    start, end = rng.uniform(1.5, 6), rng.uniform(0.3, 1)
    if kind == "stairs":  # learned by heart, a step down with every epoch
        return end * 0.02 + start * 0.5 ** (t // max(8, n // 8)) * (1 - 0.15 * (t % max(8, n // 8)) / max(8, n // 8)) + 0.03 * rng.standard_normal(n) ** 2
    if kind == "small batch":
        return rng.gamma(4, start / 4, n) * (0.4 + 0.6 * np.exp(-t / 40))
    if kind == "two sources":
        return np.where(rng.random(n) < 0.5, end, start) * (0.7 + 0.3 * np.exp(-t / 40)) * (1 + 0.05 * rng.standard_normal(n))
    return end + (start - end) * np.exp(-t / 30) + rng.uniform(0.01, 0.3) * rng.standard_normal(n)


KINDS = st.sampled_from(["stairs", "small batch", "two sources", "falling"])


@settings(max_examples=40, deadline=None)
@given(kind=KINDS, n=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_healthy_shapes_are_silent(kind: str, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = np.maximum(shape(kind, n, rng), 1e-3)
    lr = 1e-3 * 0.5 * (1 + np.cos(np.pi * np.arange(n) / n))  # a cosine to 0
    norms = losses * rng.uniform(0.2, 1) * np.exp(0.4 * rng.standard_normal(n))
    steps = steps_of(losses, lr=lr, grad_norm=norms, seconds=np.exp(0.4 * rng.standard_normal(n)), tokens=rng.integers(500, 1025, n),
                     memory_now=(600 * MIB + rng.integers(0, 40 * MIB, n)).tolist())
    assert told(steps, epoch_steps=max(1, n // 8), warmup_steps=3) == {}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), more=st.integers(1, 200), noise=st.floats(0.001, 0.5))
def test_appending_healthy_noise_never_fires(seed: int, more: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    losses = np.maximum(np.concatenate([falling(150, noise=noise, seed=seed), 1.2 + noise * rng.standard_normal(more)]), 0.02)
    assert told(steps_of(losses)) == {}


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_the_unit_of_time_does_not_matter(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds = np.exp(0.2 * rng.standard_normal(120))
    seconds[70:] *= 6
    one = told(steps_of(falling(120), seconds=seconds))
    other = told(steps_of(falling(120), seconds=seconds * factor))
    assert at(one, "RUN655") == at(other, "RUN655")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 119))
def test_the_future_does_not_change_the_past(seed: int, cut: int) -> None:
    losses = shape("small batch", 120, np.random.default_rng(seed))
    whole = [figures for _, figures in course(steps_of(losses), vocab_size=VOCAB)]
    part = [figures for _, figures in course(steps_of(losses[:cut]), vocab_size=VOCAB)]
    assert whole[:cut] == part


def test_values_that_are_not_finite_or_missing_are_passed_over() -> None:
    losses = falling(60)
    losses[20:23] = math.nan
    losses[30] = math.inf
    norms: list[float | None] = [None if i % 7 == 0 else math.nan if i == 21 else 0.5 for i in range(60)]
    assert told(steps_of(losses, grad_norm=norms, seconds=0.0, tokens=0)) == {}


def test_a_step_that_was_rolled_back_changes_nothing() -> None:
    steps = steps_of(falling(40))
    vitals = Vitals(vocab_size=VOCAB)
    for step in steps:
        figures = vitals.see(step)
    gone = StepStats(step=41, loss=math.nan, lr=0.0, grad_norm=None, trained_tokens=0, tokens=0, update_norm=0.0, seconds=0.0, memory=0, rolled_back=True)
    assert vitals.see(gone) == figures


def test_memory_is_bounded() -> None:
    """What is kept after 3,000 steps is no more than after 300."""
    def held(n: int) -> int:
        vitals = Vitals(vocab_size=VOCAB)
        for step in steps_of(np.full(n, 2.0) + 0.01 * np.random.default_rng(0).standard_normal(n)):
            vitals.see(step)
        return sum(len(value) for part in vitals._parts for value in vars(part).values() if hasattr(value, "__len__"))

    assert held(3000) == held(300) < 1000
