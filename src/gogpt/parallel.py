"""A DeepSpeed file as data: recognised, read into EngineFacts for the checks of stage ``engine``, its schedule, and a corrected copy."""

from __future__ import annotations

import copy
import difflib
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.facts import EngineFacts
from gogpt.schedules import DEEPSPEED, NEVER_DECAY, Rate, deepspeed_rate
from gogpt.yaml12 import parse_value, parse_yaml


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEYS: Mapping[str, tuple[str, ...]] = {
    "": _words("""
        train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps managed_gradient_accumulation optimizer scheduler fp16 bf16
        bfloat16 amp zero_optimization gradient_clipping steps_per_print wall_clock_breakdown memory_breakdown dump_state prescale_gradients
        gradient_predivide_factor gradient_allreduce_op communication_data_type seq_parallel_communication_data_type disable_allgather
        sparse_gradients sparse_attention zero_allow_untested_optimizer zero_force_ds_cpu_optimizer activation_checkpointing flops_profiler
        comms_logger tensorboard wandb csv_monitor comet aio checkpoint data_types dataloader_drop_last data_efficiency curriculum_learning
        progressive_layer_drop compression_training elasticity autotuning eigenvalue quantize_training pipeline hybrid_engine nebula compile
        torch_autocast tensor_parallel expert_parallel sequence_parallel_size data_parallel_size use_data_before_expert_parallelism
        graph_harvesting timers weight_quantization log_level vocabulary_size disable_python_gc zero_nvme_offload_kvcache monitor_config
        """),
    "optimizer": ("type", "params", "legacy_fusion"),
    "scheduler": ("type", "params"),
    "fp16": _words("""enabled auto_cast loss_scale initial_scale_power loss_scale_window hysteresis consecutive_hysteresis min_loss_scale
        fp16_master_weights_and_grads"""),
    "bf16": _words("enabled immediate_grad_update check_grad_overflow bf16_master_weights_and_grads bf16_optimizer_states"),
    "zero_optimization": _words("""
        stage contiguous_gradients reduce_scatter reduce_bucket_size use_multi_rank_bucket_allreduce allgather_partitions allgather_bucket_size
        overlap_comm compute_grad_norm load_from_fp32_weights elastic_checkpoint offload_param offload_optimizer zenflow sub_group_size
        cpu_offload_param cpu_offload_use_pin_memory cpu_offload stage3_prefetch_bucket_size stage3_param_persistence_threshold
        stage3_model_persistence_threshold stage3_max_live_parameters stage3_max_reuse_distance stage3_gather_16bit_weights_on_model_save
        stage3_module_granularity_threshold stage3_use_all_reduce_for_fetch_params stage3_allgather_sequential
        stage3_gather_fp16_weights_on_model_save ignore_unused_parameters legacy_stage1 round_robin_gradients parameter_alignment
        zero_hpz_partition_size zero_quantized_weights zero_quantized_nontrainable_weights zero_quantized_gradients memory_efficient_linear
        pipeline_loading_checkpoint override_module_apply log_trace_cache_warnings enable_sanity_checks save_muon_momentum_buffer_in_memory
        leaf_module mics_shard_size mics_hierarchical_params_gather
        """),
    "zero_optimization.offload_param": ("device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"),
    "zero_optimization.offload_optimizer": _words("""device nvme_path buffer_count pin_memory pipeline_read pipeline_write fast_init ratio
        super_offload cpuadam_cores_perc fast_init"""),
}
"""The keys of DeepSpeed 0.19.8, and older ones that it still takes."""

FILLED = frozenset(_words("""
    train_micro_batch_size_per_gpu gradient_accumulation_steps train_batch_size gradient_clipping optimizer.params.lr optimizer.params.betas
    optimizer.params.eps optimizer.params.weight_decay scheduler.params.warmup_min_lr scheduler.params.warmup_max_lr
    scheduler.params.total_num_steps scheduler.params.warmup_num_steps fp16.enabled bf16.enabled zero_optimization.reduce_bucket_size
    zero_optimization.stage zero_optimization.offload_optimizer.device zero_optimization.offload_param.device
    zero_optimization.offload_optimizer.nvme_path zero_optimization.offload_param.nvme_path
    zero_optimization.stage3_gather_16bit_weights_on_model_save
    """))
"""Where transformers (integrations/deepspeed.py) or accelerate (utils/dataclasses.py) puts a value for ``auto``."""
FILLED_AT_3 = frozenset({"zero_optimization.stage3_prefetch_bucket_size", "zero_optimization.stage3_param_persistence_threshold"})

_MARKS = {"zero_optimization", "train_micro_batch_size_per_gpu", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"}
_PARTS = {"optimizer", "scheduler", "fp16", "bf16", "bfloat16", "activation_checkpointing", "flops_profiler", "aio"}
_RECIPE = {"model", "data", "method", "train", "parallel", "checks", "output", "stage"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says of the run that the file is for; None: nothing."""

    schedule: str | None = None
    rate: float | None = None
    clipping: float | None = None
    steps: int | None = None
    world_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """A DeepSpeed file as read."""

    path: str
    text: str
    document: dict[str, Any]
    facts: EngineFacts
    asked: Asked


ASKED: Mapping[str, tuple[str, type, str]] = {
    "train.schedule": ("schedule", str, "linear | cosine | constant"), "train.learning_rate": ("rate", float, "a number"),
    "train.max_grad_norm": ("clipping", float, "a number"), "train.max_steps": ("steps", int, "a whole number"),
    "parallel.processes": ("world_size", int, "a whole number"),
}
"""Keys of a recipe that a DeepSpeed file is held against."""


def read_asked(assignments: Sequence[str]) -> Asked:
    """``key=value`` of the command line. Raises GogptError CFG202 for another key or kind of value, CFG204 for no assignment."""
    out: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise GogptError("CFG204", "not key=value", where="command line", got=assignment)
        if key not in ASKED:
            raise GogptError("CFG202", f"a DeepSpeed file is not held against {key}", where="command line", expected=", ".join(ASKED))
        name, kind, wanted = ASKED[key]
        value = parse_value(text)
        value = float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 1):
            raise GogptError("CFG202", f"{key} cannot be that", where="command line", got=text, expected=wanted)
        out[name] = value
    return Asked(**out)


def is_deepspeed(document: Any) -> bool:
    """A mapping with a key that only a DeepSpeed file has, or two of its parts (as mappings: TrainingArguments have ``"bf16": true``, and a
    trainer_state.json has train_batch_size), and none of a recipe's keys."""
    if not isinstance(document, dict) or _RECIPE & set(document):
        return False
    parts = sum(isinstance(document.get(k), dict) for k in _PARTS) + ("train_batch_size" in document)
    return bool(_MARKS & set(document)) or parts >= 2


def find_engine_file(path: Path, name: str, assignments: Sequence[str] = ()) -> EngineFile | None:
    """The file, if it is DeepSpeed's; None if it is anything else. Raises GogptError CFG201 (a key twice), CFG202, CFG204."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return read_engine_file(text, name, read_asked(assignments)) if is_deepspeed(document) else None


def open_engine_file(path: Path, asked: Asked) -> EngineFile:
    """The DeepSpeed file that a recipe names. Raises GogptError CFG200 (not there), CFG206 (no DeepSpeed file), CFG201 (a key twice)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = json.loads(text)
    except OSError as problem:
        raise GogptError("CFG200", f"the DeepSpeed file cannot be read: {problem.strerror}", where=f"recipe, parallel.config: {path}",
                         fix="give the path of the file, relative to the recipe; or leave it out") from problem
    except (ValueError, RecursionError) as problem:
        raise GogptError("CFG206", f"parallel.config is not JSON: {problem}", where=str(path), expected="a DeepSpeed file (JSON)") from problem
    if not is_deepspeed(document):
        raise GogptError("CFG206", "parallel.config is not a DeepSpeed file", where=str(path), expected="zero_optimization, train_micro_batch_size_per_gpu, ...",
                         fix="name a DeepSpeed file, or use parallel.zero and parallel.offload")
    return read_engine_file(text, str(path), asked)


def read_engine_file(text: str, name: str, asked: Asked) -> EngineFile:
    """A file whose text is a JSON object. Raises GogptError CFG201 for a key that stands twice (DeepSpeed refuses it, too)."""
    document, places = parse_yaml(text, name)
    lines = {".".join(map(str, keys)): int(place.rpartition(":")[2]) for keys, place in places.items() if keys}
    return EngineFile(path=name, text=text, document=document, asked=asked, facts=read_facts(document, name, lines, asked))


def _part(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _type(document: Mapping[str, Any], key: str) -> str | None:
    """``type`` of a scheduler or optimizer."""
    kind = _part(document, key).get("type")
    return kind if isinstance(kind, str) and kind else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _device(value: Any) -> str | None:
    device = value.get("device") if isinstance(value, dict) else None
    return device if device in ("cpu", "nvme") else None


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _unknown(document: Mapping[str, Any]) -> dict[str, str]:
    """Keys that DeepSpeed does not know, each with the nearest that it does."""
    out: dict[str, str] = {}
    for part, known in KEYS.items():
        for key in _part(document, *part.split(".")) if part else document:
            if key not in known and not str(key).startswith(("_", "//", "#")):
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.75)
                out[f"{part}.{key}" if part else str(key)] = (f"{part}.{near[0]}" if part else near[0]) if near else ""
    kind = _type(document, "scheduler")
    if kind is not None and kind in DEEPSPEED:
        known = tuple(n for n in inspect.signature(DEEPSPEED[kind]).parameters if n != "optimizer_lr")
        for key in _part(document, "scheduler", "params"):
            if key not in known and key != "last_batch_iteration":
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.7)
                out[f"scheduler.params.{key}"] = f"scheduler.params.{near[0]}" if near else ""
    return out


def read_facts(document: Mapping[str, Any], path: str, lines: Mapping[str, int], asked: Asked) -> EngineFacts:
    """What the checks of stage ``engine`` see."""
    params = _part(document, "scheduler", "params")
    optimizer, zero, fp16 = _part(document, "optimizer"), _part(document, "zero_optimization"), _part(document, "fp16")
    kind = _type(document, "scheduler")
    own = DEEPSPEED.get(kind) if kind is not None else None
    required = [n for n, p in inspect.signature(own).parameters.items() if p.default is p.empty] if own is not None else []
    stage = _whole(zero.get("stage")) or 0
    filled = FILLED | FILLED_AT_3 if stage == 3 else FILLED
    bf16 = _part(document, "bf16") or _part(document, "bfloat16")
    power, floor = _whole(fp16.get("initial_scale_power")), _number(fp16.get("min_loss_scale"))
    return EngineFacts(
        path=path, lines={k: v for k, v in lines.items() if k.count(".") <= 2},
        scheduler=kind, scheduler_decays=kind not in NEVER_DECAY, scheduler_keys=tuple(params),
        scheduler_missing=tuple(n for n in required if n not in params), warmup_type=str(params["warmup_type"]) if "warmup_type" in params else None,
        optimizer=_type(document, "optimizer"), optimizer_keys=tuple(_part(optimizer, "params")),
        optimizer_lr=_number(_part(optimizer, "params").get("lr")), torch_adam=_part(optimizer, "params").get("torch_adam") is True,
        batch_size=_whole(document.get("train_batch_size")), micro_batch_size=_whole(document.get("train_micro_batch_size_per_gpu")),
        accumulation=_whole(document.get("gradient_accumulation_steps")), fp16=fp16.get("enabled") is True, bf16=bf16.get("enabled") is True,
        loss_scale=_number(fp16.get("loss_scale")) or 0.0, initial_scale_power=16 if power is None else power,
        min_loss_scale=1.0 if floor is None else floor,
        auto_unfilled=tuple(k for k, v in _walk(document) if v == "auto" and k not in filled), zero_stage=stage,
        gather_on_save=any(zero.get(f"stage3_gather_{name}_weights_on_model_save") in (True, "auto") for name in ("16bit", "fp16")),
        unknown=_unknown(document), offload_optimizer=_device(zero.get("offload_optimizer")), offload_param=_device(zero.get("offload_param")),
        clipping_set="gradient_clipping" in document, clipping=_number(document.get("gradient_clipping")),
        world_size=asked.world_size, asked_schedule=asked.schedule, asked_rate=asked.rate, asked_clipping=asked.clipping,
    )


# -- the learning rates of the file ----------------------------------------------------------------

TRAINER_RATE = 5e-5
"""``learning_rate`` of the Trainer where nobody says another."""
DRAWN_STEPS = 1000


def file_rates(file: EngineFile) -> tuple[Rate, int] | None:
    """The schedule that the file's own scheduler follows, and for how many steps it is drawn; None without one whose curve is known.

    ``auto`` is what the Trainer puts there: the asked learning rate (else its default, 5e-5), one step of warm-up, the steps of the run
    (asked, else 1,000 or twice the warm-up). A missing parameter without a default is taken as that, too.
    """
    kind, params = file.facts.scheduler, _part(file.document, "scheduler", "params")
    if kind is None or kind not in DEEPSPEED:
        return None
    warmup = DRAWN_STEPS if "warmup_num_steps" not in params else _whole(params["warmup_num_steps"]) or 1
    steps = file.asked.steps or _whole(params.get("total_num_steps")) or max(DRAWN_STEPS, 2 * warmup)
    lr = _part(file.document, "optimizer", "params").get("lr")
    rate = file.asked.rate or TRAINER_RATE
    known = inspect.signature(DEEPSPEED[kind]).parameters
    values = {"warmup_min_lr": 0.0, "warmup_max_lr": rate, "warmup_num_steps": 1, "total_num_steps": steps, "cycle_min_lr": 0.0, "cycle_max_lr": rate}
    given = {k: values.get(k) if v == "auto" else v for k, v in params.items() if k in known}
    given |= {k: values[k] for k in file.facts.scheduler_missing}
    try:
        made = deepspeed_rate(kind, {k: v for k, v in given.items() if v is not None}, optimizer_lr=rate if lr == "auto" else _number(lr))
        made(1), made(steps)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return made, steps


# -- a corrected copy ------------------------------------------------------------------------------


def _rename(document: dict[str, Any], old: str, new: str) -> None:
    """A key under its right name, in its place, unless that name is taken."""
    *path, last = old.split(".")
    part, name = _part(document, *path) if path else document, new.rpartition(".")[2]
    if name in part or last not in part:
        return
    renamed = {name if k == last else k: v for k, v in part.items()}
    part.clear()
    part.update(renamed)


def _drop(document: dict[str, Any], dotted: str) -> None:
    *path, last = dotted.split(".")
    (_part(document, *path) if path else document).pop(last, None)


def corrected(file: EngineFile) -> dict[str, Any]:
    """The file's document with what the checks find set right. Keys that nobody knows and that are near none stay."""
    out = copy.deepcopy(file.document)
    for old, new in file.facts.unknown.items():
        if new:
            _rename(out, old, new)
    facts = read_facts(out, file.path, {}, file.asked)
    for key in ("scheduler", "optimizer"):
        out.pop(key, None)
    for key in facts.auto_unfilled:
        _drop(out, key)
    zero, fp16 = _part(out, "zero_optimization"), _part(out, "fp16")
    unit = (facts.micro_batch_size or 0) * (facts.accumulation or 0) * (facts.world_size or 1)
    if facts.batch_size and unit and (facts.batch_size % unit if facts.world_size is None else facts.batch_size != unit):
        out.pop("train_batch_size")  # DeepSpeed works it out from the other two
    if facts.fp16 and facts.bf16:
        fp16["enabled"] = False
    elif facts.fp16:
        for key, safe in (("loss_scale", 0), ("initial_scale_power", 16), ("min_loss_scale", 1)):
            if key in fp16 and (key != "initial_scale_power" or facts.initial_scale_power > 16):
                fp16[key] = safe
    if facts.zero_stage == 3 and not facts.gather_on_save:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if facts.offload_optimizer and facts.zero_stage == 0:
        zero.pop("offload_optimizer")
    if facts.offload_param and facts.zero_stage != 3:
        zero.pop("offload_param")
    if not facts.clipping_set or (facts.asked_clipping is not None and facts.clipping not in (None, facts.asked_clipping)):
        out["gradient_clipping"] = "auto"
    return out


AUTO = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")


def agreed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with everything left to the run that the run decides: sizes, clipping and precision."""
    out = copy.deepcopy(dict(document))
    for key in AUTO:
        out[key] = "auto"
    for name in ("fp16", "bf16"):
        if name in out:
            out[name] = {**_part(out, name), "enabled": "auto"}
    return out


def written(file: EngineFile, document: Mapping[str, Any]) -> str:
    """A document as text, indented as the file is."""
    found = re.search(r"\n( +|\t+)\S", file.text)
    indent: int | str = 2 if found is None else found[1] if "\t" in found[1] else len(found[1])
    literals: dict[str, str] = {}
    json.loads(file.text.removeprefix("\ufeff"), parse_float=lambda literal: literals.setdefault(repr(float(literal)), literal))
    text = json.dumps(_marked(document), indent=indent, ensure_ascii=False)
    return re.sub(f'"{_MARK}([^"]*)"', lambda m: literals.get(m[1], m[1]), text) + "\n"


_MARK = "\ue000"


def _marked(value: Any) -> Any:
    """Finite fractions as marked words, so that they can be written as the file writes them (5e8, not 500000000.0)."""
    if isinstance(value, dict):
        return {k: _marked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_marked(v) for v in value]
    return f"{_MARK}{value!r}" if isinstance(value, float) and math.isfinite(value) else value


def patch(file: EngineFile, text: str, target: str) -> str:
    """A unified diff from the file to ``text``, empty when they are equal."""
    before = file.text if file.text.endswith("\n") else file.text + "\n"
    return "".join(difflib.unified_diff(before.splitlines(keepends=True), text.splitlines(keepends=True), file.path, target))
