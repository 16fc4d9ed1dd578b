"""Conversations -> Examples: the exact way, one conversation at a time, and what is counted on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import xxhash

from gogpt.config import DataConfig
from gogpt.data.ledger import Ledger
from gogpt.errors import GogptError, RowError
from gogpt.facts import NUM_FIRST, Tally
from gogpt.records import IGNORE_INDEX, Conversation, Example, Message, paint
from gogpt.templates import Template
from gogpt.templates.documents import Documents
from gogpt.tokenize import Encoded, Tokenizer, encode

WHOLE = 2**31 - 1
"""``max_length`` of documents that are cut into rows later."""


@dataclass(slots=True)
class Counter:
    """A Tally in the making."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: object) -> None:
        self.count += 1
        if len(self.first) < NUM_FIRST:
            self.first.append(str(place))

    def join(self, other: Counter) -> None:
        """``other`` was counted on what comes after."""
        self.count += other.count
        self.first = (self.first + other.first)[:NUM_FIRST]

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

    def join(self, other: Counts) -> None:
        """``other`` was counted on what comes after."""
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            if isinstance(mine, Counter):
                mine.join(theirs)
            elif isinstance(mine, dict):
                mine.update(theirs)
            else:
                setattr(self, f.name, max(mine, theirs) if f.name == "longest_prompt" else mine + theirs)

    def to_dict(self) -> dict[str, Any]:
        return {f.name: [v.count, v.first] if isinstance(v := getattr(self, f.name), Counter) else list(v) if isinstance(v, dict) else v
                for f in fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Counts:
        out = cls()
        for f in fields(cls):
            value, now = data[f.name], getattr(out, f.name)
            if isinstance(now, Counter):
                value = Counter(count=value[0], first=list(value[1]))
            setattr(out, f.name, dict.fromkeys(value) if isinstance(now, dict) else value)
        return out


def content_text(conversation: Conversation) -> str:
    """What decides whether two conversations say the same: who speaks and what, white space at the ends aside, and the calls."""
    return "\x1e".join(
        f"{m.role}\x1f{m.content.strip()}" + ("\x1f" + json.dumps([dict(c) for c in m.tool_calls], ensure_ascii=False, sort_keys=True, default=str)
                                              if m.tool_calls else "")
        for m in conversation.messages)


def key_of(text: str) -> int:
    """63 bits of XXH3 over a ``content_text``: two of a million texts share one by chance once in 10^7 sets."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) >> 1


def content_key(conversation: Conversation) -> int:
    """Equal for conversations of equal messages, white space at the ends aside."""
    return key_of(content_text(conversation))


class Preparer:
    """Encodes conversations under one policy and counts what it sees."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, template: Template) -> None:
        """Under a template of documents alone (stage pretrain) they stay whole, whatever their length: rows are cut from them."""
        self.whole = isinstance(template, Documents)
        self.config = config.model_copy(update={"max_length": WHOLE}) if self.whole else config
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
