"""A base tokenizer with more tokens. Every id of the base stays, and every new token is merged after every token of the base.

What that gives, for byte-level BPE and for SentencePiece BPE: a text is first merged exactly as the base merges it, and
then runs of those tokens become new ones. So text in which no new token is found encodes as before, no text gets longer,
and a new token stands for exactly those tokens of the base of which its row can be made. Two things keep it true:

- A new merge never makes a token of the base. A list of merges cannot do so by itself; sentencepiece merges whatever
  together is a piece, so a piece that would open a second way to a piece of the base is left out (``opens_another_way``).
- A token that the base's own merges cut in more than two would never be reached; it is left out (``unreachable``), where
  the usual way of merging vocabularies leaves dead rows (arXiv:2512.03989).

Chinese-LLaMA gave its new pieces the score 0, the highest of all (merge_tokenizers.py): they are merged before the base's,
so that the base's text is cut otherwise, and equal scores can be written in no tokenizer.json. Here the scores go on
downwards from the base's lowest, all different.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gogpt.errors import GogptError
from gogpt.tokenize.backend import Added, Backend
from gogpt.tokenize.fast import BYTE as BYTE_PIECE
from gogpt.tokenize.fast import BYTES_OF, FastBackend
from gogpt.tokenize.merging import Rank, by_pairs, by_scores, merge_symbols, merges_of, ranks_of
from gogpt.tokenize.spm import BPE, CONTROL, NORMAL, UNUSED, SentencePieceBackend

KINDS = {"byte-level": "byte-level BPE", "sentencepiece": "SentencePiece BPE", "unigram": "Unigram", "wordpiece": "WordPiece",
         "ranks": "a file of ranks (Tekken, tiktoken)", "other": "a tokenizer of another kind"}


def kind_of(backend: Backend) -> str:
    """A key of ``KINDS``. The first two can be extended."""
    if isinstance(backend, SentencePieceBackend):
        return "sentencepiece" if backend.spec.model_type == BPE else "unigram"
    if not isinstance(backend, FastBackend):
        return "ranks"
    model = backend.raw.get("model") or {}
    if model.get("type") == "BPE":
        return "byte-level" if backend.byte_level else "sentencepiece" if model.get("byte_fallback") else "other"
    return str(model.get("type", "other")).lower() if model.get("type") in ("Unigram", "WordPiece") else "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """``text`` as the vocabulary spells it; ``pieces``: ids of the base that its text was; ``pair``: the two tokens that
    make it (None: one character)."""

    id: int
    text: str
    pieces: tuple[int, ...]
    pair: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    kind: str
    first_id: int
    tokens: tuple[NewToken, ...]
    present: int
    """tokens of the new vocabulary that the base has"""
    left_out: Mapping[str, int]
    """reason -> number: unreachable, cut_by_the_base, opens_another_way"""

    @property
    def size(self) -> int:
        return self.first_id + len(self.tokens)


# -- the new vocabulary ----------------------------------------------------------------------------


def candidates(backend: Backend) -> list[str]:
    """The ordinary tokens of a vocabulary as it spells them: single characters, then the others in the order they were learnt."""
    if isinstance(backend, SentencePieceBackend):
        found = [(i, p) for i, (p, _, kind) in enumerate(backend.spec.pieces) if kind == NORMAL and i not in backend.added]
    else:
        assert isinstance(backend, FastBackend)
        vocab = (backend.document().get("model") or {}).get("vocab") or {}
        found = sorted((i, t) for t, i in vocab.items() if i not in backend.added and i != backend.unknown and not BYTE_PIECE.fullmatch(t))
    return [t for _, t in sorted(found, key=lambda item: (len(item[1]) > 1, item[0])) if t]


# -- the base --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Growing:
    """A base vocabulary to which tokens are added one by one."""

    backend: Backend
    kind: str
    size: int
    vocab: dict[str, int] = field(default_factory=dict)
    rank: Rank = field(default=lambda a, b: None)
    pieces: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """base ids of each new token"""
    scores: dict[str, float] | None = None
    ranks: dict[tuple[str, str], int] | None = None
    rest_after: dict[str, set[str]] = field(default_factory=dict)
    rest_before: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, backend: Backend, size: int) -> Growing:
        """``size``: highest id of the base + 1."""
        grown = cls(backend=backend, kind=kind_of(backend), size=size)
        if isinstance(backend, SentencePieceBackend):
            grown.scores = {p: s for p, s, kind in backend.spec.pieces if kind == NORMAL}
            grown.vocab = {p: i for i, (p, _, kind) in enumerate(backend.spec.pieces) if kind == NORMAL}
            grown.rank = by_scores(grown.scores)
            for piece in grown.vocab:
                for cut in range(1, len(piece)):
                    grown.rest_after.setdefault(piece[:cut], set()).add(piece[cut:])
                    grown.rest_before.setdefault(piece[cut:], set()).add(piece[:cut])
            return grown
        assert isinstance(backend, FastBackend)
        model = backend.document()["model"]
        grown.vocab = dict(model["vocab"])
        grown.ranks = ranks_of(merges_of(model))
        grown.rank = by_pairs(grown.ranks)
        return grown

    def base_ids(self, token: str) -> tuple[int, ...]:
        """Ids of the base that a known token, or a character without one, is written with."""
        if token in self.pieces:
            return self.pieces[token]
        if token in self.vocab:
            return (self.vocab[token],)
        found = [self.backend.id_of(f"<0x{b:02X}>") for b in token.encode("utf-8", "surrogatepass")]
        if any(i is None for i in found):
            found = [self.backend.unknown]
        return tuple(i for i in found if i is not None)

    def refusal(self, token: str) -> str | None:
        """Why a token cannot be added: ``present``, or a reason of ``Extension.left_out``; None where it can."""
        if token in self.vocab or self.backend.id_of(token) is not None:
            return "present"
        if len(token) > 1 and not all(c in self.vocab for c in token):
            return "unreachable"
        if len(token) > 1 and len(merge_symbols(token, self.rank)) != 2:
            return "unreachable"
        if len(token) == 1 and not self.base_ids(token):
            return "unreachable"  # a byte that no UTF-8 has, or a character that the base cannot write
        if not self._is_whole(token):
            return "cut_by_the_base"
        ways = [*self.rest_after.get(token, ()), *self.rest_before.get(token, ())]
        return "opens_another_way" if any(rest in self.vocab for rest in ways) else None

    def add(self, token: str) -> NewToken:
        pair = None
        if len(token) > 1:
            left, right = merge_symbols(token, self.rank)
            pair = (left, right)
        base = self.base_ids(token) if pair is None else (*self.base_ids(pair[0]), *self.base_ids(pair[1]))
        number = self.size + len(self.pieces)
        self.pieces[token] = base
        self.vocab[token] = number
        if self.scores is not None:
            self.scores[token] = self._next_score()
        elif self.ranks is not None and pair is not None:
            self.ranks[pair] = len(self.ranks) + len(self.pieces) + 1
        return NewToken(id=number, text=token, pieces=base, pair=pair)

    def _next_score(self) -> float:
        assert self.scores is not None
        lowest = np.float32(next(reversed(self.scores.values())) if self.pieces and len(self.pieces) > 1 else min(self.scores.values(), default=0.0))
        return float(min(np.float32(lowest - np.float32(1)), np.nextafter(lowest, np.float32(-np.inf))))

    def _is_whole(self, token: str) -> bool:
        """Whether the base's own steps before merging keep the token's text together."""
        if not isinstance(self.backend, FastBackend):
            return True
        engine = self.backend.engine
        if self.kind == "sentencepiece":
            return "▁" not in token[1:] or '"Metaspace"' not in json.dumps(self.backend.raw.get("pre_tokenizer"))
        try:
            text = bytes(BYTES_OF[c] for c in token).decode()
        except (UnicodeDecodeError, KeyError):
            return all(c in BYTES_OF for c in token)  # part of a character
        if engine.normalizer is not None and engine.normalizer.normalize_str(text) != text:
            return False
        found = engine.pre_tokenizer.pre_tokenize_str(text) if engine.pre_tokenizer is not None else [(token, None)]
        return [piece for piece, _ in found] == [token]


def extend(base: Backend, size: int, new: Backend, *, most: int | None = None) -> Extension:
    """The tokens that ``new`` adds to ``base``, ids from ``size`` on; at most ``most`` of them, the first learnt.

    Raises GogptError TOK432 (they cannot be merged), TOK433 (nothing is new).
    """
    kinds = kind_of(base), kind_of(new)
    if kinds[0] not in ("byte-level", "sentencepiece"):
        raise GogptError("TOK432", f"a base of this kind cannot be extended: {KINDS[kinds[0]]}", where=str(base.file),
                         expected=f"{KINDS['byte-level']} or {KINDS['sentencepiece']}",
                         fix="take the model's version with a tokenizer.json" if kinds[0] == "ranks" else "take another base")
    if kinds[0] != kinds[1]:
        raise GogptError("TOK432", "the new vocabulary is of another kind than the base", where=str(new.file), got=KINDS[kinds[1]],
                         expected=KINDS[kinds[0]],
                         fix=f"gogpt tokenizer train CORPUS -o NEW --kind {'bpe' if kinds[0] == 'byte-level' else 'sentencepiece'}")
    growing = Growing.of(base, size)
    tokens: list[NewToken] = []
    counts: dict[str, int] = {}
    for token in candidates(new):
        if most is not None and len(tokens) >= most:
            break
        reason = growing.refusal(token)
        if reason is None:
            tokens.append(growing.add(token))
        else:
            counts[reason] = counts.get(reason, 0) + 1
    present = counts.pop("present", 0)
    if not tokens:
        raise GogptError("TOK433", "the new vocabulary adds nothing to the base", where=str(new.file),
                         got=f"{present} tokens that the base has" + "".join(f", {n} {reason}" for reason, n in counts.items()),
                         fix="train it on text that the base cuts into many pieces")
    return Extension(kind=kinds[0], first_id=size, tokens=tuple(tokens), present=present, left_out=counts)


# -- files -----------------------------------------------------------------------------------------


def extended_document(document: Mapping[str, Any], added: Mapping[int, Added], extension: Extension) -> dict[str, Any]:
    """A tokenizer.json with the new tokens. Added tokens get a place in the vocabulary: the library gives one that has
    none the first id after it, and their ids would move."""
    model = dict(document["model"])
    vocab = {**model["vocab"], **{a.text: i for i, a in added.items() if a.text not in model["vocab"]}}
    vocab |= {t.text: t.id for t in extension.tokens}
    model["vocab"] = dict(sorted(vocab.items(), key=lambda item: item[1]))
    model["merges"] = [list(pair) for pair in (*merges_of(document["model"]), *(t.pair for t in extension.tokens if t.pair is not None))]
    return {**document, "model": model}


def extended_model(base: SentencePieceBackend, data: bytes, extension: Extension) -> bytes:
    """A serialised SentencePiece model with the new pieces. Appended fields are part of a protobuf message, so nothing of
    the base's is written anew. Added tokens beyond the base's pieces get a piece that no text finds, so that ids meet."""
    growing = Growing.of(base, extension.first_id)
    out = [data]
    for number in range(len(base.spec.pieces), extension.first_id):
        added = base.added.get(number) or Added(text=f"<unused_{number}>", special=False)
        out.append(_piece(added.text, 0.0, CONTROL if added.special else UNUSED))
    for token in extension.tokens:
        growing.add(token.text)
        assert growing.scores is not None
        out.append(_piece(token.text, growing.scores[token.text], NORMAL))
    size = b"\x20" + _varint(extension.size)
    out.append(b"\x12" + _varint(len(size)) + size)  # trainer_spec { vocab_size }
    return b"".join(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _piece(text: str, score: float, kind: int) -> bytes:
    data = text.encode("utf-8")
    body = b"\x0a" + _varint(len(data)) + data + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind)
    return b"\x0a" + _varint(len(body)) + body


@dataclass(frozen=True)
class Unchanged:
    """What an extended tokenizer must keep of its base."""

    base: Backend
    size: int

    @cached_property
    def names(self) -> Sequence[str | None]:
        return [self.base.token(i) for i in range(self.size)]

    def first_difference(self, other: Backend) -> str | None:
        """The first id whose token or whose being special is another one now; in words."""
        for number, name in enumerate(self.names):
            if name is not None and other.token(number) != name:
                return f"id {number} was {name!r} and is {other.token(number)!r}"
        special = {i: a.special for i, a in self.base.added.items()}
        moved: Iterable[int] = (i for i, s in special.items() if i not in other.added or other.added[i].special != s)
        return next((f"id {i} ({special[i]}) is no longer an added token" for i in moved), None)
