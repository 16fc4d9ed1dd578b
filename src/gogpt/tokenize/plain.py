"""Text of a user's that spells special tokens, encoded as plain text (``data.special_text: plain``).

A template writes ``<|im_end|>`` and a user may write it too; in the rendered text the two look the same. So the user's
are taken out before the template sees them: each becomes one private character, which every template copies and no
tokenizer parses. The rendering is then encoded around those characters, and each stretch that holds one is encoded
with its text put back and nothing parsed. No template has to know of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gogpt.errors import RowError
from gogpt.records import Conversation, Message
from gogpt.tokenize.backend import Spans
from gogpt.tokenize.tokenizer import Tokenizer

FIRST_PRIVATE, LAST_PRIVATE = 0xF0000, 0xFFFFD


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Private character -> the text that it stands for."""

    texts: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.texts)

    def reveal(self, text: str) -> str:
        return text.translate({ord(mark): spelt for mark, spelt in self.texts.items()}) if self.texts else text


def hide_special(conversation: Conversation, pattern: re.Pattern[str] | None, control: Sequence[str] = ()) -> tuple[Conversation, Hidden]:
    """The conversation with what ``pattern`` finds in its messages (and what spells a mark of ``control``) hidden.

    Content, reasoning and the Alpaca input are looked at; tool calls are the template's to write.
    """
    marks = sorted({m for m in control if m}, key=len, reverse=True)
    parts = [*([pattern.pattern] if pattern else []), *map(re.escape, marks)]
    if not parts:
        return conversation, Hidden(texts={})
    both = re.compile("|".join(parts))
    whole = "".join(part for m in conversation.messages for part in (m.content, m.reasoning or ""))
    free = (c for n in range(FIRST_PRIVATE, LAST_PRIVATE + 1) if (c := chr(n)) not in whole)
    known: dict[str, str] = {}

    def mark(found: re.Match[str]) -> str:
        if found.group() not in known:
            known[found.group()] = next(free)
        return known[found.group()]

    def hide(text: str) -> str:
        return both.sub(mark, text)

    messages = tuple(_hide_message(m, hide) for m in conversation.messages)
    if not known:
        return conversation, Hidden(texts={})
    return replace(conversation, messages=messages), Hidden(texts={private: text for text, private in known.items()})


def _hide_message(message: Message, hide: Callable[[str], str]) -> Message:
    reasoning = None if message.reasoning is None else hide(message.reasoning)
    if message.input is None:
        return replace(message, content=hide(message.content), reasoning=reasoning)
    # content == instruction + "\n" + input, also when hidden
    instruction, given = hide(message.instruction), hide(message.input)
    return replace(message, content=f"{instruction}\n{given}", input=given, reasoning=reasoning)


class PlainReader:
    """A tokenizer that reads text with hidden parts. Spans are characters of the text as it is given, marks and all."""

    def __init__(self, tokenizer: Tokenizer, hidden: Hidden) -> None:
        self.tokenizer = tokenizer
        self.hidden = hidden
        self.added_ids = tokenizer.added_ids
        self.bos_prefix = tokenizer.bos_prefix

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        return re.compile("[" + re.escape("".join(self.hidden.texts)) + "]")

    def ids(self, text: str) -> list[int]:
        return self.encode(text).ids

    def encode(self, text: str) -> Spans:
        whole = self.tokenizer.encode(text)
        if not self._marks.search(text):
            return whole
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for start, end, first, last in self._stretches(text, whole):
            inner = text[start:end]
            if not self._marks.search(inner):
                ids += whole.ids[first:last]
                spans += whole.spans[first:last]
                continue
            found = self._plain(inner, first=start == 0)
            ids += found.ids
            spans += [(a + start, b + start) for a, b in found.spans]
        return Spans(ids, spans)

    def continuation(self, text: str, after: str) -> list[int]:
        if not self._marks.search(text):
            return self.tokenizer.continuation(text, after)
        # The answer stands behind a word of its own line: what is before it in the stretch is told by encoding both.
        for anchor in ("\n", "a\n", "a"):
            before, both = self.ids(anchor), self.ids(anchor + text)
            if both[: len(before)] == before:
                return both[len(before):]
        return self.ids(text)

    def begun(self, token: int, text: str) -> list[int]:
        if not self._marks.search(text):
            return self.tokenizer.begun(token, text)
        both = self.ids(self.tokenizer.token(token) + text)
        return both[1:] if both[:1] == [token] and not self.tokenizer.backend.added[token].rstrip else self.ids(text)

    def _stretches(self, text: str, whole: Spans) -> Iterator[tuple[int, int, int, int]]:
        """Start, end, and first and last token of each added token and of each stretch between two."""
        at, token = 0, 0
        for i, number in enumerate(whole.ids):
            if number not in self.added_ids:
                continue
            start, end = whole.spans[i]
            if start > at:
                yield at, start, token, i
            yield start, end, i, i + 1
            at, token = end, i + 1
        if at < len(text):
            yield at, len(text), token, len(whole.ids)

    def _plain(self, text: str, *, first: bool) -> Spans:
        found = self.tokenizer.backend.stretch(self.hidden.reveal(text), first=first, bare=True)
        special = self.tokenizer.special_ids
        parsed = sorted({special[i] for i in found.ids if i in special} & set(self.hidden.texts.values()))
        if parsed:
            # Unigram in a tokenizer.json finds </s> in text, because it is a piece of the model itself.
            raise RowError("special_token_in_text", "this tokenizer cannot take as plain text: " + ", ".join(parsed))
        place: list[int] = []
        for n, character in enumerate(text):
            place += [n] * len(self.hidden.texts.get(character, " "))
        place.append(len(text))
        return Spans(found.ids, [(place[a], place[b - 1] + 1 if b > a else place[a]) for a, b in found.spans])
