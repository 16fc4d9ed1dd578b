"""Byte-level BPE by ranks on the ``tiktoken`` library: Tekken (``tekken*.json``) and ``.tiktoken`` files.

Both libraries' own encoders take text as plain text and put control tokens in by id; in a template's text those are
found as a whole and the stretches between are encoded apart, which is what their chat encoders do (mistral-common
``instruct.py``: ``[INST]`` by id, then the text).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.tokenize.backend import Added, Spans, Splitter, byte_spans, split_spans

TEKKEN_SPECIAL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
    "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)
"""Of Tekken files up to v7, which do not list them (mistral-common ``tekken.py``)."""

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_O200K = "|".join((
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
))
_CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
           r"\s+(?!\S)|\s")

KNOWN: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "r50k_base": (_GPT2, {"<|endoftext|>": 50256}),
    "p50k_base": (_GPT2, {"<|endoftext|>": 50256}),
    "cl100k_base": (_CL100K, {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259,
                              "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}),
    "o200k_base": (_O200K, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
}
"""A .tiktoken file holds ranks alone; pattern and special tokens by its name (tiktoken ``openai_public.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """A rank file with all that encoding needs. Ids of text are ``shift`` + rank."""

    ranks: Mapping[bytes, int]
    pattern: str
    special: Mapping[int, str]
    shift: int
    names: Mapping[str, str]
    add_bos: bool


class RanksBackend:
    """``added``: tokens that the configuration names beside the file's own, by id."""

    library = "tiktoken"
    unknown: int | None = None

    def __init__(self, file: Path, source: Ranks, added: Mapping[int, Added]) -> None:
        import tiktoken

        self.file = file
        self.source = source
        self.names = source.names
        self._engine: Any = tiktoken.Encoding(file.stem, pat_str=source.pattern, mergeable_ranks=dict(source.ranks), special_tokens={})
        given = {a.text for a in added.values()}
        own = {i: Added(text=t) for i, t in source.special.items() if t not in given}
        self.added: Mapping[int, Added] = {**own, **added}
        self._splitter = Splitter(self.added)
        self._words = {i: a for i, a in self.added.items() if not a.special}
        self._added_ids = {a.text: i for i, a in self.added.items()}
        self._bytes = {rank: data for data, rank in source.ranks.items()}
        bos = self._added_ids.get(source.names.get("bos_token", ""))
        self.bos_prefix: tuple[int, ...] = (bos,) if source.add_bos and bos is not None else ()

    @cached_property
    def size(self) -> int:
        return max(self.source.shift + max(self._bytes, default=-1), max(self.added, default=-1)) + 1

    @cached_property
    def max_token_chars(self) -> int:
        return max(max(map(len, self._bytes.values()), default=1), max((len(a.text) for a in self.added.values()), default=1))

    def token(self, token_id: int) -> str | None:
        if token_id in self.added:
            return self.added[token_id].text
        data = self._bytes.get(token_id - self.source.shift)
        return None if data is None else data.decode("utf-8", errors="backslashreplace")

    def id_of(self, token: str) -> int | None:
        found = self._added_ids.get(token)
        if found is not None:
            return found
        rank = self.source.ranks.get(token.encode())
        return None if rank is None else self.source.shift + rank

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self.added:
            return self.added[token_id].text.encode()
        return self._bytes.get(token_id - self.source.shift, f"<{token_id}>".encode())

    def _plain(self, text: str) -> list[int]:
        shift = self.source.shift
        ranks = self._engine.encode_ordinary(text)
        return [r + shift for r in ranks] if shift else list(ranks)

    def ids(self, text: str) -> list[int]:
        out: list[int] = []
        for start, end, token in self._splitter.split(text):
            out += [token] if token is not None else self._plain(text[start:end])
        return out

    def encode(self, text: str) -> Spans:
        return split_spans(text, self._splitter, self.added, self._stretch)

    def stretch(self, text: str, *, first: bool = True, bare: bool = False) -> Spans:
        return self._stretch(text) if bare or not self._words else split_spans(text, Splitter(self._words), self.added, self._stretch)

    def _stretch(self, text: str) -> Spans:
        ids = self._plain(text)
        shift = self.source.shift
        return Spans(ids, byte_spans(text, [len(self._bytes[i - shift]) for i in ids]))

    def continuation(self, text: str, after: str) -> list[int]:
        return self.ids(text)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")


def read_tekken(file: Path) -> Ranks:
    """Raises GogptError TOK410."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        config = data["config"]
        room = int(config["default_num_special_tokens"])
        listed = data.get("special_tokens")
        special = list(TEKKEN_SPECIAL) if listed is None else [t["token_str"] for t in sorted(listed, key=lambda t: int(t["rank"]))]
        special += [f"<SPECIAL_{i}>" for i in range(len(special), room)]
        vocab = data["vocab"][: int(config["default_vocab_size"]) - room]
        ranks = {base64.b64decode(t["token_bytes"]): int(t["rank"]) for t in vocab}
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        return Ranks(ranks=ranks, pattern=config["pattern"], special=dict(enumerate(special)), shift=room,
                     names={k: v for k, v in names.items() if v in special}, add_bos=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise GogptError("TOK410", f"the Tekken file cannot be read: {problem!r}", where=str(file), fix="download the file again") from problem


RANK_LINE = re.compile(rb"[A-Za-z0-9+/=]+ [0-9]+\r?\n")


def is_rank_file(file: Path) -> bool:
    """Whether a file begins as tiktoken's do: base64, a space, a rank. (Llama 3's ``tokenizer.model`` is one.)"""
    try:
        with file.open("rb") as f:
            return RANK_LINE.match(f.read(4096)) is not None
    except OSError:
        return False


def read_tiktoken(file: Path, pattern: str | None) -> Ranks:
    """``pattern``: what splits the text before ranks are merged, where the configuration says it (``pat_str``).

    Raises GogptError TOK410, also for a file of unknown name without a pattern.
    """
    known = KNOWN.get(file.stem)
    if pattern is None and known is None:
        raise GogptError("TOK410", "a .tiktoken file does not say how text is split, and this name is not known", where=str(file),
                         got=file.name, expected=", ".join(f"{n}.tiktoken" for n in KNOWN) + ', or "pat_str" in tokenizer_config.json',
                         fix="use the model's version with a tokenizer.json, or write the pattern into tokenizer_config.json")
    try:
        lines = (line.split() for line in file.read_bytes().splitlines() if line.strip())
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    except (OSError, ValueError, binascii.Error) as problem:
        raise GogptError("TOK410", f"the file of ranks cannot be read: {problem}", where=str(file), fix="download the file again") from problem
    text, special = known if known is not None else ("", {})
    names = {"eos_token": "<|endoftext|>"} if "<|endoftext|>" in special else {}
    return Ranks(ranks=ranks, pattern=pattern or text, special={i: t for t, i in special.items()}, shift=0, names=names, add_bos=False)


def open_ranks(file: Path, added: Mapping[int, Added], *, pattern: str | None = None) -> RanksBackend:
    """Raises GogptError TOK410, ENV111 (tiktoken is not installed)."""
    source = read_tekken(file) if file.suffix == ".json" else read_tiktoken(file, pattern)
    try:
        return RanksBackend(file, source, added)
    except ImportError as problem:
        raise GogptError("ENV111", f"{file.name} needs the package tiktoken", where=str(file),
                         fix="pip install 'gogpt[tokenizers]'") from problem
    except (ValueError, OverflowError) as problem:
        raise GogptError("TOK410", f"{file.name} cannot be used: {problem}", where=str(file), fix="download the file again") from problem
