"""Segments -> Example: encoding as inference encodes, and the painting of trained tokens.

The prompt is encoded whole, as inference does. For a conversation of several answers the whole text is
encoded once, and every boundary at which an answer begins is proven: the ids before it equal the encoding of
the prompt alone, and no token covers characters of both sides. Where a boundary is not clean (an answer that
begins with a newline after ``assistant\\n``, a prompt that ends in a space), the ids are cut there on purpose
and every answer becomes an example of its own, because the ids that inference will see differ from turn to
turn. See TRAPS of joining: huggingface/trl#1623, lm-sys/FastChat#2389.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gogpt.errors import GogptError
from gogpt.records import TokenArray, paint

if TYPE_CHECKING:
    from gogpt.templates.template import Rendering


class Tokenizer:
    """A model folder's tokenizer, exactly as its ``tokenizer.json`` says, on the ``tokenizers`` library.

    transformers may put a normalizer or a pre-tokenizer of its own in place of the file's (measured: Llama 2,
    SmolLM2); this class does not. Raises GogptError TOK410 where the folder has no readable tokenizer.json.
    """

    def __init__(self, folder: str | Path) -> None:
        from tokenizers import Tokenizer as Backend

        self.folder = Path(folder)
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            has_spm = (self.folder / "tokenizer.model").is_file()
            raise GogptError(
                "TOK410", "no tokenizer.json in the model folder", where=str(self.folder),
                got="tokenizer.model alone" if has_spm else ", ".join(sorted(
                    p.name for p in self.folder.glob("*"))[:8]) or "an empty folder",
                expected="tokenizer.json (and tokenizer_config.json)",
                fix="use the model's version with a tokenizer.json; a sentencepiece tokenizer.model is not read yet"
                if has_spm else "give the folder of a model in Hugging Face format, or a hub id",
            )
        try:
            self.backend = Backend.from_file(str(file))
            raw = json.loads(file.read_text(encoding="utf-8"))
        except Exception as problem:  # the Rust library raises plain Exception
            raise GogptError("TOK410", f"tokenizer.json cannot be read: {problem}", where=str(file),
                             fix="download the file again") from problem
        self.backend.no_truncation()
        self.backend.no_padding()
        self.config = _read_json(self.folder / "tokenizer_config.json")
        self.special_map = _read_json(self.folder / "special_tokens_map.json")
        self.generation_config = _read_json(self.folder / "generation_config.json")
        self._dummy_prefix = _has_dummy_prefix(raw)
        self._byte_level = "ByteLevel" in json.dumps(raw.get("decoder") or {})
        self._add_missing_tokens()

    def _add_missing_tokens(self) -> None:
        from tokenizers import AddedToken

        known = self.backend.get_vocab(with_added_tokens=True)
        try:
            listed = sorted(((int(i), dict(t)) for i, t in (self.config.get("added_tokens_decoder") or {}).items()), key=lambda x: x[0])
        except (ValueError, TypeError, AttributeError) as problem:
            raise GogptError("TOK410", f"added_tokens_decoder cannot be read: {problem}", where=str(self.folder / "tokenizer_config.json"),
                             fix="download the file again") from problem
        for _, token in listed:
            if token.get("content") and token["content"] not in known:
                added = AddedToken(token["content"], special=bool(token.get("special")), normalized=False)
                self.backend.add_special_tokens([added]) if added.special else self.backend.add_tokens([added])

    # -- names -------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return str(self.folder)

    def _named(self, key: str) -> str | None:
        for source in (self.config, self.special_map):
            value = source.get(key)
            if isinstance(value, Mapping):
                value = value.get("content")
            if isinstance(value, str) and value:
                return value
        return None

    @cached_property
    def bos_token(self) -> str | None:
        return self._named("bos_token")

    @cached_property
    def eos_token(self) -> str | None:
        return self._named("eos_token")

    @cached_property
    def pad_token(self) -> str | None:
        return self._named("pad_token")

    def id_of(self, token: str | None) -> int | None:
        return None if token is None else self.backend.token_to_id(token)

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
        vocab = self.backend.get_vocab(with_added_tokens=True)
        return max(vocab.values(), default=-1) + 1

    @cached_property
    def special_ids(self) -> dict[int, str]:
        """Ids and texts of the added tokens that are special."""
        return {i: t.content for i, t in self.backend.get_added_tokens_decoder().items() if t.special}

    @cached_property
    def added_ids(self) -> frozenset[int]:
        return frozenset(self.backend.get_added_tokens_decoder())

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        return tuple(self.special_ids.values())

    @cached_property
    def special_names(self) -> dict[str, str]:
        """``bos_token``, ``eos_token``, ... as chat templates see them."""
        names = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
        return {n: v for n in names if (v := self._named(n)) is not None}

    @cached_property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts of EOS and of the stop tokens that generation_config.json names."""
        ids = self.generation_config.get("eos_token_id")
        ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
        if not all(isinstance(i, int) and i >= 0 for i in ids):
            raise GogptError("TOK410", "eos_token_id is no token id", where=str(self.folder / "generation_config.json"), got=repr(ids)[:80],
                             expected="a token id, or a list of them", fix="correct it, or download the file again")
        texts = [self.eos_token, *(self.backend.id_to_token(i) for i in ids)]
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
            named = {t.get("name"): t.get("template") for t in value if isinstance(t, Mapping)}
            value = named.get("default") or next(iter(named.values()), None)
        return value if isinstance(value, str) else None

    @cached_property
    def max_token_chars(self) -> int:
        """Length of the longest token in characters: text of n characters has at least n / this tokens."""
        return max((len(t) for t in self.backend.get_vocab(with_added_tokens=True)), default=1)

    @cached_property
    def special_pattern(self) -> re.Pattern[str] | None:
        texts = sorted((t for t in self.special_texts if t), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts))) if texts else None

    # -- encoding ----------------------------------------------------------------------------------

    @cached_property
    def bos_prefix(self) -> tuple[int, ...]:
        """What the tokenizer's post-processor puts before a text; empty for most byte-level BPE."""
        plain = self.backend.encode("a", add_special_tokens=False).ids
        full = self.backend.encode("a", add_special_tokens=True).ids
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return tuple(full[:start])
        return ()

    def ids(self, text: str) -> list[int]:
        """Ids of the whole text, special token texts parsed, nothing added."""
        return self.backend.encode(text, add_special_tokens=False).ids if text else []

    def continuation(self, text: str) -> list[int]:
        """Ids of ``text`` where it continues other text: without the space that SentencePiece-style
        tokenizers put before a text (measured: ``Hello`` after a prompt is not ``▁Hello``)."""
        if not self._dummy_prefix:
            return self.ids(text)
        anchor = "\n"
        before, both = self.ids(anchor), self.ids(anchor + text)
        return both[len(before):] if both[: len(before)] == before else self.ids(text)

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        return str(self.backend.decode([int(i) for i in ids], skip_special_tokens=False))

    def token(self, token_id: int) -> str:
        return self.backend.id_to_token(int(token_id)) or f"<{token_id}>"

    def pieces(self, ids: Sequence[int] | TokenArray) -> list[str]:
        """A readable text for each token; tokens that are part of a character join into its last one."""
        out: list[str] = []
        held: list[int] = []
        for raw in ids:
            i = int(raw)
            token = self.token(i)
            if self._byte_level and i not in self.added_ids:
                held.append(i)
                text = str(self.backend.decode(held, skip_special_tokens=False))
                if text.endswith("�") and len(held) < 4:
                    out.append("")
                    continue
            elif re.fullmatch(r"<0x[0-9A-F]{2}>", token):
                held.append(i)
                data = bytes(int(self.token(h)[3:5], 16) for h in held)
                text = data.decode("utf-8", errors="replace")
                if "�" in text and len(held) < 4:
                    out.append("")
                    continue
            else:
                text = token.replace("▁", " ")
            out.append(text)
            held = []
        return out


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as problem:
        raise GogptError("TOK410", f"not valid JSON: {problem}", where=str(path), fix="download the file again") from problem
    return data if isinstance(data, dict) else {}


def _has_dummy_prefix(raw: Mapping[str, Any]) -> bool:
    text = json.dumps([raw.get("normalizer"), raw.get("pre_tokenizer")])
    if '"Prepend"' in text:
        return True
    return '"Metaspace"' in text and '"prepend_scheme": "never"' not in text


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One training sequence as ids. ``cut`` says that a boundary was not clean and was cut on purpose.

    ``answer_ends``: index after the last token of each trained answer, in order.
    """

    input_ids: TokenArray
    labels: TokenArray
    answer_ends: tuple[int, ...]
    cut: bool = False


def encode(rendering: Rendering, tokenizer: Tokenizer) -> tuple[Encoded, ...]:
    """Ids and labels of a rendering: one sequence, or one per answer where a boundary is not clean."""
    prefix = list(tokenizer.bos_prefix) if rendering.add_bos else []
    text = rendering.text
    if all(s.train for s in rendering.segments):
        # Everything is trained: there is no boundary between prompt and answer to keep.
        ids = prefix + tokenizer.ids(text)
        return (Encoded(input_ids=np.asarray(ids, dtype=np.int32), labels=paint(ids, [True] * len(ids)),
                        answer_ends=(len(ids),)),)
    spans = _trained_spans(rendering)
    whole = tokenizer.backend.encode(text, add_special_tokens=False)
    ids, offsets = whole.ids, whole.offsets
    bounds = _token_bounds(text, ids, offsets, spans, tokenizer)
    if bounds is not None:
        trained = np.zeros(len(prefix) + len(ids), dtype=bool)
        for first, last in bounds:
            trained[len(prefix) + first : len(prefix) + last] = True
        all_ids = prefix + ids
        return (Encoded(input_ids=np.asarray(all_ids, dtype=np.int32), labels=paint(all_ids, trained),
                        answer_ends=tuple(len(prefix) + last for _, last in bounds)),)
    out = []
    for start, end in spans:
        prompt = prefix + tokenizer.ids(text[:start])
        answer = tokenizer.continuation(text[start:end])
        cut_ids = prompt + answer
        marks = [False] * len(prompt) + [True] * len(answer)
        out.append(Encoded(input_ids=np.asarray(cut_ids, dtype=np.int32), labels=paint(cut_ids, marks),
                           answer_ends=(len(cut_ids),), cut=True))
    return tuple(out)


def encode_prompt(rendering: Rendering, tokenizer: Tokenizer) -> list[int]:
    """Ids of a generation prompt, as training saw them before the answer."""
    prefix = list(tokenizer.bos_prefix) if rendering.add_bos else []
    return prefix + tokenizer.ids(rendering.text)


def _trained_spans(rendering: Rendering) -> list[tuple[int, int]]:
    spans, at = [], 0
    for segment in rendering.segments:
        if segment.train:
            spans.append((at, at + len(segment.text)))
        at += len(segment.text)
    return spans


def _token_bounds(
    text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]],
    tokenizer: Tokenizer,
) -> list[tuple[int, int]] | None:
    """First and end token index of each span, or None where a boundary is not clean."""
    bounds = []
    k = 0
    for start, end in spans:
        while k < len(ids) and offsets[k][1] <= start:
            k += 1
        first = k
        if first == len(ids) or offsets[first][0] < start or not _is_prompt(text, start, ids, offsets, first, tokenizer):
            return None
        while k < len(ids) and offsets[k][1] <= end and offsets[k][0] < end:
            k += 1
        if k < len(ids) and offsets[k][0] < end:
            return None  # a token covers the end of the answer and what follows it
        bounds.append((first, k))
    return bounds


def _is_prompt(
    text: str, start: int, ids: Sequence[int], offsets: Sequence[tuple[int, int]], first: int, tokenizer: Tokenizer
) -> bool:
    """Whether the ids before ``first`` are the encoding of ``text[:start]`` alone.

    Tokenizers encode the stretches between added tokens apart, so that it suffices to look from the last one
    on; where that does not agree, the whole prompt decides.
    """
    at = first - 1
    while at >= 0 and ids[at] not in tokenizer.added_ids:
        at -= 1
    if at >= 0 and tokenizer.ids(text[offsets[at][1] : start]) == list(ids[at + 1 : first]):
        return True
    return tokenizer.ids(text[:start]) == list(ids[:first])
