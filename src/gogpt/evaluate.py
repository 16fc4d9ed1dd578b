"""The loss of a run or model on held-out examples, as its own training evaluates: in this process, or on the workers of a Ray cluster.

The batches are fixed by the examples alone, and their sums are joined in the order of the batches, whoever computed them: Ray gives the same loss,
bit for bit where its workers compute a batch with as many threads on the same kind of processor, and otherwise to the rounding of one batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gogpt.batches import by_length, collate_rows
from gogpt.config import CleanConfig, DataConfig, RunConfig, SourceConfig
from gogpt.data.prepare import Prepared, prepare
from gogpt.data.store import ExampleSet
from gogpt.data.stream import judge_head
from gogpt.engines import quiet_engines
from gogpt.errors import GogptError
from gogpt.generate import load_served, resolve_served
from gogpt.loss import summed_loss
from gogpt.model import pick_device
from gogpt.plan import document_rows
from gogpt.preflight import encoders, open_stream, pad_id, prepare_recipe
from gogpt.ray_cluster import Work, connected, in_order
from gogpt.records import IGNORE_INDEX, Example
from gogpt.runfolder import RunFolder, load_run_recipe, read_json
from gogpt.templates import Template, pick_template
from gogpt.tokenize import Tokenizer

AT_ONCE = 8
"""Batches that a Ray worker is given at once."""
ASKED_BY = "--ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How the model is loaded, here or on another node. ``precision``: of the computation, as in a plan, or auto: that of the weights;
    ``attention``: as in a recipe."""

    model: str
    base: str | None
    dtype: str
    precision: str
    attention: str
    pad_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is evaluated, and on what. ``kind``: run or model; ``batch_size``: examples of one forward pass."""

    kind: str
    loading: Loading
    examples: ExampleSet
    prepared: Prepared
    template: str
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Mean cross-entropy over all trained tokens, and their number; of each file its examples and its trained tokens."""

    loss: float
    trained_tokens: int
    sources: tuple[tuple[str, int, int], ...]

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < 700 else math.inf if self.loss == self.loss else math.nan


def hold(model: str, data: Sequence[str] = (), *, template: str | None = None, base: str | None = None, batch_size: int | None = None,
         max_length: int | None = None, progress: Callable[[int], None] | None = None) -> Held:
    """The examples to evaluate ``model`` on: those of ``data``, or the evaluation set of the run that it is; a run's own rendering, lengths,
    precision and batches, unless another is asked for. Raises GogptError RUN611, RUN614 (nothing to evaluate on), DAT3xx, TOK4xx."""
    run = RunFolder(Path(model))
    served = resolve_served(model)  # before the data is read: a wrong path is told at once
    place = str(Path(model).resolve()) if Path(model).exists() else model  # a worker stands in another folder
    if run.is_run:
        config = load_run_recipe(run)
        plan = read_json(run.plan)
        config = config.model_copy(update={"data": config.data.model_copy(update={
            **({"template": template} if template else {}), **({"max_length": max_length} if max_length else {})})})
        prepared, examples, tokenizer, chosen = _of_run(config, data, progress)
        loading = Loading(model=place, base=base, dtype=plan["weights_dtype"], precision=plan["precision"], attention=config.model.attention,
                          pad_id=pad_id(tokenizer))
        size = batch_size or config.train.micro_rows
    else:
        if not data:
            raise _nothing(model, "a model, which has no evaluation set of its own")
        tokenizer = Tokenizer(served)
        chosen = pick_template(template or "auto", tokenizer)
        prepared = prepare(DataConfig.model_validate({"train": list(data), "max_length": max_length or 2048}), tokenizer, chosen, progress=progress)
        examples = prepared.train
        loading = Loading(model=place, base=base, dtype="auto", precision="auto", attention="auto", pad_id=pad_id(tokenizer))
        size = batch_size or 4
    if not len(examples):
        raise _nothing(model, "a run whose data.eval holds nothing out" if not data else "data without a trained token")
    return Held(kind="run" if run.is_run else "model", loading=loading, examples=examples, prepared=prepared, template=chosen.name, batch_size=size)


def _nothing(model: str, got: str) -> GogptError:
    return GogptError("RUN614", "there is nothing to evaluate on", where=model, got=got, expected="examples with trained tokens",
                      fix=f"name a file of held-out conversations: gogpt evaluate {model} --data FILE")


def _of_run(config: RunConfig, data: Sequence[str], progress: Callable[[int], None] | None) -> tuple[Prepared, ExampleSet, Tokenizer, Template]:
    if data:
        tokenizer, template = encoders(config)
        # What looks at one row stays the run's; what looks at the whole set is no matter of evaluating.
        clean = config.data.clean.model_copy(update={name: CleanConfig.model_fields[name].default for name in ("duplicates", "leakage")})
        asked = DataConfig.model_validate({**{name: getattr(config.data, name) for name in ("max_length", "overlong", "train_on", "special_text", "workers")},
                                           "train": [SourceConfig(path=path) for path in data], "clean": clean})
        prepared = prepare(asked, tokenizer, template, seed=config.train.seed, progress=progress)
        examples = prepared.train
    elif config.data.streaming:
        tokenizer, template = encoders(config)
        prepared = judge_head(open_stream(config, tokenizer, template), progress=progress)
        examples = prepared.eval
    else:
        prepared, tokenizer, template = prepare_recipe(config, progress=progress, keep=False)
        examples = prepared.eval
    if config.stage == "pretrain":
        examples = document_rows(config, examples, seed=None)[0]
    return prepared, examples, tokenizer, template


def evaluate(held: Held, *, ray: bool = False, workers: int | None = None, note: Callable[[str], None] = lambda text: None,
             progress: Callable[[int], None] | None = None) -> Evaluated:
    """``workers``: with ``ray``, at most so many. ``note`` is told of lost ones, ``progress`` the examples that are done.

    Raises GogptError MOD500, MOD506, EXP704; with ``ray`` ENV111, ENV114, ENV116, ENV117.
    """
    examples = held.examples
    batches = by_length(examples, held.batch_size)
    total, count, done = 0.0, 0, 0
    losses = _on_ray(held, batches, workers, note) if ray else _here(held, batches)
    for (loss, tokens), batch in zip(losses, batches, strict=True):
        total += loss
        count += tokens
        done += len(batch)
        if progress is not None:
            progress(done)
    return Evaluated(loss=total / count if count else math.nan, trained_tokens=count, sources=_sources(examples))


def _sources(examples: ExampleSet) -> tuple[tuple[str, int, int], ...]:
    """Counted as the loss counts: an example's first token is predicted by nothing."""
    found: dict[str, list[int]] = {}
    for example in examples:
        counts = found.setdefault(example.origin.path, [0, 0])
        counts[0] += 1
        counts[1] += int((example.labels[1:] != IGNORE_INDEX).sum())
    return tuple((path, number, tokens) for path, (number, tokens) in found.items())


def _here(held: Held, batches: Sequence[Sequence[int]]) -> Iterator[tuple[float, int]]:
    opened = open_model(held.loading)
    for batch in batches:
        yield batch_loss(opened, [held.examples[i] for i in batch])


def _on_ray(held: Held, batches: Sequence[Sequence[int]], workers: int | None, note: Callable[[str], None]) -> Iterator[tuple[float, int]]:
    parts = ([[held.examples[i] for i in batch] for batch in batches[at : at + AT_ONCE]] for at in range(0, len(batches), AT_ONCE))
    work: Work[list[list[Example]], Opened, list[tuple[float, int]]] = Work(
        shared=held.loading, start=open_model, make=part_losses, settle=lambda part, losses: losses, computes=True,
        name=lambda part: f"a part of {sum(map(len, part))} examples from {part[0][0].origin}")
    with connected(ASKED_BY, workers) as cluster:
        for losses in in_order(cluster, work, parts, note):
            yield from losses


# -- wherever the model is -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model ready to be evaluated."""

    model: Any
    device: torch.device
    loading: Loading


def open_model(loading: Loading) -> Opened:
    """Raises GogptError MOD500, MOD506, EXP704, RUN611."""
    with quiet_engines():
        device = pick_device()
        model = load_served(resolve_served(loading.model), device, base=loading.base, dtype=loading.dtype, attention=loading.attention)
    return Opened(model=model.eval(), device=device, loading=loading)


def part_losses(opened: Opened, part: Sequence[Sequence[Example]]) -> list[tuple[float, int]]:
    return [batch_loss(opened, examples) for examples in part]


def batch_loss(opened: Opened, examples: Sequence[Example]) -> tuple[float, int]:
    """Summed cross-entropy over the trained tokens of a batch, one example a row, and their number; computed as the Trainer evaluates."""
    batch = collate_rows(opened.loading.pad_id)([(example,) for example in examples])
    autocast: Any = contextlib.nullcontext()
    if opened.loading.precision in ("bf16", "fp16"):
        autocast = torch.autocast(opened.device.type, dtype=torch.bfloat16 if opened.loading.precision == "bf16" else torch.float16)
    with torch.no_grad(), autocast:
        loss, tokens = summed_loss(opened.model, {k: v.to(opened.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}, next(opened.model.parameters()).dtype)
    return float(loss), tokens
