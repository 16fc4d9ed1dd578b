"""results.json: what was judged, of which versions, on which machine."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from . import judge, world
from .cases import TOOLS
from .faults import FAULTS, Fault
from .judge import Cell

FILE = Path(__file__).resolve().parent / "results.json"
COMMANDS = {"gogpt": "python -m gogpt", "trl": "trl", "llamafactory": "llamafactory-cli"}
NOT_HERE_CELL = Cell(outcome=judge.NOT_HERE)


def definition(fault: Fault, tool: str) -> str:
    """A digest of all that makes a cell, but for the tool's version."""
    parts = [fault.faulty[tool].key, fault.healthy[tool].key, *fault.keywords, str(fault.harm), str(judge.VERSION), str(world.VERSION)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def cell_key(fault: Fault, tool: str, version: Mapping[str, str]) -> str:
    return f"{definition(fault, tool)} {tool} {version.get(tool, '?')}"


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def machine() -> str:
    return f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, no GPU used"


@dataclass(slots=True, kw_only=True)
class Results:
    """The document. ``cells``: fault -> tool -> cell."""

    measured: dict[str, dict[str, str]] = field(default_factory=dict)
    """tool -> date and machine"""
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def put(self, fault: str, tool: str, cell: Cell, key: str) -> None:
        self.cells.setdefault(fault, {})[tool] = replace(cell, key=key)

    def stale(self, ran: set[str]) -> list[tuple[str, str]]:
        """Cells of other tools than those that ran, made of another definition of their fault."""
        return [(f.id, tool) for f in FAULTS for tool in TOOLS if tool not in ran and tool not in f.not_here
                and not self._cell_key(f.id, tool).startswith(definition(f, tool))]

    def _cell_key(self, fault: str, tool: str) -> str:
        cell = self.cells.get(fault, {}).get(tool)
        return cell.key if cell else ""


def load(file: Path = FILE) -> Results:
    if not file.is_file():
        return Results()
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    cells = {fault: {tool: Cell(**{**cell, "evidence": tuple(cell["evidence"])}) for tool, cell in by_tool.items()} for fault, by_tool in found["cells"].items()}
    return Results(measured=found["measured"], versions=found["versions"], cells=cells)


def save(results: Results, file: Path = FILE) -> None:
    cells = {f.id: {tool: asdict(results.cells[f.id][tool]) for tool in TOOLS if tool in results.cells[f.id]} for f in FAULTS if f.id in results.cells}
    document = {"measured": {tool: results.measured[tool] for tool in TOOLS if tool in results.measured}, "commands": COMMANDS, "versions": {tool: results.versions[tool] for tool in TOOLS if tool in results.versions}, "cells": cells}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
