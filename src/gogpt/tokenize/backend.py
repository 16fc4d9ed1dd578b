"""What every tokenizer library looks like from here: text to ids and spans, ids to text.

Spans are character positions ``(start, end)`` in the text that was given. A token that holds a part of a
character spans the whole character; the space that SentencePiece puts before a text spans the first character; white
space that a special token swallows (Phi-3's ``<|end|>``) belongs to no token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

UNBOUNDED = 10**9
"""``max_token_chars`` of a tokenizer whose tokens may stand for any number of characters (an unknown word)."""


class Spans(NamedTuple):
    """Token ids and the characters that each stands for."""

    ids: list[int]
    spans: list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A token that is found in a template's text as a whole, before the text around it is encoded."""

    text: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False


class Backend(Protocol):
    """One tokenizer file in one library.

    A *stretch* is text between two added tokens: every library here encodes stretches apart from each other.
    """

    @property
    def library(self) -> str: ...
    @property
    def file(self) -> Path: ...
    @property
    def added(self) -> Mapping[int, Added]: ...
    @property
    def unknown(self) -> int | None:
        """The token of a word or character that the vocabulary cannot write."""
        ...

    @property
    def size(self) -> int:
        """Highest token id + 1."""
        ...

    @property
    def max_token_chars(self) -> int:
        """Most characters that one token stands for; UNBOUNDED where there is no limit."""
        ...

    @property
    def bos_prefix(self) -> tuple[int, ...]:
        """Ids that the tokenizer itself puts before a text."""
        ...

    @property
    def names(self) -> Mapping[str, str]:
        """``bos_token``, ``eos_token``, ``pad_token`` as the file itself says (no configuration is asked)."""
        ...

    def ids(self, text: str) -> list[int]:
        """Ids of a template's text: added tokens found in it."""
        ...

    def encode(self, text: str) -> Spans:
        """The same with spans."""
        ...

    def stretch(self, text: str, *, first: bool = True, bare: bool = False) -> Spans:
        """Ids of text in which special tokens are plain text (``bare``: every added token is, also those that are not
        special, such as Qwen's ``<think>``). ``first``: nothing stands before it."""
        ...

    def continuation(self, text: str, after: str) -> list[int]:
        """Ids of ``text`` where it continues the stretch that ends in ``after``."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...
    def token(self, token_id: int) -> str | None: ...
    def token_bytes(self, token_id: int) -> bytes:
        """What the token stands for, in UTF-8; may be a part of a character."""
        ...

    def id_of(self, token: str) -> int | None: ...


class Splitter:
    """Finds added tokens in text: the leftmost, and of those the longest, as transformers and tokenizers do."""

    def __init__(self, added: Mapping[int, Added]) -> None:
        self._ids = {a.text: i for i, a in added.items()}
        order = sorted((a for a in added.values() if a.text), key=lambda a: len(a.text), reverse=True)
        parts = [(r"\s*" if a.lstrip else "") + re.escape(a.text) + (r"\s*" if a.rstrip else "") for a in order]
        self._strips = any(a.lstrip or a.rstrip for a in order)
        self._pattern = re.compile("|".join(parts)) if parts else None

    def split(self, text: str) -> Iterator[tuple[int, int, int | None]]:
        """``(start, end, id)`` of every part in order; id None for a stretch. Empty stretches are left out."""
        at = 0
        for found in self._pattern.finditer(text) if self._pattern else ():
            if found.start() > at:
                yield at, found.start(), None
            key = found.group()
            if self._strips and key not in self._ids:
                key = key.strip()
            yield found.start(), found.end(), self._ids[key]
            at = found.end()
        if at < len(text):
            yield at, len(text), None


def split_spans(text: str, splitter: Splitter, added: Mapping[int, Added], stretch: Callable[[str], Spans]) -> Spans:
    """Ids and spans of a text in which ``splitter`` finds added tokens; ``stretch`` encodes what lies between them."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for start, end, token in splitter.split(text):
        if token is not None:
            ids.append(token)
            spans.append(within(text, start, end, added[token]))
            continue
        found = stretch(text[start:end])
        ids += found.ids
        spans += [(a + start, b + start) for a, b in found.spans] if start else found.spans
    return Spans(ids, spans)


def within(text: str, start: int, end: int, token: Added) -> tuple[int, int]:
    """The place of an added token's own text in a match that took in the white space around it (lstrip, rstrip)."""
    at = text.find(token.text, start, end)
    return (at, at + len(token.text)) if at >= 0 else (start, end)


def byte_spans(text: str, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Character spans of tokens of these lengths in bytes, which together are the UTF-8 form of ``text``."""
    out: list[tuple[int, int]] = []
    at = 0
    if text.isascii():
        for length in lengths:
            out.append((at, at + length))
            at += length
        return out
    # The character that each byte belongs to.
    owner: list[int] = []
    for number, character in enumerate(text):
        code = ord(character)
        owner += [number] * (1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4)
    for length in lengths:
        if length == 0:
            place = owner[at] if at < len(owner) else len(text)
            out.append((place, place))
            continue
        out.append((owner[at], owner[at + length - 1] + 1))
        at += length
    return out
