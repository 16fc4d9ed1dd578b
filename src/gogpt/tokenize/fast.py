"""A ``tokenizer.json`` (or GPT-2's ``vocab.json`` and ``merges.txt``) on the ``tokenizers`` library, as the file says.

transformers may put a normalizer or a pre-tokenizer of its own in place of the file's (measured: Llama 2, SmolLM2);
this class does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.tokenize.backend import UNBOUNDED, Added, Spans, within

BYTE = re.compile(r"<0x[0-9A-F]{2}>")

FIRST_ONLY = '"prepend_scheme": "first"'
"""Metaspace puts its space before the first stretch alone."""

NFC_SHRINKS = 4
"""Most characters that composing (NFC) makes one of."""


def byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable Latin-1 stands for itself, the other bytes for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


BYTES_OF = byte_alphabet()


class FastBackend:
    """``text`` is the content of a tokenizer.json. ``missing``: added tokens that the configuration names beside it."""

    library = "tokenizers"

    def __init__(self, file: Path, text: str, missing: Sequence[Added] = ()) -> None:
        from tokenizers import Tokenizer

        self.file = file
        self.engine = Tokenizer.from_str(text)
        self.raw: dict[str, Any] = json.loads(text)
        raw = self.raw
        self.engine.no_truncation()
        self.engine.no_padding()
        self._add(missing)
        self.bos_prefix = self._bos_prefix()
        if '"trim_offsets": true' in json.dumps(raw.get("post_processor")):
            # It takes spaces out of the spans, so that a token on both sides of a border would not be seen.
            self.engine.post_processor = None
        self.names: Mapping[str, str] = {}
        self._plains: dict[tuple[bool, bool], Any] = {}
        steps = json.dumps([raw.get("normalizer"), raw.get("pre_tokenizer")])
        self.dummy_prefix = '"Prepend"' in steps or ('"Metaspace"' in steps and '"prepend_scheme": "never"' not in steps)
        self.byte_level = "ByteLevel" in json.dumps(raw.get("decoder") or {})

    @classmethod
    def from_file(cls, file: Path, missing: Sequence[Added] = ()) -> FastBackend:
        """Raises GogptError TOK410."""
        try:
            return cls(file, file.read_text(encoding="utf-8"), missing)
        except Exception as problem:  # the Rust library raises plain Exception
            raise GogptError("TOK410", f"{file.name} cannot be read: {problem}", where=str(file), fix="download the file again") from problem

    @classmethod
    def from_vocab(cls, folder: Path, special: Sequence[str], *, add_prefix_space: bool) -> FastBackend:
        """GPT-2's form: vocab.json and merges.txt. ``special``: texts of its special tokens. Raises GogptError TOK410."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        try:
            engine = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        except Exception as problem:
            raise GogptError("TOK410", f"vocab.json and merges.txt cannot be read: {problem}", where=str(folder),
                             fix="download the files again") from problem
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        engine.decoder = decoders.ByteLevel()
        known = engine.get_vocab()
        engine.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in dict.fromkeys(special) if t in known])
        return cls(folder / "vocab.json", engine.to_str())

    def _add(self, missing: Sequence[Added]) -> None:
        from tokenizers import AddedToken

        known = self.engine.get_vocab(with_added_tokens=True)
        for token in missing:
            if token.text not in known:
                added = AddedToken(token.text, special=token.special, normalized=False, lstrip=token.lstrip, rstrip=token.rstrip)
                self.engine.add_special_tokens([added]) if token.special else self.engine.add_tokens([added])

    def _bos_prefix(self) -> tuple[int, ...]:
        plain = self.engine.encode("a", add_special_tokens=False).ids
        full = self.engine.encode("a", add_special_tokens=True).ids
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return tuple(full[:start])
        return ()

    # -- vocabulary --------------------------------------------------------------------------------

    @cached_property
    def added(self) -> Mapping[int, Added]:
        return {i: Added(text=t.content, special=t.special, lstrip=t.lstrip, rstrip=t.rstrip)
                for i, t in self.engine.get_added_tokens_decoder().items()}

    @cached_property
    def unknown(self) -> int | None:
        model = self.raw.get("model") or {}
        if model.get("type") == "Unigram":
            return None if model.get("unk_id") is None else int(model["unk_id"])
        return self.id_of(model["unk_token"]) if model.get("unk_token") else None

    @cached_property
    def size(self) -> int:
        return max(self.engine.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @cached_property
    def max_token_chars(self) -> int:
        model = self.raw.get("model") or {}
        whole = self.byte_level or bool(model.get("byte_fallback"))
        if model.get("type") != "BPE" or not whole or self._strips:
            return UNBOUNDED
        shrinks = 1
        normalizer = self.raw.get("normalizer") or {}
        for step in normalizer.get("normalizers", [normalizer]) if normalizer else ():
            kind = step.get("type")
            if kind == "NFC":
                shrinks = NFC_SHRINKS
            elif kind not in ("Prepend", "Sequence") and not (kind == "Replace" and step.get("pattern") == {"String": " "}):
                return UNBOUNDED
        return shrinks * max((len(t) for t in self.engine.get_vocab(with_added_tokens=True)), default=1)

    def token(self, token_id: int) -> str | None:
        text = self.engine.id_to_token(token_id)
        return None if text is None else str(text)

    def id_of(self, token: str) -> int | None:
        found = self.engine.token_to_id(token)
        return None if found is None else int(found)

    def token_bytes(self, token_id: int) -> bytes:
        token = self.token(token_id)
        if token is None:
            return f"<{token_id}>".encode()
        if token_id not in self.added:
            if self.byte_level and all(c in BYTES_OF for c in token):
                return bytes(BYTES_OF[c] for c in token)
            if BYTE.fullmatch(token):
                return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()

    # -- encoding ----------------------------------------------------------------------------------

    def ids(self, text: str) -> list[int]:
        return list(self.engine.encode(text, add_special_tokens=False).ids) if text else []

    def encode(self, text: str) -> Spans:
        found = self.engine.encode(text, add_special_tokens=False)
        if not self._strips:
            return Spans(found.ids, found.offsets)
        added = self.added
        return Spans(found.ids, [within(text, *span, added[i]) if i in added else span for i, span in zip(found.ids, found.offsets, strict=True)])

    @cached_property
    def _strips(self) -> bool:
        return any(a.lstrip or a.rstrip for a in self.added.values())

    def stretch(self, text: str, *, first: bool = True, bare: bool = False) -> Spans:
        if not text:
            return Spans([], [])
        inner = not first and self._first_only
        if inner or (bare and not all(a.special for a in self.added.values())):
            found = self._plain(not inner, bare).encode(text, add_special_tokens=False)
            return Spans(found.ids, found.offsets)
        self.engine.encode_special_tokens = True
        try:
            found = self.engine.encode(text, add_special_tokens=False)
        finally:
            self.engine.encode_special_tokens = False
        return Spans(found.ids, found.offsets)

    @cached_property
    def _first_only(self) -> bool:
        return FIRST_ONLY in json.dumps(self.raw.get("pre_tokenizer"))

    def _plain(self, first: bool, bare: bool) -> Any:
        """The same tokenizer that takes special tokens as text, or any added one; made when it is asked for."""
        from tokenizers import Tokenizer

        if (first, bare) not in self._plains:
            raw = {**self.document(), "post_processor": None}
            if bare:
                raw["added_tokens"] = []
            if not first:
                pre = json.dumps(raw["pre_tokenizer"]).replace(FIRST_ONLY, '"prepend_scheme": "never"')
                raw["pre_tokenizer"] = json.loads(pre)
            self._plains[first, bare] = Tokenizer.from_str(json.dumps(raw, ensure_ascii=False))
            self._plains[first, bare].encode_special_tokens = True
        return self._plains[first, bare]

    @cached_property
    def drops_space(self) -> bool:
        """White space at the end of a text leaves no token (Unigram, WordPiece)."""
        return self.ids("a\n") == self.ids("a")

    def continuation(self, text: str, after: str) -> list[int]:
        if not self.dummy_prefix:
            return self.ids(text)
        if self.drops_space:
            anchors = ["a\n"] if after[-1:].isspace() else ["a", "。"]
        else:
            anchors = ["\n", "a", "。"]
        for anchor in anchors:
            before, both = self.ids(anchor), self.ids(anchor + text)
            if both[: len(before)] == before:
                return both[len(before):]
        return self.ids(text)

    def decode(self, ids: Sequence[int]) -> str:
        if not self.dummy_prefix or self._first_only:
            return str(self.engine.decode(list(ids), skip_special_tokens=False))
        # Every stretch got a space of its own when it was encoded; the library takes away the first alone.
        out: list[str] = []
        at = 0
        for i, token in enumerate([*ids, -1]):
            if token in self.added or i == len(ids):
                out.append(str(self.engine.decode(list(ids[at:i]), skip_special_tokens=False)) if i > at else "")
                out.append(self.added[token].text if i < len(ids) else "")
                at = i + 1
        return "".join(out)

    def document(self) -> dict[str, Any]:
        """The content of a tokenizer.json that says all that this object does."""
        document: dict[str, Any] = json.loads(self.engine.to_str())
        return {**document, "post_processor": self.raw.get("post_processor"), "truncation": None, "padding": None}
