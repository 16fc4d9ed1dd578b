"""Time a few real micro-batches, for the time estimate of a plan."""

from __future__ import annotations

import time

import torch

from gogpt.adapters import add_method
from gogpt.attention import attend_by_document
from gogpt.batches import collate
from gogpt.engines import quiet_engines
from gogpt.fused import fuse, keep_memory
from gogpt.loss import summed_loss
from gogpt.model import load_base, pick_device
from gogpt.modelfiles import find_model
from gogpt.preflight import Preflight
from gogpt.quantisation import quantisation_of

PROBE_SECONDS = 15.0
"""The probe ends with the micro-batch that passes this."""


def time_run(before: Preflight) -> float:
    """Estimated seconds of the whole run's steps: seconds per padded token of timed micro-batches, times the
    padded tokens of all micro-batches. Loading, evaluation and saving are not in it."""
    plan, examples = before.plan, before.prepared.train
    order = list(range(len(plan.bins))) if plan.streaming else plan.order.tolist()
    rows = plan.bins.sums(examples.lengths)[order].tolist()
    # Of a stream the rows of its head are known: the others are taken to be as long.
    scale = plan.steps * plan.batch_size / max(1, len(order)) if plan.streaming else 1.0
    size = plan.micro_batch_size
    padded = [max(chunk) * len(chunk) for chunk in (rows[at : at + size] for at in range(0, len(rows), size))]
    with quiet_engines():
        weights = find_model(before.config.model, weights=True)
        quant = quantisation_of(before.config, weights, plan.weights_dtype)
        base, device = load_base(before.config.model, weights, plan.weights_dtype, quant), pick_device()
        attend_by_document(base, before.config.model.attention, device)
        model = add_method(base, before.config.method, weights)
        if device.type == "cpu":
            keep_memory()
            if before.config.train.fused:
                fuse(model)
    model.to(device).train()
    make = collate(examples, before.pad_id, across=plan.across_documents)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.precision == "bf16")
    dtype = torch.bfloat16 if plan.precision == "bf16" else next(model.parameters()).dtype
    seconds, tokens = 0.0, 0
    for number, at in enumerate(range(0, len(order), size)):
        batch = make([plan.bins[r] for r in order[at : at + size]])
        started = time.perf_counter()
        with autocast:
            loss, count = summed_loss(model, {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}, dtype)
        (loss / max(1, count)).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number:  # the first one pays for warming up
            seconds += time.perf_counter() - started
            tokens += int(batch["input_ids"].numel())
        elif len(padded) == 1:
            return (time.perf_counter() - started) * scale
        model.zero_grad(set_to_none=True)
        if seconds > PROBE_SECONDS or number >= 20:
            break
    return scale * sum(padded) * seconds / max(1, tokens)
