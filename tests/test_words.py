"""The Chinese table of the command line: complete, and with the placeholders of the English."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

from conftest import ROOT
from gogpt.cli.words import ZH, say

CLI = ROOT / "src" / "gogpt" / "cli"


def texts(file: Path) -> set[str]:
    """The constant texts that a module passes to say()."""
    out = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
            out |= {n.value for n in ast.walk(node.args[1]) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return out


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("text", ZH)
def test_translations_fill_the_same_places(text: str) -> None:
    assert fields(ZH[text]) == fields(text)
    assert any("\u4e00" <= c <= "\u9fff" for c in ZH[text])


def test_everything_said_is_in_the_table() -> None:
    said = {t for file in CLI.glob("*.py") for t in texts(file)}
    assert len(said) > 10
    # Texts put together of parts stand in the table whole.
    assert {t for t in said if t not in ZH and not any(t in known for known in ZH)} == set()


def test_a_whole_run_speaks_chinese(gogpt, recipe) -> None:
    ran = gogpt("--lang", "zh", "train", recipe())
    assert ran.code == 0
    english = [line for line in ran.err.splitlines() if line and not any("\u4e00" <= c <= "\u9fff" for c in line)]
    assert english == []


def test_english_is_the_key() -> None:
    assert say("en", "training from step {step}", step=3) == "training from step 3"
    assert say("zh", "no translation of this") == "no translation of this"
