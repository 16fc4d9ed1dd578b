"""The first real error of a long log: of a build, of NCCL, of CUDA, of a run.

What errors look like is data (logs.yaml). Warnings are passed over. A line that only follows from another (ninja's ``FAILED:``,
an exit code, a NCCL watchdog on the ranks that wait) counts when nothing else explains it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.findings import Finding, Severity, Text

CODE = "ENV130"
WARNING = re.compile(r"\b\w*warnings?\s*:|\bwarnings\.warn\b|\[(?:W\d*|WARN|WARNING)\b|^W\d{4}\b|^WARNING\b|^#|^\s*\d*\s*warnings? generated", re.IGNORECASE)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LONGEST = 500
"""Characters of a line that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One entry of logs.yaml. ``level``: 1 a cause, 2 an error whose cause may be another, 3 what only follows."""

    name: str
    level: int
    regex: re.Pattern[str]
    meaning: Text
    fix: Text
    found: tuple[str, ...]
    not_found: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A line of a log that an entry explains. ``line`` counts from 1."""

    line: int
    text: str
    pattern: Pattern
    values: dict[str, str]
    follows: int = 0
    """lines after it that only follow from an error"""

    def finding(self, path: str) -> Finding:
        evidence: dict[str, Any] = {"line": self.line, "text": self.text, "name": self.pattern.name, "follows": self.follows, **self.values}
        return Finding(code=CODE, severity=Severity.ERROR, message=self.pattern.meaning, evidence=evidence, fix=self.pattern.fix, where=f"{path}:{self.line}")


@cache
def patterns() -> tuple[Pattern, ...]:
    """The table, in its order: of two entries that take one line the first counts."""
    import yaml

    entries = yaml.safe_load((Path(__file__).parent / "logs.yaml").read_text(encoding="utf-8"))
    return tuple(
        Pattern(name=e["name"], level=e["level"], regex=re.compile(e["regex"]), meaning=Text(**e["meaning"]), fix=Text(**e["fix"]),
                found=tuple(e["found"]), not_found=tuple(e.get("not_found", ())))
        for e in entries)


def explain_line(text: str) -> tuple[Pattern, dict[str, str]] | None:
    """The entry that takes a line, and what its named groups hold."""
    if WARNING.search(text):
        return None
    for pattern in patterns():
        found = pattern.regex.search(text)
        if found:
            return pattern, {k: v or "-" for k, v in found.groupdict().items()}
    return None


def first_error(lines: Iterable[str]) -> Match | None:
    """The first line of the lowest level that there is. None: no line looks like an error."""
    best: Match | None = None
    follows = 0
    for number, raw in enumerate(lines, start=1):
        # A progress bar writes over its own line: what stands last is what one sees.
        text = ANSI.sub("", raw.rstrip("\r\n").rpartition("\r")[2]).strip()[:LONGEST]
        taken = explain_line(text) if text else None
        if taken is None:
            continue
        pattern, values = taken
        follows += pattern.level > 1
        if best is None or pattern.level < best.pattern.level:
            best, follows = Match(line=number, text=text, pattern=pattern, values=values), 0
        if best.pattern.level == 1:
            break
    if best is None:
        return None
    return Match(line=best.line, text=best.text, pattern=best.pattern, values=best.values, follows=follows)


def read_log(path: Path) -> Match | None:
    """The first real error of a log file (also .gz). Raises GogptError ENV131 where there is none to read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") as lines:
                return first_error(lines)
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            return first_error(lines)
    except (OSError, EOFError) as problem:
        raise GogptError("ENV131", f"the log cannot be read: {getattr(problem, 'strerror', None) or problem}", where=str(path),
                         expected="a text file, or one in gzip", fix="give the file that the build or the run wrote; COMMAND 2>&1 | tee build.log writes one") from problem
