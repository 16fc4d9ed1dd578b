"""Keys of a tool -> ForeignFacts: what each of them means there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.facts import ForeignFacts
from gogpt.foreign.marks import default_of, keys_for, release_of, tables, unknown_keys
from gogpt.foreign.places import (
    Found,
    find_data,
    find_model_folder,
    local_file,
    read_document,
    transformers_pin,
)
from gogpt.foreign.script import Launch
from gogpt.foreign.template import fit_of

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "none", "null", "")

LAYOUT = {"llamafactory": "cuts_prompt", "trl": "cuts_end", "axolotl": "drops", "swift": "drops"}
"""What each tool does with a conversation that is too long: LLaMA-Factory 0.9.5 and TRL 1.16 as measured (nothing is said); Axolotl
(``excess_length_strategy``) and ms-swift (``truncation_strategy``) as documented."""


def flag(value: Any) -> bool | None:
    """A truth value as YAML 1.1, argparse and people write it; None where it says neither."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    return True if text in TRUE else False if text in FALSE else None


def number(value: Any) -> float | None:
    """A number, also as text: PyYAML reads 2e-4 as a text, and the tools' parsers make a number of it."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def finite(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def whole(value: Any) -> int | None:
    found = finite(value)
    return int(found) if found is not None and found == int(found) else None


def words(value: Any) -> tuple[str, ...]:
    """A list, or a text with commas."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(w.strip() for w in value.split(",") if w.strip())
    return tuple(str(v) for v in value) if isinstance(value, list) else (str(value),)


@dataclass(frozen=True, slots=True)
class Reader:
    """A tool's document, looked up by what is asked for."""

    tool: str
    document: Mapping[str, Any]

    def key(self, what: str) -> str | None:
        """The key that the document has for it."""
        return next((k for k in keys_for(self.tool, what) if self.document.get(k) is not None), None)

    def get(self, what: str) -> Any:
        key = self.key(what)
        if key is not None:
            return self.document[key]
        return next((found for k in keys_for(self.tool, what) if (found := default_of(self.tool, k)) is not None), None)

    def on(self, key: str) -> bool:
        """Whether a key (of the tool's) is true, as written or by default."""
        value = self.document.get(key)
        return bool(flag(default_of(self.tool, key) if value is None else value))


def sources(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``datasets`` as Axolotl and TRL have it: a list of mappings; of a list with something else in it that is an empty one."""
    found = document.get("datasets")
    return [s if isinstance(s, dict) else {} for s in found] if isinstance(found, list) else []


def method_of(read: Reader) -> tuple[str, int | None]:
    """full, lora, qlora or freeze (else the tool's own word); bits of quantisation."""
    tool, doc = read.tool, read.document
    bits = 4 if read.on("load_in_4bit") else 8 if read.on("load_in_8bit") else whole(read.get("quantised")) if tool in ("llamafactory", "swift") else None
    if tool == "trl":
        name = "lora" if read.on("use_peft") else "full"
    elif tool == "axolotl":
        name = str(doc.get("adapter") or "full")
    else:
        name = str(read.get("method") or "lora")
    return ("qlora" if bits == 4 and name == "lora" else name), bits


def precision_of(read: Reader) -> str:
    tool, doc = read.tool, read.document
    if read.on("fp16") or read.on("float16") or (tool == "swift" and doc.get("torch_dtype") == "float16"):
        return "fp16"
    if read.on("bf16") or read.on("bfloat16") or read.on("pure_bf16") or (tool == "swift" and doc.get("torch_dtype") == "bfloat16"):
        return "bf16"
    if tool == "trl" and doc.get("bf16") is None:
        return "bf16"  # SFTConfig: bf16 unless fp16 is asked for, where the device has it
    return "auto" if tool in ("axolotl", "swift") and flag(doc.get("bf16")) is not False else "fp32"


def packing_of(read: Reader) -> tuple[bool, str, str, str]:
    """Whether conversations share a row; whether they then attend to each other (certain, likely or empty); the keys that say so; the cure.

    LLaMA-Factory and TRL as measured on CPU, where one document of a row was changed and another's output moved: by 0.98 in logits and 0.33 in
    log-probability; with neat_packing and bfd by 0.0.
    Axolotl: its own warning for sample_packing without an attention that knows of rows; axolotl-ai-cloud/axolotl PR#3796 for sdpa and eager.
    """
    doc = read.document
    if read.tool == "llamafactory":
        neat = read.on("neat_packing")
        packs = neat or read.on("packing")
        leaks = packs and not neat and str(doc.get("stage", "sft")) == "sft"
        return packs, "certain" if leaks else "", "packing: true without neat_packing" if leaks else "", "neat_packing: true"
    if read.tool == "trl":
        packs = read.on("packing")
        leaks = packs and read.document.get("packing_strategy") == "wrapped"
        return packs, "certain" if leaks else "", "packing_strategy: wrapped" if leaks else "", "packing_strategy: bfd"
    if read.tool == "swift":
        packs = read.on("packing")
        attention = str(doc.get("attn_impl") or "")
        leaks = packs and not attention.startswith("flash")
        return packs, ("certain" if attention == "eager" else "likely") if leaks else "", f"packing: true with attn_impl: {attention or '(the default)'}" if leaks else "", "attn_impl: flash_attn"
    packs = read.on("sample_packing")
    attention = str(doc.get("attn_implementation") or "")
    safe = read.on("flash_attention") or read.on("flex_attention") or read.on("xformers_attention") or attention.startswith(("flash", "flex", "xformers", "sage", "fp8"))
    if not packs or safe:
        return packs, "", "", ""
    if read.on("sdp_attention") or attention == "sdpa":
        return packs, "likely", "sample_packing: true with sdpa attention", "flash_attention: true"
    return packs, "certain" if read.on("eager_attention") or attention == "eager" else "likely", "sample_packing: true without flash, flex or xformers attention", "flash_attention: true"


def new_tokens_of(read: Reader, method: str) -> tuple[tuple[str, ...], bool, str]:
    """Keys that add tokens; whether their rows train; the key that would make them."""
    doc, tool = read.document, read.tool
    keys = {"llamafactory": ("add_tokens", "add_special_tokens", "new_special_tokens_config"), "axolotl": ("tokens",), "swift": ("new_special_tokens",), "trl": ()}[tool]
    said = tuple(k for k in keys if doc.get(k))
    saved = keys_for(tool, "saved")[0]
    trained = method not in ("lora", "qlora") or bool(doc.get(saved)) or bool(doc.get("peft_trainable_token_indices"))
    return said, trained or not said, saved


def untrained_of(read: Reader, model: Path | None, own_template: bool | None) -> tuple[str, str]:
    """The key and value for which no stop token is trained; those for which no answer is."""
    doc = read.document
    if read.tool == "llamafactory" and str(doc.get("stage", "sft")) == "sft":
        name = doc.get("template")
        form = tables()["llamafactory"]["templates"].get(name) if isinstance(name, str) else None
        if form is not None and not form["efficient_eos"] and not form["answer"].replace("{{content}}", "").strip():
            return f"template: {name}", ""
        if name is None and model is not None and own_template is False:
            return "no template, with a tokenizer that has none: LLaMA-Factory takes template: empty", ""
    if read.tool == "axolotl":
        for i, source in enumerate(sources(doc)):
            roles = source.get("roles_to_train")
            known = {"assistant", "gpt", "model", "bot", "ai", "chatgpt"}
            if isinstance(roles, list) and not known & {str(r).lower() for r in roles} and not source.get("message_field_training") and not source.get("roles"):
                return "", f"datasets.{i}.roles_to_train: [{', '.join(map(str, roles))}]"
    return "", ""


def purpose_of(read: Reader) -> str:
    doc = read.document
    return "merge" if (read.tool == "llamafactory" and doc.get("export_dir") and not flag(doc.get("do_train"))) or (read.on("merge_lora") and not doc.get("datasets")) else "train"


def accumulation_of(read: Reader) -> int | None:
    found = whole(read.get("accumulation"))
    if read.tool == "axolotl" and read.document.get("gradient_accumulation_steps") is None and (total := whole(read.document.get("batch_size"))):
        return max(1, total // max(1, whole(read.get("micro_batch_size")) or 1))
    return found


def _model(read: Reader, folder: Path, not_read: list[tuple[str, str]]) -> tuple[str | None, Path | None, dict[str, Any]]:
    name = read.get("model")
    name = str(name) if name is not None else None
    found, why = find_model_folder(name, folder) if name else (None, "no model is named")
    if found is None:
        not_read.append((f"model {name}" if name else "model", why))
    return name, found, (read_document(found / "config.json") or {}) if found else {}


def collect(tool: str, document: Mapping[str, Any], places: Mapping[str, str], path: str, folder: Path,
            launch: Launch | None) -> tuple[ForeignFacts, list[tuple[str, str]]]:
    """The facts, and what could not be read."""
    read, not_read = Reader(tool, document), list[tuple[str, str]]()
    name, model, config = _model(read, folder, not_read)
    method, bits = method_of(read)
    purpose = purpose_of(read)
    data = find_data(tool, document, folder) if purpose == "train" else Found()
    not_read += data.not_read
    fit = fit_of(tool, document, name, model)
    packs, leaks, why, fix = packing_of(read)
    stop, nothing = untrained_of(read, model, fit.own)
    added, trained, saved = new_tokens_of(read, method)
    pin, pin_place = transformers_pin(folder)
    undefined = dict(data.undefined)
    engine = document.get("deepspeed")
    engine_path = None
    if isinstance(engine, str) and engine.endswith(".json"):
        found = local_file(engine, folder)
        engine_path = str(found) if found else engine
        if found is None:
            not_read.append((engine, "the DeepSpeed file is not here"))
    template = read.get("template")
    if fit.unknown:
        undefined[f"template {template}"] = keys_for(tool, "template")[0]
    rate = number(read.get("learning_rate"))  # also one that is not finite, which is told
    if rate is None and tool == "swift":
        rate = 1e-5 if method == "full" else 1e-4  # documented: by method
    warmup = finite(read.get("warmup_steps"))
    overlong = LAYOUT[tool]
    if (tool == "axolotl" and document.get("excess_length_strategy") == "truncate") or (tool == "swift" and document.get("truncation_strategy") in ("left", "right")):
        overlong = "cuts_end"
    return ForeignFacts(
        path=path, tool=tool, release=release_of(tool), places=dict(places),
        names={what: read.key(what) or keys_for(tool, what)[0] for what in (
            "model", "max_length", "packing", "template", "train", "eval", "learning_rate", "schedule", "micro_batch_size", "accumulation", "epochs", "max_steps",
            "warmup_steps", "warmup_ratio", "clipping", "targets", "rank", "saved", "method", "quantised", "ddp_timeout", "save_only_model", "resume", "deepspeed",
            "workers", "output")},
        unknown=unknown_keys(tool, document), unknown_dropped=tool in ("axolotl", "trl"), purpose=purpose, model=name, model_local=model is not None,
        model_type=config.get("model_type"), model_dtype=str(config.get("dtype") or config.get("torch_dtype") or "") or None,
        template=str(template) if isinstance(template, str) else None, template_of_model=fit.of_model, template_fits=fit.fits, template_seen=fit.seen,
        template_written=fit.written, train=data.train, eval=data.eval, eval_share=finite(read.get("eval_share")) or 0.0, undefined=undefined,
        max_length=whole(read.get("max_length")), overlong=overlong, packing=packs, packing_leaks=leaks, packing_why=why, packing_fix=fix, learning_rate=rate,
        schedule=str(read.get("schedule") or "linear"), micro_batch_size=whole(read.get("micro_batch_size")), accumulation=accumulation_of(read),
        world_size=launch.processes if launch else None, epochs=finite(read.get("epochs")),
        max_steps=steps if (steps := whole(read.get("max_steps"))) and steps > 0 else None,
        warmup_steps=int(warmup) if warmup and warmup >= 1 else None,
        warmup_ratio=finite(read.get("warmup_ratio")) or (warmup if warmup and warmup < 1 else None),
        clipping=finite(read.get("clipping")), precision=precision_of(read), nan_filter=flag(document.get("logging_nan_inf_filter")) is not False,
        method=method, quantised=bits, new_tokens=added, new_tokens_trained=trained, saved_key=saved, stop_untrained=stop, nothing_trained=nothing,
        deepspeed=engine_path, save_only_model=read.on("save_only_model"), resume=str(read.get("resume")) if flag(read.get("resume")) is not False and read.get("resume") else None,
        ddp_timeout=whole(read.get("ddp_timeout")), tokenised_ahead=bool(document.get("tokenized_path") or document.get("cached_dataset") or document.get("streaming")
                                                                       or (tool == "axolotl" and document.get("dataset_prepared_path"))),
        workers=whole(read.get("workers")) or 1, data_bytes=sum(_size(p) for p in data.local), transformers_pin=pin, transformers_place=pin_place,
    ), not_read


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    except OSError:
        return 0


