"""What a tool did with a fault, judged mechanically from exit code, steps, output and what was measured in the run.

The rules, in order. A line *names the cause* when it matches one of the fault's keywords, is neither a progress bar, a step's
log line nor a line of source code in a traceback, and the healthy twin was not told the same (numbers aside).

| outcome | exit code | steps | named |
|---|---|---|---|
| refused before | not 0 | none begun | yes |
| crashed before, cause not named | not 0 | none begun | no |
| stopped at step N | not 0 | some | yes |
| crashed at step N, cause not named | not 0 | some | no |
| told after | any | all | yes, behind the last step |
| warned | 0 | all | yes |
| does not happen | 0 | all | no, and the measurement says that the fault did not come about |
| silent | 0 | all | no |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cases import GOGPT
from .faults.fault import Fault

VERSION = 1
"""Part of the key of every cell: raise it when a rule changes."""

_ERROR = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b")
REFUSED, CRASHED, STOPPED, CRASHED_AT = "refused before", "crashed before, cause not named", "stopped at step", "crashed at step, cause not named"
AFTER, WARNED, UNHARMED, SILENT, NOT_HERE, BROKEN = "told after", "warned", "does not happen", "silent", "n/a", "could not be run"
OUTCOMES = (REFUSED, STOPPED, AFTER, WARNED, UNHARMED, CRASHED, CRASHED_AT, SILENT, NOT_HERE)

_STEP = re.compile(r"^\{'(loss|eval_loss)'|^step \d+/\d+ ")
_LOGGED = re.compile(r"^\{'\w+': ")
_BAR = re.compile(r"\d%\||\d+(\.\d+)?(s/it|it/s| examples/s)|\? examples/s\]$")
_BEFORE = re.compile(r"^.*\? examples/s\](?=.)")
_NUMBER = re.compile(r"\d[\d.,]*(e[+-]?\d+)?")
_STAMP = re.compile(r"^(\[?[A-Z]+\|[\w.]+:\d+\]? |\[\d{4}-\d\d-\d\d [\d:,]+\] |\[rank\d+\]:)")
_TIME = re.compile(r"\[\d{4}-\d\d-\d\d [\d:,]+\] |[|\s]?\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d+)?| object at 0x[0-9a-f]+|  [\d,]+ tokens/s .*$")
_ALARM = re.compile(r"\b(warn(ing)?|error|invalid|refus)", re.IGNORECASE)
_FINDING = re.compile(r"^(warning|error) [A-Z]{3}\d{3}|^[A-Z]{3}\d{3}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a case left behind. ``codes``: exit codes of its commands; ``probes``: what was measured in the first and the last one that trained."""

    codes: tuple[int, ...]
    commands: int
    output: str
    probe: Mapping[str, Any]
    first_probe: Mapping[str, Any]
    saved: bool

    @property
    def prepared(self) -> bool:
        return len(self.codes) == self.commands

    @property
    def code(self) -> int:
        return self.codes[-1]

    @property
    def steps(self) -> int:
        return int(self.probe.get("steps", 0))

    @property
    def began(self) -> bool:
        """a first step was begun"""
        return bool(self.probe.get("batches"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One tool and one fault, as it stands in results.json."""

    outcome: str
    exit_code: int | None = None
    steps: int = 0
    saved: bool = False
    evidence: tuple[str, ...] = ()
    measured: str = ""
    false_alarm: str = ""
    """what the tool said of the healthy twin, where it ought to have said nothing"""
    healthy_exit_code: int | None = None
    key: str = ""

    @property
    def words(self) -> str:
        return self.outcome.replace("at step", f"at step {self.steps + 1}") if "at step" in self.outcome else self.outcome


def lines_of(output: str) -> list[str]:
    """The lines in which a tool says something, in order. Lines of training steps stay (they part before from after)."""
    kept, traceback = [], False
    for raw in re.split(r"[\r\n]+", output):
        if raw.startswith("Traceback (most recent call last)"):
            traceback = True
        elif traceback and not raw.startswith(" "):
            traceback = False
        line = _BEFORE.sub("", raw).strip()
        if line and not traceback and not _BAR.search(line):
            kept.append(line)
    return kept


def normal(line: str) -> str:
    return _NUMBER.sub("0", _STAMP.sub("", line)).lower()


def named_in(lines: Sequence[str], keywords: Sequence[str], healthy: Sequence[str]) -> list[int]:
    """Indices of the lines that name the cause."""
    wanted = re.compile("|".join(f"(?:{k})" for k in keywords), re.IGNORECASE)
    known = {normal(line) for line in healthy}
    return [i for i, line in enumerate(lines) if not _LOGGED.match(line) and wanted.search(line) and normal(line) not in known]


def _last_words(lines: Sequence[str]) -> list[str]:
    """Of a crash: the exception. Of a run that ended: its last step, or what it said at the end."""
    errors = [line for line in lines if _ERROR.match(line)]
    if errors:
        return errors[-1:]
    steps = [line for line in lines if _STEP.match(line)]
    return steps[-1:] or [line for line in lines if len(line) > 12][-1:]


# -- whether a fault came about --------------------------------------------------------------------


def _stops(run: Run, healthy: Run) -> tuple[bool | None, str]:
    if "stops_trained" not in run.probe or not run.probe.get("rows"):
        return None, ""
    return run.probe["stops_trained"] == 0, f"<|im_end|> trained {run.probe['stops_trained']} times in {run.probe['rows']} rows"


def _leak(run: Run, healthy: Run) -> tuple[bool | None, str]:
    leak = run.probe.get("leak")
    if leak is None:
        return None, ""
    return leak > 1e-5, f"the loss of the last document of a row moves by {leak:.1e} when the documents before it change"


def _double_bos(run: Run, healthy: Run) -> tuple[bool | None, str]:
    if not run.probe.get("rows"):
        return None, ""
    return run.probe["double_bos"] > 0, f"{run.probe['double_bos']} of {run.probe['rows']} rows hold <s><s>"


def _stale(run: Run, healthy: Run) -> tuple[bool | None, str]:
    first, now = set(run.first_probe.get("words", ())), set(run.probe.get("words", ()))
    if not first or not now:
        return None, ""
    return bool(first & now), f"{len(first & now)} of {len(now)} trained rows are the old ones"


def _old_rate(run: Run, healthy: Run) -> tuple[bool | None, str]:
    rates = run.probe.get("logged_learning_rate")
    if not rates:
        return None, ""
    return rates[0] > 2e-4, f"learning rate of the first step after the resume: {rates[0]:.3g} (asked: at most 1e-4)"


def _never_decays(run: Run, healthy: Run) -> tuple[bool | None, str]:
    rates = run.probe.get("logged_learning_rate")
    if not rates:
        return None, ""
    return rates[-1] > 0.9 * max(rates), f"learning rate of the last step: {rates[-1]:.3g}, highest: {max(rates):.3g}"


def _accumulation(run: Run, healthy: Run) -> tuple[bool | None, str]:
    pairs = [(p["logged_loss"][0], p["logged_grad_norm"][0]) for p in (run.first_probe, run.probe) if p.get("logged_loss") and p.get("logged_grad_norm")]
    if len(pairs) < 2:
        return None, ""
    (loss, norm), (loss2, norm2) = pairs
    return abs(loss2 - loss) > 2e-3 * loss or abs(norm2 - norm) > 2e-2 * norm, (
        f"first step: loss {loss:.4f} and {loss2:.4f}, gradient norm {norm:.4f} and {norm2:.4f}")


HARMS: dict[str, Callable[[Run, Run], tuple[bool | None, str]]] = {
    "stops": _stops, "leak": _leak, "double_bos": _double_bos, "stale": _stale, "old_rate": _old_rate, "never_decays": _never_decays,
    "accumulation": _accumulation,
}


def _measured(run: Run) -> str:
    """What any run tells of itself: what it trained, and what came of the weights."""
    probe = run.probe
    if not probe.get("batches"):
        return ""
    told = [f"{probe['trained_tokens']:,} trained tokens in {probe['rows']} rows"]
    if "moved" in probe:
        told.append("the weights are NaN" if not probe.get("finite", True) else f"largest change of a weight {probe['moved']:.1e}")
    if probe.get("logged_loss"):
        told.append(f"last loss {probe['logged_loss'][-1]:.3g}")
    return "; ".join(told)


def short(line: str, limit: int = 240) -> str:
    line = _TIME.sub("", line)
    return line if len(line) <= limit else line[: limit - 4] + " ..."


def false_alarm(tool: str, healthy: Run, keywords: Sequence[str], faulty: Sequence[str] = ()) -> str:
    """Of the healthy twin: an exit code that is not 0, a warning that names the fault (and is not said whatever happens, the fault
    planted or not), and with GoGPT any finding."""
    lines = lines_of(healthy.output)
    always = {normal(line) for line in faulty}
    if not healthy.prepared or healthy.code != 0:
        return short(f"exit code {healthy.codes[-1]}: {' '.join(_last_words(lines))}")
    wanted = re.compile("|".join(f"(?:{k})" for k in keywords), re.IGNORECASE)
    told = [line for line in lines if (tool == GOGPT and _FINDING.match(line)) or (
        _ALARM.search(line) and not _LOGGED.match(line) and wanted.search(line) and normal(line) not in always)]
    return short(told[0]) if told else ""


def judge(tool: str, fault: Fault, run: Run, healthy: Run, planned: int) -> Cell:
    lines = lines_of(run.output)
    named = named_in(lines, fault.keywords, lines_of(healthy.output))
    last_step = max((i for i, line in enumerate(lines) if _STEP.match(line)), default=-1)
    harmed, measured = HARMS[fault.harm](run, healthy) if fault.harm else (None, "")
    finished = run.steps >= planned
    if not run.prepared:
        outcome = BROKEN
    elif run.code != 0 and not run.began:
        outcome = REFUSED if named else CRASHED
    elif run.code != 0 and not finished:
        outcome = STOPPED if named else CRASHED_AT
    elif named:
        outcome = AFTER if all(i > last_step for i in named) and last_step >= 0 else WARNED
    elif run.code != 0:
        outcome = CRASHED_AT
    else:
        outcome = UNHARMED if harmed is False else SILENT
    told = sorted((lines[i] for i in named), key=lambda line: 0 if _ERROR.match(line) or _FINDING.match(line) else 1 if _ALARM.search(line) else 2)
    evidence = list(dict.fromkeys(told))[:2] or _last_words(lines)
    return Cell(outcome=outcome, exit_code=run.code, steps=run.steps, saved=run.saved, evidence=tuple(short(x) for x in evidence),
                measured=measured or _measured(run), false_alarm=false_alarm(tool, healthy, fault.keywords, lines), healthy_exit_code=healthy.code)
