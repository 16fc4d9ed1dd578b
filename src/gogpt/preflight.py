"""The preflight: recipe -> facts -> findings, before any compute is spent. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gogpt.checks import PREFLIGHT, page_of
from gogpt.config import RunConfig
from gogpt.data.prepare import Prepared, prepare
from gogpt.doctor import collect_env
from gogpt.errors import GogptError
from gogpt.extension import Extension, read_extension
from gogpt.facts import DataFacts, Facts, ModelFacts
from gogpt.findings import Verdict, judge
from gogpt.modelfiles import Checkpoint, check_new_tokens, find_model, model_facts
from gogpt.packing import batch_rows
from gogpt.plan import RunPlan, make_plan
from gogpt.show import pick_samples
from gogpt.templates import Template, pick_template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.compare import stretches_of, tokenizer_facts

NUM_COLLATED = 64
"""Rows whose batches are compared with the examples that went in."""

NUM_COMPARED = 100
"""Examples whose texts are encoded with both forms of a tokenizer that the folder holds twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Everything known before the first step."""

    config: RunConfig
    folder: Path
    tokenizer: Tokenizer
    template: Template
    prepared: Prepared
    plan: RunPlan
    facts: Facts
    verdict: Verdict

    @property
    def pad_id(self) -> int:
        return pad_id(self.tokenizer)


def pad_id(tokenizer: Tokenizer) -> int:
    """Any id serves: padding is known by its document id (-1), not by its token."""
    for candidate in (tokenizer.pad_id, tokenizer.eos_id):
        if candidate is not None:
            return candidate
    return 0


def preflight(config: RunConfig, *, progress: Callable[[int], None] | None = None) -> Preflight:
    """Read the data, make the plan, judge both. Raises GogptError for what cannot be judged at all."""
    refuse_unbuilt(config)
    for code in config.checks.allow:
        page_of(code)  # a misspelt code would allow nothing, and say so only after hours
    folder = find_model(config.model)
    check_new_tokens(config.method, folder)
    tokenizer = Tokenizer(folder)
    template = pick_template(config.data.template, tokenizer)
    env = collect_env(Path(config.output))
    prepared = prepare(config.data, tokenizer, template, seed=config.train.seed, progress=progress)
    plan = make_plan(config, prepared.train, Checkpoint(folder), env)
    data = count_collated(prepared, plan, tokenizer)
    sample = stretches_of(tokenizer, (prepared.train[i].input_ids for i in pick_samples(prepared.train, prepared.sampled, NUM_COMPARED))) if tokenizer.other else []
    facts = Facts(env=env, plan=plan.facts(config), data=data, tokenizer=tokenizer_facts(tokenizer, sample),
                  model=count_added(model_facts(config, folder, tokenizer), read_extension(folder), prepared))
    verdict = judge(PREFLIGHT, facts, allow=config.checks.allow)
    return Preflight(config=config, folder=folder, tokenizer=tokenizer, template=template,
                     prepared=replace(prepared, facts=data), plan=plan, facts=facts, verdict=verdict)


def count_added(model: ModelFacts, note: Extension | None, prepared: Prepared) -> ModelFacts:
    """How often the tokens that were added to the base's tokenizer occur in the training examples."""
    if note is None:
        return model
    ids = np.asarray(prepared.train.input_ids)
    seen = np.count_nonzero((ids >= note.first_new_id) & (ids < note.first_new_id + note.num_new_tokens))
    return replace(model, added_seen=int(seen))


def count_collated(prepared: Prepared, plan: RunPlan, tokenizer: Tokenizer) -> DataFacts:
    """Stop tokens among the labels before and after batching: padding with EOS must not mask EOS."""
    stops = np.asarray(prepared.facts.stop_ids, dtype=np.int64)
    rows = [[prepared.train[i] for i in bins] for bins in plan.bins[:NUM_COLLATED]]
    before = sum(int(np.isin(e.labels[1:], stops).sum()) for row in rows for e in row)
    after = 0
    for at in range(0, len(rows), plan.micro_batch_size):
        batch = batch_rows(rows[at : at + plan.micro_batch_size], pad_id(tokenizer))
        after += int(np.isin(batch.labels, stops).sum())
    return replace(prepared.facts, collated_stops_in=before, collated_stops_out=after)


def refuse_unbuilt(config: RunConfig) -> None:
    """A setting that would be silently ignored is refused by name."""
    unbuilt = {
        "method.kind: qlora": config.method.kind == "qlora",
        f"parallel.engine: {config.parallel.engine}": config.parallel.engine != "ddp",
        f"parallel.processes: {config.parallel.processes}": config.parallel.processes != 1,
        "parallel.zero": config.parallel.zero is not None,
        "parallel.config": config.parallel.config is not None,
        "stage: pretrain": config.stage == "pretrain",
        "data.streaming": config.data.streaming,
    }
    asked = [name for name, yes in unbuilt.items() if yes]
    if asked:
        raise GogptError("CFG230", "this version does not offer " + ", ".join(asked), where="recipe",
                         expected="one process; method lora, full or freeze", fix="take the setting out")
