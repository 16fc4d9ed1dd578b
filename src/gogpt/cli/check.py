"""gogpt check"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import (
    Format,
    Lang,
    Overrides,
    Quiet,
    check_passed_keys,
    err,
    out,
    pick_lang,
    print_verdict,
    put_json,
)

if TYPE_CHECKING:
    from gogpt.findings import Verdict


def command(
    thing: Annotated[str, typer.Argument(metavar="OBJECT", help="A recipe.")],
    overrides: Overrides = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Run the preflight alone: findings and fixes.

    Exit code 1 when a finding is an error that the recipe does not allow by name.
    """
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.errors import GogptError
    from gogpt.preflight import preflight

    spoken = pick_lang(lang)
    path = Path(thing)
    if path.exists() and (path.is_dir() or path.suffix not in (".yaml", ".yml", ".json", "")):
        raise GogptError("CFG206", "this version checks recipes only", where=thing, expected="a recipe (YAML)",
                         fix="write a recipe that names it; gogpt schema lists the keys")
    config = load_recipe(thing, overrides or [])
    check_passed_keys(config)
    with TerminalObserver(err(), spoken, quiet=quiet) as watching:
        watching.stage("reading data")
        before = preflight(config, progress=watching.reading)
    if output_format == "json":
        put_json(document(thing, "recipe", before.verdict, spoken))
    else:
        print_verdict(before.verdict, spoken, out())
    return 1 if before.verdict.refusals else 0


def document(path: str, kind: str, verdict: Verdict, lang: str) -> dict[str, Any]:
    """The document of ``--format json``."""
    return {
        "object": {"path": path, "kind": kind},
        "findings": [f.to_dict(lang) for f in verdict.findings],
        "checked": list(verdict.checked),
        "not_checked": [{"code": code, "why": why} for code, why in verdict.not_checked],
        "allowed": list(verdict.allowed),
    }
