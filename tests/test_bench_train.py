"""bench/train.py's own arithmetic and data: nothing is timed here, and no peer is needed."""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from training import operations, runs, sets, tables

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 3,
         "vocab_size": 100, "tie_word_embeddings": True}
SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "num_hidden_layers": 30,
           "vocab_size": 49152, "tie_word_embeddings": True}


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return sets.standard_text(0)._sentences[:2000]


# -- data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sets.KINDS, ids=lambda k: k.name)
def test_same_seed_same_set(kind: sets.SetKind, sentences: list[str]) -> None:
    made = sets.make(kind.name, kind.count, sets.Text(sentences))
    assert sets.make(kind.name, kind.count, sets.Text(sentences)) == made
    assert sets.make(kind.name, kind.count, sets.Text(sentences), seed=1) != made
    assert len(made) == kind.count
    for conversation in made:
        said = [m for m in conversation if m["role"] != "system"]
        assert [m["role"] for m in said] == ["user", "assistant"] * (len(said) // 2)
        assert all(m["content"].strip() == m["content"] != "" for m in conversation)


def test_sets_are_what_they_are_said_to_be(sentences: list[str]) -> None:
    def made(name: str) -> list[sets.Conversation]:
        return sets.make(name, sets.kind_of(name).count, sets.Text(sentences))

    assert all(len(c) == 2 for c in made("short"))
    assert {len(c) // 2 for c in made("multi")} <= {4, 5, 6, 7, 8}
    systems = {c[0]["content"] for c in made("sys")}
    assert len(systems) == 1
    assert 340 <= len(systems.pop()) / sets.CHARACTERS <= 355
    questions = [c[-2]["content"] for name in ("short", "sys") for c in made(name)]
    assert len(set(questions)) == len(questions)


def test_samples_are_the_beginnings_that_end_with_an_answer(sentences: list[str]) -> None:
    whole = sets.turns(sets.Text(sentences), 5, random.Random(0))
    samples = sets.samples_of(whole)
    assert [len(s) for s in samples] == [2, 4, 6, 8, 10]
    assert samples[-1] == whole
    assert all(s[-1]["role"] == "assistant" and s == whole[: len(s)] for s in samples)


@given(st.lists(st.text("abc ", min_size=3).map(str.strip).filter(lambda s: len(s) > 2), min_size=1), st.floats(1, 300))
def test_text_ends_at_a_word_and_is_not_too_long(parts: list[str], length: float) -> None:
    made = sets.Text(parts).of(length)
    assert 0 < len(made) <= max(length, 1)


# -- operations --------------------------------------------------------------------------------------


def test_shape_counts_what_transformers_and_peft_count() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = operations.shape_of(SMALL)
    model: Any = LlamaForCausalLM(LlamaConfig(**SMALL))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=operations.LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapter == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert operations.shape_of(SMOLLM2).parameters == 134_515_008


def test_operations_are_those_counted_by_hand() -> None:
    shape = operations.shape_of(SMALL)
    layer = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32 + 3 * 32 * 48
    full = operations.useful(shape, [3, 2], trained=4, method="full")
    assert full.body == 6 * 3 * layer * 5
    # 1 + 2 + 3 and 1 + 2 pairs; two products of 32 wide, 2 operations, forward and twice that backward, 3 layers.
    assert full.attention == 9 * 2 * 2 * 32 * 3 * 3
    assert full.head == 6 * 32 * 100 * 4
    lora = operations.useful(shape, [3, 2], trained=4, method="lora")
    assert lora.body == 4 * 3 * layer * 5 + 6 * shape.adapter * 5
    assert (lora.attention, lora.head) == (full.attention, 4 * 32 * 100 * 4)
    assert full.of_computed(5, 5) == full.total
    assert full.of_computed(2, 5) == pytest.approx((full.body + full.attention) * 0.4 + full.head)


def test_forward_operations_are_those_that_torch_counts() -> None:
    """A third of a step's operations are the forward pass; torch's counter does not know that attention is causal."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    lengths = [7, 1, 30]
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(LlamaConfig(**{**SMALL, "attn_implementation": "eager"}))
    shape = operations.shape_of(SMALL)
    counted = 0
    for n in lengths:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            # Positions and mask are given: what transformers would look at has no values here.
            model(input_ids=torch.zeros(1, n, dtype=torch.long, device="meta"), position_ids=torch.arange(n, device="meta")[None],
                  attention_mask=torch.zeros(1, 1, n, n, device="meta"), use_cache=False)
        counted += counter.get_total_flops()
    mine = operations.useful(shape, lengths, trained=sum(lengths), method="full")
    whole_attention = sum(n * n for n in lengths) * 2 * 2 * 32 * 3
    assert counted == (mine.body + mine.head) / 3 + whole_attention


def test_standing_bytes() -> None:
    shape = operations.shape_of(SMOLLM2)
    assert operations.standing_bytes(shape, "full") == 134_515_008 * 16
    assert operations.standing_bytes(shape, "lora") == 134_515_008 * 4 + 4_884_480 * 16


# -- honesty, ratios, tables -------------------------------------------------------------------------

DATA = runs.TrainSet(name="short", template="alpaca", file=Path("x"), ids=Path("y"), lengths=(30, 20), trained=25, checksum=99)
RATE = runs.Rates(layer=1e11, large=2e11)


def a_run(who: str, setting: str, *, seconds: float, losses: tuple[float, ...] = (3.0, 2.5), peak: int = 4 * 10**9, **more: Any) -> runs.TrainRun:
    values: dict[str, Any] = {
        "set_name": "short", "method": "full", "who": who, "setting": setting, "default": setting == "default", "warmup": 1, "losses": losses,
        "grad_norms": (1.0, 0.5), "seconds": (9.0, seconds), "tokens": 50, "computed": (50, 50), "trained": (25, 25), "checksum": 99, "peak": peak,
        "process_peak": peak, "floor": 10**9, "process_seconds": 20.0, "rates": (RATE, RATE), **more}
    return runs.TrainRun(**values)


def rows(*made: runs.TrainRun) -> list[tables.TrainRow]:
    return tables.rows_of(made, {"short": DATA}, operations.shape_of(SMALL))


def test_ratios_are_against_the_fastest_and_the_defaults() -> None:
    found = rows(a_run("GoGPT", "default", seconds=1.0, peak=2 * 10**9), a_run("TRL", "default", seconds=4.0), a_run("LLaMA-Factory", "default", seconds=3.0),
                 a_run("TRL", "best", seconds=2.0, peak=3 * 10**9))
    said = tables.summary(found)
    assert said["best_peer"] == "TRL, best"
    assert (said["over_best"], said["over_default_TRL"], said["over_default_LLaMA-Factory"]) == (2.0, 4.0, 3.0)
    standing = 10**9 + operations.standing_bytes(operations.shape_of(SMALL), "full")
    assert said["memory_over_leanest"] == pytest.approx((2 * 10**9 - standing) / (3 * 10**9 - standing))
    assert "2.00 times as many tokens/s" in tables.summary_line("short", "full", said)
    assert len(tables.table(found).splitlines()) == 2 + 4


def test_the_warm_up_is_not_measured_and_repeats_come_together() -> None:
    row, = rows(a_run("GoGPT", "default", seconds=1.0), a_run("GoGPT", "default", seconds=3.0))
    assert (row.steps, row.seconds, row.seconds_min, row.seconds_max) == (2, 2.0, 1.0, 3.0)
    assert row.trained_per_second == 12.5
    assert row.useful_fraction == pytest.approx(row.useful_operations / 2.0 / 1e11)


@pytest.mark.parametrize(("change", "told"), [
    ({"losses": (3.0, 2.51)}, "another gradient"), ({"trained": (25, 24)}, "trains 24 tokens"), ({"checksum": 98}, "other tokens")])
def test_who_is_not_honest_is_named_and_in_no_ratio(change: dict[str, Any], told: str) -> None:
    found = rows(a_run("GoGPT", "default", seconds=1.0), a_run("TRL", "best", seconds=2.0), a_run("LLaMA-Factory", "neat packing", seconds=0.5, **change))
    assert [r.honest for r in found] == [True, True, False]
    line, = tables.problem_lines(found)
    assert "LLaMA-Factory, neat packing" in line
    assert told in line
    assert tables.summary(found)["best_peer"] == "TRL, best"
    mine = rows(a_run("GoGPT", "default", seconds=1.0, **change), a_run("TRL", "best", seconds=2.0))
    assert not tables.summary(mine), "GoGPT itself is held to the same"


def test_losses_within_the_tolerance_agree() -> None:
    found = rows(a_run("GoGPT", "default", seconds=1.0, losses=(3.0, 2.5 * (1 + 0.9e-3))), a_run("TRL", "best", seconds=2.0))
    assert [r.honest for r in found] == [True, True]
    assert found[0].off == pytest.approx(0.9e-3)


def test_fewer_steps_of_a_peer_are_compared_as_far_as_they_go() -> None:
    assert operations.is_close([3.0, 2.5], [3.0, 2.5, 9.9]) == 0.0


# -- runs --------------------------------------------------------------------------------------------


def test_steps_are_timed_by_the_lines_that_appear(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    tail = runs.Tail(file)
    with tail.watching():
        for _ in range(3):
            with file.open("a") as out:
                out.write("{}\n")
            time.sleep(0.1)
    assert len(tail.times) == 3
    first, second, third = runs.seconds_of([0.5, 0.1, 0.1], tail.times)
    assert first == 0.5
    assert 0.05 < second < 0.5
    assert 0.05 < third < 0.5


def test_a_recipe_of_the_benchmark_is_a_recipe(tmp_path: Path) -> None:
    from gogpt.config import load_recipe

    task = runs.Task(model=tmp_path, shape=operations.shape_of(SMALL), threads=1, steps=2, warmup=1, most_seconds=1.0, rates={"full": 1e-5, "lora": 1e-4},
                     gogpt=(), overrides=(), adapter=tmp_path, cache=tmp_path, scratch=tmp_path)
    for method in ("full", "lora"):
        file = tmp_path / f"{method}.yaml"
        file.write_text(json.dumps(runs.recipe_of(replace(DATA, file=tmp_path / "x.jsonl"), method, task, tmp_path, short_rows=True)))
        config = load_recipe(file)
        assert (config.method.kind, config.train.max_steps, config.data.max_length, config.train.warmup) == (method, 3, 30, 0)
        assert config.checks.proofs


def test_only_names_contenders_or_one_of_their_settings() -> None:
    import train

    everyone = train.chosen(None)
    assert not [t for t in everyone if t.asked]
    assert {t.who for t in everyone} == {"GoGPT", "TRL", "LLaMA-Factory"}
    assert train.chosen(["trl"]) == [t for t in everyone if t.who == "TRL"]
    assert [t.name for t in train.chosen(["LLaMA-Factory/packing"])] == ["LLaMA-Factory, packing"]
    with pytest.raises(SystemExit, match="unsloth"):
        train.chosen(["unsloth"])
