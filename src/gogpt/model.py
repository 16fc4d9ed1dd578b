"""Load a base model; save a model with everything that serving it needs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from gogpt.attention import DOCUMENTS, explicit_mask
from gogpt.config import ModelConfig
from gogpt.errors import GogptError
from gogpt.four_bit import DTYPES, bitsandbytes_config, settle_quantised
from gogpt.quantisation import Quantisation, check_bitsandbytes
from gogpt.templates import DeclaredTemplate, Template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.compare import causes_of, first_difference
from gogpt.tokenize.convert import document_of
from gogpt.tokenize.fast import FastBackend
from gogpt.tokenize.probes import PROBES
from gogpt.tokenize.spm import SentencePieceBackend

TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json", "tokenizer.model", "vocab.json", "merges.txt",
                   "vocab.txt", "added_tokens.json")


def pick_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_base(model: ModelConfig, folder: Path, dtype: str, quant: Quantisation | None = None) -> PreTrainedModel:
    """The base model in ``dtype``, on the CPU; with ``quant`` its layers in 4 bits, on the first GPU where there is one.
    ``folder``: its local files.

    Raises GogptError MOD500 (cannot be loaded), MOD506 (weights missing: transformers would go on with random ones and a
    warning), ENV111, MOD542 (not quantised as planned).
    """
    attention = None if model.attention == "auto" else model.attention
    more: dict[str, Any] = {}
    if quant is not None:
        check_bitsandbytes(str(folder))
        more = {"quantization_config": bitsandbytes_config(quant, dtype)}
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[quant.dtype if quant else dtype], attn_implementation=attention, output_loading_info=True,
            trust_remote_code=model.trust_remote_code, revision=None, **more,
        )
    except ImportError as problem:
        raise GogptError("ENV111", f"an optional package is missing: {str(problem).strip().splitlines()[0]}", where=str(folder),
                         fix="install it, or take out the setting that needs it (model.attention)") from problem
    except Exception as problem:  # transformers, huggingface_hub and safetensors raise many kinds
        text = str(problem).strip().splitlines()
        raise GogptError("MOD500", f"the model cannot be loaded: {text[0] if text else type(problem).__name__}",
                         where=str(folder), fix="check the folder with another tool, or download the model again") from problem
    missing = sorted(info.get("missing_keys") or [])
    mismatched = [str(m[0]) for m in info.get("mismatched_keys") or []]
    if missing or mismatched:
        raise GogptError(
            "MOD506", f"{len(missing) + len(mismatched)} weights of the model are not in the checkpoint",
            where=str(folder), got=", ".join((missing + mismatched)[:5]),
            expected="every weight of the architecture in config.json (a missing one would be random)",
            fix="download the checkpoint again, or use the config.json that belongs to it",
        )
    loaded.config.use_cache = False
    if quant is not None:
        settle_quantised(loaded, folder, quant, dtype)
    return loaded  # type: ignore[no-any-return]


def stop_token_ids(template: Template, tokenizer: Tokenizer) -> list[int]:
    """Ids that end generation: the template's stop markers, then the tokenizer's own, without repeats."""
    texts = (*template.stop, *tokenizer.stop_texts)
    ids = [found for text in texts if (found := tokenizer.token_of(text)) is not None]
    return list(dict.fromkeys(ids))


def served_template(template: Template, tokenizer: Tokenizer) -> str:
    """The Jinja chat template to save: served without special tokens added, so a BOS that training got from
    the tokenizer is written by the template."""
    if isinstance(template, DeclaredTemplate):
        adds_bos = not template.bos_in_text and tokenizer.bos_prefix
        return template.jinja(leading_bos=(tokenizer.bos_token or "") if adds_bos else "")
    return template.jinja()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedForm:
    """A way to write the tokenizer: the class of transformers that reads it, and tokenizer.json (None: the model file)."""

    kind: str
    document: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAs:
    """``kind``: the class of transformers that serves the saved tokenizer. ``refused``: those asked before it, and how
    they encode otherwise."""

    kind: str
    refused: tuple[str, ...]


def served_forms(tokenizer: Tokenizer) -> Iterator[ServedForm]:
    """The likeliest first. A SentencePiece model or a file of ranks is written as a tokenizer.json too."""
    backend = tokenizer.backend
    document = document_of(backend)
    own = tokenizer.config.get("tokenizer_class")
    if isinstance(backend, FastBackend) and isinstance(own, str) and own:
        yield ServedForm(kind=own, document=document)
    yield ServedForm(kind="PreTrainedTokenizerFast", document=document)
    if isinstance(backend, SentencePieceBackend):
        # transformers' own reading of the model itself; exact also where no list of merges is.
        yield ServedForm(kind="SentencePieceBackend", document=None)


def save_tokenizer(tokenizer: Tokenizer, template: Template, out: Path, probe_texts: Sequence[str]) -> SavedAs:
    """The tokenizer with the chat template that was trained, in a form that encodes as it was trained.

    transformers may put steps of its own in place of what tokenizer.json says (measured: SmolLM2, Llama 2), and orders
    merges wrongly when it reads a SentencePiece model alone. It is asked for the ids of ``probe_texts`` and of the fixed
    probes in each form, and the first form that gives the ids that were trained is kept (of those, one that also decodes
    and begins a text as this tokenizer does, if there is one). Raises GogptError TOK424.
    """
    if chat := served_template(template, tokenizer):  # documents alone have none
        (out / "chat_template.jinja").write_text(chat, encoding="utf-8")
    return save_form(tokenizer, out, [*(f"{text}a {text}" for text in template.stop if text), *probe_texts])


def save_form(tokenizer: Tokenizer, out: Path, probe_texts: Sequence[str]) -> SavedAs:
    """The tokenizer alone: the first form in which transformers gives its ids. Raises GogptError TOK424."""
    special = [f"{text}a {text}" for text in (*tokenizer.special_names.values(), *tokenizer.stop_texts) if text]
    texts = list(dict.fromkeys([*PROBES, *special, *(t for t in probe_texts if t)]))
    kept: ServedForm | None = None
    written: ServedForm | None = None
    refused: list[str] = []
    for form in served_forms(tokenizer):
        write_form(tokenizer, form, out)
        written = form
        seen = _ask(out, tokenizer, texts)
        if seen.problem is not None:
            refused.append(f"{form.kind}: {seen.problem}")
            continue
        kept = kept or form
        if seen.whole:
            kept = form
            break
    if kept is None:
        raise GogptError("TOK424", "transformers encodes a text otherwise than it was trained", where=str(out), got="; ".join(refused),
                         fix="serve with the tokenizer's own library; gogpt chat does", exit_code=1)
    if kept is not written:
        write_form(tokenizer, kept, out)
    return SavedAs(kind=kept.kind, refused=tuple(refused))


def rehearse_saving(tokenizer: Tokenizer, template: Template, probe_texts: Sequence[str], *, config: Path | None = None) -> SavedAs:
    """``save_tokenizer`` into a folder that goes away: whether the trained model can be served is known before training.

    ``config``: the config.json that will lie beside it; transformers picks classes by its model type. Raises GogptError TOK424.
    """
    with tempfile.TemporaryDirectory(prefix="gogpt-") as name:
        if config is not None and config.is_file():
            shutil.copyfile(config, Path(name) / "config.json")
        try:
            return save_tokenizer(tokenizer, template, Path(name), probe_texts)
        except GogptError as problem:
            problem.where = tokenizer.path
            raise


def write_form(tokenizer: Tokenizer, form: ServedForm, out: Path) -> None:
    for name in TOKENIZER_FILES:
        (out / name).unlink(missing_ok=True)
    config = {k: v for k, v in tokenizer.config.items() if k not in ("chat_template", "auto_map")}
    config |= {name: text for name, text in tokenizer.special_names.items() if config.get(name) is None}
    config["tokenizer_class"] = form.kind
    config.setdefault("clean_up_tokenization_spaces", False)  # the answer is what was generated, spaces and all
    backend = tokenizer.backend
    for name in TOKENIZER_FILES if isinstance(backend, FastBackend) else ("special_tokens_map.json",):
        if (tokenizer.folder / name).is_file():
            shutil.copyfile(tokenizer.folder / name, out / name)
    if isinstance(backend, SentencePieceBackend):
        shutil.copyfile(backend.file, out / "tokenizer.model")
        tokens = {str(i): {"content": a.text, "lstrip": a.lstrip, "rstrip": a.rstrip, "normalized": False, "single_word": False,
                           "special": a.special} for i, a in sorted(backend.added.items())}
        config |= {"added_tokens_decoder": tokens, "add_bos_token": bool(backend.bos_prefix), "legacy": True}
    if form.document is not None:
        (out / "tokenizer.json").write_text(json.dumps(form.document, ensure_ascii=False), encoding="utf-8")
    _write_json(out / "tokenizer_config.json", config)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What transformers makes of a folder: None, or how its ids differ; whether it also decodes and begins texts the same."""

    problem: str | None
    whole: bool = False


def _ask(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> _Seen:
    from transformers import AutoTokenizer

    try:
        served: Any = AutoTokenizer.from_pretrained(folder)
    except (ValueError, OSError, KeyError, ImportError, AttributeError, TypeError) as problem:
        return _Seen(problem=f"does not load ({(str(problem).strip() or type(problem).__name__).splitlines()[0][:120]})")
    found = first_difference(texts, tokenizer.ids, lambda text: served.encode(text, add_special_tokens=False))
    if found is not None:
        engine = getattr(served, "backend_tokenizer", None)
        causes = causes_of(tokenizer.backend, json.loads(engine.to_str())) if engine is not None else ()
        return _Seen(problem=str(found) + (f" ({', '.join(causes)})" if causes else ""))
    prefix = list(tokenizer.bos_prefix)
    parsed = tokenizer.special_pattern
    plain = [tokenizer.ids(text) for text in PROBES if not (parsed and parsed.search(text))]
    decodes = all(served.decode(ids) == tokenizer.decode(ids) for ids in plain)
    return _Seen(problem=None, whole=decodes and served.encode("a")[: len(prefix)] == prefix)


def save_generation_config(model_config: dict[str, Any], template: Template, tokenizer: Tokenizer, out: Path) -> None:
    """generation_config.json of the base, with the stop tokens that were trained first."""
    config = {**model_config}
    config["eos_token_id"] = stop_token_ids(template, tokenizer)
    if tokenizer.bos_id is not None:
        config.setdefault("bos_token_id", tokenizer.bos_id)
    if tokenizer.pad_id is not None:
        config.setdefault("pad_token_id", tokenizer.pad_id)
    _write_json(out / "generation_config.json", config)


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def forward_inputs(batch: Mapping[str, Any], dtype: torch.dtype, attention: str | None) -> dict[str, Any]:
    """Keyword arguments of a forward pass for ``input_ids``, ``position_ids`` and ``ends``, ``[B, T]``.

    Without ``ends`` every row is one document, padded on the right: causal attention already keeps it from the padding. With them
    (``attention.explicit_mask`` says what they are) an
    explicit additive mask ``[B, 1, T, T]`` is right for every attention implementation that takes one (without it,
    and with use_cache left on, documents leak into each other in silence: measured, logits differ by 24).
    FlashAttention takes no mask; it finds the documents by their restarting positions. ``attention.DOCUMENTS`` takes ``ends``
    in the mask's place, ``[B, 1, 1, T]``.
    """
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "use_cache": False}
    ends = batch.get("ends")
    if ends is None:
        return inputs
    inputs["position_ids"] = batch["position_ids"]
    if attention is not None and "flash" in attention:
        return inputs
    inputs["attention_mask"] = ends[:, None, None, :] if attention == DOCUMENTS else explicit_mask(ends, dtype)
    return inputs
