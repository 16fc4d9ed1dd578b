"""A SentencePiece model (``tokenizer.model``, ``spiece.model``) on the ``sentencepiece`` library.

The rule for a template's text is that of the reference code (meta-llama/llama ``generation.py``: every turn is encoded
apart, between the ids of BOS and EOS): the text is split at the added tokens (control pieces, and what the
configuration names), and each stretch between them is encoded by the library as a text of its own, with the space that
it puts before a text where the model says so. ``</s>Hello`` is ``</s>``, ``▁Hello``. Within a stretch nothing is parsed
as control: sentencepiece takes ``</s>`` there as plain text. transformers' slow tokenizers (``legacy``) and the
tokenizer.json of Llama 2 (Prepend normalizer) do the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.tokenize.backend import UNBOUNDED, Added, Spans, Splitter, split_spans

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2

NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"
"""Appended to a serialised model, protobuf merges it in: normalizer_spec { add_dummy_prefix: false }."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a serialised model says of itself (sentencepiece_model.proto)."""

    pieces: tuple[tuple[str, float, int], ...]
    """(piece, score, type) by id"""
    model_type: int
    dummy_prefix: bool
    drops_space: bool
    """runs of white space become one, those at the ends vanish"""
    charsmap: bytes
    """the compiled normalization; empty for identity"""


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: -1, 5: 4}[kind]
        if size < 0:
            size = varint()
        if at + size > len(data):
            raise IndexError("truncated")
        yield key >> 3, data[at : at + size]
        at += size


def read_spec(data: bytes) -> ModelSpec:
    """Raises ValueError where ``data`` is no SentencePiece model."""
    pieces: list[tuple[str, float, int]] = []
    model_type, dummy_prefix, drops_space, charsmap = UNIGRAM, True, True, b""
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                piece, score, kind = "", 0.0, NORMAL
                for n, v in _fields(value):
                    if n == 1 and isinstance(v, bytes):
                        piece = v.decode("utf-8")
                    elif n == 2 and isinstance(v, bytes):
                        score = struct.unpack("<f", v)[0]
                    elif n == 3 and isinstance(v, int):
                        kind = v
                pieces.append((piece, score, kind))
            elif number == 2 and isinstance(value, bytes):
                model_type = next((v for n, v in _fields(value) if n == 3 and isinstance(v, int)), model_type)
            elif number == 3 and isinstance(value, bytes):
                for n, v in _fields(value):
                    if n == 2 and isinstance(v, bytes):
                        charsmap = v
                    elif n == 3 and isinstance(v, int):
                        dummy_prefix = bool(v)
                    elif n == 4 and isinstance(v, int):
                        drops_space = bool(v)
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as problem:
        raise ValueError("not a SentencePiece model") from problem
    if not pieces:
        raise ValueError("not a SentencePiece model: it holds no piece")
    return ModelSpec(pieces=tuple(pieces), model_type=model_type, dummy_prefix=dummy_prefix, drops_space=drops_space, charsmap=charsmap)


class SentencePieceBackend:
    """``added``: tokens beside the control pieces, by id, which the configuration names. ``add_bos``: BOS before a text."""

    library = "sentencepiece"

    def __init__(self, file: Path, data: bytes, spec: ModelSpec, added: Mapping[int, Added], *, add_bos: bool) -> None:
        from sentencepiece import SentencePieceProcessor

        self.file = file
        self.spec = spec
        self._engine: Any = SentencePieceProcessor(model_proto=data)
        self._inner: Any = SentencePieceProcessor(model_proto=data + NO_DUMMY_PREFIX) if spec.dummy_prefix else self._engine
        control = {i: Added(text=p) for i, (p, _, kind) in enumerate(spec.pieces) if kind in (CONTROL, UNKNOWN)}
        given = {a.text for a in added.values()}
        self.added: Mapping[int, Added] = {**{i: a for i, a in control.items() if a.text not in given}, **added}
        self._splitter = Splitter(self.added)
        self._words = {i: a for i, a in self.added.items() if not a.special}
        self._ids = {p: i for i, (p, _, _) in enumerate(spec.pieces)}
        self._added_ids = {a.text: i for i, a in self.added.items()}
        bos, eos, pad = self._engine.bos_id(), self._engine.eos_id(), self._engine.pad_id()
        unknown: int = self._engine.unk_id()
        self.unknown: int | None = unknown
        renamed = unknown in added and added[unknown].text != spec.pieces[unknown][0]
        self._writes_unknown = not renamed and all(kind != BYTE for _, _, kind in spec.pieces)
        named = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": unknown}
        self.names = {name: spec.pieces[i][0] for name, i in named.items() if i >= 0}
        self.bos_prefix: tuple[int, ...] = (bos,) if add_bos and bos >= 0 else ()

    # -- vocabulary --------------------------------------------------------------------------------

    @cached_property
    def size(self) -> int:
        return max(len(self.spec.pieces), max(self.added, default=-1) + 1)

    @cached_property
    def byte_pieces(self) -> bool:
        return any(kind == BYTE for _, _, kind in self.spec.pieces)

    @cached_property
    def max_token_chars(self) -> int:
        if not self.byte_pieces or self.spec.drops_space or self.spec.charsmap or any(a.lstrip or a.rstrip for a in self.added.values()):
            return UNBOUNDED
        return max(len(t) for t in (*self._ids, *self._added_ids))

    @cached_property
    def equal_scores(self) -> int:
        """Of a BPE model: how many pieces share the score of the largest such group (runs of spaces aside).
        sentencepiece merges the leftmost of equal candidates, which no list of merges can say."""
        if self.spec.model_type != BPE:
            return 0
        groups: dict[float, int] = {}
        for piece, score, kind in self.spec.pieces:
            if kind == NORMAL and len(piece) > 1 and piece.strip("▁"):
                groups[score] = groups.get(score, 0) + 1
        largest = max(groups.values(), default=0)
        return largest if largest > 1 else 0

    def token(self, token_id: int) -> str | None:
        if token_id in self.added:
            return self.added[token_id].text
        return self.spec.pieces[token_id][0] if 0 <= token_id < len(self.spec.pieces) else None

    def id_of(self, token: str) -> int | None:
        found = self._added_ids.get(token)
        return found if found is not None else self._ids.get(token)

    def token_bytes(self, token_id: int) -> bytes:
        token = self.token(token_id)
        if token is None:
            return f"<{token_id}>".encode()
        if token_id not in self.added and self.spec.pieces[token_id][2] == BYTE:
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()

    # -- encoding ----------------------------------------------------------------------------------

    def ids(self, text: str) -> list[int]:
        out: list[int] = []
        for start, end, token in self._splitter.split(text):
            if token is not None:
                out.append(token)
            else:
                out += self._engine.encode(text[start:end])
        return out

    def encode(self, text: str) -> Spans:
        return split_spans(text, self._splitter, self.added, self._stretch)

    def stretch(self, text: str, *, first: bool = True, bare: bool = False) -> Spans:
        return self._stretch(text) if bare or not self._words else split_spans(text, Splitter(self._words), self.added, self._stretch)

    def _stretch(self, text: str) -> Spans:
        found = self._engine.encode(text, return_type="offset_mapping")
        # The dummy prefix, and all but the last token of a character, come with an empty span before that character.
        return Spans(found["ids"], [(a, b) if b > a else (a, min(a + 1, len(text))) for a, b in found["offsets"]])

    def continuation(self, text: str, after: str) -> list[int]:
        out: list[int] = []
        for start, end, token in self._splitter.split(text):
            if token is not None:
                out.append(token)
                continue
            # Where white space is dropped, what follows it begins with the space that it leaves.
            fresh = start > 0 or (self.spec.drops_space and after[-1:].isspace())
            out += (self._engine if fresh else self._inner).encode(text[start:end])
        return out

    def decode(self, ids: Sequence[int]) -> str:
        out: list[str] = []
        held: list[int] = []
        for i in ids:
            if 0 <= i < len(self.spec.pieces) and (i not in self.added or (i == self.unknown and self._writes_unknown)):
                held.append(i)  # an unknown word: the library writes its mark for it
                continue
            if held:
                out.append(self._engine.decode(held))
                held = []
            out.append(self.added[i].text if i in self.added else f"<{i}>")
        if held:
            out.append(self._engine.decode(held))
        return "".join(out)


def open_sentencepiece(file: Path, added: Mapping[int, Added], *, add_bos: bool) -> SentencePieceBackend:
    """Raises GogptError TOK410, ENV111."""
    try:
        data = file.read_bytes()
        return SentencePieceBackend(file, data, read_spec(data), added, add_bos=add_bos)
    except ImportError as problem:
        raise GogptError("ENV111", "a SentencePiece tokenizer needs the package sentencepiece", where=str(file),
                         fix="pip install sentencepiece") from problem
    except (OSError, ValueError, RuntimeError) as problem:
        raise GogptError("TOK410", f"{file.name} cannot be read: {problem}", where=str(file), fix="download the file again") from problem
