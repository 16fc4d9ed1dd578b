"""Shared prefixes: a forest is its examples, and its gradient is theirs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gogpt.adapters import add_method
from gogpt.attention import attend_by_document, explicit_mask
from gogpt.batches import collate_forests
from gogpt.config import MethodConfig
from gogpt.records import IGNORE_INDEX, Example, Origin
from gogpt.trees import Forest, StepShape, grow, lay_out, plant, step_groups
from invariants.test_attention import SMALL, TAKE_IT, assert_same, build, gradients, tensors

IDS = st.lists(st.integers(3, 6), min_size=1, max_size=12)
"""Few ids, so that many examples begin alike."""


@st.composite
def families(draw: Any) -> list[Example]:
    """Examples of a few common beginnings, some of them the same, some the beginning of others."""
    heads = draw(st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=30), min_size=1, max_size=3))
    out = []
    for row in range(draw(st.integers(1, 9))):
        head = draw(st.sampled_from(heads))
        ids = np.asarray([*head[: draw(st.integers(1, len(head)))], *draw(IDS)], dtype=np.int32)
        trained = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        labels = np.where(trained, ids, IGNORE_INDEX).astype(np.int32)
        labels[0] = IGNORE_INDEX
        out.append(Example(input_ids=ids, labels=labels, origin=Origin(path="x", row=row + 1)))
    return out


def said_by_forest(forest: Forest) -> Counter[tuple[tuple[int, ...], int]]:
    """(the ids that a trained position sees, what it predicts), as often as it weighs."""
    place = np.arange(forest.computed)
    out: Counter[tuple[tuple[int, ...], int]] = Counter()
    for at, target, weight in zip(forest.at, forest.targets, forest.weights, strict=True):
        seen = np.flatnonzero((place <= at) & (at < forest.ends))
        assert forest.position_ids[seen].tolist() == list(range(len(seen)))
        out[tuple(forest.input_ids[seen].tolist()), int(target)] += int(weight)
    return out


def said_by_examples(examples: list[Example]) -> Counter[tuple[tuple[int, ...], int]]:
    out: Counter[tuple[tuple[int, ...], int]] = Counter()
    for e in examples:
        for t in np.flatnonzero(e.labels[1:] != IGNORE_INDEX):
            out[tuple(e.input_ids[: t + 1].tolist()), int(e.labels[t + 1])] += 1
    return out


@settings(deadline=None, max_examples=150)
@given(families(), st.sampled_from([None, 1, 2, 5, 16]))
def test_a_forest_says_what_its_examples_say(examples, least):
    forest = plant(examples, least=least)
    assert said_by_forest(forest) == said_by_examples(examples)
    assert forest.trained == sum(e.num_trained for e in examples)
    assert forest.tokens == sum(e.num_tokens for e in examples)
    assert forest.computed <= forest.tokens
    if least is None:
        assert forest.computed == forest.tokens
    if least == 1:  # as few tokens as there are different beginnings
        assert forest.computed == len({tuple(e.input_ids[: t + 1].tolist()) for e in examples for t in range(e.num_tokens)})


@settings(deadline=None, max_examples=150)
@given(families(), st.sampled_from([None, 1, 5]), st.integers(30, 120), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_a_step_is_laid_out_whole(examples, least, capacity, turns, processes, spread):
    """Every example is in one micro-batch, none is too large, there are no more than there may be, and as many for each process."""
    most = turns * processes
    found = lay_out([e.input_ids for e in examples], capacity=capacity, most=most, unit=processes, quadratic=40.0, least=least, spread=spread)
    if found is None:
        return
    assert len(found) <= most
    assert len(found) % processes == 0
    assert not spread or len(found) == most
    assert sorted(i for m in range(len(found)) for i in found.members(m)[0]) == list(range(len(examples)))
    forests = [grow([examples[i] for i in members], shared) for members, shared in map(found.members, range(len(found)))]
    assert all(f.computed <= capacity for f in forests)
    assert sum(f.computed for f in forests) == found.computed
    assert sum((said_by_forest(f) for f in forests), Counter()) == said_by_examples(examples)


def test_equal_work_for_all():
    """Without anything to share: 24 documents over 3 processes, none of which has more than an example's work too much."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 1000, n).astype(np.int32) for n in rng.integers(20, 120, 24)]
    found = lay_out(ids, capacity=10_000, most=3, unit=3, quadratic=500.0)
    assert found is not None
    work = [sum(ids[i].size + ids[i].size ** 2 / 1000 for i in found.members(m)[0]) for m in range(3)]
    assert max(work) - min(work) < 120 + 120**2 / 1000


def test_where_a_whole_layout_does_not_fit_the_rows_stay():
    """Rows that only best fit fills: [60, 40], [60, 40] in rows of 100; in turn 60, 40, 60, 40 fit as well, but 60, 60, 40, 40 do not."""
    rng = np.random.default_rng(0)
    examples = {i: Example(input_ids=rng.integers(3, 1000, n).astype(np.int32), labels=np.full(n, IGNORE_INDEX, dtype=np.int32), origin=Origin(path="x", row=1))
                for i, n in enumerate([60, 60, 40, 40])}
    groups = step_groups([(0, 2), (1, 3)], examples, StepShape(turns=2, rows=1, capacity=100))
    assert sorted(sorted(members) for members, _ in groups) == [[0, 2], [1, 3]]


def family(seed: int = 0, vocab: int = 64) -> list[Example]:
    """A system text of 20 tokens under 5 questions, one of them with three answers and one twice; a conversation and its first half; a stranger."""
    rng = np.random.default_rng(seed)

    def ids(n: int) -> list[int]:
        return rng.integers(3, vocab, n).tolist()

    system, asked, chat = ids(20), ids(18), ids(17)
    rows = [system + ids(n) for n in (5, 9, 3)] + [system + asked + ids(n) for n in (4, 4, 6)] + [chat + ids(17), ids(11)]
    rows += [rows[0], rows[6][:17]]
    out = []
    for k, row in enumerate(rows):
        whole = np.asarray(row, dtype=np.int32)
        labels = whole.copy()
        labels[: len(row) // 2] = IGNORE_INDEX
        labels[0] = IGNORE_INDEX
        out.append(Example(input_ids=whole, labels=labels, origin=Origin(path="x", row=k + 1)))
    return out


def shared_batch(examples: list[Example]) -> dict[str, Any]:
    forest = plant(examples)
    assert forest.computed < 0.75 * forest.tokens
    return collate_forests([forest, plant(examples[:3])], 0)


def apart(examples: list[Example]) -> list[dict[str, Any]]:
    return [tensors([[e]]) for e in (*examples, *examples[:3])]


@pytest.mark.parametrize("name", TAKE_IT)
@pytest.mark.parametrize("attention", ["auto", "sdpa"])
def test_the_gradient_is_that_of_the_examples_apart(name, attention):
    """The architectures that take it, by stretches and under the explicit mask, two rows of different length: loss and every gradient."""
    model = build(name, TAKE_IT[name]).train()
    expected = gradients(model, apart(family()))
    attend_by_document(model, attention, torch.device("cpu"))
    assert_same(expected, gradients(model, [shared_batch(family())]))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("chunk", [1 << 28, 64 * 4 * 7])
def test_lora_and_chunks_and_checkpointing(tmp_path, checkpointing, chunk, monkeypatch):
    monkeypatch.setattr("gogpt.loss.CHUNK_BYTES", chunk)
    model: Any = build("Llama", SMALL)
    model.save_pretrained(tmp_path)
    attend_by_document(model, "auto", torch.device("cpu"))
    model = add_method(model, MethodConfig(kind="lora", rank=4, dropout=0.0), tmp_path).train()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(gradients(model, apart(family())), gradients(model, [shared_batch(family())]))


@settings(deadline=None, max_examples=25)
@given(families(), st.sampled_from([1, 4]))
def test_any_family_has_the_gradient_of_its_examples(examples, least):
    model = llama()
    shared = gradients(model, [collate_forests([plant(examples, least=least)], 0)]) if any(e.num_trained for e in examples) else None
    if shared is not None:
        assert_same(gradients(model, [tensors([[e]]) for e in examples]), shared)


_LLAMA: list[Any] = []


def llama() -> Any:
    if not _LLAMA:
        _LLAMA.append(build("Llama", SMALL).train())
        attend_by_document(_LLAMA[0], "auto", torch.device("cpu"))
    return _LLAMA[0]


def test_n_samples_of_a_conversation_are_one_pass():
    """An n-turn conversation with every answer in the loss, and its n samples, each with its last answer only: the same gradient from the same tokens."""
    rng = np.random.default_rng(0)
    turns = [(rng.integers(3, 64, 9).tolist(), rng.integers(3, 64, 8).tolist()) for _ in range(8)]
    whole: list[int] = []
    labels: list[int] = []
    samples = []
    for question, answer in turns:
        last = np.asarray([IGNORE_INDEX] * (len(whole) + len(question)) + answer, dtype=np.int32)
        whole, labels = whole + question + answer, labels + [IGNORE_INDEX] * len(question) + answer
        samples.append(Example(input_ids=np.asarray(whole, dtype=np.int32), labels=last, origin=Origin(path="x", row=len(samples) + 1)))
    once = Example(input_ids=np.asarray(whole, dtype=np.int32), labels=np.asarray(labels, dtype=np.int32), origin=Origin(path="x", row=0))
    forest = plant(samples)
    assert forest.computed == once.num_tokens
    assert forest.tokens == sum(s.num_tokens for s in samples)
    assert_same(gradients(llama(), [tensors([[once]])]), gradients(llama(), [collate_forests([forest], 0)]))


def test_the_mask_by_ends_is_who_sees_whom():
    """Against the ancestors, written out."""
    forest = plant(family())
    allowed = explicit_mask(torch.from_numpy(forest.ends)[None], torch.float32)[0, 0] == 0
    parent = np.full(forest.computed, -1)
    stack: list[int] = []
    for t in range(forest.computed):
        while stack and forest.ends[stack[-1]] <= t:
            stack.pop()
        parent[t] = stack[-1] if stack else -1
        stack.append(t)
    for t in range(forest.computed):
        seen, at = set(), t
        while at >= 0:
            seen.add(at)
            at = int(parent[at])
        assert set(np.flatnonzero(allowed[t].numpy()).tolist()) == seen
