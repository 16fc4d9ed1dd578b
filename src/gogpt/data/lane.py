"""The fast lane: most conversations are plain, and many of them can be rendered, encoded and painted at once.

What the exact way (``examples.Preparer``) does for one conversation is done here for a block of them: the texts are put
together from the template's fixed parts, encoded in one call, and the trained stretches are found from the places of the
template's own added tokens among the ids. Every conversation on which that is not proven (another added token among its
ids than the template's, a border where the prompt alone has other ids, a row with anything unusual in it) goes the exact
way instead, so that both give the same examples; a test holds them to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.data.store import Ints
from gogpt.errors import RowError
from gogpt.records import Conversation, Message
from gogpt.templates import Template
from gogpt.templates.declared import DeclaredTemplate
from gogpt.templates.turns import Turns
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.backend import UNBOUNDED, Splitter
from gogpt.tokenize.engines import Engine

Shape = tuple[str, ...]
"""Who says each text: ``s`` system, ``u`` user, ``i`` the input of the instruction before it, ``a`` assistant; ``t`` a document."""

TEXT: Shape = ("t",)

MAX_TURNS = 64
"""Longer conversations go the exact way: every length is a plan of its own."""

_ROLE = {"s": "system", "u": "user", "a": "assistant", "t": "text"}


def shape_of(conversation: Conversation) -> tuple[Shape, list[str]] | None:
    """The shape and the contents of a conversation in which nothing is unusual; None for any other."""
    if conversation.tools:
        return None
    shape, contents = [], []
    for m in conversation.messages:
        if m.train is not None or m.reasoning is not None or m.tool_calls or m.role == "tool":
            return None
        shape.append(m.role[0])
        if m.input is None:
            contents.append(m.content)
        else:
            shape.append("i")
            contents += [m.instruction, m.input]
    return tuple(shape), contents


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where an answer lies among the added tokens of its text.

    ``before``: index of the last added token before it, -1 without one. ``stop``: index of the added token that ends it,
    -1 where the text does. ``local``: the text between ``before`` and the answer where it is always the same;
    ``parts``: otherwise what it is joined of, slices of the literals and the contents between them.
    """

    before: int
    stop: int
    local: str | None
    start: tuple[int, int] = (0, 0)
    """of ``parts``: literal and place in it, after the added token"""
    end: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How conversations of one shape are rendered: literals around the contents, the added tokens in them, the answers."""

    literals: tuple[str, ...]
    added: tuple[int, ...]
    answers: tuple[Answer, ...]

    def text(self, contents: Sequence[str]) -> str:
        pieces = [""] * (2 * len(contents) + 1)
        pieces[0::2] = self.literals
        pieces[1::2] = contents
        return "".join(pieces)

    def local(self, answer: Answer, contents: Sequence[str]) -> str:
        """The text between the last added token and the answer."""
        (i, at), (j, end) = answer.start, answer.end
        if i == j:
            return self.literals[i][at:end]
        pieces = [self.literals[i][at:]]
        for k in range(i, j):
            pieces.append(contents[k])
            pieces.append(self.literals[k + 1] if k + 1 < j else self.literals[j][:end])
        return "".join(pieces)


class Planner:
    """The plans of a template, made when a shape is first seen by rendering marks in the place of the contents."""

    def __init__(self, template: Template, tokenizer: Tokenizer, train_on: str) -> None:
        self._template, self._tokenizer, self._train_on = template, tokenizer, train_on
        self._plans: dict[Shape, Plan | None] = {}
        self._splitter = Splitter(tokenizer.backend.added)
        backend = tokenizer.backend
        # Whether ids alone prove what spans prove in the exact way: tokens that, joined, are the text itself.
        self._proves = backend.library == "tokenizers" and backend.max_token_chars < UNBOUNDED and not any(
            a.lstrip or a.rstrip for a in backend.added.values())
        form = template.form if isinstance(template, DeclaredTemplate) else None
        self._chats = isinstance(form, Turns) and not form.one_per_answer and train_on in ("assistant", "last")
        self._form = form if isinstance(form, Turns) else None
        self._stripped = self._form is not None and (self._form.strip_with_system or bool(self._form.strip))
        self._odd = tuple(m for m in template.control if tokenizer.id_of(m) not in tokenizer.added_ids)
        self._trailing = self._form is not None and bool(self._form.drop_trailing_spaces)
        self._blank_lines = self._form is not None and bool(self._form.join_blank_lines)

    def plain(self, contents: Sequence[str], said: str) -> bool:
        """Whether the form writes the contents as they stand. ``said``: all of them joined, stripped."""
        if self._odd and any(mark in said for mark in self._odd):
            return False  # the exact way counts what the text spells
        if self._stripped and any(c[:1].isspace() or c[-1:].isspace() for c in contents):
            return False
        if self._trailing and any(c[-1:] == " " for c in contents):
            return False
        return not (self._blank_lines and any("\n\n" in c or "\r\n" in c for c in contents))

    def of(self, shape: Shape) -> Plan | None:
        """The plan of a shape; None where it must go the exact way."""
        if shape not in self._plans:
            offered = self._proves and (shape == TEXT or (self._chats and len(shape) <= MAX_TURNS and "t" not in shape))
            self._plans[shape] = self._make(shape) if offered else None
        return self._plans[shape]

    def _make(self, shape: Shape) -> Plan | None:
        marks = [f"\ue000{i}\ue001" for i in range(len(shape))]
        messages: list[Message] = []
        for who, mark in zip(shape, marks, strict=True):
            if who == "i":
                asked = messages.pop().content
                messages.append(Message(role="user", content=f"{asked}\n{mark}", input=mark))
            else:
                messages.append(Message(role=_ROLE[who], content=mark))
        try:
            rendered = self._template.render(Conversation(messages=tuple(messages)), self._train_on)
        except RowError:
            return None
        if len(rendered) != 1:
            return None
        text = rendered[0].text
        literals = re.split("\ue000[0-9]+\ue001", text)
        if re.findall("\ue000[0-9]+\ue001", text) != marks or not all(s.train or i not in rendered[0].answers for i, s in enumerate(rendered[0].segments)):
            return None
        return self._answers(rendered[0], tuple(literals), marks)

    def _answers(self, rendering: Any, literals: tuple[str, ...], marks: Sequence[str]) -> Plan | None:
        starts = []  # of each literal in the text with marks
        at = 0
        for i, literal in enumerate(literals):
            starts.append(at)
            at += len(literal) + (len(marks[i]) if i < len(marks) else 0)
        found: list[tuple[int, int, int, int]] = []  # literal, start and end in it, id
        for i, literal in enumerate(literals):
            found += [(i, start, end, token) for start, end, token in self._splitter.split(literal) if token is not None]
        if any(_overlaps_itself(self._tokenizer.backend.added[token].text) for *_, token in found):
            return None

        def place(position: int) -> tuple[int, int] | None:
            for i, start in enumerate(starts):
                if start <= position <= start + len(literals[i]):
                    return i, position - start
            return None

        answers = []
        position = 0
        for segment in rendering.segments:
            begin, position = position, position + len(segment.text)
            if not segment.train:
                continue
            start, end = place(begin), place(position)
            if start is None or end is None:
                return None
            before = max((n for n, (i, _, stop, _) in enumerate(found) if (i, stop) <= start), default=-1)
            after = next((n for n, (i, _, stop, _) in enumerate(found) if (i, stop) == end), None)
            if after is None and position != len(rendering.text):
                return None  # a token could hold the end of the answer and what follows
            origin = (found[before][0], found[before][2]) if before >= 0 else (0, 0)
            same = origin[0] == start[0]
            answers.append(Answer(before=before, stop=-1 if after is None else after, start=origin, end=start,
                                  local=literals[origin[0]][origin[1]:start[1]] if same else None))
        return Plan(literals=literals, added=tuple(token for *_, token in found), answers=tuple(answers)) if answers else None


def _overlaps_itself(text: str) -> bool:
    """``aa`` after an ``a`` could be found one character early."""
    return any(text[:i] == text[-i:] for i in range(1, len(text)))


@dataclass(slots=True)
class Batch:
    """Texts waiting to be encoded, and what is known of them. ``owner`` is whatever the caller knows each by."""

    texts: list[str] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    locals: list[str] = field(default_factory=list)
    """of each answer in turn, the text between the last added token and it"""
    owners: list[int] = field(default_factory=list)

    def add(self, owner: int, plan: Plan, contents: Sequence[str]) -> None:
        self.texts.append(plan.text(contents))
        self.plans.append(plan)
        self.owners.append(owner)
        for answer in plan.answers:
            self.locals.append(answer.local if answer.local is not None else plan.local(answer, contents))


@dataclass(frozen=True, slots=True, kw_only=True)
class Painted:
    """What the fast lane made of a batch of N texts: ids and trained spans, and for which texts it is proven.

    ``spans`` ``[answers, 2]`` within the example; ``span_text``: the text of each; ``stopped``: whether its last token ends an answer.
    """

    ids: npt.NDArray[np.int32]
    offsets: Ints
    spans: Ints
    span_text: Ints
    stopped: npt.NDArray[np.bool_]
    proven: npt.NDArray[np.bool_]


class Painter:
    """Encodes batches and finds what is trained. ``prefix``: ids before every text (the tokenizer's own BOS)."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine, prefix: Sequence[int], stop_ids: Sequence[int]) -> None:
        self._engine = engine
        self._prefix = np.asarray(prefix, dtype=np.int32)
        self._is_added = np.zeros(tokenizer.size + 1, dtype=bool)
        self._is_added[list(tokenizer.added_ids)] = True
        self._stop_ids = np.asarray(stop_ids, dtype=np.int32)
        self._known: dict[str, npt.NDArray[np.int32]] = {}

    def paint(self, batch: Batch, check: Callable[[Sequence[str], tuple[npt.NDArray[np.int32], Ints]], None] | None = None) -> Painted:
        """``check`` is given a few texts and their ids, to compare with the reference."""
        local_ids, local_ends = self._locals(batch.locals)
        ids, offsets = self._engine.encode(batch.texts)
        if check is not None:
            check(batch.texts, (ids, offsets))
        places = np.flatnonzero(self._is_added[ids])
        first = np.searchsorted(places, offsets)  # of each text, its first added token
        proven = self._expected(batch.plans, ids[places], first)
        counts = np.asarray([len(p.answers) for p in batch.plans], dtype=np.int64)
        text = np.repeat(np.arange(counts.size), counts)
        before = np.fromiter((a.before for p in batch.plans for a in p.answers), dtype=np.int64, count=text.size)
        stop = np.fromiter((a.stop for p in batch.plans for a in p.answers), dtype=np.int64, count=text.size)
        usable = proven[text]
        last = max(0, places.size - 1)
        padded = places if places.size else np.zeros(1, dtype=np.int64)
        begin = np.where(before < 0, offsets[text], padded[np.minimum(first[text] + before, last)] + 1)
        end = np.where(stop < 0, offsets[text + 1], padded[np.minimum(first[text] + stop, last)] + 1)
        sizes = np.diff(local_ends)
        start = begin + sizes
        usable &= (start < end) & (start <= offsets[text + 1])
        usable &= _equal(ids, begin, local_ids, local_ends, usable)
        width = self._prefix.size
        start = np.maximum(start, offsets[text] + (0 if width else 1))  # nothing predicts the first token
        usable &= start < end
        proven &= np.bincount(text, weights=~usable, minlength=counts.size) == 0
        spans = np.stack([start, end], axis=1) - offsets[text][:, None] + width
        stopped = np.isin(ids[np.clip(end - 1, 0, max(0, ids.size - 1))], self._stop_ids) if ids.size else np.zeros(text.size, dtype=bool)
        if width:
            ids = np.insert(ids, np.repeat(offsets[:-1], width), np.tile(self._prefix, counts.size))
            offsets = offsets + width * np.arange(offsets.size)
        return Painted(ids=ids, offsets=offsets, spans=spans, span_text=text, stopped=stopped, proven=proven)

    def _locals(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], Ints]:
        """Ids of each text. Those seen before are known: mostly it is one and the same header."""
        if len(self._known) > 4096:
            self._known.clear()
        new = [t for t in dict.fromkeys(texts) if t not in self._known]
        if new:
            ids, ends = self._engine.encode(new)
            self._known.update({t: ids[ends[i]:ends[i + 1]] for i, t in enumerate(new)})
        parts = [self._known[t] for t in texts]
        ends = np.concatenate([[0], np.cumsum([p.size for p in parts])]).astype(np.int64)
        return (np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)), ends

    @staticmethod
    def _expected(plans: Sequence[Plan], found: npt.NDArray[np.int32], first: Ints) -> npt.NDArray[np.bool_]:
        """Which texts hold exactly the added tokens of their plans, in that order."""
        sizes = np.asarray([len(p.added) for p in plans], dtype=np.int64)
        same = np.diff(first) == sizes
        wanted = np.fromiter((i for p in plans for i in p.added), dtype=np.int32, count=int(sizes.sum()))
        text = np.repeat(np.arange(sizes.size), sizes)
        inside = np.arange(wanted.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        at = np.minimum(first[:-1][text] + inside, max(0, found.size - 1))
        wrong = (found[at] != wanted) if found.size else np.ones(wanted.size, dtype=bool)
        return np.asarray(same & (np.bincount(text, weights=wrong, minlength=sizes.size) == 0))


def _equal(ids: npt.NDArray[np.int32], begin: Ints, local: npt.NDArray[np.int32], ends: Ints, usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether ``ids`` from ``begin[i]`` on are ``local[ends[i]:ends[i+1]]``, where usable."""
    sizes = np.diff(ends)
    owner = np.repeat(np.arange(sizes.size), sizes)
    places = np.arange(local.size) - np.repeat(ends[:-1], sizes) + begin[owner]
    places = np.clip(places, 0, max(0, ids.size - 1))
    wrong = (ids[places] != local) & usable[owner] if ids.size else np.ones(local.size, dtype=bool)
    return np.asarray(np.bincount(owner, weights=wrong, minlength=sizes.size) == 0)
