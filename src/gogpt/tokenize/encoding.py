"""Segments -> Example: encoding as inference encodes, and the painting of trained tokens.

The prompt is encoded whole, as inference does. For a conversation of several answers the whole text is
encoded once, and every border at which an answer begins is proven: the ids before it equal the encoding of
the prompt alone, and no token holds characters of both sides. Where a border is not clean (an answer that
begins with a newline after ``assistant\\n``, a prompt that ends in a space), the ids are cut there on purpose
and every answer becomes an example of its own, because the ids that inference will see differ from turn to
turn. See TRAPS of joining: huggingface/trl#1623, lm-sys/FastChat#2389.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gogpt.records import TokenArray, paint
from gogpt.tokenize.backend import Spans
from gogpt.tokenize.plain import Hidden, PlainReader
from gogpt.tokenize.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gogpt.templates.template import Rendering

_START, _END = itemgetter(0), itemgetter(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One training sequence as ids. ``cut`` says that a border was not clean and was cut on purpose.

    ``answer_ends``: index after the last token of each trained answer, in order.
    """

    input_ids: TokenArray
    labels: TokenArray
    answer_ends: tuple[int, ...]
    cut: bool = False


class Reader(Protocol):
    """What encoding needs: a Tokenizer, or one that takes parts of the text as plain."""

    @property
    def added_ids(self) -> frozenset[int]: ...
    @property
    def bos_prefix(self) -> tuple[int, ...]: ...
    def ids(self, text: str) -> list[int]: ...
    def encode(self, text: str) -> Spans: ...
    def continuation(self, text: str, after: str) -> list[int]: ...
    def begun(self, token: int, text: str) -> list[int]: ...


def encode(rendering: Rendering, tokenizer: Tokenizer, *, plain: Hidden | None = None) -> tuple[Encoded, ...]:
    """Ids and labels of a rendering: one sequence, or one per answer where a border is not clean.

    ``plain``: what ``hide_special`` took out of the conversation that was rendered; it is encoded as plain text.
    Raises RowError where a tokenizer cannot do that.
    """
    reader: Reader = PlainReader(tokenizer, plain) if plain else tokenizer
    prefix = list(reader.bos_prefix) if rendering.add_bos else []
    text = rendering.text
    places = _trained_spans(rendering)
    if all(s.train for s in rendering.segments):
        # Everything is trained: there is no border between prompt and answer to keep.
        ids = prefix + reader.ids(text)
        return (Encoded(input_ids=np.asarray(ids, dtype=np.int32), labels=paint(ids, [True] * len(ids)),
                        answer_ends=(len(ids),)),)
    if places and not rendering.answers:
        # Everything but some stretches (a tool's results): a token that touches one is not trained.
        found = reader.encode(text)
        inside = [any(start <= a and b <= end for start, end in places) for a, b in found.spans]
        ids = prefix + found.ids
        return (Encoded(input_ids=np.asarray(ids, dtype=np.int32), labels=paint(ids, [True] * len(prefix) + inside),
                        answer_ends=(len(ids),)),)
    whole = reader.encode(text)
    bounds = _token_bounds(text, whole, places, reader)
    if bounds is not None:
        trained = np.zeros(len(prefix) + len(whole.ids), dtype=bool)
        for first, last in bounds:
            trained[len(prefix) + first : len(prefix) + last] = True
        all_ids = prefix + whole.ids
        return (Encoded(input_ids=np.asarray(all_ids, dtype=np.int32), labels=paint(all_ids, trained),
                        answer_ends=tuple(len(prefix) + last for _, last in bounds)),)
    return tuple(_cut(text, start, end, prefix, reader) for start, end in places)


def encode_prompt(rendering: Rendering, tokenizer: Tokenizer, *, plain: Hidden | None = None) -> list[int]:
    """Ids of a generation prompt, as training saw them before the answer."""
    reader: Reader = PlainReader(tokenizer, plain) if plain else tokenizer
    return (list(reader.bos_prefix) if rendering.add_bos else []) + reader.ids(rendering.text)


def _cut(text: str, start: int, end: int, prefix: list[int], reader: Reader) -> Encoded:
    """The answer at ``start`` as a sequence of its own: its prompt as inference encodes it, then the answer."""
    before = text[:start]
    prompt = reader.ids(before)
    said = text[start:end]
    if not prompt:
        answer = reader.ids(said)
    elif prompt[-1] in reader.added_ids:
        answer = reader.begun(prompt[-1], said)  # a stretch begins: no other text is continued
    else:
        answer = reader.continuation(said, before)
    ids = prefix + prompt + answer
    marks = [False] * (len(ids) - len(answer)) + [True] * len(answer)
    return Encoded(input_ids=np.asarray(ids, dtype=np.int32), labels=paint(ids, marks), answer_ends=(len(ids),), cut=True)


def _trained_spans(rendering: Rendering) -> list[tuple[int, int]]:
    places, at = [], 0
    for segment in rendering.segments:
        if segment.train:
            places.append((at, at + len(segment.text)))
        at += len(segment.text)
    return places


def _token_bounds(text: str, whole: Spans, places: Sequence[tuple[int, int]], reader: Reader) -> list[tuple[int, int]] | None:
    """First and end token index of each trained place, or None where a border is not clean."""
    ids, spans = whole
    added = reader.added_ids
    bounds = []
    done = 0
    for start, end in places:
        # The last added token before the answer: from there on its prompt is encoded apart.
        stretch = bisect_right(spans, start, done, key=_END)
        while stretch and ids[stretch - 1] not in added:
            stretch -= 1
        first = _end_of_prompt(text, start, whole, stretch, reader)
        if first is None or (first > stretch and spans[first - 1][1] > start):
            return None  # other ids than inference sends, or a token (an unknown word) that holds both sides
        last = bisect_left(spans, end, first, key=_START)
        if last > first and spans[last - 1][1] > end:
            return None  # a token holds the end of the answer and what follows it
        bounds.append((first, last))
        done = last
    return bounds


def _end_of_prompt(text: str, start: int, whole: Spans, stretch: int, reader: Reader) -> int | None:
    """Number of tokens before the answer at ``start``, if they are the encoding of ``text[:start]`` alone.

    Stretches between added tokens are encoded apart, so that it suffices to look at the last one (``stretch``: its
    first token); where that does not agree, the whole prompt decides.
    """
    ids = whole.ids
    local = reader.ids(text[whole.spans[stretch - 1][1] if stretch else 0 : start])
    if stretch and ids[stretch : stretch + len(local)] == local:
        return stretch + len(local)
    prompt = reader.ids(text[:start]) if stretch else local
    return len(prompt) if ids[: len(prompt)] == prompt else None
