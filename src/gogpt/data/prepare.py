"""Rows -> Examples: everything between a source and what the model is fed, counted on the way."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gogpt.config import DataConfig, SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.mix import hold_out, weigh
from gogpt.data.read import read_conversations
from gogpt.data.store import ExampleSet, ExampleSetBuilder
from gogpt.errors import GogptError, RowError
from gogpt.facts import NUM_FIRST, DataFacts, Tally
from gogpt.records import IGNORE_INDEX, Conversation, Example, Message, paint
from gogpt.templates import Template
from gogpt.tokenize import Encoded, Tokenizer, encode

NUM_SAMPLED = 64
"""Rows whose conversations are kept, to be shown."""


@dataclass(slots=True)
class Counter:
    """A Tally in the making."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: object) -> None:
        self.count += 1
        if len(self.first) < NUM_FIRST:
            self.first.append(str(place))

    def tally(self) -> Tally:
        return Tally(count=self.count, first=tuple(self.first))


@dataclass(slots=True)
class Counts:
    """What is counted while rows are encoded; becomes DataFacts."""

    no_trained: Counter = field(default_factory=Counter)
    cut_targets: Counter = field(default_factory=Counter)
    double_bos: Counter = field(default_factory=Counter)
    special_text: Counter = field(default_factory=Counter)
    special_seen: dict[str, None] = field(default_factory=dict)
    answers: int = 0
    answers_stopped: int = 0
    longest_prompt: int = 0
    encoded: int = 0
    text_examples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The examples of a run, its ledger, and the facts that the checks judge."""

    train: ExampleSet
    eval: ExampleSet
    ledger: Ledger
    facts: DataFacts
    sampled: dict[int, tuple[Conversation, str]]
    """a fixed random sample of the conversations kept, by their number, with their schema"""


class Reservoir:
    """``size`` rows drawn evenly from a stream of unknown length, the same for the same seed (algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seen = size, 0
        self._random = random.Random(seed)
        self._rows: list[tuple[int, Conversation, str]] = []

    def offer(self, number: int, conversation: Conversation, schema: str) -> None:
        self._seen += 1
        if len(self._rows) < self._size:
            self._rows.append((number, conversation, schema))
        elif (i := self._random.randrange(self._seen)) < self._size:
            self._rows[i] = (number, conversation, schema)

    def by_number(self) -> dict[int, tuple[Conversation, str]]:
        return {number: (conversation, schema) for number, conversation, schema in self._rows}


def content_key(conversation: Conversation) -> int:
    """Equal for conversations of equal messages, white space at the ends aside; 63 bits of SHA-256."""
    parts = [[m.role, m.content.strip(), [dict(c) for c in m.tool_calls]] for m in conversation.messages]
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Preparer:
    """Encodes conversations under one policy and counts what it sees."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, template: Template) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.template = template
        self.counts = Counts()
        self.stop_ids = tuple(i for t in template.stop if (i := tokenizer.token_of(t)) is not None)

    def examples(self, conversation: Conversation, ledger: Ledger) -> list[Example]:
        """Examples of one conversation (kept in the ledger before); [] when it was dropped and counted."""
        try:
            self._special_text(conversation)
            parts = [conversation]
            encoded = self._encode_all(conversation)
            if any(e.input_ids.size > self.config.max_length for e in encoded) and self.config.overlong == "split":
                parts = split_turns(conversation, self._fits)
                encoded = [e for part in parts for e in self._encode_all(part)]
                ledger.note("conversations split at turns to fit max_length")
            if any(e.cut for e in encoded):
                ledger.note("conversations with an answer cut apart from its prompt on purpose (tokens would straddle)")
            return self._fit(conversation, self._split_long(conversation, encoded, ledger))
        except RowError as problem:
            assert conversation.origin is not None
            ledger.lose(problem.reason, conversation.origin, problem.detail,
                        {"messages": [m.to_dict() for m in conversation.messages]})
            return []

    def _special_text(self, conversation: Conversation) -> None:
        pattern = self.tokenizer.special_pattern
        texts = [m.content for m in conversation.messages] + [m.reasoning or "" for m in conversation.messages]
        seen = {found for text in texts for found in (pattern.findall(text) if pattern else ())}
        seen |= {mark for mark in self.template.control if any(mark in text for text in texts)}
        if not seen:
            return
        self.counts.special_text.add(conversation.origin)
        self.counts.special_seen.update(dict.fromkeys(sorted(seen)))
        if self.config.special_text == "drop":
            raise RowError("special_token_in_text", "the text spells " + ", ".join(sorted(seen)))

    def _encode_all(self, conversation: Conversation) -> list[Encoded]:
        size = sum(len(m.content) for m in conversation.messages)
        if size > self.config.max_length * self.tokenizer.max_token_chars and self.config.overlong in ("drop", "error"):
            # No tokenizer can bring it below the maximum: say so without encoding megabytes.
            raise self._overlong(f"at least {size // self.tokenizer.max_token_chars} tokens", conversation)
        return [e for r in self.template.render(conversation, self.config.train_on) for e in encode(r, self.tokenizer)]

    def _overlong(self, length: str, conversation: Conversation) -> Exception:
        detail = f"{length}, max_length is {self.config.max_length}"
        if self.config.overlong == "error":
            return GogptError("TOK409", f"the conversation is too long: {detail}", where=str(conversation.origin),
                              fix="raise data.max_length, or set data.overlong: drop | truncate | split")
        return RowError("overlong", detail)

    def _split_long(self, conversation: Conversation, encoded: Sequence[Encoded], ledger: Ledger) -> Sequence[Encoded]:
        """Under ``overlong: split``: text in pieces of max_length; a single turn that is too long is left out."""
        limit = self.config.max_length
        if self.config.overlong != "split" or all(e.input_ids.size <= limit for e in encoded):
            return encoded
        if conversation.is_text:
            ledger.note("documents split into pieces of max_length")
            # A last piece of one token predicts nothing; it is left out.
            return [_piece(e, at, limit) for e in encoded for at in range(0, e.input_ids.size, limit)
                    if e.input_ids.size - at > 1]
        fitting = [e for e in encoded if e.input_ids.size <= limit]
        if not fitting:
            raise RowError("overlong", f"no single turn fits max_length {limit}")
        ledger.note("turns left out of split conversations: longer than max_length", len(encoded) - len(fitting))
        return fitting

    def _fits(self, conversation: Conversation) -> bool:
        return all(e.input_ids.size <= self.config.max_length for e in self._encode_all(conversation))

    def _fit(self, conversation: Conversation, encoded: Sequence[Encoded]) -> list[Example]:
        origin = conversation.origin
        assert origin is not None
        limit = self.config.max_length
        longest = max((int(e.input_ids.size) for e in encoded), default=0)
        if longest > limit and self.config.overlong in ("drop", "error"):
            raise self._overlong(f"{longest} tokens", conversation)
        out: list[Example] = []
        untrained = 0
        for e in encoded:
            self.counts.encoded += 1
            ids, labels = e.input_ids[:limit], e.labels[:limit]
            trained = int(np.count_nonzero(labels != IGNORE_INDEX))
            if not trained:
                self.counts.no_trained.add(origin)
                self.counts.longest_prompt = max(self.counts.longest_prompt, _prompt_length(e))
                untrained += 1
                continue
            if trained < int(np.count_nonzero(e.labels != IGNORE_INDEX)):
                self.counts.cut_targets.add(origin)
            self._count(conversation, ids, e)
            out.append(Example(input_ids=ids, labels=labels, origin=origin))
        if not out:
            raise RowError("no_trained_token", f"no trained token is left within {limit} tokens"
                           if untrained else "no message of it is trained")
        return out

    def _count(self, conversation: Conversation, ids: Any, e: Encoded) -> None:
        bos = self.tokenizer.bos_id
        if bos is not None and ids.size > 1 and ids[0] == bos and ids[1] == bos:
            self.counts.double_bos.add(conversation.origin)
        if conversation.is_text:
            self.counts.text_examples += 1
            return
        if self.config.train_on == "all":
            # Trained whole: the answers are not told apart, but a stop token must be among what is trained.
            self.counts.answers += 1
            self.counts.answers_stopped += bool(np.isin(ids[1:], self.stop_ids).any())
            return
        ends = [end for end in e.answer_ends if end <= ids.size]
        self.counts.answers += len(e.answer_ends)
        self.counts.answers_stopped += sum(int(ids[end - 1]) in self.stop_ids for end in ends if end)


def _piece(e: Encoded, at: int, limit: int) -> Encoded:
    ids = e.input_ids[at : at + limit]
    return replace(e, input_ids=ids, labels=paint(ids, e.labels[at : at + limit] != IGNORE_INDEX), answer_ends=())


def _prompt_length(e: Encoded) -> int:
    trained = np.flatnonzero(e.labels != IGNORE_INDEX)
    return int(trained[0]) if trained.size else int(e.input_ids.size)


def split_turns(conversation: Conversation, fits: Callable[[Conversation], bool]) -> list[Conversation]:
    """A conversation cut between turns into pieces that fit, each with the system message; a single turn that
    does not fit stays as it is (and is then too long by itself). Text is not split here."""
    messages = list(conversation.messages)
    if conversation.is_text:
        return [conversation]
    system = [messages.pop(0)] if messages and messages[0].role == "system" else []
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    pieces: list[list[Message]] = []
    for turn in turns:
        def whole(body: list[Message]) -> Conversation:
            return Conversation(messages=tuple(system + body), tools=conversation.tools, origin=conversation.origin)

        if pieces and fits(whole(pieces[-1] + turn)):
            pieces[-1] += turn
        else:
            pieces.append(list(turn))
    return [Conversation(messages=tuple(system + p), tools=conversation.tools, origin=conversation.origin)
            for p in pieces if any(m.role == "assistant" for m in p)]


def prepare(
    config: DataConfig, tokenizer: Tokenizer, template: Template, *, seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Read, convert, encode and split all sources of a recipe.

    Raises GogptError DAT3xx (sources), DAT308 (nothing left), TOK409 (overlong: error).
    """
    ledger = Ledger()
    preparer = Preparer(config, tokenizer, template)
    reservoir = Reservoir(NUM_SAMPLED, seed)
    train, weights = _encode_sources(config.train, preparer, ledger, progress, reservoir)
    if not len(train):
        _nothing_left(ledger, preparer)
    eval_set = ExampleSetBuilder().build()
    index = np.arange(len(train))
    before_eval = ledger.conversations
    if isinstance(config.eval, tuple):
        eval_set, _ = _encode_sources(config.eval, preparer, ledger, progress, Reservoir(0, seed))
        ledger.kept = {"train": before_eval, "eval": ledger.conversations - before_eval}
    elif config.eval > 0 and len(train):
        index, held = hold_out(train, config.eval, seed)
        eval_set = train.select(held)
        num_held = len(np.unique(eval_set.conversations))
        ledger.kept = {"train": before_eval - num_held, "eval": num_held}
    else:
        ledger.kept = {"train": before_eval}
    if any(w != 1.0 for w in weights):
        picked = weigh([weights[i] for i in index], seed)
        if not picked.size:
            raise GogptError("DAT308", "no training example is left", where="recipe: data.train", got=f"{len(index)} examples, of which the weights take none",
                             expected="a weight of at least 1 / the number of the source's examples",
                             fix="raise the weight in data.train, or leave it out")
        index = index[picked]
        ledger.note("examples of an epoch after weights", len(index))
    if len(index) != len(train) or any(w != 1.0 for w in weights):
        train = train.select(index)
    ledger.examples = {"train": len(train), "eval": len(eval_set)}
    assert ledger.conserves, ledger.to_dict()
    return Prepared(train=train, eval=eval_set, ledger=ledger, facts=_facts(train, eval_set, ledger, preparer),
                    sampled=reservoir.by_number())


def _encode_sources(
    sources: Iterable[SourceConfig], preparer: Preparer, ledger: Ledger, progress: Callable[[int], None] | None,
    reservoir: Reservoir,
) -> tuple[ExampleSet, list[float]]:
    builder = ExampleSetBuilder()
    weights: list[float] = []
    number = -1
    for source in sources:
        for conversation in read_conversations(source, ledger):
            number += 1
            made = preparer.examples(conversation, ledger)
            key = content_key(conversation) if made else 0
            if made and conversation.origin is not None:
                reservoir.offer(number, conversation, ledger.schema.get(conversation.origin.path, ""))
            for example in made:
                builder.add(example, key, number)
                weights.append(source.weight)
            if progress and ledger.rows_in % 64 == 0:
                progress(ledger.rows_in)
    if progress:
        progress(ledger.rows_in)
    return builder.build(), weights


def _nothing_left(ledger: Ledger, preparer: Preparer) -> None:
    """With no example at all there is nothing to judge; only TOK403's own case goes on, to be told by it."""
    if set(ledger.drops) == {"no_trained_token"}:
        return
    reasons = ", ".join(f"{n} {reason} (first: {ledger.first[reason][0]})" for reason, n in ledger.drops.most_common())
    where = next((places[0] for places in ledger.first.values() if places), next(iter(ledger.schema), None))
    raise GogptError("DAT308", "no training example is left", where=where, got=f"{ledger.rows_in} rows, dropped: {reasons}",
                     expected="at least one row with a prompt and an answer that fit max_length",
                     fix="see the first row of each reason with gogpt show FILE:ROW")


def _facts(train: ExampleSet, eval_set: ExampleSet, ledger: Ledger, preparer: Preparer) -> DataFacts:
    tokenizer, template, counts = preparer.tokenizer, preparer.template, preparer.counts
    overlap = Counter()
    known: dict[int, Any] = {}
    for key, origin in zip(train.content_keys, train.origins, strict=True):
        known.setdefault(int(key), origin)
    for key, origin in zip(eval_set.content_keys, eval_set.origins, strict=True):
        if int(key) in known:
            overlap.add(f"{origin} = {known[int(key)]}")
    lengths = train.lengths
    return DataFacts(
        rows_in=ledger.rows_in, conversations=ledger.conversations, examples=len(train), eval_examples=len(eval_set),
        drops=dict(ledger.drops), first={k: tuple(v) for k, v in ledger.first.items()}, schemas=dict(ledger.schema),
        tokens=train.num_tokens, trained_tokens=train.num_trained,
        longest=int(lengths.max()) if lengths.size else 0,
        template=template.name, stop_ids=preparer.stop_ids, stop_texts=template.stop,
        stop_is_token=bool(template.stop) and tokenizer.token_of(template.stop[0]) is not None,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id,
        answers=counts.answers, answers_stopped=counts.answers_stopped,
        no_trained=counts.no_trained.tally(), cut_targets=counts.cut_targets.tally(),
        double_bos=counts.double_bos.tally(), special_text=counts.special_text.tally(),
        special_tokens_seen=tuple(counts.special_seen), overlap=overlap.tally(),
        encoded=counts.encoded, longest_prompt_cut=counts.longest_prompt, text_examples=counts.text_examples,
    )
