"""A guard nobody has seen fire is not a guard: every check has a fault planted for it in this folder."""

from __future__ import annotations

import importlib
from pathlib import Path

from planted import PLANTED

from gogpt.checks import CHECKS

HERE = Path(__file__).parent


def test_every_check_has_a_planted_fault() -> None:
    for file in sorted(HERE.glob("test_*.py")):
        importlib.import_module(file.stem)
    assert set(PLANTED) == {c.code for c in CHECKS}

