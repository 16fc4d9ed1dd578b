"""What ``gogpt check`` does with each kind of object: a table, kind -> function. A new kind is one entry of HANDLERS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gogpt.cli.console import check_passed_keys, err
from gogpt.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.findings import Verdict
    from gogpt.foreign import ForeignFile
    from gogpt.parallel import EngineFile
    from gogpt.secondhand import Secondhand


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line of ``gogpt check`` but for the objects."""

    assignments: tuple[str, ...] = ()
    fix: str | None = None
    template: str | None = None
    model: str | None = None
    base: str | None = None
    allow: tuple[str, ...] = ()
    skip_unknown: bool = False
    lang: str = "en"
    quiet: bool = False


def _nothing(console: Console) -> None:
    """No lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One object, judged. ``extra``: more keys of its JSON document; ``before``, ``after``: what is printed around its findings; ``left``: the verdict
    that decides the exit code, where that is another one (of a corrected copy)."""

    path: str
    kind: str
    verdict: Verdict
    extra: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Console], None] = _nothing
    after: Callable[[Console], None] = _nothing
    left: Verdict | None = None


Handler = Callable[[Path, str, Asked], Checked]


def handler_of(path: Path, name: str, asked: Asked) -> Handler | None:
    """What checks an object; None for one that is to be skipped. Raises GogptError CFG206."""
    from gogpt.autopsy import find_leavings
    from gogpt.errors import GogptError
    from gogpt.recognise import recognise

    if not path.exists():
        return HANDLERS["recipe"]  # which says so, with the near names
    left = find_leavings(path)
    try:
        found = recognise(path, name)
    except GogptError:
        if left is not None:
            return HANDLERS["run"]
        if asked.skip_unknown:
            return None
        raise
    # Records of steps are rows of JSON too.
    kinds = ("run",) if left is not None and found.kinds == ("data",) else found.kinds
    kind = next((k for k in kinds if k in HANDLERS), None)
    if asked.skip_unknown and (kind is None or not found.sure):
        return None
    if kind is None:
        raise GogptError("CFG206", f"recognised as {kinds[0]}, which this version does not check", where=name, expected=", ".join(HANDLERS),
                         fix="gogpt doctor --log FILE explains a log" if kinds[0] == "log" else "check the adapter or model in it")
    for option, needs in (("fix", ("deepspeed",)), ("template", ("data",)), ("model", ("data",)), ("base", ("adapter",))):
        if getattr(asked, option) is not None and kind not in needs:
            raise GogptError("CFG206", "only a DeepSpeed file can be corrected" if option == "fix" else f"--{option} says nothing of this object", where=name,
                             got=f"recognised as {kind}", expected={"deepspeed": "a DeepSpeed file (JSON)", "data": "data", "adapter": "an adapter folder"}[needs[0]],
                             fix=f"leave --{option} out" + ("; each finding says what to write" if option == "fix" else ""))
    return HANDLERS[kind]


def _no_settings(asked: Asked, name: str, kind: str) -> None:
    from gogpt.errors import GogptError

    if asked.assignments:
        raise GogptError("CFG204", f"a setting means nothing for this object ({kind})", where=name, got=asked.assignments[0], fix="leave it out")


# -- recipes and DeepSpeed files -------------------------------------------------------------------


def check_recipe(path: Path, name: str, asked: Asked) -> Checked:
    """The preflight alone."""
    from dataclasses import replace

    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.preflight import preflight

    config = load_recipe(name, asked.assignments)
    check_passed_keys(config)
    with TerminalObserver(err(), asked.lang, quiet=asked.quiet) as watching:
        watching.stage("reading data")
        verdict = preflight(config, progress=watching.reading).verdict
    return Checked(path=name, kind="recipe", verdict=replace(verdict, allowed=tuple(dict.fromkeys([*verdict.allowed, *asked.allow]))))


def check_deepspeed(path: Path, name: str, asked: Asked) -> Checked:
    """Findings of a DeepSpeed file, the learning rates of its own scheduler, and a corrected copy if one is asked for."""
    from gogpt.checks import DEEPSPEED
    from gogpt.errors import GogptError
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.parallel import (
        corrected,
        find_engine_file,
        patch,
        read_asked,
        read_engine_file,
        written,
    )
    from gogpt.runfolder import write_text

    file = find_engine_file(path, name, asked.assignments) or read_engine_file(path.read_text(encoding="utf-8-sig"), name, read_asked(asked.assignments))
    if asked.fix is not None and path.suffix != ".json":
        raise GogptError("CFG206", "only a DeepSpeed file in JSON can be corrected", where=name, fix="leave --fix out; each finding says what to write")
    verdict = judge(DEEPSPEED, Facts(engine=file.facts), allow=asked.allow)
    if asked.fix is None:
        return Checked(path=name, kind="deepspeed", verdict=verdict, before=lambda console: draw_rates(file, console, asked.lang))
    target, text = asked.fix, written(file, corrected(file))
    left = judge(DEEPSPEED, Facts(engine=read_engine_file(text, target, file.asked).facts), allow=asked.allow)
    write_text(Path(target), text)
    difference = patch(file, text, target)

    def after(console: Console) -> None:
        console.print(difference, markup=False, end="")
        console.print(say(asked.lang, "written   {path}, {findings} findings left", path=target, findings=len(left.findings)), markup=False)

    fixed = {"path": target, "patch": difference, "findings": [f.to_dict(asked.lang) for f in left.findings]}
    return Checked(path=name, kind="deepspeed", verdict=verdict, extra={"fixed": fixed}, before=lambda console: draw_rates(file, console, asked.lang), after=after,
                   left=left)


MOST_DRAWN = 100_000
"""Steps up to which every one is looked at."""


def draw_rates(file: EngineFile, console: Console, lang: str) -> None:
    """The learning rates that the file's own scheduler sets, drawn as those of a plan."""
    from gogpt.cli.plan import draw
    from gogpt.parallel import file_rates

    found = file_rates(file)
    if found is None:
        return
    rate, steps = found
    points = [[float(s), rate(s)] for s in range(1, steps + 1, max(1, steps // MOST_DRAWN))]
    console.print(say(lang, "lr        {scheduler} of the file over {steps:,} steps, peak {peak:g}, last {last:g}", scheduler=file.facts.scheduler,
                      steps=steps, peak=max(y for _, y in points), last=rate(steps)), markup=False)
    for line in draw(points):
        console.print(line, markup=False)


def check_accelerate(path: Path, name: str, asked: Asked) -> Checked:
    """Of a configuration of accelerate only the DeepSpeed file that it names can be wrong in silence."""
    from dataclasses import replace

    from gogpt.checks import DEEPSPEED
    from gogpt.facts import Facts
    from gogpt.findings import Verdict, judge
    from gogpt.foreign.places import local_file, read_document
    from gogpt.parallel import read_asked, read_engine_file

    document = read_document(path) or {}
    part = document.get("deepspeed_config")
    engine = part.get("deepspeed_config_file") if isinstance(part, dict) else None
    found = local_file(engine, path.parent) if isinstance(engine, str) else None
    processes = document.get("num_processes")
    kept = read_asked(asked.assignments)
    said = replace(kept, world_size=kept.world_size or (processes if isinstance(processes, int) and processes > 0 else None))
    if found is None:
        why = f"{engine}: it is not here" if engine else "the configuration names no DeepSpeed file"
        return Checked(path=name, kind="accelerate", verdict=Verdict(findings=(), checked=(), not_checked=tuple((c.code, why) for c in DEEPSPEED), allowed=asked.allow))
    file = read_engine_file(found.read_text(encoding="utf-8-sig"), str(found), said)
    return Checked(path=name, kind="accelerate", verdict=judge(DEEPSPEED, Facts(engine=file.facts), allow=asked.allow), before=lambda console: draw_rates(file, console, asked.lang))


# -- other tools' configurations -------------------------------------------------------------------


def _foreign(tool: str | None, kind: str) -> Handler:
    def check(path: Path, name: str, asked: Asked) -> Checked:
        from gogpt.cli.observer import TerminalObserver
        from gogpt.foreign import read_foreign
        from gogpt.secondhand import check_foreign

        file = read_foreign(path.read_text(encoding="utf-8-sig"), name, tool, asked.assignments)
        with TerminalObserver(err(), asked.lang, quiet=asked.quiet) as watching:
            watching.stage("reading data")
            found = check_foreign(file, allow=asked.allow, progress=watching.reading)
        extra = {"tool": file.tool, "read": list(file.files), "not_read": [{"what": what, "why": why} for what, why in file.not_read]}
        return Checked(path=name, kind=kind, verdict=found.verdict, extra=extra, before=lambda console: _about(found, file, console, asked.lang))

    return check


def _about(found: Secondhand, file: ForeignFile, console: Console, lang: str) -> None:
    """What the run would be: tool, method, batch, steps."""
    facts = file.facts
    console.print(say(lang, "tool      {release}, {method}, {precision}", release=facts.release, method=facts.method if facts.purpose == "train" else facts.purpose,
                      precision=facts.precision), markup=False)
    if facts.purpose == "train":
        world = facts.world_size or 1
        console.print(say(lang, "batch     {micro} x {accumulation} x {world} processes = {batch} sequences a step", micro=facts.micro_batch_size or 1,
                          accumulation=found.batch // max(1, (facts.micro_batch_size or 1) * world), world=world, batch=found.batch), markup=False)
        if found.steps and facts.learning_rate:
            console.print(say(lang, "steps     about {steps:,}, learning rate up to {rate:g} ({schedule})", steps=found.steps, rate=facts.learning_rate,
                              schedule=facts.schedule), markup=False)
    for what, why in file.not_read:
        console.print(say(lang, "not read  {what}: {why}", what=what, why=why), markup=False)


# -- data, adapters, models ------------------------------------------------------------------------


def check_dataset(path: Path, name: str, asked: Asked) -> Checked:
    from gogpt.cli.observer import TerminalObserver
    from gogpt.datacheck import check_data

    with TerminalObserver(err(), asked.lang, quiet=asked.quiet) as watching:
        watching.stage("reading data")
        found = check_data(name, template=asked.template, model=asked.model, assignments=asked.assignments, allow=asked.allow, progress=watching.reading)
    data = found.facts.data
    assert data is not None

    def before(console: Console) -> None:
        console.print(say(asked.lang, "data      {rows:,} rows in, {dropped:,} dropped, {kept:,} conversations ({schema})", rows=data.rows_in,
                          dropped=sum(data.drops.values()), kept=data.conversations, schema=", ".join(dict.fromkeys(data.schemas.values()))), markup=False)

    return Checked(path=name, kind="data", verdict=found.verdict, before=before)


def check_adapter(path: Path, name: str, asked: Asked) -> Checked:
    from gogpt.checks import ADAPTER
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.weights import adapter_facts

    _no_settings(asked, name, "adapter")
    folder = path if (path / "adapter_config.json").is_file() else path / "final"
    adapter = adapter_facts(folder, asked.base)
    verdict = judge(ADAPTER, Facts(adapter=adapter), allow=asked.allow)
    if adapter.base_found is None:
        why = f"the base ({adapter.base}) is not here: --base FOLDER" if adapter.base else "no base is named: --base FOLDER"
        verdict = _without(verdict, ("EXP722",), why)
    return Checked(path=name, kind="adapter", verdict=asked_as_trained(folder, verdict, asked.allow))


def asked_as_trained(folder: Path, verdict: Verdict, allow: Sequence[str]) -> Verdict:
    """With what EXP714 says of the template that lies beside the weights, where they lie in the folder of a run."""
    from dataclasses import replace

    from gogpt.checks import check_named
    from gogpt.errors import GogptError
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.served import asked_facts, run_of
    from gogpt.templates import pick_template
    from gogpt.tokenize import Tokenizer

    if run_of(folder) is None:
        return verdict
    try:
        tokenizer = Tokenizer(folder)
        asked = asked_facts(folder, pick_template("auto", tokenizer), tokenizer)
    except GogptError as problem:
        return replace(verdict, not_checked=(*verdict.not_checked, ("EXP714", f"{problem.code}: {problem.message}")))
    more = judge([check_named("EXP714")], Facts(asked=asked), allow=allow)
    return replace(verdict, findings=(*verdict.findings, *more.findings), checked=(*verdict.checked, *more.checked), not_checked=(*verdict.not_checked, *more.not_checked))


def _without(verdict: Verdict, codes: Sequence[str], why: str) -> Verdict:
    """Checks that had nothing to look at are told as not done."""
    from dataclasses import replace

    return replace(verdict, checked=tuple(c for c in verdict.checked if c not in codes), not_checked=(*verdict.not_checked, *((c, why) for c in codes)))


SERVED = ("EXP711", "EXP712", "EXP713")


def check_model(path: Path, name: str, asked: Asked) -> Checked:
    """Weights against configuration and tokenizer, and what it will be served with."""
    from dataclasses import replace

    from gogpt.checks import MODEL
    from gogpt.errors import GogptError
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.templates.verify import served_facts
    from gogpt.weights import weights_facts

    _no_settings(asked, name, "model")
    folder = path if (path / "config.json").is_file() else path / "final"
    weights = weights_facts(folder)
    facts, why = Facts(weights=weights), "the tokenizer has no chat template"
    if weights.chat_template:
        try:
            facts = replace(facts, served=served_facts(folder))
        except GogptError as problem:
            why = f"{problem.code}: {problem.message}"
    elif weights.chat_template is None:
        why = "no tokenizer is in the folder"
    verdict = judge(MODEL, facts, allow=asked.allow)
    if facts.served is None:
        verdict = replace(verdict, not_checked=tuple((code, why) for code, _ in verdict.not_checked))
    return Checked(path=name, kind="model", verdict=asked_as_trained(folder, verdict, asked.allow))


def check_tokenizer(path: Path, name: str, asked: Asked) -> Checked:
    from gogpt.checks import CHECKS
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.templates.verify import served_facts

    _no_settings(asked, name, "tokenizer")
    verdict = judge([c for c in CHECKS if c.code in SERVED], Facts(served=served_facts(path)), allow=asked.allow)
    return Checked(path=name, kind="tokenizer", verdict=verdict)


def check_run_whole(path: Path, name: str, asked: Asked) -> Checked:
    """What a run left, and the adapter or model that lies in the same folder."""
    from dataclasses import replace

    from gogpt.cli.check_run import check_run
    from gogpt.errors import GogptError
    from gogpt.findings import Severity
    from gogpt.recognise import recognise

    try:
        kinds = recognise(path, name).kinds
    except GogptError:
        kinds = ()
    beside = next((k for k in ("adapter", "model") if k in kinds), None)
    run = check_run(path, name, asked)
    if beside is None:
        return run
    more = HANDLERS[beside](path, name, replace(asked, assignments=()))
    order = list(Severity)
    findings = sorted((*run.verdict.findings, *more.verdict.findings), key=lambda f: order.index(f.severity))
    verdict = replace(run.verdict, findings=tuple(findings), checked=(*run.verdict.checked, *more.verdict.checked),
                      not_checked=(*run.verdict.not_checked, *more.verdict.not_checked))
    return replace(run, verdict=verdict, extra={**more.extra, **run.extra})


HANDLERS: Mapping[str, Handler] = {
    "recipe": check_recipe,
    "deepspeed": check_deepspeed,
    "accelerate": check_accelerate,
    "llamafactory": _foreign("llamafactory", "llamafactory"),
    "axolotl": _foreign("axolotl", "axolotl"),
    "swift": _foreign("swift", "swift"),
    "trl": _foreign("trl", "trl"),
    "script": _foreign(None, "script"),
    "data": check_dataset,
    "run": check_run_whole,
    "events": check_run_whole,
    "log": check_run_whole,
    "adapter": check_adapter,
    "model": check_model,
    "tokenizer": check_tokenizer,
}
"""Kind (of recognise.KINDS) -> what checks it. Of an object that is several, the first kind that stands here is taken."""
