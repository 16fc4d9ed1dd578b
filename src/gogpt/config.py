"""The recipe: one YAML file, and ``key=value`` on the command line. Validated once, never changed afterwards.

Numbers, booleans and nulls follow YAML 1.2 (``2e-4`` is a number, ``no`` is a word). Paths in a recipe are
relative to the recipe; paths on the command line are relative to the current folder. Rules across fields are
checks with codes (checks/config), not validators here.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from gogpt.errors import GogptError
from gogpt.yaml12 import Where, dump_yaml, parse_value, parse_yaml


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``rank: true`` would otherwise be 1, and ``eval: true`` would hold out everything."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are no values of this key")
        return value


def _path_shorthand(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _kind_shorthand(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping)) else value


class ModelConfig(_Part):
    """The base model. ``model: path`` is short for ``model: {path: path}``."""

    path: str = Field(description="folder of a Hugging Face model, or hub id")
    revision: str | None = Field(None, description="branch, tag or commit of the hub repository")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights; auto: float32 when all weights train, else what the device computes best"
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    trust_remote_code: bool = False


class SourceConfig(_Part):
    """One source of rows. ``path`` alone may be written as a string."""

    path: str = Field(description="file, folder, glob, or hub id of a data set")
    schema_: str = Field("auto", alias="schema", description="auto, or a schema by name")
    weight: float = Field(1.0, gt=0, le=1000, description="how often its rows appear in an epoch; 0.5 takes half of them")
    split: str = Field("train", description="hub data sets: the split")
    subset: str | None = Field(None, description="hub data sets: the configuration")
    revision: str | None = None
    limit: int | None = Field(None, ge=1, description="read only the first rows; told in the ledger")
    count: int | None = Field(None, ge=1, description="so many of its examples an epoch, drawn or repeated evenly; instead of weight")


Source = Annotated[SourceConfig, BeforeValidator(_path_shorthand)]
Sources = Annotated[tuple[Source, ...], BeforeValidator(_one_or_many)]


Kept = Literal["keep", "report", "drop"]
"""What is done about a row that is found: nothing is looked for, it is counted, or it goes to the ledger."""


class CleanConfig(_Part):
    """What stays out of the data, and why. Everything is off by default but two reports, which cost next to nothing: exact duplicates, and answers that
    name another assistant."""

    languages: tuple[str, ...] = Field((), description="keep conversations in these languages (ISO 639-1: zh, en); needs the extra lang "
                                       "for languages that share a script")
    min_chars: int = Field(0, ge=0, description="drop conversations whose answers have fewer characters")
    max_chars: int | None = Field(None, ge=1, description="drop conversations of more characters")
    identities: Literal["keep", "report", "drop", "rewrite"] = Field(
        "report", description="answers in which the model says that it is another assistant, or another's work; rewrite: the "
        "names become identity and maker")
    identity: str | None = Field(None, min_length=1, description="rewrite: the assistant's name")
    maker: str | None = Field(None, min_length=1, description="rewrite: who made it")
    identities_file: str | None = Field(None, description="YAML with names and phrases beside the built-in ones")
    refusals: Kept = Field("keep", description="answers that refuse (As an AI language model, I cannot ...)")
    empty_turns: Kept = Field("keep", description="conversations with a blank turn in them")
    repeated_turns: Kept = Field("keep", description="conversations that say the same turn twice, or an answer that repeats itself")
    duplicates: Literal["keep", "report", "exact", "near"] = Field(
        "report", description="conversations that say the same: report counts exact ones, exact drops them, near also those alike")
    leakage: Literal["report", "exact", "near"] = Field(
        "report", description="training conversations that the evaluation set holds too: report (DAT310 refuses), or drop them from training")
    similarity: float = Field(0.8, gt=0, lt=1, description="near: Jaccard similarity of character 5-grams from which two are alike")


class MixConfig(_Part):
    """How much of each source an epoch holds. One of temperature and languages; without either, each source's weight or count."""

    temperature: float | None = Field(None, gt=0, le=100, description="a source of n examples gets a share of n^(1/temperature)")
    languages: dict[str, float] = Field({}, description="share of each language, as in {zh: 1, en: 1}; others keep their number")
    unit: Literal["examples", "tokens", "trained_tokens"] = Field("examples", description="what temperature and languages count")
    sampling: Literal["under", "over"] = Field("under", description="under: nothing appears twice; over: nothing is left out")


class DataConfig(_Part):
    train: Annotated[Sources, Field(min_length=1)]
    eval: Annotated[float, Field(ge=0, lt=1)] | Sources = Field(0.0, description="a fraction of the training rows held out, or sources")
    template: str = Field("auto", description="auto (the tokenizer's own), a template by name, a .jinja file, or none (documents of text)")
    max_length: int = Field(2048, ge=2, lt=2**31, description="tokens of an example, and of a packed row")
    overlong: Literal["drop", "truncate", "split", "error"] = "drop"
    train_on: Literal["assistant", "last", "all"] = "assistant"
    packing: bool = True
    special_text: Literal["error", "drop", "keep"] = Field(
        "error", description="rows whose own text spells a special token: refuse, drop them (counted), or keep "
        "them, where the text becomes the special token"
    )
    clean: CleanConfig = CleanConfig()
    mix: MixConfig = MixConfig()
    across_documents: bool = Field(False, description="stage pretrain: tokens attend to the documents packed before theirs")
    prepared: str | None = Field(None, description="folder of prepared sets; default: prepared/ beside the run folder")
    streaming: bool = Field(False, description="read, tokenise and pack while training; no set is written. Needs train.max_steps; weights are rates of reading")
    workers: int | None = Field(None, ge=1, description="processes that prepare; default: every core")


class MethodConfig(_Part):
    """What trains. ``method: qlora`` is short for ``method: {kind: qlora}``."""

    kind: Literal["lora", "qlora", "full", "freeze"] = "lora"
    rank: int = Field(16, ge=1, le=65536)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: str | tuple[str, ...] = Field("all-linear", description="all-linear, or names of linear modules")
    modules_to_save: tuple[str, ...] = Field((), description="modules trained whole and saved with the adapter")
    new_tokens: Literal["none", "rows", "all"] = Field(
        "none", description="of an extended tokenizer: rows trains the embedding rows that were added (also under lora), all the whole matrices")
    trainable_layers: int = Field(2, ge=1, description="freeze: how many of the last layers train (with the final norm)")
    quant_type: Literal["nf4", "fp4"] = Field("nf4", description="qlora: what 4 bits stand for; nf4 suits weights that are normally distributed")
    double_quant: bool = Field(True, description="qlora: the scales of the blocks are quantised too, which saves 0.37 bits a weight")


class TrainConfig(_Part):
    epochs: float = Field(3, gt=0, le=100_000)
    max_steps: int | None = Field(None, ge=1, le=10**7, description="optimizer steps; wins over epochs")
    learning_rate: float = Field(2e-4, allow_inf_nan=True, description="peak learning rate")  # judged by CFG211
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.03, ge=0, le=10**7, description="below 1: share of all steps; from 1 on: steps")
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="end of the decay as a share of the peak")
    batch_size: int = Field(16, ge=1, le=10**6, description="sequences (packed: rows) of one optimizer step over all processes")
    micro_batch_size: Annotated[int, Field(ge=1, le=10**6)] | Literal["auto"] = Field(
        4, description="sequences (packed: rows) of one forward pass of one process; auto: as many as the memory plan finds room for")
    seed: int = Field(0, ge=0, lt=2**32)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    optimizer: Literal["adamw", "sgd", "adafactor"] = "adamw"
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, ge=0, description="clip the gradient norm; 0 does not clip")
    gradient_checkpointing: bool = False
    shared_prefixes: Literal["auto", "on", "off"] = Field(
        "auto", description="examples of a step that begin alike are computed once up to where they part: the same gradient from fewer tokens; auto: where "
        "it saves enough and the model allows it, which `gogpt plan` tells")
    fused: bool = Field(True, description="on a CPU: GoGPT's own functions in place of the model's norms, gated MLPs, LoRA layers and rotary embeddings, each "
                        "proven equal on the module it replaces; fewer passes and fewer saved activations")
    eval_every: int | None = Field(None, ge=1, description="steps; default: once an epoch, and at the end")
    save_every: int | None = Field(None, ge=1, description="steps; default: once an epoch")
    keep_checkpoints: int = Field(2, ge=1)
    early_stopping: int | None = Field(None, ge=1, description="stop after so many evaluations without a better loss; the best weights are kept")
    rollbacks: int = Field(0, ge=0, le=1000, description="how often a run that goes wrong (RUN601, RUN650) goes back to its last good checkpoint, "
                           "passes over the step that did it and goes on; 0: it stops")
    report_to: tuple[str, ...] = Field((), description="tensorboard, wandb, ... (any that the Trainer knows)")
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="further keys of transformers' TrainingArguments, checked against the installed version"
    )


    @property
    def micro_rows(self) -> int:
        """``micro_batch_size`` once it is known: of auto, ``plan.fitted`` puts a number in its place."""
        assert self.micro_batch_size != "auto"
        return self.micro_batch_size


class ParallelConfig(_Part):
    """Processes and what keeps them in step. ``processes`` are those of one node; all together there are ``processes x nodes``."""

    engine: Literal["ddp", "fsdp", "deepspeed"] = Field(
        "ddp", description="ddp: whole copies; fsdp: weights, gradients and optimizer sharded by torch (FSDP2); deepspeed: by ZeRO")
    processes: int = Field(1, ge=1, le=4096, description="processes on each node, one a GPU; all are started by this command, or by torchrun, "
                           "accelerate, deepspeed, srun or mpirun")
    nodes: int = Field(1, ge=1, le=65536, description="machines; the same command is started on each")
    master: str | None = Field(None, description="host:port of one of the nodes, where they find each other (nodes > 1)")
    zero: Literal[0, 1, 2, 3] | None = Field(None, description="deepspeed: 1 shards the optimizer, 2 (default) also gradients, 3 also weights")
    offload: Literal["none", "optimizer", "all"] = Field("none", description="to the CPU's memory: the optimizer (deepspeed), or all that is sharded (fsdp, zero 3)")
    prepare: Literal["processes", "ray"] = Field("processes", description="who prepares the data: processes of this machine, or the workers of a Ray cluster "
                                                 "(that of RAY_ADDRESS, that of ray start on this machine, or one that is started for it); the same set bit for bit")
    config: str | None = Field(None, description="a DeepSpeed file of your own; it is judged first, and refused where it says otherwise than the recipe")

    @property
    def world_size(self) -> int:
        return self.processes * self.nodes

    @property
    def stage(self) -> int:
        """ZeRO's stage; 0 for another engine. Of a file, what the file says (see ``parallel``)."""
        return 0 if self.engine != "deepspeed" else 2 if self.zero is None else self.zero


Proof = Literal["accumulation", "packing", "gradients", "adapter", "initial_loss", "generation"]
PROOFS: tuple[Proof, ...] = get_args(Proof)


class ChecksConfig(_Part):
    allow: tuple[str, ...] = Field((), description="codes of findings that neither refuse nor stop this run; recorded in it")
    proofs: tuple[Proof, ...] = Field(
        PROOFS, description="what is proven before the first step, on this model and data (MOD521 to MOD526); [] proves nothing")
    policy: dict[str, Literal["stop", "warn", "record"]] = Field(
        {}, description="what a finding of a code does while training: stop the run, warn, or only record it in findings.json; default: "
        "an error stops, a warning warns")

    @field_validator("policy")
    @classmethod
    def _one_answer(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        both = sorted(code for code in info.data.get("allow", ()) if value.get(code) == "stop")
        if both:
            raise ValueError(f"{', '.join(both)}: stop, and in checks.allow, which says that it does not stop")
        return value


class RunConfig(_Part):
    """A recipe, as validated. Every key has a default but ``model``, ``data.train`` and ``output``."""

    stage: Literal["sft", "pretrain"] = Field("sft", description="sft: conversations; pretrain: documents of text, packed to the full length")
    model: Annotated[ModelConfig, BeforeValidator(_path_shorthand)]
    data: DataConfig
    method: Annotated[MethodConfig, BeforeValidator(_kind_shorthand)] = MethodConfig()
    train: TrainConfig = TrainConfig()
    parallel: ParallelConfig = ParallelConfig()
    checks: ChecksConfig = ChecksConfig()
    output: str = Field(min_length=1, description="the run folder")

    def to_yaml(self) -> str:
        """The recipe as resolved, with every default written out."""
        data = self.model_dump(mode="json", by_alias=True)
        return dump_yaml(data)


# -- key=value ------------------------------------------------------------------------------------


def _override(data: dict[str, Any], assignments: Sequence[str], where: Where, here: Path) -> None:
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
            raise GogptError("CFG204", f"cannot read {assignment!r}", where="command line",
                             expected="key=value, as in train.learning_rate=1e-4",
                             fix="write the key as in the recipe, dots between levels, no spaces")
        path: list[str | int] = [int(p) if p.isdigit() else p for p in key.split(".")]
        value = parse_value(text)
        target: Any = data
        for i, part in enumerate(path[:-1]):
            target = _step_into(target, part, path[i + 1], assignment)
            where.setdefault(tuple(path[: i + 1]), "command line")
        last = path[-1]
        value = _resolve_at(tuple(path), value, here)
        if isinstance(target, list) and isinstance(last, int) and last < len(target):
            target[last] = value
        elif isinstance(target, dict):
            target[str(last)] = value
        else:
            raise GogptError("CFG204", f"there is no such place in the recipe: {key}", where="command line",
                             got=assignment)
        for stale in [p for p in where if p[: len(path)] == tuple(path)]:
            del where[stale]
        where[tuple(path)] = f"command line, {key}"


def _step_into(target: Any, part: str | int, after: str | int, assignment: str) -> Any:
    """What ``part`` of ``target`` holds; shorthand (a path alone, one source) is written out for the key ``after``."""
    if isinstance(target, dict):
        inner = target.setdefault(str(part), {})
        if part in ("model", "train", "eval"):
            if isinstance(inner, str):
                inner = {"path": inner}
            if isinstance(inner, dict) and isinstance(after, int):
                inner = [inner]
            target[str(part)] = inner
        if part == "method" and isinstance(inner, str):
            inner = target["method"] = {"kind": inner}
        return inner
    if isinstance(target, list) and isinstance(part, int) and part < len(target):
        if isinstance(target[part], str):
            target[part] = {"path": target[part]}
        return target[part]
    raise GogptError("CFG204", f"there is no such place in the recipe: {assignment.partition('=')[0]}",
                     where="command line", got=assignment)


# -- paths -----------------------------------------------------------------------------------------

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_LOOKS_LIKE_FILE = re.compile(r"\.(jsonl?|csv|tsv|parquet|arrow|txt|md|jinja2?|gz|zst)$", re.I)


def _absolute(text: Any, base: Path, *, hub: bool) -> Any:
    if not isinstance(text, str) or not text or text.startswith("hub:"):
        return text
    try:
        path = Path(text).expanduser()
        if path.is_absolute():
            return str(path)
        if hub and _HUB_ID.match(text) and not (base / path).exists() and not _LOOKS_LIKE_FILE.search(text):
            return text
        return os.path.normpath(base / path)
    except (RuntimeError, OSError):  # ~ of a user that is not known; a name that is too long for a file
        return str(base / text)


def _sources(value: Any, base: Path) -> Any:
    if isinstance(value, str):
        return _absolute(value, base, hub=True)
    if isinstance(value, list):
        return [_sources(v, base) for v in value]
    if isinstance(value, dict) and "path" in value:
        return {**value, "path": _absolute(value["path"], base, hub=True)}
    return value


def _resolve_at(path: tuple[str | int, ...], value: Any, base: Path) -> Any:
    """``value`` of the recipe's key ``path`` with the paths in it made absolute."""
    key = tuple(p for p in path if isinstance(p, str))
    if key in (("model",), ("model", "path")):
        return _sources(value, base) if key == ("model",) else _absolute(value, base, hub=True)
    if key in (("data", "train"), ("data", "eval")):
        return _sources(value, base)
    if key in (("data", "train", "path"), ("data", "eval", "path")):
        return _absolute(value, base, hub=True)
    if key in (("output",), ("parallel", "config"), ("data", "prepared"), ("data", "clean", "identities_file")):
        return _absolute(value, base, hub=False)
    if key == ("data", "template") and isinstance(value, str) and _LOOKS_LIKE_FILE.search(value):
        return _absolute(value, base, hub=False)
    if isinstance(value, dict) and key in ((), ("data",), ("data", "clean"), ("parallel",)):
        return {k: _resolve_at((*key, k), v, base) for k, v in value.items()}
    return value


# -- loading ---------------------------------------------------------------------------------------


def load_recipe(path: str | Path, assignments: Sequence[str] = (), *, here: Path | None = None) -> RunConfig:
    """Read, override and validate a recipe.

    Raises GogptError CFG200 (no such file), CFG201 (YAML), CFG202 (all wrong keys and values at once),
    CFG204 (an assignment that cannot be read).
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as problem:
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.y*ml")], n=1)
        raise GogptError("CFG200", "there is no such recipe", where=str(path),
                         fix=f"did you mean {file.parent / near[0]}?" if near else "give the path of a YAML file") from problem
    except IsADirectoryError as problem:
        raise GogptError("CFG200", "a folder, not a recipe", where=str(path), fix="give the YAML file in it") from problem
    except UnicodeDecodeError as problem:
        raise GogptError("CFG201", "not a text file in UTF-8", where=str(path), got=f"byte {problem.start} is {problem.object[problem.start]:#x}") from problem
    except OSError as problem:
        raise GogptError("CFG200", f"the recipe cannot be read: {problem.strerror}", where=str(path)) from problem
    return parse_recipe(text, name=str(path), base=file.resolve().parent, assignments=assignments, here=here)


def parse_recipe(
    text: str, *, name: str, base: Path, assignments: Sequence[str] = (), here: Path | None = None
) -> RunConfig:
    """As ``load_recipe``, from text. ``base``: folder that the recipe's paths are relative to."""
    data, where = parse_yaml(text, name)
    if not isinstance(data, dict):
        got = "nothing" if data is None else f"a {type(data).__name__}"
        raise GogptError("CFG201", "a recipe is a mapping of keys to values", where=name, got=got,
                         expected="model:, data:, output: ...", fix="see gogpt schema, or examples/identity.yaml")
    data = cast("dict[str, Any]", _resolve_at((), data, base))
    _override(data, assignments, where, here or Path.cwd())
    try:
        return RunConfig.model_validate(data)
    except ValidationError as problem:
        raise _all_errors(problem, where, name) from problem


def _all_errors(problem: ValidationError, where: Where, name: str) -> GogptError:
    lines: dict[str, None] = {}
    for loc, errors in _by_key(problem.errors()).items():
        text, *others = (_describe(error, loc) for error in errors)
        for other in others:  # several kinds of value would do here: one line that names them all
            text = f"{text.partition(', got ')[0]} or {other.partition(': should be ')[2]}"
        lines[f"{_place(loc, where, name)}: {text}"] = None
    count = len(lines)
    first = "1 mistake in the recipe" if count == 1 else f"{count} mistakes in the recipe"
    return GogptError("CFG202", "\n  ".join([first, *lines]), where=name,
                      fix="correct every line above; gogpt schema prints all keys")


def _is_union_arm(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("float", "constrained-float", "str", "int", "bool", "tuple"))


def _by_key(errors: Sequence[Any]) -> dict[tuple[str | int, ...], list[Any]]:
    """Errors by key, in order. Where a key takes several kinds of value, the kinds that it clearly is not go."""
    arms: dict[tuple[str | int, ...], list[bool]] = {}
    for error in errors:
        arms.setdefault(_union_key(error["loc"]), []).append(_is_of_another_kind(error))
    out: dict[tuple[str | int, ...], list[Any]] = {}
    for error in errors:
        if _is_of_another_kind(error) and not all(arms[_union_key(error["loc"])]):
            continue
        loc = error["loc"]
        # The last part of an unknown key is the user's own word, whatever it looks like.
        own = len(loc) - 1 if error["type"] == "extra_forbidden" else None
        out.setdefault(tuple(p for i, p in enumerate(loc) if i == own or not _is_union_arm(p)), []).append(error)
    return out


def _union_key(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The key that takes several kinds of value, or the key itself."""
    return next((loc[:i] for i, part in enumerate(loc) if _is_union_arm(part)), loc)


def _is_of_another_kind(error: Any) -> bool:
    return _is_union_arm(error["loc"][-1] if error["loc"] else 0) and error["type"].endswith(("_type", "_parsing"))


def _place(loc: tuple[str | int, ...], where: Where, name: str) -> str:
    """Where the key stands, or the nearest one above it. One source alone has no index in the recipe."""
    for n in range(len(loc), -1, -1):
        for key in (loc[:n], tuple(p for p in loc[:n] if isinstance(p, str))):
            if key in where:
                return where[key]
    return name


def _describe(error: Any, loc: tuple[str | int, ...]) -> str:
    key = ".".join(map(str, loc))
    if error["type"] == "extra_forbidden":
        known = _fields_at(loc[:-1])
        elsewhere = _anywhere(str(loc[-1]))
        exact = any(name.rsplit(".", 1)[-1] == loc[-1] for name in elsewhere)  # misplaced rather than misspelt
        near = [] if exact else difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        hint = (f"; did you mean {near[0]!r}?" if near else f"; it belongs to {elsewhere[0]}" if elsewhere
                else f"; known here: {', '.join(known)}")
        return f"unknown key {key!r}{hint}"
    if error["type"] == "missing":
        return f"{key!r} is missing; it has no default"
    got = error.get("input")
    shown = "" if isinstance(got, (dict, list)) else ", got nothing" if got is None else f", got {got!r}"
    if error["type"] == "model_type":
        known = _fields_at(loc)
        return f"{key}: should be keys with values ({', '.join(known[:6])}{', ...' if len(known) > 6 else ''}){shown}"
    if error["type"] in ("too_short", "string_too_short"):
        return f"{key}: should not be empty"
    if error["type"] == "literal_error" and isinstance(got, str):
        near = difflib.get_close_matches(got, re.findall(r"'([^']*)'", error["msg"]), n=1)
        shown += f"; did you mean {near[0]!r}?" if near else ""
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key}: should be {message}{shown}" if error["msg"].startswith("Input should be") else f"{key}: {message}{shown}"


_PARTS: dict[tuple[str, ...], type[_Part]] = {
    (): RunConfig, ("model",): ModelConfig, ("data",): DataConfig, ("data", "train"): SourceConfig,
    ("data", "eval"): SourceConfig, ("method",): MethodConfig, ("train",): TrainConfig,
    ("parallel",): ParallelConfig, ("checks",): ChecksConfig,
}


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    part = _PARTS.get(tuple(p for p in loc if isinstance(p, str)))
    return [f.alias or n for n, f in part.model_fields.items()] if part else []


def _anywhere(key: str) -> list[str]:
    """Full names of keys of this name (or nearly) in other parts of the recipe."""
    out = []
    for prefix, part in _PARTS.items():
        names = [f.alias or n for n, f in part.model_fields.items()]
        out += [(n != key, ".".join((*prefix, n))) for n in difflib.get_close_matches(key, names, n=1, cutoff=0.8)]
    return [name for _, name in sorted(out, key=lambda found: found[0])]


def recipe_schema() -> dict[str, Any]:
    """The recipe's JSON schema (draft 2020-12), for editors."""
    schema = RunConfig.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "GoGPT recipe"
    text = {"type": "string"}
    schema["properties"]["model"] = {"anyOf": [text, {"$ref": "#/$defs/ModelConfig"}]}
    kinds = {"enum": schema["$defs"]["MethodConfig"]["properties"]["kind"]["enum"], "type": "string"}
    method = schema["properties"]["method"]
    schema["properties"]["method"] = {**{k: v for k, v in method.items() if k != "$ref"}, "anyOf": [kinds, {"$ref": "#/$defs/MethodConfig"}]}
    source = {"anyOf": [text, {"$ref": "#/$defs/SourceConfig"}]}
    sources = {"anyOf": [source, {"type": "array", "items": source, "minItems": 1}]}
    parts = schema["$defs"]["DataConfig"]["properties"]
    parts["train"] = {**sources, "description": "where the training rows come from"}
    parts["eval"] = {"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, *sources["anyOf"]], "default": 0.0,
                     "description": parts["eval"].get("description", "")}
    return schema
