"""Finding and Check: what is reported, and what reports it.

A check is one file: code, page, logic and the cases that prove it. Its logic only sees facts (facts), so
every verdict can be replayed from ``facts.json`` without the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gogpt.facts import Facts


class Severity(str, Enum):
    """``error`` refuses to train or stops a run; ``warning`` is told; ``info`` is recorded."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Stage(str, Enum):
    """When a check can run. The value is its folder under ``checks/``."""

    ENV = "env"
    CONFIG = "config"
    ENGINE = "engine"
    FOREIGN = "foreign"
    DATA = "data"
    TOKENS = "tokens"
    MODEL = "model"
    PROOF = "proof"
    RUN = "run"
    HISTORY = "history"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Text:
    """A format string in both languages of the project; ``format`` fills it from evidence."""

    en: str
    zh: str

    def format(self, lang: str, values: Mapping[str, Any]) -> str:
        return (self.zh if lang == "zh" else self.en).format(**values)

    def of(self, lang: str) -> str:
        return self.zh if lang == "zh" else self.en


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page of a code: what ``gogpt explain CODE`` prints and ``docs/checks/CODE.md`` holds."""

    title: Text
    what: Text
    why: Text
    fix: Text
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One verdict. ``evidence`` holds the numbers that let a sceptic re-derive it."""

    code: str
    severity: Severity
    message: Text
    evidence: Mapping[str, Any]
    fix: Text
    where: str | None = None
    allowable: bool = True
    """False: the run cannot work at all, and allowing the code by name does not help"""

    def to_dict(self, lang: str = "en") -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message.format(lang, self.evidence),
            "evidence": dict(self.evidence),
            "where": self.where,
            "fix": self.fix.format(lang, self.evidence),
            **({} if self.allowable else {"allowable": False}),
        }

    def __str__(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule. ``needs`` names the fields of Facts (``run``, ``proofs.packing``) without which it cannot judge (it is then
    listed as not checked, with that reason). ``fires`` and ``silent`` are facts on which it must and must not fire."""

    code: str
    name: str
    stage: Stage
    severity: Severity
    needs: tuple[str, ...]
    run: Callable[[Facts], Iterable[Finding]]
    page: Page
    fires: tuple[Facts, ...] = field(default=())
    silent: tuple[Facts, ...] = field(default=())
    instead: str | None = None
    """a field of Facts that will do where those of ``needs`` are not there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a set of checks says about one object."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    not_checked: tuple[tuple[str, str], ...]
    allowed: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Findings of severity error that were not allowed by name, or cannot be."""
        return tuple(f for f in self.findings
                     if f.severity is Severity.ERROR and (f.code not in self.allowed or not f.allowable))


def judge(checks: Iterable[Check], facts: Facts, *, allow: Iterable[str] = ()) -> Verdict:
    """Run each check whose facts are there. Findings come out errors first, then by code."""
    findings: list[Finding] = []
    checked: list[str] = []
    not_checked: list[tuple[str, str]] = []
    for check in checks:
        missing = [name for name in check.needs if _part(facts, name) is None]
        if missing and (check.instead is None or getattr(facts, check.instead) is None):
            not_checked.append((check.code, _why(facts, missing)))
            continue
        checked.append(check.code)
        findings.extend(check.run(facts))
    order = list(Severity)
    findings.sort(key=lambda f: (order.index(f.severity), f.code))
    return Verdict(
        findings=tuple(findings),
        checked=tuple(checked),
        not_checked=tuple(not_checked),
        allowed=tuple(allow),
    )


def _part(facts: Facts, name: str) -> Any:
    """The facts of that dotted name, or None."""
    found: Any = facts
    for part in name.split("."):
        found = None if found is None else getattr(found, part)
    return found


def _why(facts: Facts, missing: Iterable[str]) -> str:
    """Why facts are not there: a proof that was not made says so itself."""
    skipped = facts.proofs.skipped if facts.proofs is not None else {}
    names = list(missing)
    told = [skipped[proof] for name in names if (proof := name.removeprefix("proofs.")) in skipped]
    return "; ".join(told) or f"no {', '.join(names)} facts"
