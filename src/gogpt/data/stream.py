"""Sources -> packed rows while training: read, cleaned, encoded and packed stretch by stretch, with nothing written.

What comes out depends on the recipe, the data and the seed alone: sources take turns by the rows taken of each, a buffer of
examples is drawn by (seed, its number), and both are decided without a look at the clock or at who asks. A thread makes the
next buffer while the rows of this one train; at most three buffers are alive.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from gogpt.config import DataConfig, SourceConfig
from gogpt.data.examples import Counts
from gogpt.data.fingerprint import fingerprint, parts
from gogpt.data.ledger import Ledger
from gogpt.data.prepare import Prepared, prepare_head
from gogpt.data.store import Block, ExampleSet
from gogpt.data.stretches import Inputs, find_inputs, stretches
from gogpt.data.work import Made, Stretch, Worker, rejects_of
from gogpt.errors import GogptError
from gogpt.facts import NUM_FIRST
from gogpt.packing import Bins, cut_documents, one_per_row, pack
from gogpt.records import Example
from gogpt.runfolder import disk_error
from gogpt.templates import Template
from gogpt.templates.documents import Documents
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.engines import EngineDiffers, distrust, open_engine, pick_engine

STRETCH_BYTES, STRETCH_ROWS = 1 << 18, 128
"""Of one turn of a source: bytes of a file of JSON lines, or rows where those are read before."""
BUFFER_TOKENS = 1 << 21
BUFFER_ROWS = 256
"""A buffer holds so many tokens, or so many full rows where they are more."""
HEAD_ROWS = 2000
"""Rows that a stream is judged on before it begins."""
CLOSING_SECONDS = 10.0

Row = tuple[Example, ...]


# -- sources in turn -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A stretch, ``again``: how often its source was read to its end before; ``ends``: it is the last one of its source."""

    stretch: Stretch
    again: int
    ends: bool


class _Source:
    """One source, again and again; the next stretch is known, so that the last one can be told."""

    def __init__(self, inputs: Inputs, number: int) -> None:
        self._inputs, self._number = inputs, number
        self._base = next((i for i, f in enumerate(inputs.files) if f.source == number), 0)
        files = [replace(f, source=0) for f in inputs.files if f.source == number]
        self._own = Inputs(sources=[inputs.sources[number]], files=files, schemas=inputs.schemas, notes=inputs.notes)
        self._again = 0
        self._begin()

    def _begin(self) -> None:
        self._stretches = stretches(self._own, size=STRETCH_BYTES, num_rows=STRETCH_ROWS)
        self._next = next(self._stretches, None)
        if self._next is None:
            raise GogptError("DAT308", "a source of the stream holds no row", where=self._own.sources[0].path,
                             expected="at least one row", fix="take the source out, or fill it")

    def take(self) -> Turn:
        now = self._next
        assert now is not None
        self._next = next(self._stretches, None)
        turn = Turn(stretch=replace(now, source=self._number, file=now.file + self._base), again=self._again, ends=self._next is None)
        if turn.ends:
            self._again += 1
        return turn

    def ready(self) -> None:
        """Begin again where the end was reached."""
        if self._next is None:
            self._begin()


def turns(inputs: Inputs, sources: Sequence[SourceConfig]) -> Iterator[Turn]:
    """Stretches of the first ``sources`` of ``inputs``, endlessly: next is the source of which the fewest rows were taken, divided by its
    weight. Raises GogptError DAT3xx."""
    readers = [_Source(inputs, i) for i in range(len(sources))]
    taken = [0.0] * len(sources)
    for number in itertools.count():
        i = taken.index(min(taken))
        readers[i].ready()
        turn = readers[i].take()
        taken[i] += max(1, turn.stretch.num_rows) / sources[i].weight
        yield replace(turn, stretch=replace(turn.stretch, number=number))


def head(some: Iterator[Turn], num_sources: int, num_rows: int) -> Iterator[Stretch]:
    """The stretches up to the one that makes ``num_rows`` rows, or with which every source has come to its end; none twice."""
    rows, ended = 0, set()
    for turn in some:
        if not turn.again:
            rows += turn.stretch.num_rows
            yield turn.stretch
        if turn.ends:
            ended.add(turn.stretch.source)
        if rows >= num_rows or len(ended) == num_sources:
            return


# -- buffers ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Buffer:
    """Examples of the stretches of some turns, packed: ``rows`` in their order, as indices into ``examples``. The rest is what is to be
    counted once the first of them is used: of ``rejects`` only what was not told in an earlier pass."""

    number: int
    examples: ExampleSet
    rows: Bins
    ledger: Ledger
    num_examples: int
    rejects: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def row(self, i: int) -> Row:
        return tuple(self.examples[k] for k in self.rows[i])


class _Filling:
    """A buffer in the making."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.ledger = Ledger()
        self.counts = Counts()
        self.rejects: list[dict[str, Any]] = []
        self.tokens = 0
        self.ended: set[int] = set()

    def add(self, turn: Turn, made: Made, source: str) -> None:
        if len(made.block):
            self.blocks.append(made.block)
        self.tokens += int(made.block.input_ids.size)
        counted = made.document()["ledger"]
        if turn.again:
            counted["first"] = {}  # told in the first pass
        else:
            self.rejects += made.ledger.rejects
        self.ledger.join(**counted)
        self.counts.join(Counts.from_dict(made.counts.to_dict()))
        for reason, (count, _) in made.reports.items():
            self.ledger.note(f"reported by data.clean: {reason}", count)
        if turn.ends:
            self.ended.add(turn.stretch.source)
            self.ledger.note(f"read to its end, begun again: {source}")


class ExampleStream:
    """The packed rows of a recipe's training sources, without an end. ``inputs``: of its sources, those of training first.

    ``config.special_text: error`` drops here what spells a special token (and counts it): the head was judged before.
    """

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, template: Template, *, seed: int, inputs: Inputs | None = None) -> None:
        self.config, self.tokenizer, self.template, self.seed = config, tokenizer, template, seed
        self.inputs = inputs or stream_inputs(config)
        self._limit = max(BUFFER_TOKENS, BUFFER_ROWS * config.max_length)

    @cached_property
    def engine(self) -> tuple[str, tuple[str, ...]]:
        """The library that encodes, and what the user should be told of others. A proof forks: ask before threads and models are there."""
        name, told = pick_engine(self.tokenizer, self.inputs.num_bytes)
        return name, tuple(told)

    def fingerprint(self) -> str:
        """Of all that decides the rows: sources (parts of large files), tokenizer, template, policy, seed, code."""
        return fingerprint({**parts(self.config, self.inputs, self.tokenizer, self.template, self.seed),
                            "rows": f"{self.config.packing} {self.config.max_length} {self.config.across_documents}"})

    def buffers(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Buffer]:
        """Buffer after buffer, until ``stopped``. Raises GogptError DAT3xx, DAT308 (no example in any source), TOK409."""
        maker = _Maker(self)
        inputs = Inputs(sources=self.inputs.sources, files=self.inputs.files)
        some = turns(inputs, self.config.train)
        told: dict[str, int] = {}
        barren: set[int] = set()  # sources read to their end since an example came last
        for number in itertools.count():
            filling = self._fill(some, maker, stopped)
            if stopped():
                return
            barren = barren | filling.ended if not filling.blocks else set()
            if len(barren) == len(self.config.train):
                raise nothing_left(filling.ledger)
            filling.ledger.schema = dict(inputs.schemas)
            for what, count in inputs.notes.items():
                filling.ledger.note(what, count - told.get(what, 0))
            told = dict(inputs.notes)
            yield self._pack(number, filling, maker.told_since())

    def _fill(self, some: Iterator[Turn], maker: _Maker, stopped: Callable[[], bool]) -> _Filling:
        filling = _Filling()
        while filling.tokens < self._limit and len(filling.ended) < len(self.config.train) and not stopped():
            turn = next(some)
            filling.add(turn, maker.make(turn.stretch), self.inputs.sources[turn.stretch.source].path)
        return filling

    def _pack(self, number: int, filling: _Filling, told: list[str]) -> Buffer:
        everything = ExampleSet(filling.blocks, [f.shown for f in self.inputs.files])
        draw = np.random.default_rng([self.seed, number])
        order = draw.permutation(len(everything))
        if isinstance(self.template, Documents):
            chosen, cuts, bins = cut_documents(everything.lengths[order], self.config.max_length)
            examples = everything.cut(order[chosen], cuts)
        else:
            examples = everything.select(order)
            bins = pack(examples.lengths, self.config.max_length) if self.config.packing else one_per_row(len(examples))
        _note_counts(filling.ledger, filling.counts)
        return Buffer(number=number, examples=examples, rows=bins.select(draw.permutation(len(bins))), ledger=filling.ledger,
                      num_examples=len(everything), rejects=filling.rejects, told=told)


def _note_counts(ledger: Ledger, counts: Counts) -> None:
    """What a check would have judged, had the whole set been read before."""
    for what, counter in (("examples with an answer cut at max_length (TOK405)", counts.cut_targets),
                          ("examples that begin with two BOS tokens (TOK402)", counts.double_bos)):
        if counter.count:
            ledger.note(what, counter.count)


class _Maker:
    """Stretches to blocks; a library that gives other ids after all is replaced by the tokenizer's own."""

    def __init__(self, stream: ExampleStream) -> None:
        self._stream = stream
        drops = {"special_text": "drop"} if stream.config.special_text == "error" else {}
        self._config = stream.config.model_copy(update=drops)
        name, told = stream.engine
        self._told = list(told)
        self._worker = self._open(name)

    def _open(self, name: str) -> Worker:
        stream = self._stream
        return Worker(self._config, stream.tokenizer, stream.template, open_engine(name, stream.tokenizer), stream.seed)

    def make(self, stretch: Stretch) -> Made:
        try:
            return self._worker.make(stretch)
        except EngineDiffers as problem:
            distrust(self._stream.tokenizer, problem)
            library = self._stream.tokenizer.backend.library
            self._told.append(f"{problem.library} gave other ids than {library} for a text of this data; from here on the latter encodes")
            self._worker = self._open(library)
            return self._worker.make(stretch)

    def told_since(self) -> list[str]:
        told, self._told = self._told, []
        return told


def nothing_left(ledger: Ledger) -> GogptError:
    """A whole pass over every source gave no example."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in ledger.drops.most_common())
    return GogptError("DAT308", "no training example is left", where=next((p[0] for p in ledger.first.values() if p), None),
                      got=f"{ledger.rows_in} rows, dropped: {reasons}", expected="at least one row with a prompt and an answer that fit max_length",
                      fix="see the first row of each reason with gogpt show FILE:ROW")


# -- what a run starts from ------------------------------------------------------------------------


def stream_inputs(config: DataConfig) -> Inputs:
    """Files of the sources of training, then of evaluation. Raises GogptError DAT300, DAT302, DAT304."""
    inputs = find_inputs((*config.train, *(config.eval if isinstance(config.eval, tuple) else ())), whole=False)
    # A source whose revision cannot be known is compared by what was read of it (RowStream.expect).
    inputs.files = [f if f.digest is not None else replace(f, digest="?") for f in inputs.files]
    return inputs


def judge_head(stream: ExampleStream, *, progress: Callable[[int], None] | None = None) -> Prepared:
    """The first rows of a stream as a set, and the whole evaluation set, in memory. Raises GogptError DAT3xx, TOK409."""
    config = stream.config
    inputs = Inputs(sources=stream.inputs.sources, files=stream.inputs.files)
    assert stream.engine

    def some() -> Iterator[Stretch]:
        last = -1
        for stretch in head(turns(inputs, config.train), len(config.train), HEAD_ROWS):
            last = stretch.number
            yield stretch
        files = [f for f in inputs.files if f.source >= len(config.train)]
        own = Inputs(sources=inputs.sources, files=files, schemas=inputs.schemas, notes=inputs.notes)
        for stretch in stretches(own):
            yield replace(stretch, number=last + 1 + stretch.number, file=stretch.file + len(inputs.files) - len(files))

    return prepare_head(config, stream.tokenizer, stream.template, inputs, some(), seed=stream.seed, progress=progress)


# -- a run's rows ----------------------------------------------------------------------------------


class RowStream:
    """Rows of a stream in order, made ahead on a thread; the ledger of what was read for them.

    ``ledger``: of the evaluation set, to which the rest is added; ``rejects``: file to which what is dropped is written, begun anew.
    A buffer is counted when its first row is taken, so that a resumed run counts as a straight one. ``step_rows``: rows of an
    optimizer step; the digest of everything up to the last few of them is kept.
    """

    def __init__(self, stream: ExampleStream, *, ledger: Ledger | None = None, rejects: Path | None = None, step_rows: int = 1,
                 note: Callable[[str], None] = lambda text: None) -> None:
        self.ledger = ledger or Ledger()
        self.taken = 0
        self._step_rows, self._note = step_rows, note
        self._digest = xxhash.xxh3_128()
        self._marks: dict[int, str] = {}
        self._expected: tuple[int, str, str] | None = None
        self._rejects: BinaryIO | None = None
        self._path = rejects
        if rejects is not None:
            try:
                self._rejects = rejects.open("wb")
            except OSError as problem:
                raise disk_error(problem, rejects) from problem
            self._write(self.ledger.rejects)
        self.ledger.rejects = []
        self._buffer: Buffer | None = None
        self._at = 0
        self._ahead = _Ahead(stream)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        """Raises GogptError of the stream, RUN612 (not what was expected), ENV110."""
        while self._buffer is None or self._at == len(self._buffer.rows):
            self._buffer = None  # let go before the next one is waited for
            self._buffer, self._at = self._ahead.get(), 0
            self._count(self._buffer)
        row = self._buffer.row(self._at)
        self._at += 1
        self.taken += 1
        for example in row:
            self._digest.update(np.ascontiguousarray(example.input_ids).data)
            self._digest.update(np.ascontiguousarray(example.labels).data)
        if self.taken % self._step_rows == 0:
            self._mark()
        return row

    def _mark(self) -> None:
        self._marks[self.taken] = found = self._digest.hexdigest()
        self._marks.pop(min(self._marks) if len(self._marks) > 8 else -1, None)
        if self._expected is not None and self._expected[0] == self.taken and found != self._expected[1]:
            raise GogptError("RUN612", "the rows of the stream are not those that this run has trained", where=self._expected[2],
                             got=f"digest {found[:12]}", expected=f"digest {self._expected[1][:12]}",
                             fix="bring back the files as they were, or start a new run")

    def pass_over(self, num_rows: int) -> None:
        """Take rows up to so many: of several processes each asks for its own alone."""
        while self.taken < num_rows:
            next(self)

    def digest(self, rows: int) -> str | None:
        """XXH3 of ids and labels of the first ``rows`` rows, a multiple of ``step_rows`` near the last one taken."""
        return self._marks.get(rows)

    def expect(self, rows: int, digest: str, where: str) -> None:
        """The first ``rows`` rows must have this digest; RUN612 is raised where the last of them is taken otherwise."""
        self._expected = (rows, digest, where)

    def _count(self, buffer: Buffer) -> None:
        ledger, found = self.ledger, buffer.ledger
        ledger.join(rows_in=found.rows_in, conversations=found.conversations, drops=found.drops, first=found.first, notes=found.notes)
        ledger.schema.update(found.schema)
        ledger.first = {reason: places[:NUM_FIRST] for reason, places in ledger.first.items()}
        ledger.kept["train"] = ledger.kept.get("train", 0) + found.conversations
        ledger.examples["train"] = ledger.examples.get("train", 0) + buffer.num_examples
        assert ledger.conserves, ledger.to_dict()
        self._write(buffer.rejects)
        buffer.rejects = []
        for text in buffer.told:
            self._note(text)

    def _write(self, rejects: list[dict[str, Any]]) -> None:
        if self._rejects is None or not rejects:
            return
        assert self._path is not None
        try:
            self._rejects.writelines(rejects_of(Ledger(rejects=rejects)))
            self._rejects.flush()
        except OSError as problem:
            raise disk_error(problem, self._path) from problem

    def close(self) -> None:
        """End the thread; what it made ahead is let go."""
        self._ahead.close()
        self._buffer = None
        if self._rejects is not None:
            with contextlib.suppress(OSError):
                self._rejects.close()


class _Ahead:
    """Buffers made by a thread, one waiting at most. What it raises is raised by ``get``."""

    def __init__(self, stream: ExampleStream) -> None:
        self._stop = threading.Event()
        self._queue: queue.Queue[Buffer | BaseException] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._run, args=(stream,), name="gogpt-stream", daemon=True)
        self._thread.start()

    def _run(self, stream: ExampleStream) -> None:
        try:
            for buffer in stream.buffers(self._stop.is_set):
                self._put(buffer)
                del buffer
                if self._stop.is_set():
                    return
        except BaseException as problem:  # a Rust panic is a BaseException
            self._put(problem)

    def _put(self, item: Buffer | BaseException) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return

    def get(self) -> Buffer:
        while True:
            try:
                found = self._queue.get(timeout=1.0)
            except queue.Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    raise RuntimeError("the thread that reads the stream has ended") from None
                continue
            if isinstance(found, BaseException):
                raise found
            return found

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()
        self._thread.join(CLOSING_SECONDS)


def read_mark(path: Path) -> dict[str, Any] | None:
    """The mark that a checkpoint holds of its stream; None where there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
