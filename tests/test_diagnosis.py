"""Each mechanism that distorts a learning rate, simulated with random settings, is named; a run that followed its plan is not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gogpt.diagnosis import Diagnosis, PlannedRates, diagnose, first_off
from gogpt.schedules import (
    Rate,
    deepspeed_rate,
    per_process,
    restarted,
    skipping,
    transformers_rate,
    without_decay,
)

SEEDS = range(40)


def settings(seed: int) -> tuple[random.Random, PlannedRates, int]:
    """A plan at random, and how many steps lie between two lines of its log."""
    rng = random.Random(seed)
    steps = rng.randint(60, 400)
    warmup = rng.randint(0, steps // 8)
    rate = transformers_rate(rng.choice(["linear", "cosine"]), learning_rate=rng.uniform(1e-6, 1e-2), warmup_steps=warmup, steps=steps)
    # past its end a cosine of transformers rises again; a plan stays where it ends
    return rng, PlannedRates(rate=lambda s: rate(min(s, steps + 1)), steps=steps, warmup_steps=warmup, world_size=rng.choice([1, 2, 4, 8])), rng.choice([1, 1, 2, 5])


def logged(rate: Rate, plan: PlannedRates, every: int) -> list[tuple[int, float]]:
    return [(s, rate(s)) for s in range(1, plan.steps + 1, every)]


def named(rate: Rate, plan: PlannedRates, every: int) -> tuple[str, dict[str, Any]]:
    found = diagnose(logged(rate, plan, every), plan)
    return found.mechanism, found.evidence


@pytest.mark.parametrize("seed", SEEDS)
def test_healthy(seed: int) -> None:
    _, plan, every = settings(seed)
    assert named(plan.rate, plan, every)[0] == "none"
    rounded = [(s, float(f"{lr:.3g}")) for s, lr in logged(plan.rate, plan, every)]
    assert diagnose(rounded, plan, tolerance=0.005).mechanism == "none"


@pytest.mark.parametrize("seed", SEEDS)
def test_once_per_process(seed: int) -> None:
    rng, plan, every = settings(seed)
    k = rng.choice([2, 4, 8])
    told = PlannedRates(rate=plan.rate, steps=plan.steps, warmup_steps=plan.warmup_steps, world_size=k)
    mechanism, evidence = named(per_process(plan.rate, k), told, every)
    assert (mechanism, evidence["factor"]) == ("per_process", k)
    alone = PlannedRates(rate=plan.rate, steps=plan.steps, warmup_steps=plan.warmup_steps)
    mechanism, evidence = named(per_process(plan.rate, k), alone, every)
    assert (mechanism, evidence["factor"]) == ("stepped_often", k)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_decay(seed: int) -> None:
    _, plan, every = settings(seed)
    mechanism, evidence = named(without_decay(plan.rate, plan.warmup_steps), plan, every)
    assert mechanism == "no_decay"
    assert evidence["warmup_as_planned"]
    assert evidence["constant"] == pytest.approx(evidence["peak"])


@pytest.mark.parametrize("seed", SEEDS)
def test_deepspeeds_own_warmup(seed: int) -> None:
    """WarmupLR in the file: no decay, whatever its peak; WarmupDecayLR with the plan's numbers: the logarithm."""
    rng, plan, every = settings(seed)
    warm = max(8 * every, plan.warmup_steps)
    peak = rng.uniform(1e-5, 1e-2)
    rate = transformers_rate("linear", learning_rate=peak, warmup_steps=warm, steps=plan.steps + warm)
    plan = PlannedRates(rate=rate, steps=plan.steps + warm, warmup_steps=warm)
    never = deepspeed_rate("WarmupLR", {"warmup_max_lr": 1e-3, "warmup_num_steps": warm})
    assert named(never, plan, every)[0] == "no_decay"
    log = deepspeed_rate("WarmupDecayLR", {"warmup_max_lr": peak, "warmup_num_steps": warm, "total_num_steps": plan.steps})
    mechanism, evidence = named(log, plan, every)
    assert mechanism == "log_warmup"
    assert evidence["reached"] == pytest.approx(peak)


@pytest.mark.parametrize("seed", SEEDS)
def test_restarted(seed: int) -> None:
    rng, plan, every = settings(seed)
    at = rng.randint(plan.steps // 4, plan.steps * 3 // 4)
    mechanism, evidence = named(restarted(plan.rate, at), plan, every)
    assert mechanism == "restarted"
    assert abs(evidence["at"] - at) < every or every > 1
    if every == 1:
        assert evidence["at"] == at


@pytest.mark.parametrize("seed", SEEDS)
def test_skipped(seed: int) -> None:
    rng, plan, every = settings(seed)
    lost = rng.sample(range(1, plan.steps // 2), rng.randint(1, 12))
    mechanism, evidence = named(skipping(plan.rate, lost), plan, every)
    assert (mechanism, evidence["skipped"]) == ("skipped", len(lost))


@pytest.mark.parametrize("seed", SEEDS)
def test_another_peak(seed: int) -> None:
    rng, plan, every = settings(seed)
    ratio = rng.choice([0.1, 0.5, 5.0, 20.0])
    mechanism, evidence = named(lambda s: ratio * plan.rate(s), plan, every)
    assert mechanism == "scaled"
    assert evidence["ratio"] == pytest.approx(ratio)


def test_the_log_that_began_it() -> None:
    """9,200 planned steps on 8 processes, 0 from step 1,151 on; a line every 10 steps."""
    plan = PlannedRates(rate=transformers_rate("linear", learning_rate=2e-4, warmup_steps=800, steps=9200), steps=9200, warmup_steps=800, world_size=8)
    mechanism, evidence = named(per_process(plan.rate, 8), plan, 10)
    assert (mechanism, evidence["planned_end"]) == ("per_process", 1151)


def test_what_cannot_be_named() -> None:
    rng, plan, _ = settings(3)
    assert diagnose([], plan).mechanism == "none"
    assert diagnose([(s, rng.random()) for s in range(1, 30)], plan).mechanism == "unknown"
    assert diagnose([(s, float("nan")) for s in range(1, 30)], plan).mechanism == "unknown"
    assert diagnose([(5, plan.rate(40))], plan).mechanism == "unknown", "one point fits many curves"


# -- while a run goes on: the first step off the plan is the only one that is seen -----------------


def stopped_at(curve: Rate, plan: PlannedRates, *, start: int = 1) -> Diagnosis | None:
    """What the first rate off the plan shows, as the watch would stop there; None: none is."""
    seen: list[tuple[int, float]] = []
    peak = max(plan.rate(s) for s in range(1, plan.steps + 1))
    for s in range(start, plan.steps + 1):
        seen.append((s, curve(s)))
        if abs(seen[-1][1] - plan.rate(s)) > 1e-6 * peak:
            return first_off(seen, plan, resumed_at=start)
    return None


def own_plan(seed: int) -> tuple[random.Random, PlannedRates]:
    """As RunPlan.lr_at: no step uses 0, and the rate beyond the end is that of the end."""
    rng = random.Random(seed)
    steps, warmup = rng.randint(40, 300), rng.randint(3, 9)
    after = transformers_rate(rng.choice(["linear", "cosine"]), learning_rate=1e-3, warmup_steps=0, steps=steps - warmup)
    return rng, PlannedRates(rate=lambda s: 1e-3 * s / (warmup + 1) if s <= warmup else after(min(s, steps + 1) - warmup), steps=steps, warmup_steps=warmup,
                             world_size=rng.choice([1, 2, 4, 8]))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_step_off_the_plan_names_the_mechanism(seed: int) -> None:
    rng, plan = own_plan(seed)
    k = plan.world_size if plan.world_size > 1 else rng.choice([2, 3, 4])
    found = stopped_at(per_process(plan.rate, k), plan)
    assert found is not None
    assert (found.mechanism, found.evidence["factor"], found.evidence["first_off"]) == ("per_process" if plan.world_size > 1 else "stepped_often", k, 2)
    found = stopped_at(without_decay(plan.rate, plan.warmup_steps), plan)
    assert found is not None
    assert found.mechanism == "no_decay"
    at = rng.randint(plan.warmup_steps + 3, plan.steps // 2)
    found = stopped_at(restarted(plan.rate, at), plan, start=at)
    assert found is not None
    assert (found.mechanism, found.evidence["at"], found.evidence["first_off"]) == ("restarted", at, at)
    lost = rng.randint(1, plan.warmup_steps - 1)
    found = stopped_at(skipping(plan.rate, [lost]), plan)
    assert found is not None
    assert (found.mechanism, found.evidence["first_off"]) == ("skipped", lost + 1)
    found = stopped_at(lambda s: 0.4 * plan.rate(s), plan)
    assert found is not None
    assert (found.mechanism, found.evidence["ratio"]) == ("scaled", pytest.approx(0.4))
    found = stopped_at(lambda s: 0.0 if s == 1 else plan.rate(s), plan)
    assert found is not None
    assert found.mechanism == "from_zero"
    assert stopped_at(plan.rate, plan) is None


def test_where_several_fit_all_are_named() -> None:
    """The step after the peak: standing still is a lost decay, or a step that was skipped."""
    plan = PlannedRates(rate=lambda s: 1e-3 * (1 - (s - 1) / 100), steps=100)
    found = first_off([(1, 1e-3), (2, 1e-3)], plan)
    assert (found.mechanism, found.also) == ("no_decay", ("skipped",))
    assert first_off([(1, float("nan"))], plan).mechanism == "unknown"
