"""gogpt check, given what a run left behind: a run folder, a checkpoint, an event file, a log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gogpt.cli.words import say

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from gogpt.autopsy import Autopsy, Leavings
    from gogpt.cli.objects import Asked, Checked


def check_run(path: Path, name: str, asked: Asked) -> Checked:
    """Findings of a run's records. A log without any is searched for its first error, as ``gogpt doctor --log`` does."""
    from gogpt.autopsy import find_leavings, read_leavings, unjudged
    from gogpt.checks import HISTORY
    from gogpt.cli.objects import Checked
    from gogpt.errors import GogptError
    from gogpt.facts import Facts, to_json
    from gogpt.findings import Verdict, judge

    left = find_leavings(path)
    if left is None:
        raise GogptError("RUN615", "what the run left cannot be read: no records of steps are in it", where=name,
                         fix="give a run folder, a checkpoint, an event file or a log as the trainer wrote it")
    seen = read_leavings(left, asked.assignments)
    if left.kind == "log" and not seen.facts.num_records:
        return _explain(left, name, asked)
    without = unjudged(seen.facts)
    verdict = judge([c for c in HISTORY if c.code not in without], Facts(history=seen.facts))
    unread = tuple(("", f"{file} was not read: {why}") for file, why in seen.history.unread.items())
    verdict = Verdict(findings=verdict.findings, checked=verdict.checked, not_checked=(*without.items(), *unread), allowed=asked.allow)
    return Checked(path=name, kind=left.kind, verdict=verdict, extra={"history": to_json(seen.facts)},
                   before=lambda console: _print_seen(seen, console, asked.lang))


def _explain(left: Leavings, name: str, asked: Asked) -> Checked:
    from gogpt.autopsy import first_problem
    from gogpt.cli.objects import Checked
    from gogpt.findings import Verdict

    match = first_problem(left)
    finding = match.finding(str(left.path)) if match else None
    found = () if finding is None else (finding,)

    def before(console: Console) -> None:
        console.print(say(asked.lang, "log       no loss and no learning rate in it; its first error:" if found else
                          "log       no loss, no learning rate and no error in it"), markup=False)

    def after(console: Console) -> None:
        if match is not None:
            console.print(f"  {match.line}: {match.text}", markup=False)

    nothing = (("", "the log holds no loss and no learning rate"),)
    return Checked(path=name, kind=left.kind, verdict=Verdict(findings=found, checked=(), not_checked=nothing, allowed=asked.allow), before=before, after=after)


def _print_seen(seen: Autopsy, console: Console, lang: str) -> None:
    """What was recognised, how many steps, what is known of the plan and from where; the curves."""
    facts, known = seen.facts, seen.history.known
    unknown = say(lang, "not known")
    console.print(say(lang, "run       {tool}: {files}", tool=facts.tool, files=", ".join(seen.history.read) or facts.path), markup=False)
    planned = f"{facts.steps_planned:,} ({say(lang, facts.planned_from or '')})" if facts.steps_planned else unknown
    console.print(say(lang, "steps     {records:,} records, up to step {last}; planned {planned}; steps by {source}; epochs {epochs}", records=facts.num_records,
                      last=facts.last_step if facts.last_step is not None else unknown, planned=planned, source=say(lang, _SOURCES[facts.steps_from]),
                      epochs="-" if facts.last_epoch is None else f"{facts.last_epoch:.4g}"), markup=False)
    told = [(name, known.get(key), known.sources.get(key)) for name, key in _TOLD]
    console.print(say(lang, "asked     {known}", known="; ".join(f"{name}={value} ({source})" for name, value, source in told if value is not None) or unknown), markup=False)
    length = {"train.max_steps", "train.epochs"} if facts.steps_planned else set()
    missing = [name for name, value, _ in told if value is None and name != "train.precision" and name not in length]
    if missing and facts.num_rates:
        console.print(say(lang, "          tell what is not known, to have it checked: {keys}", keys=" ".join(f"{k}=..." for k in missing)), markup=False)
    _draw(seen, "lr", say(lang, "lr"), console, lang)
    _draw(seen, "loss", say(lang, "loss"), console, lang)


_SOURCES = {"step": "steps as logged", "counter": "the progress bar", "epoch": "the epoch counter", "lines": "counting the records"}
_TOLD = (("train.schedule", "schedule"), ("train.learning_rate", "rate"), ("train.warmup", "warmup"), ("train.max_steps", "max_steps"), ("train.epochs", "epochs"),
         ("parallel.processes", "world_size"), ("train.precision", "precision"))


def _draw(seen: Autopsy, what: str, name: str, console: Console, lang: str) -> None:
    from gogpt.cli.plan import draw

    points = sorted([float(r.step), float(value)] for r in seen.history.records
                    if r.step is not None and (value := getattr(r, what)) is not None and math.isfinite(value))
    if len(points) < 2:
        return
    values = [y for _, y in points]
    console.print(say(lang, "{name:<9} {count:,} records, from {first:.4g}, highest {peak:.4g}, last {last:.4g}", name=name, count=len(points), first=values[0],
                      peak=max(values), last=values[-1]), markup=False)
    for line in draw(points):
        console.print(line, markup=False)
