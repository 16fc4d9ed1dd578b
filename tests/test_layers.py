"""Who imports whom: the layers of docs/architecture.md, held against every import, also those inside functions."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "gogpt"

HEAVY = {"torch", "transformers", "peft", "accelerate", "deepspeed"}
"""Engines: imported in L3 and L4 only."""

SHARED_BY_CHECKS = {"gogpt.checks", "gogpt.checks.cases", "gogpt.checks.pages", "gogpt.checks.markdown", "gogpt.checks.rows"}
SHARED_BY_SCHEMAS = {"gogpt.data.schemas", "gogpt.data.schemas.schema"}


def module_name(file: Path) -> str:
    parts = ["gogpt", *file.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(SOURCE.rglob("*.py"))}


def layer_table() -> dict[str, int]:
    """Name in the table of docs/architecture.md (``config``, ``data.*``, ``__init__``) -> layer."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"## Who may import whom\n\n```text\n(.*?)```", text, re.S)
    assert block, "docs/architecture.md has no table of layers"
    out: dict[str, int] = {}
    for line in block.group(1).splitlines():
        layer, *names = line.split()
        for name in names:
            assert name not in out, f"{name} stands twice in the table"
            out[name] = int(layer.removeprefix("L"))
    return out


TABLE = layer_table()


def layer_of(module: str) -> int | None:
    """The layer of a module: its own entry, or that of the top package it is in."""
    inner = module.removeprefix("gogpt").removeprefix(".")
    if not inner:
        return TABLE.get("__init__")
    top = inner.split(".")[0]
    return TABLE.get(f"{top}.*", TABLE.get(inner))


@dataclass(frozen=True)
class Imported:
    """``name``: the module, as deep as one is named. ``deferred``: inside a function, or for type checkers alone."""

    name: str
    deferred: bool
    line: int


def _nodes(tree: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, deferred
            continue
        lazy = deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in node.body:
                yield from _nodes(ast.Module(body=[inner], type_ignores=[]), True)
            for inner in node.orelse:
                yield from _nodes(ast.Module(body=[inner], type_ignores=[]), lazy)
            continue
        yield from _nodes(node, lazy)


def imports_in(source: str, where: str = "") -> list[Imported]:
    """Every import of a module's text. ``from gogpt import train`` names ``gogpt.train`` where that is a module."""
    out = []
    for node, deferred in _nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{where}:{node.lineno}: relative import"
            base = str(node.module)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            names = sorted({name if name in FILES else base for name in inner})
        out += [Imported(name, deferred, node.lineno) for name in names]
    return out


IMPORTS = {module: imports_in(file.read_text(encoding="utf-8"), str(file)) for module, file in FILES.items()}


def own(module: str) -> list[Imported]:
    return [i for i in IMPORTS[module] if i.name.split(".")[0] == "gogpt"]


def told(module: str, found: Imported, why: str) -> str:
    return f"{FILES[module].relative_to(ROOT)}:{found.line}: imports {found.name}: {why}"


def wrong(module: str) -> list[str]:
    """The rules of the table that a module breaks."""
    layer = layer_of(module)
    if layer is None:
        return [f"{module} is in no layer: add it to the table of docs/architecture.md"]
    out = []
    for found in IMPORTS[module]:
        top = found.name.split(".")[0]
        if top == "gogpt":
            other = layer_of(found.name)
            if other is None:
                out.append(told(module, found, "which is in no layer"))
            elif other > layer:
                out.append(told(module, found, f"L{layer} imports L{other}"))
            elif layer == other == 4 and found.name != module:
                out.append(told(module, found, "modules of L4 never import each other"))
        elif top in HEAVY and layer not in (3, 4):
            out.append(told(module, found, f"engines belong to L3 and L4, not to L{layer}"))
        elif layer == 0 and top != "numpy" and top not in sys.stdlib_module_names:
            out.append(told(module, found, "L0 imports the standard library and numpy alone"))
    return out


@pytest.mark.parametrize("module", FILES)
def test_layers(module: str) -> None:
    assert not (found := wrong(module)), "\n" + "\n".join(found)


def test_table_names_only_what_exists() -> None:
    tops = {m.removeprefix("gogpt.").split(".")[0] for m in FILES if m != "gogpt"} | {"__init__"}
    assert {name.removesuffix(".*") for name in TABLE} == tops
    for name in TABLE:
        folder = (SOURCE / name.removesuffix(".*")).is_dir()
        assert folder == name.endswith(".*"), name


@pytest.mark.parametrize("module", [m for m in FILES if re.fullmatch(r"gogpt\.checks\.[a-z]+\.\w+", m)])
def test_checks_never_import_each_other(module: str) -> None:
    others = {i.name for i in own(module) if i.name.startswith("gogpt.checks")}
    assert others <= {"gogpt.checks.cases"}


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("gogpt.data.schemas.")])
def test_schemas_never_import_each_other(module: str) -> None:
    others = {i.name for i in own(module) if i.name.startswith("gogpt.data.schemas")}
    assert others <= SHARED_BY_SCHEMAS - {"gogpt.data.schemas"} - {module}


def test_only_lists_import_checks_and_schemas() -> None:
    """A check or a schema is reached through its tuple, never by its own name."""
    for module in FILES:
        for found in own(module):
            if found.name.startswith("gogpt.checks.") and found.name not in SHARED_BY_CHECKS:
                assert module == "gogpt.checks", told(module, found, "use gogpt.checks")
            if found.name.startswith("gogpt.data.schemas.") and found.name not in SHARED_BY_SCHEMAS:
                assert module == "gogpt.data.schemas", told(module, found, "use gogpt.data.schemas")


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("gogpt.cli")])
def test_commands_import_nothing_heavy_at_the_top(module: str) -> None:
    numpy_free = {m for m in FILES if layer_of(m) == 0 and all(i.name.split(".")[0] != "numpy" for i in IMPORTS[m])}
    for found in IMPORTS[module]:
        if found.deferred:
            continue
        top = found.name.split(".")[0]
        light = top in sys.stdlib_module_names or top == "typer" or found.name.startswith("gogpt.cli") or found.name in numpy_free
        assert light, told(module, found, "a command imports this inside its function")


# -- the parser itself -----------------------------------------------------------------------------


def test_parser_sees_imports_wherever_they_stand() -> None:
    text = """
import torch.nn
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from gogpt.facts import Facts
else:
    import numpy
def f():
    class A:
        import peft
    async def g():
        from gogpt import train, __version__
try:
    import yaml
except ImportError:
    pass
"""
    found = {(i.name, i.deferred) for i in imports_in(text)}
    assert found == {("torch.nn", False), ("typing", False), ("gogpt.facts", True), ("numpy", False), ("peft", True), ("gogpt.train", True),
                     ("gogpt", True), ("yaml", False)}
    with pytest.raises(AssertionError, match="relative"):
        imports_in("from . import x")


@pytest.mark.parametrize(
    ("module", "text", "why"),
    [
        ("gogpt.records", "import yaml", "standard library"),
        ("gogpt.plan", "def f():\n    import torch", "engines"),
        ("gogpt.cli.show", "def f():\n    from transformers import AutoTokenizer", "engines"),
        ("gogpt.plan", "from gogpt.preflight import preflight", "L1 imports L2"),
        ("gogpt.chat", "def f():\n    from gogpt import train", "never import each other"),
    ],
)
def test_rules_fire(module: str, text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMPORTS, module, imports_in(text))
    found = wrong(module)
    assert len(found) == 1
    assert why in found[0]


def test_a_module_in_no_layer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMPORTS, "gogpt.utils", [])
    assert "in no layer" in wrong("gogpt.utils")[0]


# -- what help costs -------------------------------------------------------------------------------

LOADED = """
import contextlib, io, json, sys
from gogpt.cli import run
with contextlib.redirect_stdout(io.StringIO()) as text:
    code = run(json.loads(sys.argv[1]))
print(json.dumps([code, text.getvalue(), sorted(sys.modules)]))
"""


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["template", "render", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    """Neither numpy nor an engine, nor any module of GoGPT above L0 but the command line: no recipe model, no data.

    (pydantic by itself is not looked for: typer loads it when it reads a command's arguments.)
    """
    done = subprocess.run([sys.executable, "-c", LOADED, json.dumps(words)], capture_output=True, text=True, check=True)
    code, text, modules = json.loads(done.stdout)
    assert code == 0
    assert "Usage: gogpt" in text
    tops = {m.split(".")[0] for m in modules}
    assert not tops & (HEAVY | {"numpy", "datasets", "pyarrow", "pandas", "tokenizers", "safetensors", "huggingface_hub", "jinja2", "yaml"})
    inner = {m for m in modules if m.split(".")[0] == "gogpt" and not m.startswith("gogpt.cli")}
    assert inner <= {"gogpt", "gogpt.errors"}
