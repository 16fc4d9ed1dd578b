"""Step-0 proofs: on the user's own model and data, before the first step, what the run relies on is shown to hold.

Each proof takes a few short rows through the run's own loss, batches and optimizer, and leaves facts that the checks of stage
``proof`` judge. Nothing of it stays: weights, modes, random numbers, optimizer and gradients are as they were, bit for bit.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gogpt.batches import collate_forests
from gogpt.checks import PROOFS as PROOF_CHECKS
from gogpt.errors import GogptError
from gogpt.facts import (
    FAILED,
    NUM_FIRST,
    AccumulationProof,
    Facts,
    GradientProof,
    PackingProof,
    ProofFacts,
    Tally,
    UpdateProof,
)
from gogpt.findings import Finding, Verdict, judge
from gogpt.plausible import initial_loss
from gogpt.preflight import Preflight
from gogpt.probing import NotProven, Pass, Probe, pick_rows, row_limit, untouched
from gogpt.records import Example
from gogpt.stops import generation, trained_stop
from gogpt.trainer import GogptTrainer
from gogpt.trees import plant

NUM_SAMPLED = 1 << 16
"""Elements of each gradient that are compared."""
NUM_MOVED = 1 << 25
"""Elements that the trial step moves at most: 128 MiB each for their copy, their gradient and the two moments."""
LARGEST_CHANGE = 0.05
"""Of a weight, when a step without effect is enlarged to see whether any would have one."""


def prove(trainer: GogptTrainer, before: Preflight) -> ProofFacts:
    """Make the proofs that the recipe names, on the model as it is before any engine wraps it. What could not be proven is in
    ``skipped`` with its reason."""
    limit = row_limit(before.plan.parameters)
    asked = before.config.checks.proofs
    spread = _spread(trainer.model, trainer.args.device)
    skipped = {name: spread or "not asked for: checks.proofs" for name in PROOFS if spread or name not in asked}
    skipped["trained_stop"] = skipped.get("generation", "made after training")
    facts = ProofFacts(tokens=limit, precision=before.plan.precision, skipped=skipped)
    if set(PROOFS) <= set(skipped):
        return facts
    made: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    with untouched(trainer):
        probe = Probe(trainer=trainer, before=before, limit=limit, rows=pick_rows(before.prepared.train, limit))
        for name in (n for n in PROOFS if n not in skipped):
            started = time.perf_counter()
            try:
                made[name] = PROOFS[name](probe)
            except (GogptError, torch.OutOfMemoryError):
                raise
            except Exception as problem:  # of an unusual model a proof may be impossible: it is told, and the run itself decides
                skipped[name] = why_not(problem)
                probe.apart = None
            seconds[name] = round(time.perf_counter() - started, 3)
    return replace(facts, seconds=seconds, skipped=skipped, **made)


def why_not(problem: Exception) -> str:
    """Why a proof was not made: its own reason, or FAILED and the first line of the error."""
    if isinstance(problem, NotProven):
        return str(problem)
    first = (str(problem).strip() or "no message").splitlines()[0][:160]
    return f"{FAILED}: {type(problem).__name__}: {first}"


def prove_stop(trainer: GogptTrainer, before: Preflight, final: Path) -> ProofFacts:
    """The proofs of ``before``, and that of the trained model's stop (MOD527)."""
    proofs = before.facts.proofs
    assert proofs is not None
    if "generation" not in before.config.checks.proofs:
        return proofs
    started = time.perf_counter()
    skipped = {k: v for k, v in proofs.skipped.items() if k != "trained_stop"}
    try:
        if spread := _spread(trainer.model, trainer.args.device):
            raise NotProven(spread)
        with untouched(trainer):
            found = trained_stop(trainer, before, final)
    except (GogptError, torch.OutOfMemoryError):
        raise
    except Exception as problem:  # the model is trained and saved: nothing that is asked of it now may end the run
        return replace(proofs, skipped={**skipped, "trained_stop": why_not(problem)})
    return replace(proofs, trained_stop=found, skipped=skipped, seconds={**proofs.seconds, "trained_stop": round(time.perf_counter() - started, 3)})


def judge_proofs(before: Preflight, proofs: ProofFacts) -> tuple[Preflight, tuple[Finding, ...]]:
    """The preflight with the proofs among its facts and what the checks say of them in its verdict; and that alone."""
    facts = replace(before.facts, proofs=proofs)
    said = judge(PROOF_CHECKS, Facts(proofs=proofs))
    known = {c.code for c in PROOF_CHECKS}
    then = before.verdict
    verdict = Verdict(
        findings=(*(f for f in then.findings if f.code not in known), *said.findings),
        checked=(*(c for c in then.checked if c not in known), *said.checked),
        not_checked=(*(n for n in then.not_checked if n[0] not in known), *said.not_checked), allowed=then.allowed,
    )
    return replace(before, facts=facts, verdict=verdict), said.findings


def _spread(model: Any, device: torch.device) -> str | None:
    """Why this model cannot be proven on here, or None."""
    for parameter in model.parameters():
        if parameter.device.type != device.type:
            return "the weights are not on the device yet: the engine moves its part of them"
        if hasattr(parameter, "ds_id") or hasattr(parameter, "device_mesh") or parameter.device.type == "meta":
            return "the weights are spread over processes already"
    return None


# -- accumulation and gradients --------------------------------------------------------------------


def backward(probe: Probe, micro_batches: Sequence[dict[str, Any]]) -> float:
    """One optimizer step's gradients through the run's own divisor, loss and backward pass; the loss that they add up to."""
    trainer: Any = probe.trainer
    probe.model.zero_grad(set_to_none=True)
    count = trainer._get_num_items_in_batch([dict(b) for b in micro_batches], trainer.args.device)
    total = 0.0
    for batch in micro_batches:
        if getattr(trainer.accelerator, "scaler", None) is None:
            loss = trainer.training_step(probe.model, dict(batch), count)
        else:  # fp16: gradients as they are, without the scale that may overflow on purpose
            probe.model.train()
            with trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(probe.model, dict(batch), num_items_in_batch=count)
            loss.backward()
        total += float(loss.detach())
    return total


def backward_apart(probe: Probe) -> Pass:
    """One micro-batch of each row. Their gradients are in the tensors afterwards; three proofs look at the same ones."""
    if probe.apart is not None:
        return probe.apart
    ran: set[int] = set()
    hooks = [m.register_forward_pre_hook(lambda module, args: ran.update(map(id, module.parameters(recurse=False))))
             for m in probe.model.modules() if next(m.parameters(recurse=False), None) is not None]
    try:
        loss: float | None = backward(probe, [probe.batch([[row]]) for row in probe.rows])
    except RuntimeError as problem:
        if "does not require grad" not in str(problem):
            raise
        loss = None
    finally:
        for hook in hooks:
            hook.remove()
    probe.apart = Pass(loss=loss, ran=frozenset(ran))
    return probe.apart


def accumulation(probe: Probe) -> AccumulationProof:
    """The rows together and one by one: the same loss, and the same gradient."""
    rows = probe.rows
    expected = torch.cat(probe.losses_before())
    try:
        together = backward(probe, [probe.batch([[row] for row in rows])])
    except RuntimeError as problem:
        if "does not require grad" not in str(problem):
            raise
        raise NotProven("the loss has no gradient") from problem
    first = sampled_gradients(probe.model)
    probe.apart = None
    apart = backward_apart(probe).loss
    assert apart is not None
    second = sampled_gradients(probe.model)
    tolerance = probe.tolerance
    difference = relative_difference(first, second)
    if difference > tolerance:  # before accusing: does the model give the same twice?
        probe.apart = None
        backward(probe, [probe.batch([[row] for row in rows])])
        if not relative_difference(first, sampled_gradients(probe.model)) <= tolerance:
            raise NotProven("the same rows give another gradient the second time: the model draws random numbers")
    return AccumulationProof(
        rows=len(rows), trained_tokens=int(expected.numel()), loss_expected=float(expected.double().mean()), loss_together=together, loss_apart=apart,
        gradient_difference=difference, tolerance=tolerance,
    )


def relative_difference(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float:
    """l2 norm of the difference of two gradients, over that of the first."""
    if len(first) != len(second):
        return float("inf")
    off = sum(float((a - b).double().square().sum()) for a, b in zip(first, second, strict=True))
    norm = sum(float(a.double().square().sum()) for a in first)
    return float((off / norm) ** 0.5) if norm else float(off > 0)


def sampled_gradients(model: Any) -> list[torch.Tensor]:
    """Of each trainable tensor that has one, up to NUM_SAMPLED elements of its gradient, in float32."""
    out = []
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is not None:
            flat = parameter.grad.detach().reshape(-1)
            out.append(flat[:: max(1, flat.numel() // NUM_SAMPLED)][:NUM_SAMPLED].float().clone())
    return out


def gradients(probe: Probe) -> GradientProof:
    """Which trainable tensors one backward pass reaches."""
    named = [(n, p) for n, p in probe.model.named_parameters() if p.requires_grad]
    done = backward_apart(probe)
    if done.loss is None:
        return GradientProof(tensors=len(named), attached=False, loss_finite=True)
    without = [(n, p) for n, p in named if p.grad is None]
    zeros, bad = 0, []
    for name, parameter in named:
        if parameter.grad is not None:
            zeros += not bool(parameter.grad.any())
            if not bool(torch.isfinite(parameter.grad).all()):
                bad.append(name)
    return GradientProof(
        tensors=len(named), attached=True, loss_finite=bool(np.isfinite(done.loss)), zero=zeros, non_finite=_tally(bad),
        missing=_tally([n for n, p in without if id(p) in done.ran]),
        # Of a mixture of experts each batch leaves some without a token: that is no finding.
        unreached=_tally([n for n, p in without if id(p) not in done.ran and "expert" not in n]),
    )


def _tally(names: Sequence[str]) -> Tally:
    return Tally(count=len(names), first=tuple(names[:NUM_FIRST]))


# -- a step that is taken back ---------------------------------------------------------------------


def adapter(probe: Probe) -> UpdateProof:
    """One step of the run's own optimizer, at the peak of its learning rate: do the weights move, and does the model notice?"""
    trainer = probe.trainer
    rows = probe.rows
    before = probe.losses_before()
    backward_apart(probe)
    held = _moved_tensors(probe.model)
    probe.apart = None  # what is clipped and left out below is no gradient of the rows any more
    if not held:
        raise NotProven("no trainable tensor has a gradient")
    saved = [p.detach().clone() for p in held]
    try:
        trainer.optimizer = None
        optimizer: Any = trainer.create_optimizer()
        if trainer.args.max_grad_norm and trainer.args.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(held, trainer.args.max_grad_norm)
        optimizer.step()
        rate = float(optimizer.param_groups[0]["lr"])
        del optimizer
        trainer.optimizer = None
        squares = [float((now.detach() - then).double().square().sum()) for now, then in zip(held, saved, strict=True)]
        norm, moved = sum(squares) ** 0.5, sum(s != 0.0 for s in squares)
        largest = max(float((now.detach() - then).abs().max()) for now, then in zip(held, saved, strict=True))
        after = probe.token_losses([[row] for row in rows])
        effect = _largest_difference(before, after)
        enlarged = None
        if effect == 0.0 and largest > 0:
            with torch.no_grad():
                for p, then in zip(held, saved, strict=True):
                    p.copy_(then + (p - then) * (LARGEST_CHANGE / largest))
            enlarged = _largest_difference(before, probe.token_losses([[row] for row in rows]))
    finally:
        with torch.no_grad():
            for p, then in zip(held, saved, strict=True):
                p.copy_(then)
    return UpdateProof(tensors=len(held), moved=moved, update_norm=norm, learning_rate=rate, loss_before=_mean(before), loss_after=_mean(after),
                       effect=effect, effect_enlarged=enlarged)


def _moved_tensors(model: Any) -> list[torch.nn.Parameter]:
    """The trainable tensors that the trial step may move: all of them, or of large models some of all depths. Others lose their gradient."""
    every = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    room = NUM_MOVED
    chosen: list[torch.nn.Parameter] = []
    stride = max(1, round(sum(p.numel() for p in every) / NUM_MOVED))
    for p in sorted(every[::stride] if stride > 1 else every, key=lambda p: p.numel()):
        if p.numel() <= room or not chosen:
            chosen.append(p)
            room -= p.numel()
    kept = set(map(id, chosen))
    for p in every:
        if id(p) not in kept:
            p.grad = None
    return chosen


def _mean(losses: Sequence[torch.Tensor]) -> float:
    return float(torch.cat(list(losses)).double().mean())


def _largest_difference(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    return max((float((x - y).abs().max()) for x, y in zip(a, b, strict=True) if x.numel()), default=0.0)


# -- packing ---------------------------------------------------------------------------------------


def packing(probe: Probe) -> PackingProof:
    """Change one document of a packed row: the logits of the others must stay. And each document is as it is alone."""
    plan = probe.before.plan
    if not plan.packing:
        raise NotProven("rows are not packed: data.packing is false")
    if plan.across_documents:
        raise NotProven("documents attend across each other on purpose: data.across_documents")
    documents = _packed(probe)
    borders = np.cumsum([0, *(d.num_tokens for d in documents)])
    row = probe.logits([documents])[0]
    scale = float(row.abs().max())
    leak = 0.0
    for changed in (0, len(documents) - 1):
        other = documents[changed - 1 if changed else 1].input_ids
        ids = np.resize(other, documents[changed].num_tokens)
        if np.array_equal(ids, documents[changed].input_ids):
            ids = np.resize(np.roll(other, 1), ids.size)
        edited = [*documents]
        edited[changed] = replace(documents[changed], input_ids=ids)
        now = probe.logits([edited])[0]
        for d in range(len(documents)):
            if d != changed:
                leak = max(leak, float((now - row)[borders[d] : borders[d + 1]].abs().max()))
    alone = probe.logits([[d] for d in documents])
    apart = max(float((alone[d, : e - b] - row[b:e]).abs().max()) for d, (b, e) in enumerate(itertools.pairwise(borders)))
    return PackingProof(documents=len(documents), tokens=int(borders[-1]), leak=leak / scale, alone=apart / scale,
                        shared=shared_prefix(probe, documents) if plan.sharing.on else None, tolerance=probe.tolerance)


def shared_prefix(probe: Probe, documents: Sequence[Example]) -> float:
    """Two examples that begin alike, as a tree and alone: the largest difference of their logits, over the largest logit."""
    first, second = documents[:2]
    half = max(1, first.num_tokens // 2)
    branch = replace(first, input_ids=np.concatenate([first.input_ids[:half], second.input_ids[:half]]),
                     labels=np.concatenate([first.labels[:half], second.labels[:half]]))
    forest = plant([first, branch], least=1)
    logits = probe.logits_of(probe.on_device(collate_forests([forest], probe.before.pad_id)))[0]
    place, worst = np.arange(forest.computed), 0.0
    for example in (first, branch):
        alone = probe.logits([[example]])[0]
        # The example lies where its last token and its ancestors are.
        paths = (np.flatnonzero((place <= t) & (t < forest.ends)) for t in place)
        path = next(p for p in paths if np.array_equal(forest.input_ids[p], example.input_ids))
        worst = max(worst, float((logits[path] - alone).abs().max() / alone.abs().max()))
    return worst


def _packed(probe: Probe) -> list[Example]:
    """Documents of the shortest of the first packed rows that holds several, or two packed for the proof; cut to the limit together."""
    train_set, bins = probe.before.prepared.train, probe.before.plan.bins[:256]
    lengths = train_set.lengths
    several = sorted((b for b in bins if len(b) > 1), key=lambda b: int(sum(lengths[i] for i in b)))
    found = [train_set[i] for i in several[0][:3]] if several else [*probe.rows, *probe.rows][:2]
    room = max(2, probe.limit // len(found))
    return [replace(d, input_ids=d.input_ids[:room], labels=d.labels[:room]) for d in found]


PROOFS: dict[str, Callable[[Probe], Any]] = {
    "accumulation": accumulation, "packing": packing, "gradients": gradients, "adapter": adapter,
    "initial_loss": initial_loss, "generation": generation,
}
"""In the order in which they are made."""
