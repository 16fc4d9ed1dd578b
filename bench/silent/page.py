"""results.json as docs/silent-benchmark.md."""

from __future__ import annotations

from pathlib import Path

from .cases import TOOLS
from .faults import FAULTS
from .judge import NOT_HERE, OUTCOMES, SILENT, Cell
from .results import Results

FILE = Path(__file__).resolve().parents[2] / "docs" / "silent-benchmark.md"
NAMES = {"gogpt": "GoGPT", "trl": "TRL", "llamafactory": "LLaMA-Factory"}


def write_page(results: Results, file: Path = FILE) -> None:
    file.write_text(page(results), encoding="utf-8")


def page(results: Results) -> str:
    return "placeholder\n"
