"""RunPlan: what will happen, as pure arithmetic over the recipe and the facts. Nothing is written back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.config import RunConfig, TrainConfig
from gogpt.data.store import ExampleSet
from gogpt.facts import EnvFacts, PlanFacts
from gogpt.memory import RUNTIME, WEIGHT_BYTES, Memory, Work, estimate_memory
from gogpt.modelfiles import Checkpoint, count_trainable
from gogpt.packing import Bins, cut_documents, one_per_row, pack
from gogpt.quantisation import quantisation_of, weight_bytes
from gogpt.schedules import Rate
from gogpt.sharing import Sampled, Sharing, decide, quadratic_of, sample_steps, why_not_causal
from gogpt.trees import LEAST_SHARED, StepShape

_DOCUMENTS = 0x646F6373
"""What tells the order of documents from other draws under one seed."""
NUM_LR_POINTS = 2000
"""How many learning rates plan.json lists at most; the first, the last and the peak are among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Steps, learning rates, batches and memory of a run.

    ``bins``: the examples of each row. ``order``: the row indices of the whole run, epoch after epoch, each
    epoch shuffled by (seed, epoch); step s takes ``batch_size`` of them in turn.

    ``sampled_rows``: of a stream, the rows of data that it was judged on. Its end is not known, so that ``bins``, ``tokens`` and
    ``trained_tokens`` are of those rows alone, ``order`` is empty and ``epochs`` is 0.
    """

    steps: int
    warmup_steps: int
    schedule: str
    learning_rate: float
    min_lr_ratio: float
    epochs: float
    batch_size: int
    micro_batch_size: int
    accumulation: int
    world_size: int
    precision: str
    weights_dtype: str
    method: str
    max_length: int
    packing: bool
    stage: str
    across_documents: bool
    """a row is one stream: tokens attend to the documents before theirs in it"""
    bins: Bins
    order: npt.NDArray[np.int64]
    tokens: int
    trained_tokens: int
    parameters: int
    trainable_parameters: int
    memory: Memory
    sharing: Sharing
    """whether examples that begin alike are computed once up to where they part"""
    quadratic: float = math.inf
    """tokens that a token must see for its attention to cost as much as its products with the weights"""
    quantised_parameters: int = 0
    """of the parameters: those held in 4 bits"""
    quant_type: str | None = None
    sampled_rows: int = 0
    driven_by: str | None = None
    """the scheduler of a DeepSpeed file, which sets the learning rates in place of the recipe's schedule"""
    rates: Rate | None = None
    """its rates"""

    @property
    def laid_out(self) -> bool:
        """Whether each step's examples are laid out over its micro-batches as a whole (packed conversations that are all there)."""
        return self.packing and self.stage == "sft" and not self.streaming

    def shape(self, *, flat: bool, shares: bool, spread: bool = False) -> StepShape:
        """What holds a step. ``flat``: attention takes a micro-batch as one long row; ``spread``: see ``StepShape``."""
        return _step_shape(self.accumulation, self.micro_batch_size, self.max_length, self.world_size, self.quadratic, flat=flat, shares=shares, spread=spread)

    @property
    def streaming(self) -> bool:
        return self.sampled_rows > 0

    @property
    def num_rows(self) -> int:
        return len(self.bins)

    def lr_at(self, step: int) -> float:
        """The learning rate that optimizer step ``step`` (from 1) uses.

        Warm-up rises linearly and reaches the peak at step ``warmup_steps + 1``; no step uses 0, neither the
        first (which the usual formula wastes) nor the last.
        """
        if self.rates is not None:
            return self.rates(step)
        if step <= self.warmup_steps:
            return self.learning_rate * step / (self.warmup_steps + 1)
        if self.schedule == "constant":
            return self.learning_rate
        progress = min(1.0, (step - 1 - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        decay = 0.5 * (1 + math.cos(math.pi * progress)) if self.schedule == "cosine" else 1 - progress
        return self.learning_rate * (self.min_lr_ratio + (1 - self.min_lr_ratio) * decay)

    def lr_points(self) -> list[tuple[int, float]]:
        steps = range(1, self.steps + 1)
        if self.steps > NUM_LR_POINTS:
            chosen = {round(x) for x in np.linspace(1, self.steps, NUM_LR_POINTS)} | {min(self.warmup_steps + 1, self.steps)}
            return [(s, self.lr_at(s)) for s in sorted(chosen)]
        return [(s, self.lr_at(s)) for s in steps]

    def to_dict(self, seconds: float | None = None) -> dict[str, Any]:
        """The document ``plan.json``."""
        per_step = (self.batch_size if self.streaming else min(self.batch_size, self.num_rows * max(1.0, self.epochs))) / max(1, self.num_rows)
        memory = self.memory
        return {
            "steps": self.steps, "warmup_steps": self.warmup_steps, "schedule": self.schedule,
            "learning_rate": self.learning_rate, "min_lr_ratio": self.min_lr_ratio, "epochs": None if self.streaming else self.epochs,
            "batch_size": self.batch_size, "micro_batch_size": self.micro_batch_size,
            "accumulation": self.accumulation, "world_size": self.world_size, "precision": self.precision,
            "stage": self.stage, "across_documents": self.across_documents, "method": self.method, "max_length": self.max_length, "packing": self.packing, "rows": self.num_rows, "sampled_rows": self.sampled_rows,
            "examples": self.bins.num_examples, "tokens": self.tokens, "trained_tokens": self.trained_tokens,
            "shared_prefixes": self.sharing.on, "why_not_shared": self.sharing.why, "computed_tokens": round(self.tokens * self.sharing.share),
            "tokens_per_step": round(self.tokens * per_step, 1),
            "trained_tokens_per_step": round(self.trained_tokens * per_step, 1),
            "parameters": self.parameters, "trainable_parameters": self.trainable_parameters,
            "quantised_parameters": self.quantised_parameters, "quant_type": self.quant_type, "weights_dtype": self.weights_dtype,
            "memory": {"total": memory.total, "weights": memory.weights, "gradients": memory.gradients,
                       "optimizer": memory.optimizer, "activations": memory.activations, "runtime": memory.runtime},
            "driven_by": self.driven_by, "seconds": seconds, "lr": [list(p) for p in self.lr_points()],
        }

    def facts(self, config: RunConfig) -> PlanFacts:
        return PlanFacts(
            method=self.method, epochs=self.epochs, steps=self.steps, warmup_steps=self.warmup_steps,
            schedule=self.schedule, learning_rate=self.learning_rate, batch_size=self.batch_size,
            micro_batch_size=self.micro_batch_size, accumulation=self.accumulation, world_size=self.world_size,
            precision=self.precision, max_length=self.max_length, overlong=config.data.overlong,
            packing=self.packing, special_text=config.data.special_text, num_rows=self.num_rows,
            early_stopping=config.train.early_stopping, eval_every=config.train.eval_every,
        )


def count_rows(train: TrainConfig, num_rows: int) -> int:
    """Rows of the whole run: they run on from epoch to epoch, so that only the last step can be smaller."""
    if not num_rows:
        return 0
    if train.max_steps is not None:
        return train.max_steps * train.batch_size
    return math.ceil(round(train.epochs * num_rows, 6))


def count_warmup(train: TrainConfig, steps: int) -> int:
    """Warm-up steps: a share of all steps below 1, a number of steps from 1 on."""
    if train.warmup >= 1:
        return int(train.warmup)
    return 0 if steps <= 1 else math.ceil(round(train.warmup * steps, 6))


def row_order(num_rows: int, total: int, seed: int) -> npt.NDArray[np.int64]:
    """Row indices of a run of ``total`` rows: whole epochs, each a permutation drawn from (seed, epoch)."""
    epochs = math.ceil(total / num_rows) if num_rows else 0
    parts = [np.random.default_rng([seed, epoch]).permutation(num_rows) for epoch in range(epochs)]
    return np.concatenate(parts)[:total] if parts else np.zeros(0, dtype=np.int64)


def pick_precision(config: RunConfig, env: EnvFacts) -> str:
    """fp32, bf16 or fp16: as asked for, else bf16 where the device computes it natively."""
    if config.train.precision != "auto":
        return config.train.precision
    return "bf16" if env.bf16 else "fp32"


def pick_weights_dtype(config: RunConfig, precision: str) -> str:
    """dtype that the base is loaded in. Weights that train stay float32 (mixed precision keeps masters)."""
    if config.model.dtype != "auto" and (config.method.kind != "qlora" or precision != "fp32"):
        return config.model.dtype  # qlora without autocast is float32 throughout (CFG233)
    if config.method.kind in ("full", "freeze") or precision == "fp32" or config.parallel.engine == "fsdp":
        return "float32"  # FSDP2 shards parameters of one dtype, and casts them for the computation
    return {"bf16": "bfloat16", "fp16": "float16"}[precision]


def _step_shape(turns: int, micro_batch_size: int, max_length: int, processes: int, quadratic: float, *, flat: bool, shares: bool, spread: bool = False) -> StepShape:
    return StepShape(turns=turns, rows=1 if flat else micro_batch_size, capacity=max_length * micro_batch_size if flat else max_length, processes=processes,
                     least=LEAST_SHARED if shares else None, quadratic=quadratic, spread=spread)


def document_rows(config: RunConfig, documents: ExampleSet, *, seed: int | None) -> tuple[ExampleSet, Bins]:
    """Stage pretrain: the pieces of documents in an order drawn by ``seed`` (None: as they stand), and those of each full row."""
    order = np.arange(len(documents)) if seed is None else np.random.default_rng([seed, _DOCUMENTS]).permutation(len(documents))
    chosen, cuts, bins = cut_documents(documents.lengths[order], config.data.max_length)
    return documents.cut(order[chosen], cuts), bins


FITS = 0.8
"""Of the device's memory: what the largest micro-batch of ``micro_batch_size: auto`` may need. The estimate is within 15%, and others use the machine too."""


def fitted(config: RunConfig, train: ExampleSet, checkpoint: Checkpoint, env: EnvFacts, *, bins: Bins | None = None) -> RunConfig:
    """The recipe with a number for ``micro_batch_size: auto``: of those that divide the step's rows over the processes, the largest whose full rows fit; 1 where none does."""
    if config.train.micro_batch_size != "auto":
        return config
    longest = config.data.max_length if config.data.packing or bins is not None else int(train.lengths.max(initial=1))
    share = train.num_trained / max(1, train.num_tokens)
    each = max(1, config.train.batch_size // config.parallel.world_size)
    dtype = pick_weights_dtype(config, pick_precision(config, env))
    by_stretches = not config.data.packing or (config.model.attention == "auto" and why_not_causal(checkpoint.text_config) is None)
    for rows in (n for n in range(each, 0, -1) if each % n == 0):
        chosen = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": rows})})
        tokens = rows * longest
        work = Work(tokens=tokens, length=longest, places=round(tokens * share), again=rows < each, by_stretches=by_stretches)
        memory = estimate_memory(chosen, checkpoint, dtype, work, fused=config.train.fused and env.device == "cpu", runtime=RUNTIME if env.device == "cpu" else 0)
        if memory.total <= FITS * env.memory_total:
            break
    return chosen


def make_plan(config: RunConfig, train: ExampleSet, checkpoint: Checkpoint, env: EnvFacts, *, bins: Bins | None = None,
              sampled_rows: int = 0) -> RunPlan:
    """The plan of a recipe for these examples on this machine. ``bins``: where rows are cut already (stage pretrain).
    ``sampled_rows``: the examples are the head of a stream, made of so many rows."""
    lengths = train.lengths
    if bins is None:
        bins = pack(lengths, config.data.max_length) if config.data.packing else one_per_row(len(train))
    across = config.stage == "pretrain" and config.data.across_documents
    total = count_rows(config.train, len(bins))
    steps = math.ceil(total / config.train.batch_size)
    world = config.parallel.world_size
    precision = pick_precision(config, env)
    dtype = pick_weights_dtype(config, precision)
    epochs = total / len(bins) if bins and not sampled_rows else 0.0
    quant = quantisation_of(config, checkpoint.folder, dtype)
    order = row_order(len(bins), 0 if sampled_rows else total, config.train.seed)
    accumulation, quadratic = max(1, config.train.batch_size // (config.train.micro_rows * world)), quadratic_of(checkpoint)
    by_stretches = config.model.attention == "auto" and why_not_causal(checkpoint.text_config) is None

    def sampled(shares: bool) -> Sampled:
        shape = _step_shape(accumulation, config.train.micro_rows, config.data.max_length, world, quadratic, flat=by_stretches, shares=shares)
        return sample_steps(bins, order, train, shape, config.train.batch_size)

    sharing, found = decide(config, checkpoint, sampled)
    if found is not None:
        work = Work(tokens=found.tokens, length=config.data.max_length, places=found.places, again=found.turns > 1, by_stretches=by_stretches)
    else:
        longest = np.sort(bins.sums(lengths))[::-1][: config.train.micro_rows]
        tokens = int(longest.max(initial=0)) * longest.size
        work = Work(tokens=tokens, length=int(longest.max(initial=0)), places=round(tokens * train.num_trained / max(1, train.num_tokens)), again=accumulation > 1,
                    by_stretches=by_stretches or not config.data.packing)
    return RunPlan(
        steps=steps, warmup_steps=count_warmup(config.train, steps), schedule=config.train.schedule,
        learning_rate=config.train.learning_rate, min_lr_ratio=config.train.min_lr_ratio,
        epochs=epochs, batch_size=config.train.batch_size,
        micro_batch_size=config.train.micro_rows,
        accumulation=accumulation, world_size=world, quadratic=quadratic, sharing=sharing,
        precision=precision, weights_dtype=dtype, method=config.method.kind, max_length=config.data.max_length,
        packing=config.data.packing, bins=bins, order=order,
        tokens=train.num_tokens, trained_tokens=train.num_trained + (len(train) - len(bins) if across else 0), across_documents=across,
        stage=config.stage, parameters=sum(math.prod(s) for s, _ in checkpoint.tensors.values()),
        trainable_parameters=count_trainable(checkpoint, config.method),
        memory=estimate_memory(config, checkpoint, dtype, work, fused=config.train.fused and env.device == "cpu", runtime=RUNTIME if env.device == "cpu" else 0),
        sampled_rows=sampled_rows,
        quantised_parameters=weight_bytes(checkpoint, config.method, WEIGHT_BYTES[dtype])[1], quant_type=None if quant is None else quant.name,
    )
