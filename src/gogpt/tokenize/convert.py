"""A SentencePiece model or a file of ranks as the content of a tokenizer.json, for programs that read nothing else.

Whether the result encodes as the original does is for the caller to prove (``model.save_tokenizer`` does): merges by
score cannot say what sentencepiece does with equal scores, and regular expressions differ between libraries.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gogpt.tokenize.backend import Added, Backend
from gogpt.tokenize.fast import BYTES_OF, FastBackend
from gogpt.tokenize.ranks import RanksBackend
from gogpt.tokenize.spm import BPE, NORMAL, UNKNOWN, USER_DEFINED, SentencePieceBackend

LETTER_OF = {byte: letter for letter, byte in BYTES_OF.items()}


def document_of(backend: Backend) -> dict[str, Any]:
    """The content of a tokenizer.json for what ``backend`` does."""
    if isinstance(backend, FastBackend):
        return backend.document()
    if isinstance(backend, SentencePieceBackend):
        return _of_sentencepiece(backend)
    assert isinstance(backend, RanksBackend)
    return _of_ranks(backend)


def _document(added: Mapping[int, Added], bos: Sequence[int], **parts: Any) -> dict[str, Any]:
    tokens = [{"id": i, "content": a.text, "single_word": False, "lstrip": a.lstrip, "rstrip": a.rstrip, "normalized": False,
               "special": a.special} for i, a in sorted(added.items())]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
            "post_processor": _starts_with([(i, added[i].text) for i in bos]), **parts}


def _starts_with(bos: Sequence[tuple[int, str]]) -> dict[str, Any] | None:
    if not bos:
        return None
    one = [{"SpecialToken": {"id": text, "type_id": 0}} for _, text in bos]
    a, b = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {"type": "TemplateProcessing", "single": [*one, a], "pair": [*one, a, *one, b],
            "special_tokens": {text: {"id": text, "ids": [i], "tokens": [text]} for i, text in bos}}


def _replace(pattern: Mapping[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": dict(pattern), "content": content}


# -- SentencePiece ---------------------------------------------------------------------------------


def _of_sentencepiece(backend: SentencePieceBackend) -> dict[str, Any]:
    spec = backend.spec
    texts = [backend.added[i].text if i in backend.added else piece for i, (piece, _, _) in enumerate(spec.pieces)]
    unknown = next((i for i, (_, _, kind) in enumerate(spec.pieces) if kind == UNKNOWN), 0)
    # sentencepiece finds these in any text. Where it puts no space before a text, so does an added token.
    defined = {} if spec.dummy_prefix else {i: Added(text=p, special=False) for i, (p, _, kind) in enumerate(spec.pieces) if kind == USER_DEFINED}
    steps: list[dict[str, Any]] = []
    if spec.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(spec.charsmap).decode()})
    if spec.drops_space:
        steps += [{"type": "Strip", "strip_left": True, "strip_right": True}, _replace({"Regex": " {2,}"}, " ")]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if spec.dummy_prefix else []
    decoder = {"type": "Sequence", "decoders": [_replace({"String": "▁"}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]}
    if spec.model_type == BPE:
        if spec.dummy_prefix:
            steps.append({"type": "Prepend", "prepend": "▁"})
        steps.append(_replace({"String": " "}, "▁"))
        model: dict[str, Any] = {
            "type": "BPE", "dropout": None, "unk_token": texts[unknown], "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": backend.byte_pieces, "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(texts)}, "merges": [list(m) for m in merges_by_score(spec.pieces)],
        }
        pre = None
    else:
        model = {"type": "Unigram", "unk_id": unknown, "vocab": [[t, s] for t, (_, s, _) in zip(texts, spec.pieces, strict=True)],
                 "byte_fallback": backend.byte_pieces}
        pre = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" if spec.dummy_prefix else "never", "split": True}
    normalizer = {"type": "Sequence", "normalizers": steps} if steps else None
    return _document({**defined, **backend.added}, backend.bos_prefix, normalizer=normalizer, pre_tokenizer=pre, decoder=decoder, model=model)


def merges_by_score(pieces: Sequence[tuple[str, float, int]]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, the piece of the highest score first, as sentencepiece merges."""
    usable = {p: i for i, (p, _, kind) in enumerate(pieces) if kind == NORMAL}
    found: list[tuple[float, int, int, int, tuple[str, str]]] = []
    for piece, number in usable.items():
        for cut in range(1, len(piece)):
            left, right = usable.get(piece[:cut]), usable.get(piece[cut:])
            if left is not None and right is not None:
                found.append((-pieces[number][1], number, left, right, (piece[:cut], piece[cut:])))
    return [m[-1] for m in sorted(found)]


# -- ranks -----------------------------------------------------------------------------------------


def _letters(data: bytes) -> str:
    return "".join(LETTER_OF[b] for b in data)


def _of_ranks(backend: RanksBackend) -> dict[str, Any]:
    source = backend.source
    vocab = {a.text: i for i, a in sorted(backend.added.items())}
    vocab |= {_letters(data): source.shift + rank for data, rank in source.ranks.items()}
    merges = []
    for data in sorted(source.ranks, key=source.ranks.__getitem__):
        pairs = [(data[:cut], data[cut:]) for cut in range(1, len(data)) if data[:cut] in source.ranks and data[cut:] in source.ranks]
        pairs.sort(key=lambda p: (source.ranks[p[0]], source.ranks[p[1]]))
        merges += [[_letters(a), _letters(b)] for a, b in pairs]
    # Possessive repeats (tiktoken's, for speed) are greedy ones here; {1,3}+ would mean something else.
    pattern = re.sub(r"(?<!\\)([+*?}])\+", r"\1", source.pattern)
    pre = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ]}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": True, "vocab": vocab, "merges": merges}
    decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return _document(backend.added, backend.bos_prefix, normalizer=None, pre_tokenizer=pre, decoder=decoder, model=model)
