"""What the planted faults share: the register of codes, and the whole course that a fault must take.

A check that nobody has seen fire is not a guard. Each test plants one fault and marks itself ``@planted(CODE)``;
test_planted_register.py holds the marks against the list of checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gogpt.checks import CHECKS, PREFLIGHT
from gogpt.facts import Facts, from_json
from gogpt.findings import Stage, judge

PLANTED: dict[str, list[str]] = {}
"""Code -> names of the tests that plant a fault for it."""

RUN_CODES = tuple(c.code for c in CHECKS if c.stage is Stage.RUN)
PROOF_CODES = tuple(c.code for c in CHECKS if c.stage is Stage.PROOF)
PREFLIGHT_CODES = tuple(c.code for c in PREFLIGHT)

Test = TypeVar("Test", bound=Callable[..., Any])


def planted(*codes: str) -> Callable[[Test], Test]:
    def mark(test: Test) -> Test:
        for code in codes:
            PLANTED.setdefault(code, []).append(f"{test.__module__}.{test.__name__}")
        return test

    return mark


def by_code(findings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The findings of a document by code; no check may tell the same thing twice."""
    found = {f["code"]: f for f in findings}
    assert len(found) == len(findings), findings
    return found


def refusal(stderr: str, code: str) -> str:
    """The line on stderr that begins with the code, as every error's does."""
    lines = [line for line in stderr.splitlines() if re.match(rf"{code}\b", line)]
    assert len(lines) == 1, stderr
    return lines[0]


def silent(gogpt: Any, recipe: Path, *settings: str) -> dict[str, Any]:
    """The healthy twin: all checks of the preflight ran and found nothing. The document."""
    ran = gogpt("check", recipe, *settings, "--format", "json")
    document: dict[str, Any] = ran.json
    assert (ran.code, document["findings"]) == (0, []), ran
    assert document["checked"] == list(PREFLIGHT_CODES)
    return document


def caught(gogpt: Any, recipe: Path, code: str, *settings: str, beside: dict[str, str] | None = None) -> dict[str, Any]:
    """An error of the preflight, through its whole course; the finding, as ``check --format json`` tells it.

    ``check`` exits 1 with exactly this code; ``train`` refuses with it, and creates no run folder; allowed by name,
    it is still told, and refuses no longer. ``beside``: code -> severity of what the fault cannot but cause as well.
    """
    severities = {code: "error", **(beside or {})}
    errors = sorted(c for c, severity in severities.items() if severity == "error")
    ran = gogpt("check", recipe, *settings, "--format", "json")
    found = by_code(ran.json["findings"])
    assert {c: f["severity"] for c, f in found.items()} == severities, ran.out
    assert ran.code == 1
    assert ran.json["allowed"] == []

    run = recipe.parent / "run"
    trained = gogpt("train", recipe, *settings)
    assert trained.code == 1, trained.err
    assert ", ".join(errors) in refusal(trained.err, errors[0])
    assert found[code]["message"] in trained.err  # what is wrong is told, not only that something is
    assert found[code]["fix"] in trained.err
    assert not run.exists()

    allowed = gogpt("check", recipe, *settings, f"checks.allow=[{', '.join(errors)}]", "--format", "json")
    # What cannot run at all is refused though allowed.
    assert allowed.code == int(any(f.get("allowable") is False for f in found.values())), allowed.err
    assert allowed.json["findings"] == ran.json["findings"]
    assert allowed.json["allowed"] == errors
    return found[code]


def warned(gogpt: Any, recipe: Path, code: str, *settings: str) -> dict[str, Any]:
    """A warning of the preflight, and nothing beside it: it is told and refuses nothing."""
    ran = gogpt("check", recipe, *settings, "--format", "json")
    found = by_code(ran.json["findings"])
    assert {c: f["severity"] for c, f in found.items()} == {code: "warning"}, ran.out
    assert ran.code == 0
    dry = gogpt("train", recipe, *settings, "--dry-run")
    assert dry.code == 0
    assert f"warning {code}" in dry.err
    return found[code]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def document(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def finished(gogpt: Any, recipe: Path, *settings: str) -> list[dict[str, Any]]:
    """A healthy run to its end: exit 0, no finding, every planned step at its planned rate. Its metrics."""
    ran = gogpt("train", recipe, *settings)
    assert ran.code == 0, ran.err
    run = recipe.parent / "run"
    told = document(run, "findings.json")
    assert told["findings"] == [], told["findings"]
    unproven = {entry["code"]: entry["why"] for entry in told["not_checked"]}
    assert set(unproven) <= {"MOD522", "MOD525", "MOD526", "MOD527"}
    assert told["checked"] == [*PREFLIGHT_CODES, *(c for c in PROOF_CODES if c not in unproven), *RUN_CODES]
    assert document(run, "run.json")["status"] == "finished"
    assert (run / "final").is_dir()
    assert (run / "report.html").is_file()
    metrics = metrics_of(run)
    planned = document(run, "plan.json")["lr"]
    assert [m["step"] for m in metrics] == [step for step, _ in planned]
    for line, (_, lr) in zip(metrics, planned, strict=True):
        assert abs(line["lr"] - lr) <= 1e-12
        assert line["loss"] > 0
        assert line["update_norm"] > 0
    return metrics


def stopped(gogpt: Any, recipe: Path, code: str, *settings: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run that the watch stops with this code; its finding and its metrics.

    Exit 1, the code on stderr, the finding and the facts on disk (from which the verdict can be replayed), a report
    that says so, and no model that looks finished.
    """
    ran = gogpt("train", recipe, *settings)
    assert ran.code == 1, ran
    line = refusal(ran.err, code)
    run = recipe.parent / "run"
    assert not (run / "final").exists()
    assert not (run / "final.partial").exists()

    findings = [f for f in document(run, "findings.json")["findings"] if f["code"] in RUN_CODES]
    assert [(f["code"], f["severity"]) for f in findings] == [(code, "error")]
    assert findings[0]["message"] in line
    state = document(run, "run.json")
    assert state["status"] == "stopped"
    assert state["error"].startswith(code)
    assert code in (run / "report.html").read_text(encoding="utf-8")

    facts = from_json(Facts, document(run, "facts.json"))
    replayed = judge([c for c in CHECKS if c.stage is Stage.RUN], facts).findings
    assert code in [f.code for f in replayed]
    metrics = metrics_of(run)
    assert metrics[-1]["step"] == findings[0]["evidence"]["step"]
    served = gogpt("merge", run, "-o", run.parent / "merged")
    assert served.code == 2, "a stopped run has no model to merge"
    assert not (run.parent / "merged").exists()
    return findings[0], metrics
