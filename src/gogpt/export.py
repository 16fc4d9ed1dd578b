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


def probe_ids(run: Path, tokenizer: Tokenizer, added: Sequence[int] = ()) -> torch.Tensor:
    """Ids ``[1, T]`` to compare logits on: the run's own samples, else a fixed pseudo-random sequence; and before them some
    of ``added``, the tokens of an extended tokenizer."""
    ids: list[int] = []
    samples = RunFolder(run).samples
    if samples.is_file():
        for line in samples.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut
                ids += [int(i) for i in json.loads(line)["input_ids"] if 0 <= int(i) < tokenizer.size]
    if not ids:
        ids = np.random.default_rng(0).integers(0, tokenizer.size, NUM_PROBE_TOKENS).tolist()
    return torch.tensor([[*added[:: max(1, len(added) // NUM_PROBE_ADDED)][:NUM_PROBE_ADDED], *ids][:NUM_PROBE_TOKENS]])


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids.to(model.device), use_cache=False).logits.float().cpu()  # type: ignore[no-any-return]


def probe_loss(logits: torch.Tensor, ids: torch.Tensor) -> float:
    """Mean cross-entropy of each next token of ``ids`` ``[1, T]``, from ``logits`` ``[1, T, V]``."""
    return float(F.cross_entropy(logits[0, :-1].double(), ids[0, 1:].to(logits.device)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """A model in memory, and logits ``[1, T, V]`` to prove it with. ``adapted``: of the weights that it was merged into, before;
    ``trained``: of those that were trained."""

    model: Any
    plain: torch.Tensor
    adapted: torch.Tensor
    merged: torch.Tensor
    trained: torch.Tensor
    trained_base: str
    merged_base: str

    def facts(self, ids: torch.Tensor, dtype: str, base: Path, adapter: Path) -> ExportFacts:
        scale = float(self.adapted.abs().max())
        return ExportFacts(
            max_difference=float((self.merged - self.adapted).abs().max()), tolerance=TOLERANCE[dtype] * max(1.0, scale),
            effect=float((self.adapted - self.plain).abs().max()), reloaded_difference=0.0, probe_tokens=ids.shape[1],
            base=str(base), adapter=str(adapter), probe_loss_before=probe_loss(self.trained, ids),
            probe_loss_after=probe_loss(self.merged, ids), trained_base=self.trained_base, merged_base=self.merged_base,
            trained_difference=float((self.merged - self.trained).abs().max()),
        )


def merge_in_memory(adapter: Path, base: Path, ids: torch.Tensor, dtype: str, *, original: bool, stage: Callable[[str], None]) -> _Merged:
    """The merged model. Of a base that was held in 4 bits, into those weights, or into the ``original`` ones."""
    quant = quantisation_of_adapter(adapter)
    config = ModelConfig(path=str(base))
    trained: torch.Tensor | None = None
    model: Any = load_base(config, base, dtype if quant is None else "float32", quant)
    if quant is not None:
        adapted_model: Any = load_adapter(model, adapter, base)
        trained = logits_of(adapted_model, ids)
        if original:
            del model, adapted_model
            model = load_base(config, base, dtype)
        else:
            model = dequantise(adapted_model.unload())
    plain = logits_of(model, ids)
    adapted_model = load_adapter(model, adapter, base)
    adapted = logits_of(adapted_model, ids) if trained is None or original else trained
    stage("merging")
    merged_model: Any = adapted_model.merge_and_unload().to(DTYPES[dtype])
    name = "full" if quant is None else quant.quant_type
    return _Merged(model=merged_model, plain=plain, adapted=adapted, merged=logits_of(merged_model, ids),
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
    ids = probe_ids(Path(run), tokenizer, [] if note is None else note.ids)
    made = merge_in_memory(adapter, base_folder, ids, dtype, original=original, stage=stage)
    facts = made.facts(ids, dtype, base_folder, adapter)
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
            texts = [tokenizer.decode(ids[0].tolist())]
            save_tokenizer(tokenizer, template, partial, texts)
            save_generation_config(tokenizer.generation_config, template, tokenizer, partial)
            if note is not None:
                write_extension(note, partial)
            stage("proving what was saved")
            del merged_model, made
            again = logits_of(load_base(ModelConfig(path=str(partial)), partial, dtype), ids)
            facts = replace(facts, reloaded_difference=float((again - adapted).abs().max()), probe_loss_after=probe_loss(again, ids))
            verdict = judge(EXPORT_CHECKS, Facts(export=facts), allow=allow)
            if verdict.refusals:
                raise _Failed
    except _Failed:
        pass
    return Merge(folder=out, facts=facts, verdict=verdict)


class _Failed(Exception):
    """The proof of the saved model failed: leave nothing."""
