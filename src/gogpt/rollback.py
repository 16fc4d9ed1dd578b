"""Rollbacks: a run that went wrong goes back to a checkpoint from before, passes over the step that did it, and goes on.

A step that is passed over trains nothing: its rows are left out, the weights and the optimizer stay as they are, and its place in the
plan stays empty. Every other step keeps its number, its rows and its learning rate, so that the run is the one in which that step had
been passed over from the start. Where no checkpoint is old enough the run begins anew, which is the same: base, recipe and seed give
its start again. What was undone is kept in ``rolled_back.jsonl``, and every rollback in ``run.json``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gogpt.facts import RunFacts, from_json, to_json
from gogpt.findings import Finding, Severity, Text
from gogpt.runfolder import RunFolder, lines_up_to, read_json, write_text

CODES = ("RUN601", "RUN650")
"""What a rollback can mend: a loss or gradient that is not finite, and divergence."""

TOLD = Text(en="{told}; the run went back to step {back_to} and passed over {passed}", zh="{told}；训练已回到第 {back_to} 步，并跳过 {passed}")
STEPS = Text(en="step {steps}", zh="第 {steps} 步")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """One rollback. ``step``: where the trouble was seen; ``seen``: the undone metrics of the steps passed over, by step."""

    code: str
    step: int
    back_to: int
    passed_over: tuple[int, ...]
    message: Mapping[str, str]
    fix: Mapping[str, str]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Any] = field(default_factory=dict)

    def told(self, lang: str) -> str:
        passed = STEPS.of(lang).format(steps=", ".join(map(str, self.passed_over)))
        return TOLD.of(lang).format(told=self.message[lang], back_to=self.back_to, passed=passed)

    def finding(self) -> Finding:
        """What findings.json says of it: a warning, since the run went on."""
        message, fix = ({lang: text.replace("{", "{{").replace("}", "}}") for lang, text in texts.items()}
                        for texts in ({lang: self.told(lang) for lang in ("en", "zh")}, self.fix))
        evidence = {**self.evidence, "back_to": self.back_to, "passed_over": list(self.passed_over)}
        return Finding(code=self.code, severity=Severity.WARNING, message=Text(**message), evidence=evidence, fix=Text(**fix))


def plan_rollback(folder: RunFolder, finding: Finding, seen: RunFacts, done: Sequence[Rollback], *, most: int) -> Rollback | None:
    """Where to go back to for ``finding``, or None: not that kind of trouble, none left of ``most``, or nothing more to pass over."""
    steps = _suspects(finding.code, seen)
    passed = {step for rollback in done for step in rollback.passed_over}
    new = tuple(step for step in steps if step not in passed)
    if seen.last is None or len(done) >= most or not new:
        return None
    undone = {str(line["step"]): line for line in map(json.loads, lines_up_to(folder.metrics, seen.last.step)) if line["step"] in new}
    return Rollback(
        code=finding.code, step=seen.last.step, passed_over=new, seen=undone, evidence=to_json(finding.evidence),
        back_to=max((s for s in folder.checkpoint_steps() if s < new[0]), default=0),
        message={lang: finding.message.format(lang, finding.evidence) for lang in ("en", "zh")},
        fix={lang: finding.fix.format(lang, finding.evidence) for lang in ("en", "zh")},
    )


def _suspects(code: str, seen: RunFacts) -> tuple[int, ...]:
    """The steps that did it. Of a loss that rose: the step where it was first seen, and the one whose update came before."""
    if code == "RUN601" and seen.last is not None:
        return (seen.last.step,)
    since = seen.vitals.raised_since
    if code == "RUN650" and since is not None:
        return tuple(step for step in (since - 1, since) if step > 0)
    return ()


def roll_back(folder: RunFolder, rollback: Rollback) -> None:
    """Take back what the folder holds of later steps: metrics go to rolled_back.jsonl, checkpoints are removed. Raises GogptError ENV110."""
    kept = lines_up_to(folder.metrics, rollback.back_to)
    undone = [line for line in folder.metrics.read_text(encoding="utf-8").splitlines() if line not in set(kept)]
    before = folder.rolled_back.read_text(encoding="utf-8") if folder.rolled_back.is_file() else ""
    write_text(folder.rolled_back, before + "".join(line + "\n" for line in undone))
    write_text(folder.metrics, "".join(line + "\n" for line in kept))
    for step in folder.checkpoint_steps():
        if step > rollback.back_to:
            shutil.rmtree(folder.checkpoint(step), ignore_errors=True)


def read_rollbacks(folder: RunFolder) -> list[Rollback]:
    """The rollbacks of a run so far, from its run.json."""
    if not folder.status.is_file():
        return []
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        return [from_json(Rollback, r) for r in read_json(folder.status).get("rollbacks", [])]
    return []


def passed_over(rollbacks: Sequence[Rollback]) -> dict[int, Mapping[str, Any] | None]:
    """Every step that is passed over, with the metrics that were undone."""
    return {step: r.seen.get(str(step)) for r in rollbacks for step in r.passed_over}
