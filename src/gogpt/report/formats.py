"""Findings for machines: SARIF 2.1.0, and GitHub's workflow commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from gogpt import __version__
from gogpt.checks import page_of
from gogpt.errors import GogptError
from gogpt.findings import Finding, Severity

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_PLACE = re.compile(r"^(.*?):(\d+)$")


def place_of(finding: Finding, path: str) -> tuple[str, int | None]:
    """File and line of a finding; the object where it names none. (A row of data is its line in a file of JSON lines.)"""
    if finding.where is None or finding.where in ("recipe", "command line"):
        return path, None
    found = _PLACE.match(finding.where)
    return (found[1], int(found[2])) if found else (finding.where, None)


def sarif(results: Sequence[tuple[str, Sequence[Finding], Sequence[str]]], lang: str) -> dict[str, Any]:
    """A SARIF log with one run. ``results``: path, findings and allowed codes of each object. Codes that were allowed are suppressed, not left out."""
    codes = list(dict.fromkeys(f.code for _, findings, _ in results for f in findings))
    return {
        "$schema": SARIF_SCHEMA, "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "gogpt", "version": __version__, "rules": [_rule(code, lang) for code in codes]}},
            "columnKind": "unicodeCodePoints",
            "results": [_result(f, path, allowed, codes, lang) for path, findings, allowed in results for f in findings],
        }],
    }


def _rule(code: str, lang: str) -> dict[str, Any]:
    try:
        page = page_of(code)
    except GogptError:
        return {"id": code}
    return {"id": code, "shortDescription": {"text": page.title.of(lang)}, "fullDescription": {"text": page.what.of(lang)}, "help": {"text": page.fix.of(lang)}}


def _result(finding: Finding, path: str, allowed: Sequence[str], codes: Sequence[str], lang: str) -> dict[str, Any]:
    file, line = place_of(finding, path)
    told = finding.to_dict(lang)
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(file)}}
    if line:
        location["region"] = {"startLine": line}
    out = {"ruleId": finding.code, "ruleIndex": codes.index(finding.code), "level": LEVELS[finding.severity],
           "message": {"text": f"{told['message']}\n{told['fix']}"}, "locations": [{"physicalLocation": location}]}
    if finding.code in allowed and finding.allowable:
        out["suppressions"] = [{"kind": "external", "justification": "allowed by name"}]
    return out


def _uri(path: str) -> str:
    from urllib.parse import quote

    return ("file://" if path.startswith("/") else "") + quote(path.removeprefix("./"), safe="/:@+,=~!$&'()*;")


def _data(text: str) -> str:
    """Escaped as the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def github(path: str, findings: Iterable[Finding], allowed: Sequence[str], lang: str) -> list[str]:
    """``::error file=..,line=..,title=CODE::message`` of each finding; one that was allowed is a notice."""
    out = []
    for finding in findings:
        file, line = place_of(finding, path)
        told = finding.to_dict(lang)
        command = "notice" if finding.code in allowed and finding.allowable else COMMANDS[finding.severity]
        where = f"file={_property(file)}" + (f",line={line}" if line else "")
        out.append(f"::{command} {where},title={_property(finding.code)}::{_data(told['message'])}%0A{_data(told['fix'])}")
    return out
