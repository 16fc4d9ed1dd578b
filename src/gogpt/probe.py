"""Time a few real micro-batches and one update, for the time estimate of a plan."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from gogpt.adapters import add_method
from gogpt.attention import attend_by_document
from gogpt.batches import Steps, collate
from gogpt.engines import quiet_engines
from gogpt.fused import fuse, keep_memory
from gogpt.loss import summed_loss
from gogpt.model import load_base, pick_device
from gogpt.modelfiles import find_model
from gogpt.preflight import Preflight
from gogpt.quantisation import quantisation_of
from gogpt.trainer import step_shape
from gogpt.trees import StepShape

PROBE_SECONDS = 15.0
"""The probe ends with the micro-batch that passes this."""
NUM_TIMED = 20


def time_run(before: Preflight) -> float:
    """Estimated seconds of the whole run's steps: seconds per computed token of timed micro-batches times all of them, and an update a step. Loading, evaluation
    and saving are not in it."""
    plan = before.plan
    with quiet_engines():
        weights = find_model(before.config.model, weights=True)
        quant = quantisation_of(before.config, weights, plan.weights_dtype)
        base, device = load_base(before.config.model, weights, plan.weights_dtype, quant), pick_device()
        if device.type == "cpu":
            keep_memory()
        attend_by_document(base, before.config.model.attention, device)
        shape = step_shape(base, before, lambda text: None)
        model = add_method(base, before.config.method, weights)
        if device.type == "cpu" and before.config.train.fused:
            fuse(model)
    model.to(device).train()
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.precision == "bf16")
    dtype = torch.bfloat16 if plan.precision == "bf16" else next(model.parameters()).dtype
    seconds, tokens, warm = 0.0, 0, False
    for number, batch in enumerate(micro_batches(before, shape)):
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        for _ in range(1 if warm else 2):  # the first pass pays for warming up
            started = time.perf_counter()
            with autocast:
                loss, count = summed_loss(model, batch, dtype)
            (loss / max(1, count)).backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken = time.perf_counter() - started
        warm = True
        seconds += taken
        tokens += int(batch["input_ids"].numel())
        if seconds > PROBE_SECONDS or number >= NUM_TIMED:
            break
    return tokens_of_run(before, shape) * seconds / max(1, tokens) + plan.steps * update_seconds(model, before)


def micro_batches(before: Preflight, shape: StepShape | None) -> Iterator[dict[str, Any]]:
    """Micro-batches of the run as the first process gets them: of steps spread over it where steps are laid out, else the first ones."""
    plan, examples = before.plan, before.prepared.train
    if shape is not None:
        steps = Steps(plan.bins, plan.order, examples, shape, batch_size=plan.batch_size, pad_id=before.pad_id)
        for k in range(min(NUM_TIMED, steps.num_steps)):
            yield from (b for b in steps.make(k * steps.num_steps // min(NUM_TIMED, steps.num_steps)) if b["input_ids"].numel())
        return
    make, size = collate(examples, before.pad_id, across=plan.across_documents), plan.micro_batch_size
    order = list(range(len(plan.bins))) if plan.streaming else plan.order.tolist()
    for at in range(0, len(order), size):
        yield make([plan.bins[r] for r in order[at : at + size]])


def tokens_of_run(before: Preflight, shape: StepShape | None) -> float:
    """Tokens that one process computes in the whole run, padding included."""
    plan = before.plan
    order = list(range(len(plan.bins))) if plan.streaming else plan.order.tolist()
    rows = plan.bins.sums(before.prepared.train.lengths)[order].tolist()
    if shape is not None:
        return sum(rows) * (plan.sharing.share if shape.least is not None else 1.0) / plan.world_size
    size = plan.micro_batch_size
    # Of a stream the rows of its head are known: the others are taken to be as long.
    scale = plan.steps * plan.batch_size / max(1, len(order)) if plan.streaming else 1.0
    return scale * sum(max(chunk) * len(chunk) for chunk in (rows[at : at + size] for at in range(0, len(rows), size))) / plan.world_size


def update_seconds(model: Any, before: Preflight) -> float:
    """Of clipping and one step of the optimizer, the second one: the first makes its state. At a rate of 0, which moves nothing that is kept."""
    trained = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    if not trained or before.config.train.optimizer != "adamw":
        return 0.0
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    for _ in range(2):
        started = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if trained[0].is_cuda:
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
    return taken
