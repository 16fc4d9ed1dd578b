"""Another tool's configuration judged before its run: by what it says, and, where its model and data are here, by GoGPT's own preflight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gogpt.checks import CHECKS, DEEPSPEED, FOREIGN
from gogpt.config import RunConfig
from gogpt.errors import GogptError
from gogpt.facts import Facts, ForeignFacts, PlanFacts
from gogpt.findings import Check, Finding, Severity, Text, Verdict, judge
from gogpt.foreign import ForeignFile
from gogpt.foreign.places import find_model_folder
from gogpt.foreign.recipe import batch_of, template_of, to_recipe
from gogpt.modelfiles import find_tokenizer, model_facts
from gogpt.parallel import Asked, read_engine_file
from gogpt.preflight import preflight
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.compare import tokenizer_facts

TOLD_OF_OTHERS: tuple[str, ...] = (
    "CFG210", "CFG211", "CFG213", "DAT310", "DAT311", "DAT312", "TOK401", "TOK403", "TOK406", "TOK407", "TOK411", "MOD501", "MOD502", "MOD504", "MOD505", "MOD507",
)
"""Checks of the preflight whose fault is the other tool's, too. Not those of this machine (the run is another's), of batches and masks that GoGPT
makes itself, or of a budget that only a recipe has."""

_SHARED: tuple[Check, ...] = tuple(c for c in CHECKS if c.code in TOLD_OF_OTHERS)

_RECIPE_KEYS = {"train.learning_rate": "learning_rate", "train.warmup": "warmup_steps", "method.targets": "targets", "method.modules_to_save": "saved",
                "method.kind": "method", "train.schedule": "schedule", "train.max_grad_norm": "clipping", "data.max_length": "max_length", "data.template": "template", "train.max_steps": "max_steps", "train.epochs": "epochs"}
"""Keys of a recipe that findings name -> what is asked for."""

_VALUES = {"llamafactory": (("lora_target: all-linear", "lora_target: all"),),
           "axolotl": (("lora_target_modules: all-linear", "lora_target_linear: true"), ("chat_template: auto", "chat_template: tokenizer_default"))}
"""Values of a recipe that findings suggest, as the tool writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secondhand:
    """``batch``: sequences of an optimizer step. ``steps``: of the run, where it can be known."""

    file: ForeignFile
    facts: Facts
    verdict: Verdict
    batch: int
    steps: int | None


def reword(finding: Finding, facts: ForeignFacts) -> Finding:
    """A finding of the preflight in the words of the tool: its keys, and the line where they stand."""
    def own(text: str) -> str:
        for key, what in _RECIPE_KEYS.items():
            text = text.replace(key, facts.key(what))
        for value, theirs in _VALUES.get(facts.tool, ()):
            text = text.replace(value, theirs)
        return text

    said = finding.message.en + finding.fix.en
    what = next((w for key, w in sorted(_RECIPE_KEYS.items(), key=lambda item: said.find(item[0]) % (len(said) + 1)) if key in said), None)
    where = finding.where or (facts.at(facts.key(what)) if what else facts.path)
    return replace(finding, message=Text(en=own(finding.message.en), zh=own(finding.message.zh)), fix=Text(en=own(finding.fix.en), zh=own(finding.fix.zh)), where=where,
                   evidence={k: own(v) if isinstance(v, str) else v for k, v in finding.evidence.items()})


def check_foreign(file: ForeignFile, *, allow: Iterable[str] = (), progress: Callable[[int], None] | None = None) -> Secondhand:
    """All that can be known of the run before it is started."""
    facts = Facts(foreign=file.facts)
    own: list[Finding] = []
    ran: dict[str, None] = {}
    problem = _reasons(file)
    if file.facts.purpose == "train":
        facts, found = _gather(file, progress)
        problem = found or problem
        shared = judge([c for c in _SHARED if _answerable(c, facts)], facts)
        own = [reword(f, file.facts) for f in shared.findings if not (f.code == "DAT311" and set(f.evidence["drops"]) <= {"overlong", "too_long"})]
        ran = dict.fromkeys(shared.checked)
    verdict = judge(FOREIGN, facts)
    engine = _engine(file)
    findings = [*verdict.findings, *own, *(reword(f, file.facts) for f in engine.findings)] if engine else [*verdict.findings, *own]
    order = list(Severity)
    findings.sort(key=lambda f: (order.index(f.severity), f.code[3:]))
    unseen = _unseen(file)
    checked = [c for c in (*verdict.checked, *ran, *(engine.checked if engine else ())) if c not in unseen]
    left = [c.code for c in (*FOREIGN, *_SHARED) if c.code not in checked] if file.facts.purpose == "train" else list(unseen)
    batch, _ = batch_of(file)
    return Secondhand(
        file=file, facts=facts, batch=batch, steps=facts.plan.steps or None if facts.plan else None,
        verdict=Verdict(findings=tuple(findings), checked=tuple(sorted(set(checked), key=lambda code: code[3:])),
                        not_checked=tuple((code, unseen.get(code, problem)) for code in left), allowed=tuple(allow)))


def _answerable(check: Check, facts: Facts) -> bool:
    """Whether the facts that there are can answer. Steps of 0 are not known; a plan without data has no rows."""
    if any(getattr(facts, name) is None for name in check.needs):
        return False
    assert facts.plan is not None or "plan" not in check.needs
    steps = facts.plan.steps if facts.plan else 0
    return check.code not in ("CFG210", "CFG213") or steps > 0


def _unseen(file: ForeignFile) -> dict[str, str]:
    """Checks of the configuration that had nothing to look at, and why: they are not told as done."""
    facts = file.facts
    out = {}
    if facts.template is not None and facts.template_fits is None and not facts.stop_untrained:
        out["CFG222"] = f"what {facts.model} was trained on, or what {facts.template} writes, is not known here"
    if facts.precision == "fp16" and facts.model_dtype is None:
        out["CFG226"] = f"the dtype of {facts.model} is not known here"
    if unread := next((why for what, why in file.not_read if what.startswith("data ") and "dataset_info" in why), None):
        out["CFG229"] = unread
    return out


def _reasons(file: ForeignFile) -> str:
    return "; ".join(f"{what}: {why}" for what, why in file.not_read) or "how many steps there are is not known"


def _gather(file: ForeignFile, progress: Callable[[int], None] | None) -> tuple[Facts, str]:
    """As many facts as can be had, and why there are not more (or nothing)."""
    model, _ = find_model_folder(file.facts.model, file.folder) if file.facts.model else (None, "")
    facts = Facts(foreign=file.facts, plan=_plan(file))
    here = bool(file.facts.train) and all(Path(p).exists() for p in (*file.facts.train, *file.facts.eval))
    if model is None:
        return facts, _reasons(file)
    if (stage := other_stage(file)) is not None:
        return facts, f"{stage}: only supervised fine-tuning is judged on its tokens"
    recipe, _ = to_recipe(file)
    recipe["method"] = {**recipe["method"], "kind": "lora" if recipe["method"]["kind"] == "qlora" else recipe["method"]["kind"]}
    recipe["train"] = {**recipe["train"], "precision": "auto"}
    template = template_of(file)
    problem = "" if here else _reasons(file)
    try:
        config = RunConfig.model_validate({**recipe, "model": str(model), "data": {**recipe["data"], "train": recipe["data"]["train"] or ["none"]}, "output": str(file.folder / "gogpt-check")})
        if here and template is not None:
            seen = _preflight(config, progress)
            return replace(facts, plan=seen.plan, data=seen.data, tokenizer=seen.tokenizer, model=seen.model), ""
        if here:
            problem = f"no declared template is named {file.facts.template!r}, and it is not the tokenizer's own"
    except GogptError as found:
        problem = f"{found.code}: {found.message}"
    except ValueError as found:
        problem = f"the values make no recipe: {str(found).splitlines()[0]}"
    try:
        tokenizer = Tokenizer(find_tokenizer(str(model)))
        return replace(facts, model=model_facts(config, model, tokenizer), tokenizer=tokenizer_facts(tokenizer, [])), problem
    except (GogptError, UnboundLocalError) as found:
        return facts, problem or str(found)


def other_stage(file: ForeignFile) -> str | None:
    """What else than supervised fine-tuning is asked for: preferences, rewards, pretraining."""
    document = file.document
    if file.tool == "llamafactory" and str(document.get("stage") or "sft") != "sft":
        return f"stage: {document['stage']}"
    if file.tool == "axolotl" and (document.get("rl") or document.get("pretraining_dataset") or document.get("reward_model")):
        return "rl: " + str(document["rl"]) if document.get("rl") else "pretraining_dataset or reward_model"
    return None


LONGEST = 1 << 20
"""A max_length that no conversation of the field reaches."""


def _preflight(config: RunConfig, progress: Callable[[int], None] | None) -> Facts:
    """Facts of the preflight. Where nothing fits max_length at all, those of the whole conversations, with the longer ones counted as dropped."""
    try:
        return preflight(config, progress=progress).facts
    except GogptError as problem:
        if problem.code != "DAT308":
            raise
        limit = config.data.max_length
        wide = config.model_copy(update={"data": config.data.model_copy(update={"max_length": LONGEST, "packing": False, "eval": 0.0})})
        before = preflight(wide, progress=progress)
        train = before.prepared.train
        count = len({train[i].origin for i in (train.lengths > limit).nonzero()[0].tolist()})
        data, plan = before.facts.data, before.facts.plan
        if data is None or plan is None or not count:
            raise
        return replace(before.facts, data=replace(data, drops={**data.drops, "overlong": count}), plan=replace(plan, max_length=limit, steps=0))


def _plan(file: ForeignFile) -> PlanFacts | None:
    """What the configuration alone says of the plan; ``steps`` 0 where they depend on the data. None without a learning rate."""
    facts = file.facts
    if facts.learning_rate is None:
        return None
    batch, micro = batch_of(file)
    steps = facts.max_steps or 0
    warmup = facts.warmup_steps or round((facts.warmup_ratio or 0.0) * steps)
    return PlanFacts(
        method=facts.method, epochs=facts.epochs or 0.0, steps=steps, warmup_steps=warmup, schedule=facts.schedule or "linear", learning_rate=facts.learning_rate,
        batch_size=batch, micro_batch_size=micro, accumulation=facts.accumulation or 1, world_size=facts.world_size or 1, precision=facts.precision,
        max_length=facts.max_length or 0, overlong="drop", packing=facts.packing, special_text="error", num_rows=0)


def _engine(file: ForeignFile) -> Verdict | None:
    """The DeepSpeed file that the configuration names, held against what it asks for."""
    facts = file.facts
    if facts.deepspeed is None or not Path(facts.deepspeed).is_file():
        return None
    asked = Asked(schedule=facts.schedule, rate=facts.learning_rate, clipping=facts.clipping, steps=facts.max_steps, world_size=facts.world_size)
    try:
        text = Path(facts.deepspeed).read_text(encoding="utf-8-sig")
        return judge(DEEPSPEED, Facts(engine=read_engine_file(text, facts.deepspeed, asked).facts))
    except (GogptError, ValueError, OSError, AttributeError):
        return None
