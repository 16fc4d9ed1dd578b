"""docs/silent-failures.md: current, whole, and every claim of it names what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from conftest import SHARED
from gogpt.checks import CHECKS, codes
from gogpt.checks.rows import Row, read_rows, rows_markdown

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
ROWS, LOG = read_rows()
EVERY = [pytest.param(row, id=row.id.replace(" ", "_")) for row in (*ROWS, *LOG)]


def marked_tests(file: Path) -> dict[str, set[str]]:
    """Test -> the codes that it is marked as planting, without running anything."""
    out = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [d for d in node.decorator_list if isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id == "planted"]
            out[node.name] = {str(a.value) for mark in marks for a in mark.args if isinstance(a, ast.Constant)}
    return out


THERE = {file.relative_to(TESTS).as_posix(): marked_tests(file) for file in TESTS.rglob("test_*.py")}
PLANTED = {code for found in THERE.values() for marks in found.values() for code in marks}


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "silent-failures.md").read_text(encoding="utf-8") == rows_markdown(), "make docs"
    assert "gogpt.checks.rows docs/silent-failures.md" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_rows_are_named_once() -> None:
    names = [row.id for row in (*ROWS, *LOG)]
    assert len(set(names)) == len(names)
    assert [row.id for row in ROWS if row.id.isdigit()] == [str(n) for n in range(1, 26)]


@pytest.mark.parametrize("row", EVERY)
def test_every_code_is_there_and_planted(row: Row) -> None:
    assert set(row.all_codes) <= set(codes())
    checks = {c.code for c in CHECKS}
    for code in row.all_codes:
        assert code in PLANTED if code in checks else (ROOT / "docs" / "checks" / f"{code}.md").is_file(), code


@pytest.mark.parametrize("row", EVERY)
def test_every_proof_is_there(row: Row) -> None:
    assert row.proof
    assert row.impossible or row.all_codes
    named = [tuple(test.split("::")) for test in row.proof]
    assert [(file, test) for file, test in named if test not in THERE.get(file, {})] == []
    assert len(set(named)) == len(named)
    # Of the codes, one at least is planted by a test that the row names, where a check is among them.
    checks = set(row.all_codes) & PLANTED
    shown = {code for file, test in named for code in THERE[file][test]}
    assert not checks or shown & checks or row.impossible


@pytest.mark.skipif(not (SHARED / "SILENT_FAILURES.md").is_file(), reason="no ../shared/SILENT_FAILURES.md beside this clone")
def test_no_known_row_is_left_out() -> None:
    text = (SHARED / "SILENT_FAILURES.md").read_text(encoding="utf-8")
    known = {row.id: " ".join(row.where) for row in ROWS}
    for number, where in re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.M):
        assert set(re.findall(r"#\d+", where)) <= set(re.findall(r"#\d+", known.pop(number))), number
    also = re.search(r"^Also: (.*)$", text, re.M)
    assert also
    assert set(re.findall(r"#\d+", also[1])) <= set(re.findall(r"#\d+", " ".join(known.values())))
    log = text.partition("## Faults of the original training log")[2].partition("\n## ")[0]
    faults = [name for name in re.findall(r"^\| ([^|]+?) \|", log, re.M) if name not in ("fault", "---")]
    assert [row.id for row in LOG] == faults
