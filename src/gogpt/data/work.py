"""A stretch of one source -> a block of examples: what one process does by itself, again and again.

Nothing here depends on other stretches, on their order, or on how many processes work: the same stretch gives the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from gogpt.config import DataConfig
from gogpt.data.clean import Cleaner
from gogpt.data.duplicates import compared_text, signatures
from gogpt.data.examples import Counts, Preparer, content_text, key_of
from gogpt.data.json_rows import read_lines
from gogpt.data.lane import TEXT, Batch, Painter, Plan, Planner, Shape, shape_of
from gogpt.data.languages import CODES
from gogpt.data.ledger import Ledger
from gogpt.data.read import conversations_of
from gogpt.data.schemas.schema import Row, Schema
from gogpt.data.sources import Row as SourceRow
from gogpt.data.store import NO_LANGUAGE, Block, BlockBuilder, join
from gogpt.errors import RowError
from gogpt.facts import NUM_FIRST
from gogpt.records import Conversation, Origin
from gogpt.templates import Template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.engines import Engine, Reference, audit

NUM_SAMPLED = 64
"""Conversations that are kept whole, to be shown."""
NUM_AUDITED = 3
"""Texts of every block whose ids are compared with the reference's, where another library encodes."""



@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What a block is made of: bytes of a file of JSON lines (``[start, end)``, whole lines), or rows that were read already.

    ``number``: of the block; ``file``: of the path among the files of the set; ``row``: rows of the file before it, ``num_rows`` in it;
    ``schema``: as ``schemas_named`` knows it; ``forced``: the user named the schema.
    """

    number: int
    source: int
    file: int
    shown: str
    schema: Schema
    forced: bool
    path: str = ""
    start: int = 0
    end: int = 0
    row: int = 0
    num_rows: int = 0
    rows: tuple[SourceRow, ...] | None = None


@dataclass(slots=True)
class Made:
    """What became of a stretch."""

    block: Block
    ledger: Ledger
    counts: Counts
    numbered: int
    """conversations that were read, kept or not"""
    sampled: list[tuple[int, int, dict[str, Any]]]
    """(rank, number of the conversation, what to show), the lowest ranks of this stretch"""
    reports: dict[str, list[Any]] = field(default_factory=dict)
    signatures: Any = None
    """MinHash signature of each conversation of the block, by number; None where nobody asked"""

    def document(self) -> dict[str, Any]:
        """All but the examples and the rejects, as JSON."""
        ledger = self.ledger
        return {"numbered": self.numbered, "counts": self.counts.to_dict(), "sampled": self.sampled, "reports": self.reports,
                "ledger": {"rows_in": ledger.rows_in, "conversations": ledger.conversations, "drops": dict(ledger.drops),
                           "first": ledger.first, "notes": ledger.notes}}


class Worker:
    """Makes blocks under one policy. ``engine`` encodes; ``seed`` draws the sample."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, template: Template, engine: Engine, seed: int) -> None:
        self.cleaner = Cleaner(config.clean, tell_language=bool(config.mix.languages))
        self.names = self.cleaner.names_alone
        self.cleans = self.cleaner.needs_text and self.names is None
        self.signs = "near" in (config.clean.duplicates, config.clean.leakage)
        self.preparer = Preparer(config, tokenizer, template)
        self.planner = Planner(template, tokenizer, config.train_on)
        prefix = tokenizer.bos_prefix if self._adds_bos(template) else ()
        self.painters = {True: Painter(tokenizer, engine, prefix, self.preparer.stop_ids),
                          False: Painter(tokenizer, engine, tokenizer.bos_prefix, self.preparer.stop_ids)}
        self._engine, self._reference = engine, Reference(tokenizer)
        self._audits = engine.name != self._reference.name
        self.seed = seed

    @staticmethod
    def _adds_bos(template: Template) -> bool:
        return not getattr(template, "bos_in_text", True)

    def make(self, stretch: Stretch) -> Made:
        """Raises GogptError TOK409 (overlong: error), EngineDiffers."""
        job = _Job(self, stretch)
        job.read()
        return job.finish()

    def check(self, texts: Sequence[str], flat: Any) -> None:
        """Compare a few of ``texts`` with the reference, where another library encoded them."""
        if not self._audits or not texts:
            return
        ids, ends = flat
        for i in sorted({round(k * (len(texts) - 1) / max(1, NUM_AUDITED - 1)) for k in range(NUM_AUDITED)}):
            audit(self._engine, self._reference, [texts[i]], (ids[ends[i]:ends[i + 1]], np.asarray([0, ends[i + 1] - ends[i]])))


class _Job:
    """One stretch on its way to a block."""

    def __init__(self, worker: Worker, stretch: Stretch) -> None:
        self._worker, self._stretch = worker, stretch
        self.ledger = Ledger()
        self.preparer = worker.preparer
        self.preparer.counts = Counts()
        self.batches = {True: Batch(), False: Batch()}  # chats, and documents
        self.rows: list[int] = []  # of each conversation: its row ...
        self.keys: list[int] = []  # ... its key ...
        self.held: list[Conversation | dict[str, Any]] = []  # ... and itself, or the row that it is made of
        self.languages: list[int] = []  # ... its language, where anybody asked ...
        self.odd: list[int] = []  # numbers of those that go the exact way
        self.reports: dict[str, list[Any]] = {}
        # Where names alone are looked for: what answers say, for each conversation how many texts there are up to its own, and system messages.
        self.said: list[str] = []
        self.sayers: list[int] = []
        self.told: list[tuple[int, str]] = []
        self._light = None if worker.cleans else _LIGHT.get(stretch.schema.name)

    # -- reading -----------------------------------------------------------------------------------

    def read(self) -> None:
        stretch = self._stretch
        if stretch.rows is not None:
            for row, origin in stretch.rows:
                self._row(row, origin)
            return
        with open(stretch.path, "rb") as file:
            file.seek(stretch.start)
            data = file.read(stretch.end - stretch.start)
        number = stretch.row
        light = self._light
        for raw in data.split(b"\n"):
            if not raw or raw.isspace():
                continue
            number += 1
            if light is not None:
                try:
                    value = orjson.loads(raw)
                except ValueError:
                    value = None
                found = light(value) if type(value) is dict else None
                if found is not None and self._plain(number, *found, value):
                    continue
            self._line(raw, number)

    def _line(self, raw: bytes, number: int) -> None:
        for row, _ in read_lines([raw], "utf-8", self._stretch.shown):  # type: ignore[arg-type]
            self._row(row, Origin(path=self._stretch.shown, row=number))

    def _plain(self, row_number: int, shape: Shape, contents: list[str], said: str, row: dict[str, Any]) -> bool:
        """Take a row whose contents are known without making messages of it. False: it must go the exact way."""
        plan = self._worker.planner.of(shape)
        if plan is None or not self._worker.planner.plain(contents, said):
            return False
        self.ledger.keep()
        if self._worker.names is not None:
            # Contents alternate: (system,) user, assistant, user, assistant ...
            if shape[0] == "s":
                self.told.append((len(self.rows), contents[0]))
            self.said += contents[1 if shape[0] == "u" else 2 :: 2]
            self.sayers.append(len(self.said))
        self._take(row_number, said, plan, contents, row, chat=True)
        return True

    def _take(self, row_number: int, said: str, plan: Plan, contents: Sequence[str], held: Any, *, chat: bool) -> None:
        self.batches[chat].add(len(self.rows), plan, contents)
        self.rows.append(row_number)
        self.keys.append(key_of(said))
        self.held.append(held)

    def _row(self, row: Row | RowError, origin: Origin) -> None:
        stretch = self._stretch
        for conversation in conversations_of(row, origin, stretch.schema, stretch.forced, self.ledger):
            self._conversation(conversation)

    def _conversation(self, conversation: Conversation) -> None:
        origin = conversation.origin
        assert origin is not None
        if self._worker.cleans:
            judged = self._worker.cleaner.judge(conversation)
            if judged.drop is not None:
                self.ledger.lose(judged.drop.reason, origin, judged.drop.detail, {"messages": [m.to_dict() for m in conversation.messages]})
                return
            for reason, detail in judged.reports:
                self._report(reason, f"{origin}: {detail}" if detail else str(origin))
            conversation = judged.conversation
            self.languages.append(NO_LANGUAGE if judged.language is None else CODES.index(judged.language))
        elif self._worker.names is not None:
            if not conversation.is_text:
                self.told += [(len(self.rows), m.content) for m in conversation.messages if m.role == "system"]
                self.said += [text for m in conversation.messages if m.role == "assistant" for text in (m.content, m.reasoning) if text]
            self.sayers.append(len(self.said))
        found = shape_of(conversation)
        plan = self._worker.planner.of(found[0]) if found is not None else None
        said = content_text(conversation)
        if found is None or plan is None or not self._worker.planner.plain(found[1], said):
            self.rows.append(origin.row)
            self.keys.append(key_of(said))
            self.held.append(conversation)
            self.odd.append(len(self.rows) - 1)
            return
        self._take(origin.row, said, plan, found[1], conversation, chat=found[0] != TEXT)

    def _report(self, reason: str, place: str) -> None:
        known = self.reports.setdefault(reason, [0, []])
        known[0] += 1
        if len(known[1]) < NUM_FIRST:
            known[1].append(place)

    # -- encoding ----------------------------------------------------------------------------------

    def _made_of(self, number: int) -> Conversation:
        held = self.held[number]
        if isinstance(held, Conversation):
            return held
        return self._stretch.schema.to_conversation(held, Origin(path=self._stretch.shown, row=self.rows[number]))

    def _tell_names(self) -> None:
        """Judge the conversations in which another assistant's name stands."""
        names = self._worker.names
        if names is None:
            return
        found = np.searchsorted(np.asarray(self.sayers), names.named(self.said), side="right").tolist() if self.said else []
        found += [self.told[i][0] for i in names.named([text for _, text in self.told], system=True)] if self.told else []
        for number in sorted(set(found)):
            origin = Origin(path=self._stretch.shown, row=self.rows[number])
            for reason, detail in self._worker.cleaner.judge(self._made_of(number)).reports:
                self._report(reason, f"{origin}: {detail}" if detail else str(origin))

    def finish(self) -> Made:
        self._tell_names()
        blocks = [b for chat in (True, False) if (b := self._painted(chat)) is not None]
        builder = BlockBuilder()
        for number in sorted(self.odd):
            for example in self.preparer.examples(self._made_of(number), self.ledger):
                builder.add(example, self.keys[number], number, file=self._stretch.file, language=self.languages[number] if self.languages else NO_LANGUAGE)
        odd = builder.build()
        if len(odd) or not blocks:
            blocks.append(odd)
        block = join(blocks)
        order = np.argsort(block.conversation, kind="stable")
        if (np.diff(order) != 1).any():
            block = block.take(order)
        self.ledger.sort()
        made = Made(block=block, ledger=self.ledger, counts=self.preparer.counts, numbered=len(self.rows), sampled=self._sample(block), reports=self.reports)
        if self._worker.signs:
            made.signatures = signatures([compared_text(self._made_of(number)) for number in np.unique(block.conversation).tolist()])
        return made

    def _painted(self, chat: bool) -> Block | None:
        """The batch encoded; what is not proven, or does not fit, goes the exact way."""
        batch = self.batches[chat]
        if not batch.texts:
            return None
        painted = self._worker.painters[chat].paint(batch, self._worker.check)
        lengths = np.diff(painted.offsets)
        good = painted.proven & (lengths <= self.preparer.config.max_length)
        bos = self.preparer.tokenizer.bos_id
        if bos is not None and painted.ids.size:
            second = np.minimum(painted.offsets[:-1] + 1, painted.ids.size - 1)
            good &= ~((painted.ids[np.minimum(painted.offsets[:-1], painted.ids.size - 1)] == bos) & (painted.ids[second] == bos))
        owners = np.asarray(batch.owners, dtype=np.int64)
        self.odd += owners[~good].tolist()
        counts = self.preparer.counts
        counts.encoded += int(good.sum())
        mine = good[painted.span_text]
        if chat:
            counts.answers += int(mine.sum())
            counts.answers_stopped += int((painted.stopped & mine).sum())
        else:
            counts.text_examples += int(good.sum())
        num_spans = np.bincount(painted.span_text, minlength=good.size)
        block = Block(
            input_ids=painted.ids, offsets=painted.offsets, spans=painted.spans.astype(np.int32).reshape(-1),
            span_offsets=np.concatenate([[0], np.cumsum(2 * num_spans)]).astype(np.int64),
            file=np.full(good.size, self._stretch.file, dtype=np.int32), row=np.asarray(self.rows, dtype=np.int64)[owners],
            key=np.asarray(self.keys, dtype=np.int64)[owners], conversation=owners,
            language=np.asarray(self.languages, dtype=np.int16)[owners] if self.languages else np.full(good.size, NO_LANGUAGE, dtype=np.int16))
        return block if good.all() else block.take(np.flatnonzero(good))

    def _sample(self, block: Block) -> list[tuple[int, int, dict[str, Any]]]:
        """The conversations of the lowest ranks: together with those of other stretches, an even sample of all."""
        numbers = np.unique(block.conversation)
        if not numbers.size:
            return []
        rows = np.asarray(self.rows, dtype=np.uint64)[numbers]
        ranks = _ranks(rows * np.uint64(1_000_003) + np.uint64(self._stretch.file), numbers.astype(np.uint64), self._worker.seed)
        chosen = np.argsort(ranks, kind="stable")[:NUM_SAMPLED]
        return [(int(ranks[i]), int(numbers[i]), _shown(self._made_of(int(numbers[i])), self._stretch)) for i in sorted(chosen.tolist())]


def _shown(conversation: Conversation, stretch: Stretch) -> dict[str, Any]:
    assert conversation.origin is not None
    return {"path": conversation.origin.path, "row": conversation.origin.row, "schema": stretch.schema.name,
            "messages": [m.to_dict() for m in conversation.messages], "tools": [dict(t) for t in conversation.tools]}


def _ranks(places: Any, numbers: Any, seed: int) -> Any:
    """A number for each place that looks drawn (SplitMix64's finaliser), the same in every process."""
    with np.errstate(over="ignore"):
        x = places * np.uint64(0x9E3779B97F4A7C15) + numbers * np.uint64(0xD1B54A32D192ED03) + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (x ^ (x >> np.uint64(31))) >> np.uint64(1)


# -- rows whose contents are known at a glance ------------------------------------------------------

Light = tuple[Shape, list[str], str]
"""Shape, contents, and their ``content_text``."""
_LETTER = {"system": "s", "user": "u", "human": "u", "assistant": "a", "gpt": "a"}
_SPEAKER = {"s": "system", "u": "user", "a": "assistant"}
_ALTERNATING = frozenset((*system, *("u", "a") * n) for system in ((), ("s",)) for n in range(1, 33))
_SHAPES: dict[tuple[str, ...], Shape | None] = {}
"""Shapes of the speakers seen, as they are spelled."""
NUM_SHAPES = 4096


def _shape(speakers: tuple[str, ...]) -> Shape | None:
    if speakers not in _SHAPES:
        if len(_SHAPES) >= NUM_SHAPES:
            _SHAPES.clear()
        shape = tuple(_LETTER.get(who, "?") if isinstance(who, str) else "?" for who in speakers)
        _SHAPES[speakers] = shape if shape in _ALTERNATING else None
    return _SHAPES[speakers]


def _turns(turns: Any, who: str, what: str) -> Light | None:
    """Turns that alternate and say something; None for any others."""
    if type(turns) is not list:
        return None
    try:
        contents = [turn[what] for turn in turns]
        shape = _shape(tuple([turn[who] for turn in turns]))
    except (TypeError, KeyError):
        return None
    if shape is None or set(map(len, turns)) != _TWO or set(map(type, contents)) != _STR:
        return None
    stripped = [content.strip() for content in contents]
    return (shape, contents, _said(shape, stripped)) if all(stripped) else None


_TWO, _STR = {2}, {str}


def _openai(row: dict[str, Any]) -> Light | None:
    return _turns(row["messages"], "role", "content") if "messages" in row and _only(row) else None


def _sharegpt(row: dict[str, Any]) -> Light | None:
    return _turns(row["conversations"], "from", "value") if "conversations" in row and _only(row) else None


def _only(row: dict[str, Any]) -> bool:
    """Nothing stands beside the turns but a name for the row."""
    return len(row) == 1 or (len(row) == 2 and "id" in row)


_LIGHT = {"openai": _openai, "sharegpt": _sharegpt}


_HEADS: dict[Shape, list[str]] = {}


def _said(shape: Shape, stripped: Sequence[str]) -> str:
    """``content_text`` of the conversation that these are."""
    if shape not in _HEADS:
        _HEADS[shape] = [("\x1e" if i else "") + _SPEAKER[who] + "\x1f" for i, who in enumerate(shape)]
    pieces = [""] * (2 * len(shape))
    pieces[0::2] = _HEADS[shape]
    pieces[1::2] = stripped
    return "".join(pieces)


def rejects_of(ledger: Ledger) -> Iterator[bytes]:
    for reject in ledger.rejects:
        yield json.dumps(reject, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"

