"""Two forms of one tokenizer, compared: the first text on which they part, the token, and the cause."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gogpt.facts import TokenizerFacts
from gogpt.tokenize.backend import Backend
from gogpt.tokenize.fast import FastBackend
from gogpt.tokenize.load import MANY_EQUAL
from gogpt.tokenize.merging import merges_of
from gogpt.tokenize.probes import PROBES
from gogpt.tokenize.spm import BPE, SentencePieceBackend
from gogpt.tokenize.tokenizer import Tokenizer

NUM_SHOWN = 6
"""Tokens shown from the first that differs on."""

NUM_AROUND = 16
"""Characters shown before and after the place of the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``at``: index of the first id that differs; ``number``: how many of the texts differ."""

    text: str
    at: int
    ids: tuple[int, ...]
    other_ids: tuple[int, ...]
    number: int

    def __str__(self) -> str:
        shown = [list(i[self.at : self.at + NUM_SHOWN]) for i in (self.ids, self.other_ids)]
        return f"{self.text[:80]!r}: from token {self.at + 1} on {shown[0]} against {shown[1]}"


def first_difference(
    texts: Iterable[str], ours: Callable[[str], Sequence[int]], theirs: Callable[[str], Sequence[int]]
) -> Difference | None:
    """The first text that the two encode differently."""
    found: tuple[str, tuple[int, ...], tuple[int, ...]] | None = None
    number = 0
    for text in texts:
        a, b = tuple(ours(text)), tuple(theirs(text))
        if a != b:
            number += 1
            found = found or (text, a, b)
    if found is None:
        return None
    text, a, b = found
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return Difference(text=text, at=at, ids=a, other_ids=b, number=number)


def causes_of(exact: Backend, other: Mapping[str, Any]) -> tuple[str, ...]:
    """What in ``other`` (the content of a tokenizer.json) makes it encode otherwise than ``exact``."""
    if isinstance(exact, FastBackend):
        mine = exact.document()
        steps = [name for name in ("normalizer", "pre_tokenizer") if json.dumps(mine.get(name)) != json.dumps(other.get(name))]
        model, its = mine.get("model") or {}, other.get("model") or {}
        if model.get("vocab") != its.get("vocab"):
            steps.append("vocabulary")
        elif merges_of(model) != merges_of(its):
            steps.append("merge_order")
        return tuple(steps)
    out = []
    if isinstance(exact, SentencePieceBackend):
        text = json.dumps([other.get("normalizer"), other.get("pre_tokenizer")])
        score = {piece: s for piece, s, _ in exact.spec.pieces}
        if exact.spec.model_type == BPE:
            order = [score.get(a + b, 0.0) for a, b in merges_of(other.get("model") or {})]
            if any(later > earlier for earlier, later in itertools.pairwise(order)):
                out.append("merge_order")
            if exact.equal_scores >= MANY_EQUAL * exact.size:
                out.append("equal_scores")
        if exact.spec.dummy_prefix and '"Prepend"' not in text and '"Metaspace"' in text and not exact.spec.drops_space:
            out.append("leading_space")
        keeps_space = exact.spec.drops_space and not any(step in text for step in ('"WhitespaceSplit"', '"Strip"'))
        if keeps_space or (exact.spec.charsmap and '"Precompiled"' not in text):
            out.append("normalizer")
    elif "Regex" in json.dumps(other.get("pre_tokenizer") or {}):
        pattern = getattr(getattr(exact, "source", None), "pattern", "")
        if json.dumps(pattern, ensure_ascii=False) not in json.dumps(other["pre_tokenizer"], ensure_ascii=False):
            out.append("pre_tokenizer")
    return tuple(out)


def tokenizer_facts(tokenizer: Tokenizer, texts: Iterable[str] = ()) -> TokenizerFacts:
    """Compares the loaded form with the folder's other one, on fixed probes and on ``texts`` (of the user's data)."""
    backend, other = tokenizer.backend, tokenizer.other
    spm = next((b for b in (backend, other) if isinstance(b, SentencePieceBackend)), None)
    known: dict[str, Any] = {
        "file": backend.file.name, "library": backend.library, "size": tokenizer.size,
        "equal_scores": spm.equal_scores if spm else 0, "byte_pieces": spm.byte_pieces if spm else False,
    }
    if other is None:
        return TokenizerFacts(**known)
    all_texts = [*PROBES, *dict.fromkeys(t for t in texts if t)]
    known |= {"other_file": other.file.name, "compared": len(all_texts)}
    found = first_difference(all_texts, lambda t: backend.stretch(t).ids, lambda t: other.stretch(t).ids)
    if found is None:
        return TokenizerFacts(**known)
    fast = next(b for b in (backend, other) if isinstance(b, FastBackend))
    spans = backend.stretch(found.text).spans
    place = spans[found.at][0] if found.at < len(spans) else len(found.text)
    shown = slice(found.at, found.at + NUM_SHOWN)
    ids, other_ids = found.ids[shown], found.other_ids[shown]
    return TokenizerFacts(
        **known, different=found.number, text=found.text[max(0, place - NUM_AROUND) : place + NUM_AROUND], ids=ids, other_ids=other_ids,
        tokens=tuple(backend.token(i) or f"<{i}>" for i in ids), other_tokens=tuple(other.token(i) or f"<{i}>" for i in other_ids),
        causes=causes_of(other if fast is backend else backend, fast.document()),
    )


def stretches_of(tokenizer: Tokenizer, sequences: Iterable[Iterable[int]], *, most: int = 400) -> list[str]:
    """Texts between the added tokens of encoded sequences, as far as they can be read back."""
    out: list[str] = []
    for ids in sequences:
        held: list[int] = []
        for i in (*(int(n) for n in ids), -1):
            if i >= 0 and i not in tokenizer.added_ids:
                held.append(i)
                continue
            if held:
                out.append(tokenizer.decode(held))
                held = []
        if len(out) >= most:
            return out[:most]
    return out
