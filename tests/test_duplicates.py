"""Duplicates, exact and near: against brute force, against the true Jaccard similarity, in any order and any process."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rensa", reason="the extra clean is not installed")

from gogpt.data.duplicates import (
    NUM_CHARS,
    RECALL,
    agreement,
    bands,
    compared_text,
    exact_duplicates,
    leaks,
    near_duplicates,
    near_leaks,
    signatures,
)
from gogpt.errors import GogptError
from gogpt.records import Conversation, Message

TEXTS = st.lists(st.text(st.sampled_from("abcdef 你好世界，\n"), max_size=40), max_size=12)
KEYS = st.lists(st.integers(-3, 3), max_size=20)


def grams(text: str) -> set[str]:
    text = " ".join(text.lower().split())
    return {text[i : i + NUM_CHARS] for i in range(len(text) - NUM_CHARS + 1)} or {text}


def jaccard(a: str, b: str) -> float:
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


@given(KEYS)
def test_exact_duplicates_are_the_first_equal_ones(keys: list[int]) -> None:
    expected = [keys.index(k) if keys.index(k) < i else -1 for i, k in enumerate(keys)]
    assert exact_duplicates(np.array(keys, dtype=np.int64)).tolist() == expected


@given(KEYS, KEYS)
def test_leaks_are_the_first_equal_evaluation_items(train: list[int], held: list[int]) -> None:
    expected = [held.index(k) if k in held else -1 for k in train]
    assert leaks(np.array(train, dtype=np.int64), np.array(held, dtype=np.int64)).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_equal_texts_are_near_duplicates(texts: list[str]) -> None:
    plain = [" ".join(t.lower().split()) for t in texts]
    found = near_duplicates(signatures(texts), 0.99)
    for i, text in enumerate(plain):
        assert (found[i] >= 0) or text not in plain[:i]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([0.3, 0.5, 0.8, 0.95]), st.randoms(use_true_random=False))
def test_what_goes_is_alike_to_what_stays_in_any_order(texts: list[str], similarity: float, random: Any) -> None:
    for _ in range(2):
        made = signatures(texts)
        found = near_duplicates(made, similarity)
        for i, j in enumerate(found):
            assert j == -1 or (j < i and found[j] == -1 and agreement(made[i], made[j]) >= similarity)
        kept = np.flatnonzero(found < 0)
        assert (near_duplicates(made[kept], similarity) == -1).all(), "what is kept holds no duplicates any more"
        random.shuffle(texts)


def test_disjoint_groups_keep_one_of_each_in_any_order() -> None:
    base = ["the quick brown fox jumps over the lazy dog " * 4, "一只敏捷的棕色狐狸跳过了懒惰的狗" * 6, "1234567890 " * 9]
    texts = [b + tail for b in base for tail in ("", "!", " ?")]
    group = [i for i in range(3) for _ in range(3)]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(texts))
        found = near_duplicates(signatures([texts[i] for i in order]), 0.8)
        assert sorted(group[order[i]] for i in np.flatnonzero(found < 0)) == [0, 1, 2]
        assert all(group[order[i]] == group[order[j]] for i, j in enumerate(found) if j >= 0)


def test_a_chain_keeps_what_is_alike_to_nothing_kept() -> None:
    words = [f"{i:05d}" for i in range(60)]
    a, b, c = ("".join(words[at : at + 40]) for at in (0, 4, 8))
    made = signatures([a, b, c])
    between = [float(agreement(made[i], made[j])) for i, j in ((0, 1), (1, 2), (0, 2))]
    similarity = (min(between[:2]) + between[2]) / 2
    assert min(between[:2]) > similarity > between[2]
    assert near_duplicates(made, similarity).tolist() == [-1, 0, -1]
    assert near_duplicates(made[[1, 0, 2]], similarity).tolist() == [-1, 0, 0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["abcdefghijklmnopqrstuvwxyz ", "的一是不了在人有我他这中大来上国"]))
def test_the_estimate_is_within_its_standard_error(seed: int, letters: str) -> None:
    rng = np.random.default_rng(seed)
    errors, variances = [], []
    texts = []
    for _ in range(100):
        text = "".join(rng.choice(list(letters), size=300))
        cut = int(rng.integers(10, 290))
        texts.append((text, text[:cut] + "".join(rng.choice(list(letters), size=300 - cut))))
    a, b = signatures([x for x, _ in texts]), signatures([y for _, y in texts])
    for estimate, (x, y) in zip(agreement(a, b), texts, strict=True):
        true = jaccard(x, y)
        errors.append(estimate - true)
        variances.append(true * (1 - true) / a.shape[1])
    assert abs(np.mean(errors)) < 4 * np.sqrt(np.mean(variances) / len(errors))
    assert np.sqrt(np.mean(np.square(errors))) < 1.3 * np.sqrt(np.mean(variances))


def test_pairs_well_over_the_similarity_are_found() -> None:
    """One letter changed in every other text: brute force over all pairs, and the bands miss none."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(200):
        text = list("".join(rng.choice(list("abcdefghijklmnop "), size=400)))
        texts.append("".join(text))
        text[int(rng.integers(400))] = "z"
        texts.append("".join(text))
    found = near_duplicates(signatures(texts), 0.8)
    assert found.tolist() == [-1 if i % 2 == 0 else i - 1 for i in range(400)]


@pytest.mark.parametrize("similarity", [0.05, 0.2, 0.5, 0.7, 0.8, 0.9, 0.99, 0.999])
def test_bands_find_pairs_at_the_similarity(similarity: float) -> None:
    count, rows = bands(similarity)
    assert 1 - (1 - similarity**rows) ** count >= RECALL
    assert count * rows <= 128


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.5, 0.8]))
def test_near_leaks_against_brute_force(train: list[str], held: list[str], similarity: float) -> None:
    a, b = signatures(train), signatures(held)
    found = near_leaks(a, b, similarity)
    assert found.shape == (len(train),)
    for i, j in enumerate(found):
        alike = [k for k in range(len(held)) if agreement(a[i], b[k]) >= similarity]
        assert j == -1 or j in alike
        if any((a[i] == b[k]).all() for k in range(len(held))):
            assert j >= 0


def test_no_items() -> None:
    none = signatures([])
    assert none.shape == (0, 128)
    assert near_duplicates(none, 0.8).shape == near_leaks(none, none, 0.8).shape == (0,)
    assert near_leaks(signatures(["a"]), none, 0.8).tolist() == [-1]
    assert exact_duplicates(np.zeros(0, dtype=np.int64)).shape == (0,)
    assert leaks(np.array([1]), np.zeros(0, dtype=np.int64)).tolist() == [-1]


def test_a_block_is_the_same_in_any_company_and_any_process() -> None:
    texts = ["short", "", "  The  Same\nTEXT as  the next", "the same text as the next", "北京是中国的首都。", "\ud800 lone surrogate", "😀" * 9]
    whole = signatures(texts)
    assert np.array_equal(whole, np.concatenate([signatures([t]) for t in texts]))
    assert np.array_equal(whole[2], whole[3])
    code = f"from gogpt.data.duplicates import signatures; print(signatures({texts[:5]!r}).tolist())"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7", **_environment()})
    assert made.stdout.strip() == str(whole[:5].tolist())


def _environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if k != "PYTHONHASHSEED"}


def test_system_messages_are_not_compared() -> None:
    system = Message(role="system", content="A long system prompt that all conversations share. " * 50)
    a, b = (Conversation(messages=(system, Message(role="user", content=q), Message(role="assistant", content=r)))
            for q, r in (("Name a colour of the rainbow.", "Indigo is one."), ("哪个城市是首都？", "北京是中国的首都。")))
    assert compared_text(a) == "user Name a colour of the rainbow.\nassistant Indigo is one."
    assert (near_duplicates(signatures([compared_text(a), compared_text(b)]), 0.5) == -1).all()


def test_without_rensa_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "rensa":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GogptError) as caught:
        signatures(["a"])
    assert caught.value.code == "ENV111"
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize("similarity", [0.0, 1.0, -1.0, float("nan")])
def test_similarity_out_of_range(similarity: float) -> None:
    with pytest.raises(GogptError, match="out of range") as caught:
        near_duplicates(signatures(["a"]), similarity)
    assert caught.value.code == "CFG202"
