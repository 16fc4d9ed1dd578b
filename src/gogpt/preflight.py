"""The preflight: recipe -> facts -> findings, before any compute is spent. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gogpt.checks import ENGINE_FILE, PREFLIGHT, page_of, run_check_named
from gogpt.config import RunConfig
from gogpt.data.answers import look_at_answers
from gogpt.data.prepare import Prepared, prepare
from gogpt.data.stream import ExampleStream, judge_head
from gogpt.doctor import collect_env
from gogpt.errors import GogptError
from gogpt.extension import Extension, read_extension
from gogpt.facts import NUM_FIRST, DataFacts, Facts, ModelFacts, Tally
from gogpt.findings import Verdict, judge
from gogpt.modelfiles import Checkpoint, check_new_tokens, find_model, find_tokenizer, model_facts, trains_new
from gogpt.packing import batch_rows
from gogpt.parallel import Asked, EngineFile, agreed, corrected, file_rates, open_engine_file, patch, written
from gogpt.plan import RunPlan, document_rows, fitted, make_plan
from gogpt.quantisation import check_base, check_method, quantised_facts
from gogpt.show import pick_samples
from gogpt.templates import NO_TEMPLATE, Template, pick_template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.compare import stretches_of, tokenizer_facts
from gogpt.trees import grow, step_groups
from gogpt.weights import rows_at_mean
from gogpt.world import refuse_parallel

NUM_COLLATED = 64
"""Rows whose batches are compared with the examples that went in."""

NUM_COMPARED = 100
"""Examples whose texts are encoded with both forms of a tokenizer that the folder holds twice."""


class Refused(GogptError):
    """The preflight found errors that were not allowed by name."""

    def __init__(self, verdict: Verdict) -> None:
        codes = sorted({f.code for f in verdict.refusals})
        super().__init__(codes[0], f"refused before training: {', '.join(codes)}", exit_code=1,
                         fix=f"correct the recipe or the data; or, knowing better, checks: {{allow: [{', '.join(codes)}]}}")
        self.verdict = verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Everything known before the first step. ``stream``: where the rows come from while training; ``prepared`` is then its head."""

    config: RunConfig
    folder: Path
    tokenizer: Tokenizer
    template: Template
    prepared: Prepared
    plan: RunPlan
    facts: Facts
    verdict: Verdict
    stream: ExampleStream | None = None
    engine_file: EngineFile | None = None
    """the DeepSpeed file that the recipe names"""

    @property
    def patch(self) -> str:
        """What to change in the DeepSpeed file that is refused, as a unified diff; "" without one."""
        file, codes = self.engine_file, {c.code for c in ENGINE_FILE}
        if file is None or not any(f.code in codes for f in self.verdict.refusals):
            return ""
        return patch(file, written(file, agreed(corrected(file))), file.path)

    @property
    def pad_id(self) -> int:
        return pad_id(self.tokenizer)


def pad_id(tokenizer: Tokenizer) -> int:
    """Any id serves: padding is known by its document id (-1), not by its token."""
    for candidate in (tokenizer.pad_id, tokenizer.eos_id):
        if candidate is not None:
            return candidate
    return 0


def sets_folder(config: RunConfig) -> Path:
    """Where prepared sets lie: ``data.prepared``, or ``prepared/`` beside the run folder."""
    return Path(config.data.prepared) if config.data.prepared else Path(config.output).parent / "prepared"


def prepare_recipe(config: RunConfig, *, progress: Callable[[int], None] | None = None, keep: bool) -> tuple[Prepared, Tokenizer, Template]:
    """The sets of a recipe, and what encoded them. ``keep``: the set is written to its folder; without it only one that lies
    there already is used. Raises GogptError CFG251 for a stream, of which there is no set."""
    if config.data.streaming:
        raise GogptError("CFG251", "a stream is never prepared: its rows are made while training", where="recipe", got="data.streaming: true",
                         expected="a recipe whose set is written", fix="take data.streaming out, here as data.streaming=false; or go on with gogpt train")
    tokenizer, template = encoders(config)
    prepared = prepare(config.data, tokenizer, template, seed=config.train.seed, progress=progress, folder=sets_folder(config), keep=keep,
                       ray=config.parallel.prepare == "ray")
    return prepared, tokenizer, template


def encoders(config: RunConfig) -> tuple[Tokenizer, Template]:
    """What encodes the data of a recipe. Raises GogptError TOK42x."""
    tokenizer = Tokenizer(find_tokenizer(config.model))
    template = pick_template(NO_TEMPLATE if config.stage == "pretrain" else config.data.template, tokenizer)
    if config.stage == "pretrain" and tokenizer.eos_id is None:
        raise GogptError("TOK425", "the tokenizer has no EOS to part documents with", where=tokenizer.path, got=f"eos_token: {tokenizer.eos_token!r}",
                         expected="eos_token in tokenizer_config.json, a token of the vocabulary", fix="name the token that ends a text there")
    return tokenizer, template


def open_stream(config: RunConfig, tokenizer: Tokenizer, template: Template) -> ExampleStream:
    """The stream of a recipe. A row that spells a special token, once the head is judged, is dropped, or trained where TOK406 is allowed."""
    data = config.data
    if data.special_text == "error" and "TOK406" in config.checks.allow:
        data = data.model_copy(update={"special_text": "keep"})
    return ExampleStream(data, tokenizer, template, seed=config.train.seed)


def preflight(config: RunConfig, *, progress: Callable[[int], None] | None = None, keep: bool = False) -> Preflight:
    """Read the data, make the plan, judge both. ``keep``: the prepared set is written to its folder; without it only one that
    lies there already is used. Raises GogptError for what cannot be judged at all."""
    refuse_unbuilt(config)
    refuse_misplaced(config)
    refuse_unstreamed(config)
    check_method(config)
    for code in config.checks.allow:
        page_of(code)  # a misspelt code would allow nothing, and say so only after hours
    for code in config.checks.policy:
        run_check_named(code)
    folder = find_model(config.model)
    check_new_tokens(config.method, folder)
    check_base(config, folder)
    env = collect_env(Path(config.output))
    refuse_parallel(config, env)
    stream = None
    if config.data.streaming:
        tokenizer, template = encoders(config)
        stream = open_stream(config, tokenizer, template)
        prepared = judge_head(stream, progress=progress)
    else:
        prepared, tokenizer, template = prepare_recipe(config, progress=progress, keep=keep)
    bins = None
    if config.stage == "pretrain":
        pieces, bins = document_rows(config, prepared.train, seed=config.train.seed)
        prepared = replace(prepared, train=pieces, eval=document_rows(config, prepared.eval, seed=None)[0])
    config = fitted(config, prepared.train, Checkpoint(folder), env, bins=bins)
    plan = make_plan(config, prepared.train, Checkpoint(folder), env, bins=bins, sampled_rows=prepared.facts.sampled_only)
    file = None
    if config.parallel.config is not None:
        plan, file = driven_by_file(config, plan)
    data = count_collated(prepared, plan, tokenizer)
    if config.stage != "pretrain":
        seen = look_at_answers(prepared.train, data.stop_ids, tokenizer.decode)
        data = replace(data, answers_looked=seen.looked, same_answer=seen.same, same_answer_text=tokenizer.decode(list(seen.most))[:80],
                       long_answers=seen.long, answers_in_prompts=seen.inside)
    if config.stage == "pretrain":  # what cutting into rows leaves without a predecessor is not trained
        data = replace(data, tokens=plan.tokens, trained_tokens=plan.trained_tokens, longest=int(prepared.train.lengths.max(initial=0)))
    sample = stretches_of(tokenizer, (prepared.train[i].input_ids for i in pick_samples(prepared.train, prepared.sampled, NUM_COMPARED))) if tokenizer.other else []
    facts = Facts(env=env, plan=plan.facts(config), data=data, tokenizer=tokenizer_facts(tokenizer, sample),
                  model=count_added(quantised_facts(model_facts(config, folder, tokenizer), config, folder), read_extension(folder), prepared, config, tokenizer),
                  engine=None if file is None else file.facts)
    verdict = judge(PREFLIGHT if file is None else (*PREFLIGHT, *ENGINE_FILE), facts, allow=config.checks.allow)
    return Preflight(config=config, folder=folder, tokenizer=tokenizer, template=template,
                     prepared=replace(prepared, facts=data), plan=plan, facts=facts, verdict=verdict, stream=stream, engine_file=file)


def driven_by_file(config: RunConfig, plan: RunPlan) -> tuple[RunPlan, EngineFile]:
    """The plan with the learning rates that will really be used, and the DeepSpeed file: a scheduler in it takes the place of the
    recipe's schedule. Raises GogptError CFG200, CFG201, CFG206."""
    assert config.parallel.config is not None
    train = config.train
    file = open_engine_file(Path(config.parallel.config), Asked(schedule=train.schedule, rate=train.learning_rate, clipping=train.max_grad_norm,
                                                                steps=plan.steps, world_size=plan.world_size))
    found = file_rates(file)
    return (plan if found is None else replace(plan, driven_by=file.facts.scheduler, rates=found[0])), file


def count_added(model: ModelFacts, note: Extension | None, prepared: Prepared, config: RunConfig, tokenizer: Tokenizer) -> ModelFacts:
    """How often tokens that were added to the base's tokenizer occur in the data: by the note that says which they are; without one, those whose
    rows are the mean of all rows, where the method leaves these as they are."""
    if note is not None:
        first, last = note.first_new_id, note.first_new_id + note.num_new_tokens
        seen = sum(int(np.count_nonzero((block.input_ids >= first) & (block.input_ids < last))) for block in prepared.train.blocks)
        return replace(model, added_seen=seen)
    folder = Path(model.path)
    if trains_new(Checkpoint(folder), config.method):
        return model
    counts = np.zeros(tokenizer.size, dtype=np.int64)
    for block in prepared.train.blocks:
        found = np.bincount(block.input_ids, minlength=counts.size)
        counts[: found.size] += found[: counts.size]
    near = rows_at_mean(folder, np.flatnonzero(counts))
    tokens = Tally(count=int(near.size), first=tuple(tokenizer.token(int(i)) or str(i) for i in near[:NUM_FIRST]))
    return replace(model, mean_rows=tokens, mean_seen=int(counts[near].sum()))


def count_collated(prepared: Prepared, plan: RunPlan, tokenizer: Tokenizer) -> DataFacts:
    """Stop tokens among the labels before and after batching: padding with EOS must not mask EOS."""
    stops = np.asarray(prepared.facts.stop_ids, dtype=np.int64)
    rows = [[prepared.train[i] for i in bins] for bins in plan.bins[:NUM_COLLATED]]
    before = sum(int(np.isin(e.labels[1:], stops).sum()) for row in rows for e in row)
    after = 0
    if plan.laid_out:
        for at in range(0, len(rows), plan.batch_size):
            examples = dict(enumerate(e for row in rows[at : at + plan.batch_size] for e in row))
            for members, shared in step_groups([list(examples)], examples, plan.shape(flat=True, shares=plan.sharing.on)):
                forest = grow([examples[i] for i in members], shared)
                after += int(forest.weights[np.isin(forest.targets, stops)].sum())
    else:
        for at in range(0, len(rows), plan.micro_batch_size):
            batch = batch_rows(rows[at : at + plan.micro_batch_size], pad_id(tokenizer), across=plan.across_documents)
            after += int(np.isin(batch.labels, stops).sum())
    return replace(prepared.facts, collated_stops_in=before, collated_stops_out=after)


def refuse_misplaced(config: RunConfig) -> None:
    """A setting that says nothing in this stage is refused, not ignored."""
    # A default that is written out, as in the recipe of a run folder, asks for nothing.
    said = {name for name, field in type(config.data).model_fields.items() if getattr(config.data, name) != field.default}
    if config.stage == "pretrain":
        wrong = [f"data.{key}" for key in ("train_on", "overlong") if key in said]
        wrong += ["data.template"] * (config.data.template not in ("auto", NO_TEMPLATE)) + ["data.packing: false"] * (not config.data.packing)
        expected = "documents end with EOS, are packed to full rows of max_length and trained whole"
    else:
        wrong = ["data.across_documents"] * config.data.across_documents
        expected = "conversations never attend to each other"
    if wrong:
        raise GogptError("CFG250", f"{', '.join(wrong)}: has no meaning in stage {config.stage}", where="recipe", expected=expected,
                         fix="take it out, or choose the other stage")


def refuse_unstreamed(config: RunConfig) -> None:
    """What needs the whole set, or a folder for it, has no meaning in a stream and is refused by name."""
    data = config.data
    if not data.streaming:
        return
    if config.train.max_steps is None:
        raise GogptError("CFG251", "data.streaming needs train.max_steps: how long an epoch is, is not known before it is read", where="recipe",
                         expected="the number of optimizer steps", fix="set train.max_steps, or take data.streaming out")
    whole = {
        f"data.eval: {data.eval}": not isinstance(data.eval, tuple) and data.eval > 0,
        "data.mix.temperature": data.mix.temperature is not None,
        "data.mix.languages": bool(data.mix.languages),
        "count of a source": any(s.count is not None for s in data.train),
        f"data.clean.duplicates: {data.clean.duplicates}": data.clean.duplicates in ("exact", "near"),
        f"data.clean.leakage: {data.clean.leakage}": data.clean.leakage in ("exact", "near"),
        "data.prepared": data.prepared is not None,
        "data.workers": data.workers is not None,
        "parallel.prepare: ray": config.parallel.prepare == "ray",
    }
    asked = [name for name, yes in whole.items() if yes]
    if asked:
        raise GogptError("CFG251", f"a stream cannot do {', '.join(asked)}: the whole set is never there", where="recipe",
                         expected="evaluation from sources of its own, weights, and what is judged row by row",
                         fix="take it out, or take data.streaming out and prepare the set")


def refuse_unbuilt(config: RunConfig) -> None:
    """A setting that would be silently ignored is refused by name."""
    unbuilt = {
        f"method.kind: qlora with parallel.engine: {config.parallel.engine}": config.method.kind == "qlora" and config.parallel.engine != "ddp",
    }
    rolls_back = {
        "several processes": config.parallel.processes != 1 or config.parallel.engine != "ddp",
        "train.precision: fp16": config.train.precision == "fp16",
        "data.streaming": config.data.streaming,
    }
    unbuilt |= {f"train.rollbacks with {what}": yes and config.train.rollbacks > 0 for what, yes in rolls_back.items()}
    asked = [name for name, yes in unbuilt.items() if yes]
    if asked:
        raise GogptError("CFG230", "this version does not offer " + ", ".join(asked), where="recipe",
                         expected="method qlora in one process or with engine ddp", fix="parallel.engine: ddp, or method.kind: lora")
