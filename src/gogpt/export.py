"""Merge an adapter into its base, and prove it: merged = base + adapter, and not the base."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gogpt.adapters import is_adapter, load_adapter
from gogpt.checks import CHECKS
from gogpt.config import ModelConfig
from gogpt.errors import GogptError
from gogpt.extension import read_extension, write_extension
from gogpt.facts import ExportFacts, Facts
from gogpt.findings import Stage, Verdict, judge
from gogpt.generate import base_of, resolve_served
from gogpt.model import DTYPES, load_base, save_generation_config, save_tokenizer
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
        return model(input_ids=ids, use_cache=False).logits.float()  # type: ignore[no-any-return]


def merge(
    run: str, out: Path, *, base: str | None = None, dtype: str = "float32", allow: Sequence[str] = (),
    stage: Callable[[str], None] = lambda name: None,
) -> Merge:
    """Write the merged model to ``out`` if the proof holds; otherwise nothing is written.

    Raises GogptError EXP703 (nothing to merge), EXP704, MOD500, ENV110; a failed proof is in the verdict.
    """
    adapter = resolve_served(run)
    if not is_adapter(adapter):
        raise GogptError("EXP703", "there is no adapter to merge", where=str(adapter), got="a whole model",
                         fix=f"use it as it is: gogpt chat {run}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GogptError("RUN610", "the output exists already", where=str(out), fix="name a new folder")
    base_folder = base_of(adapter, base)
    tokenizer = Tokenizer(adapter)
    stage("loading base and adapter")
    model: Any = load_base(ModelConfig(path=str(base_folder)), base_folder, dtype)
    note = read_extension(adapter)
    ids = probe_ids(Path(run), tokenizer, [] if note is None else note.ids)
    plain = logits_of(model, ids)
    adapted_model = load_adapter(model, adapter, base_folder)
    adapted = logits_of(adapted_model, ids)
    stage("merging")
    merged_model: Any = adapted_model.merge_and_unload()
    merged = logits_of(merged_model, ids)
    scale = float(adapted.abs().max())
    facts = ExportFacts(
        max_difference=float((merged - adapted).abs().max()), tolerance=TOLERANCE[dtype] * max(1.0, scale),
        effect=float((adapted - plain).abs().max()), reloaded_difference=0.0, probe_tokens=ids.shape[1],
        base=str(base_folder), adapter=str(adapter),
    )
    verdict = judge(EXPORT_CHECKS, Facts(export=facts), allow=allow)
    if verdict.refusals:
        return Merge(folder=out, facts=facts, verdict=verdict)
    template = pick_template("auto", tokenizer)
    try:
        with whole_folder(out) as partial:
            stage("saving")
            merged_model.config.use_cache = True
            merged_model.to(DTYPES[dtype]).save_pretrained(str(partial))
            texts = [tokenizer.decode(ids[0].tolist())]
            save_tokenizer(tokenizer, template, partial, texts)
            save_generation_config(tokenizer.generation_config, template, tokenizer, partial)
            if note is not None:
                write_extension(note, partial)
            stage("proving what was saved")
            del merged_model, adapted_model, model
            again = logits_of(load_base(ModelConfig(path=str(partial)), partial, dtype), ids)
            facts = ExportFacts(**{**{f: getattr(facts, f) for f in facts.__slots__},
                                   "reloaded_difference": float((again - adapted).abs().max())})
            verdict = judge(EXPORT_CHECKS, Facts(export=facts), allow=allow)
            if verdict.refusals:
                raise _Failed
    except _Failed:
        pass
    return Merge(folder=out, facts=facts, verdict=verdict)


class _Failed(Exception):
    """The proof of the saved model failed: leave nothing."""
