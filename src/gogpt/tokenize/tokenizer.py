"""The Tokenizer: one interface to every family, with the names that the model's configuration gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from gogpt.errors import GogptError
from gogpt.records import TokenArray
from gogpt.tokenize.backend import Backend, Spans
from gogpt.tokenize.load import NAMED, load_backend, named, read_json


class Tokenizer:
    """A model folder's tokenizer, exactly as the library that it was made with encodes.

    Raises GogptError TOK410 where the folder has no readable tokenizer, ENV111 where its library is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = read_json(self.folder / "tokenizer_config.json")
        self.special_map = read_json(self.folder / "special_tokens_map.json")
        self.generation_config = read_json(self.folder / "generation_config.json")
        loaded = load_backend(self.folder, self.config, self.special_map)
        self.backend: Backend = loaded.backend
        self.other: Backend | None = loaded.other
        """another file of the folder that holds the same tokenizer, and should encode the same (TOK411)"""

    # -- names -------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return str(self.folder)

    def _named(self, key: str) -> str | None:
        said = named(key, self.config, self.special_map)
        return said if said is not None or key in self.config else self.backend.names.get(key)

    @cached_property
    def bos_token(self) -> str | None:
        """BOS, or what takes its place (BERT's [CLS])."""
        return self._named("bos_token") or self._named("cls_token")

    @cached_property
    def eos_token(self) -> str | None:
        """EOS, or what takes its place (BERT's [SEP])."""
        return self._named("eos_token") or self._named("sep_token")

    @cached_property
    def pad_token(self) -> str | None:
        return self._named("pad_token")

    def id_of(self, token: str | None) -> int | None:
        return None if token is None else self.backend.id_of(token)

    @property
    def bos_id(self) -> int | None:
        return self.id_of(self.bos_token)

    @property
    def eos_id(self) -> int | None:
        return self.id_of(self.eos_token)

    @property
    def pad_id(self) -> int | None:
        return self.id_of(self.pad_token)

    @cached_property
    def size(self) -> int:
        """Highest token id + 1: the number of embedding rows that this tokenizer needs."""
        return self.backend.size

    @cached_property
    def special_ids(self) -> dict[int, str]:
        """Ids and texts of the added tokens that are special."""
        return {i: a.text for i, a in self.backend.added.items() if a.special}

    @cached_property
    def added_ids(self) -> frozenset[int]:
        """Ids of tokens between which text is encoded apart. (An unknown word's token is one of a stretch.)"""
        return frozenset(self.backend.added) - {self.backend.unknown}

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        return tuple(self.special_ids.values())

    @cached_property
    def special_names(self) -> dict[str, str]:
        """``bos_token``, ``eos_token``, ... as chat templates see them."""
        return {n: v for n in NAMED if (v := self._named(n)) is not None}

    @cached_property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts of EOS and of the stop tokens that generation_config.json names."""
        ids = self.generation_config.get("eos_token_id")
        ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
        if not all(isinstance(i, int) and i >= 0 for i in ids):
            raise GogptError("TOK410", "eos_token_id is no token id", where=str(self.folder / "generation_config.json"), got=repr(ids)[:80],
                             expected="a token id, or a list of them", fix="correct it, or download the file again")
        texts = [self.eos_token, *(self.backend.token(i) for i in ids)]
        return tuple(dict.fromkeys(t for t in texts if t))

    @cached_property
    def chat_template(self) -> str | None:
        file = self.folder / "chat_template.jinja"
        if file.is_file():
            try:
                return file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as problem:
                raise GogptError("TOK421", f"the chat template cannot be read: {problem}", where=str(file),
                                 fix="save it as UTF-8 text") from problem
        value = self.config.get("chat_template")
        if isinstance(value, list):
            by_name = {t.get("name"): t.get("template") for t in value if isinstance(t, Mapping)}
            value = by_name.get("default") or next(iter(by_name.values()), None)
        return value if isinstance(value, str) else None

    @cached_property
    def max_token_chars(self) -> int:
        """Most characters of one token: text of n characters has at least n / this tokens."""
        return self.backend.max_token_chars

    @cached_property
    def special_pattern(self) -> re.Pattern[str] | None:
        texts = sorted((t for t in self.special_texts if t), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts))) if texts else None

    # -- encoding ----------------------------------------------------------------------------------

    @cached_property
    def bos_prefix(self) -> tuple[int, ...]:
        """What the tokenizer itself puts before a text; empty for most byte-level BPE."""
        return self.backend.bos_prefix

    def ids(self, text: str) -> list[int]:
        """Ids of the whole text, special token texts parsed, nothing added."""
        return self.backend.ids(text)

    def encode(self, text: str) -> Spans:
        """The same, with the characters that each token stands for."""
        return self.backend.encode(text)

    def plain_ids(self, text: str) -> list[int]:
        """Ids of the text as a user's: what spells a special token is plain text."""
        return self.backend.stretch(text).ids

    def continuation(self, text: str, after: str = "\n") -> list[int]:
        """Ids of ``text`` where it continues other text (``after``): without the space that SentencePiece-style
        tokenizers put before a text (measured: ``Hello`` after a prompt is not ``▁Hello``)."""
        return self.backend.continuation(text, after)

    def begun(self, token: int, text: str) -> list[int]:
        """Ids of ``text`` as the first of a stretch: right after the added token of id ``token``."""
        added = self.backend.added[token]
        both = self.ids(added.text + text)
        # A token that swallows white space would take it from the text.
        return both[1:] if both[:1] == [token] and not added.rstrip else self.ids(text)

    def token_of(self, text: str) -> int | None:
        """The one token that ``text`` is where it follows other text, or None (a stop marker: ``</s>``, ``###``)."""
        own = self.backend.id_of(text)
        if own is not None and own in self.added_ids:
            return own
        ids = self.continuation(text, "a")
        return ids[0] if len(ids) == 1 else None

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        return self.backend.decode([int(i) for i in ids])

    def token(self, token_id: int) -> str:
        return self.backend.token(int(token_id)) or f"<{token_id}>"

    def pieces(self, ids: Sequence[int] | TokenArray) -> list[str]:
        """A readable text for each token; tokens that are part of a character join into its last one."""
        out: list[str] = []
        held: list[bytes] = []
        for raw in ids:
            held.append(self.backend.token_bytes(int(raw)))
            text = b"".join(held).decode("utf-8", errors="replace")
            if text.endswith("�") and len(held) < 4:
                out.append("")
                continue
            out.append(text)
            held = []
        return out
