"""Merge an adapter into its base, and prove it: merged = base + adapter, and not the base.

An adapter of QLoRA was trained on a base in 4 bits. It is merged into those very weights, written out in float32 first: exact.
Merged in 4 bits it would be rounded away, and merged into the original weights it meets others than it learned on (EXP740).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gogpt.adapters import is_adapter, load_adapter, quantisation_of_adapter
from gogpt.checks import CHECKS
from gogpt.config import ModelConfig
from gogpt.errors import GogptError
from gogpt.extension import read_extension, write_extension
from gogpt.facts import ExportFacts, Facts
from gogpt.findings import Stage, Verdict, judge
from gogpt.four_bit import DTYPES, dequantise
from gogpt.generate import base_of, resolve_served
from gogpt.model import load_base, save_generation_config, save_tokenizer
from gogpt.modelfiles import Checkpoint
from gogpt.quantisation import own_quantisation
from gogpt.records import IGNORE_INDEX
from gogpt.runfolder import RunFolder, whole_folder
from gogpt.templates import pick_template
from gogpt.tokenize import Tokenizer

NUM_PROBE_TOKENS = 256
NUM_PROBE_ADDED = 64

TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Of the largest logit: rounding of one matrix product more, in the dtype saved."""

EXPORT_CHECKS = tuple(c for c in CHECKS if c.stage is Stage.EXPORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    folder: Path
    facts: ExportFacts
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Sequences to compare models on: ids and where they were trained, ``[T]`` each; together up to ``NUM_PROBE_TOKENS`` tokens.
    Each runs by itself: a model that was trained on one conversation at a time answers for nothing else."""

    ids: tuple[torch.Tensor, ...]
    trained: tuple[torch.Tensor, ...]

    @property
    def num_tokens(self) -> int:
        return sum(len(i) for i in self.ids)

    def logits(self, model: Any) -> torch.Tensor:
        """``[num_tokens, V]``, float32, of all sequences one after the other."""
        model.eval()
        with torch.no_grad():
            rows = [model(input_ids=i[None].to(model.device), use_cache=False).logits[0].float().cpu() for i in self.ids]
        return torch.cat(rows)

    def loss(self, logits: torch.Tensor) -> float:
        """Mean cross-entropy over the trained tokens, from ``logits`` ``[num_tokens, V]``; over all where none was trained."""
        any_trained = any(bool(t[1:].any()) for t in self.trained)
        parts, at = [], 0
        for ids, trained in zip(self.ids, self.trained, strict=True):
            wanted = trained[1:] if any_trained else torch.ones(len(ids) - 1, dtype=torch.bool)
            parts.append(F.cross_entropy(logits[at : at + len(ids) - 1][wanted].double(), ids[1:][wanted], reduction="none"))
            at += len(ids)
        return float(torch.cat(parts).mean())


def make_probe(run: Path, tokenizer: Tokenizer, added: Sequence[int] = ()) -> Probe:
    """The run's own samples, else a fixed pseudo-random sequence; and before them some of ``added``, the tokens of an extended
    tokenizer."""
    found: list[tuple[list[int], list[bool]]] = []
    if head := list(added[:: max(1, len(added) // NUM_PROBE_ADDED)][:NUM_PROBE_ADDED]):
        found.append((head, [False] * len(head)))
    samples = RunFolder(run).samples
    if samples.is_file():
        for line in samples.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut
                row = json.loads(line)
                pairs = [(int(i), int(label) != IGNORE_INDEX) for i, label in zip(row["input_ids"], row["labels"], strict=True) if 0 <= int(i) < tokenizer.size]
                found.append(([i for i, _ in pairs], [t for _, t in pairs]))
    if not any(len(ids) > 1 for ids, _ in found[bool(head):]):
        found.append((np.random.default_rng(0).integers(0, tokenizer.size, NUM_PROBE_TOKENS).tolist(), [False] * NUM_PROBE_TOKENS))
    left, kept = NUM_PROBE_TOKENS, []
    for ids, trained in found:
        if len(ids) and left > 0:
            kept.append((torch.tensor(ids[:left]), torch.tensor(trained[:left])))
            left -= len(kept[-1][0])
    return Probe(ids=tuple(i for i, _ in kept), trained=tuple(t for _, t in kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """A model in memory, and logits of the probe to prove it with. ``adapted``: of the weights that it was merged into, before;
    ``trained``: of those that were trained."""

    model: Any
    plain: torch.Tensor
    adapted: torch.Tensor
    merged: torch.Tensor
    trained: torch.Tensor
    trained_base: str
    merged_base: str

    def facts(self, probe: Probe, dtype: str, base: Path, adapter: Path) -> ExportFacts:
        scale = float(self.adapted.abs().max())
        return ExportFacts(
            max_difference=float((self.merged - self.adapted).abs().max()), tolerance=TOLERANCE[dtype] * max(1.0, scale),
            effect=float((self.adapted - self.plain).abs().max()), reloaded_difference=0.0, probe_tokens=probe.num_tokens,
            base=str(base), adapter=str(adapter), probe_loss_before=probe.loss(self.trained),
            probe_loss_after=probe.loss(self.merged), trained_base=self.trained_base, merged_base=self.merged_base,
            trained_difference=float((self.merged - self.trained).abs().max()),
        )


def merge_in_memory(adapter: Path, base: Path, probe: Probe, dtype: str, *, original: bool, stage: Callable[[str], None]) -> _Merged:
    """The merged model. Of a base that was held in 4 bits, into those weights, or into the ``original`` ones."""
    quant = quantisation_of_adapter(adapter)
    config = ModelConfig(path=str(base))
    trained: torch.Tensor | None = None
    model: Any = load_base(config, base, dtype if quant is None else "float32", quant)
    if quant is not None:
        adapted_model: Any = load_adapter(model, adapter, base)
        trained = probe.logits(adapted_model)
        if original:
            del model, adapted_model
            model = load_base(config, base, dtype)
        else:
            model = dequantise(adapted_model.unload())
    plain = probe.logits(model)
    adapted_model = load_adapter(model, adapter, base)
    adapted = probe.logits(adapted_model) if trained is None or original else trained
    stage("merging")
    merged_model: Any = adapted_model.merge_and_unload()
    for parameter in merged_model.parameters():  # not the buffers: rotary frequencies stay float32, as they are loaded
        parameter.data = parameter.data.to(DTYPES[dtype])
    name = "full" if quant is None else quant.quant_type
    return _Merged(model=merged_model, plain=plain, adapted=adapted, merged=probe.logits(merged_model),
                   trained=adapted if trained is None else trained, trained_base=name, merged_base="full" if original else name)


def merge(
    run: str, out: Path, *, base: str | None = None, dtype: str = "float32", original: bool = False, allow: Sequence[str] = (),
    stage: Callable[[str], None] = lambda name: None,
) -> Merge:
    """Write the merged model to ``out`` if the proof holds; otherwise nothing is written. ``original``: an adapter that was
    trained on a base in 4 bits is merged into the base as it is on the disk.

    Raises GogptError EXP703 (nothing to merge), EXP704, MOD500, ENV110; a failed proof is in the verdict.
    """
    adapter = resolve_served(run)
    if not is_adapter(adapter):
        raise GogptError("EXP703", "there is no adapter to merge", where=str(adapter), got="a whole model",
                         fix=f"use it as it is: gogpt chat {run}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GogptError("RUN610", "the output exists already", where=str(out), fix="name a new folder")
    base_folder = base_of(adapter, base)
    if kind := own_quantisation(Checkpoint(base_folder)):
        raise GogptError("EXP703", "the base is quantised, and nothing can be merged into it without loss", where=str(base_folder), got=kind,
                         expected="a base of plain weights", fix="serve base and adapter side by side: gogpt chat")
    tokenizer = Tokenizer(adapter)
    stage("loading base and adapter")
    note = read_extension(adapter)
    probe = make_probe(Path(run), tokenizer, [] if note is None else note.ids)
    made = merge_in_memory(adapter, base_folder, probe, dtype, original=original, stage=stage)
    facts = made.facts(probe, dtype, base_folder, adapter)
    verdict = judge(EXPORT_CHECKS, Facts(export=facts), allow=allow)
    if verdict.refusals:
        return Merge(folder=out, facts=facts, verdict=verdict)
    template = pick_template("auto", tokenizer)
    merged_model, adapted = made.model, made.adapted
    try:
        with whole_folder(out) as partial:
            stage("saving")
            merged_model.config.use_cache = True
            merged_model.save_pretrained(str(partial))
            save_tokenizer(tokenizer, template, partial, [tokenizer.decode(ids.tolist()) for ids in probe.ids])
            save_generation_config(tokenizer.generation_config, template, tokenizer, partial)
            if note is not None:
                write_extension(note, partial)
            stage("proving what was saved")
            del merged_model, made
            again = probe.logits(load_base(ModelConfig(path=str(partial)), partial, dtype))
            facts = replace(facts, reloaded_difference=float((again - adapted).abs().max()), probe_loss_after=probe.loss(again))
            verdict = judge(EXPORT_CHECKS, Facts(export=facts), allow=allow)
            if verdict.refusals:
                raise _Failed
    except _Failed:
        pass
    return Merge(folder=out, facts=facts, verdict=verdict)


class _Failed(Exception):
    """The proof of the saved model failed: leave nothing."""
