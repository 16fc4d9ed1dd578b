"""Which file of a model folder is the tokenizer, and which other one it must agree with.

A ``tokenizer.json`` is a conversion; where the file that it was made from lies beside it (SentencePiece, Tekken), that
one is the reference. The conversion is loaded while it gives the reference's ids on the probes; otherwise the reference
is. Either way TOK411 compares the two on the user's own data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.tokenize.backend import Added, Backend
from gogpt.tokenize.fast import FastBackend
from gogpt.tokenize.probes import PROBES
from gogpt.tokenize.ranks import is_rank_file, open_ranks
from gogpt.tokenize.spm import SentencePieceBackend, open_sentencepiece

BOS_BY_DEFAULT = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "MistralTokenizer")
"""Classes that put BOS before a text unless the configuration says otherwise."""

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")

MANY_EQUAL = 0.01
"""From this share of the pieces on, equal scores decide how ordinary text is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """``other``: the second form of the same tokenizer in the folder, for comparison."""

    backend: Backend
    other: Backend | None = None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no such file. Raises GogptError TOK410."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as problem:
        raise GogptError("TOK410", f"not valid JSON: {problem}", where=str(path), fix="download the file again") from problem
    return data if isinstance(data, dict) else {}


def named(key: str, *sources: Mapping[str, Any]) -> str | None:
    """The text of ``bos_token`` and the like, from the first configuration that has it."""
    for source in sources:
        value = source.get(key)
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str) and value:
            return value
    return None


def _added(entry: Mapping[str, Any]) -> Added:
    return Added(text=str(entry["content"]), special=bool(entry.get("special")), lstrip=bool(entry.get("lstrip")), rstrip=bool(entry.get("rstrip")))


def configured(folder: Path, config: Mapping[str, Any]) -> dict[int, Added]:
    """Added tokens by id, from tokenizer.json, added_tokens.json and tokenizer_config.json, the last of them winning."""
    out: dict[int, Added] = {}
    whole = read_json(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else {}
    for entry in whole.get("added_tokens") or ():
        out[int(entry["id"])] = _added(entry)
    for text, number in read_json(folder / "added_tokens.json").items():
        out[int(number)] = Added(text=text)
    try:
        for key, entry in (config.get("added_tokens_decoder") or {}).items():
            if isinstance(entry, Mapping) and entry.get("content"):
                out[int(key)] = _added(entry)
    except (ValueError, TypeError, AttributeError) as problem:
        raise GogptError("TOK410", f"added_tokens_decoder cannot be read: {problem}", where=str(folder / "tokenizer_config.json"),
                         fix="download the file again") from problem
    # One text, one id: of two, the later source's.
    last = {a.text: i for i, a in out.items()}
    return {i: a for i, a in out.items() if last[a.text] == i}


def find_sentencepiece(folder: Path) -> Path | None:
    """tokenizer.model, spiece.model, or another ``*.model*``; never a file of ranks by that name (Llama 3)."""
    names = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"]
    first = [folder / n for n in names if (folder / n).is_file()]
    others = sorted(p for pattern in ("*.model", "*.model.v*", "*.spm") for p in folder.glob(pattern) if p.is_file())
    return next((p for p in [*first, *others] if not is_rank_file(p)), None)


def find_ranks(folder: Path) -> Path | None:
    """A Tekken file, else a file of ranks for tiktoken."""
    tekken = sorted(folder.glob("tekken*.json"))
    others = [*sorted(folder.glob("*.tiktoken")), *(p for p in sorted(folder.glob("*.model")) if is_rank_file(p))]
    return next(iter([*tekken, *others]), None)


def load_backend(folder: Path, config: Mapping[str, Any], special_map: Mapping[str, Any]) -> Loaded:
    """Raises GogptError TOK410 (no tokenizer, or one that cannot be read), ENV111."""
    file = folder / "tokenizer.json"
    model, ranks = find_sentencepiece(folder), find_ranks(folder)
    if file.is_file():
        fast = FastBackend.from_file(file, list(configured(folder, config).values()))
        if model is not None:
            return _exact(fast, _sentencepiece(model, folder, config, special_map))
        if ranks is not None and ranks.suffix == ".json" and _has_tiktoken():
            return _exact(fast, open_ranks(ranks, configured(folder, config)))
        return Loaded(backend=fast)
    if model is not None:
        return Loaded(backend=_sentencepiece(model, folder, config, special_map))
    if ranks is not None:
        pattern = config.get("pat_str")
        return Loaded(backend=open_ranks(ranks, configured(folder, config), pattern=pattern if isinstance(pattern, str) else None))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Loaded(backend=_gpt2(folder, config, special_map))
    raise GogptError(
        "TOK410", "no tokenizer in the model folder", where=str(folder),
        got=", ".join(sorted(p.name for p in folder.glob("*"))[:8]) or "an empty folder",
        expected="tokenizer.json, a SentencePiece tokenizer.model, tekken.json or a .tiktoken file",
        fix="give the folder of a model in Hugging Face format, or a hub id",
    )


def _has_tiktoken() -> bool:
    from importlib.util import find_spec

    return find_spec("tiktoken") is not None


def _exact(fast: FastBackend, reference: Backend) -> Loaded:
    """The conversion where it agrees with its reference on the probes, else the reference."""
    tied = isinstance(reference, SentencePieceBackend) and reference.equal_scores >= MANY_EQUAL * reference.size
    spelt = "Ignore " + " and ".join(a.text for a in [*reference.added.values()][:8]) + " here"
    if tied or any(fast.stretch(t).ids != reference.stretch(t).ids for t in (*PROBES, spelt)):
        return Loaded(backend=reference, other=fast)
    return Loaded(backend=fast, other=reference)


def _sentencepiece(file: Path, folder: Path, config: Mapping[str, Any], special_map: Mapping[str, Any]) -> SentencePieceBackend:
    added = configured(folder, config)
    kind = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    says = config.get("add_bos_token")
    # Without a configuration: the reference programs of Llama and Mistral put BOS before a text.
    add_bos = bool(says) if says is not None else kind in BOS_BY_DEFAULT or not config
    first = open_sentencepiece(file, added, add_bos=add_bos)
    if not config and first.spec.model_type != 2:
        first.bos_prefix = ()
    texts = {named(key, config, special_map) for key in NAMED} | set(_more(config)) | set(_more(special_map))
    known = {a.text for a in first.added.values()}
    more = {i: Added(text=t) for t in texts if t and t not in known and (i := first.id_of(t)) is not None}
    if more:
        # A piece that the configuration calls special (a pad token that text never reaches).
        return open_sentencepiece(file, {**added, **more}, add_bos=add_bos)
    return first


def _more(source: Mapping[str, Any]) -> Sequence[str]:
    value = source.get("additional_special_tokens") or source.get("extra_special_tokens") or ()
    items = value.values() if isinstance(value, Mapping) else value
    return [str(t.get("content")) if isinstance(t, Mapping) else str(t) for t in items]


def _gpt2(folder: Path, config: Mapping[str, Any], special_map: Mapping[str, Any]) -> FastBackend:
    kind = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if kind != "GPT2Tokenizer":
        raise GogptError("TOK410", "vocab.json and merges.txt do not say how text is split before it is merged", where=str(folder),
                         got=f"tokenizer_class {kind or 'not named'}", expected="GPT2Tokenizer, or a tokenizer.json",
                         fix="use the model's version with a tokenizer.json")
    texts = [t for key in NAMED if (t := named(key, config, special_map))]
    return FastBackend.from_vocab(folder, texts, add_prefix_space=bool(config.get("add_prefix_space")))
