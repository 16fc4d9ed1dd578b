"""gogpt prepare"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import (
    Format,
    Lang,
    Overrides,
    Quiet,
    err,
    out,
    pick_lang,
    put_json,
    short_number,
    size,
)
from gogpt.cli.words import say

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from gogpt.data.prepare import Prepared


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe (YAML).")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be kept and dropped; keep no set.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove the other sets of the folder afterwards.")] = False,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Write the tokenised set of a recipe, once.

    Arrow files, ledger.json, rejects.jsonl, samples.jsonl. train uses the set
    as long as nothing that it was made of has changed.
    """
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.preflight import prepare_recipe, refuse_misplaced, refuse_unbuilt, sets_folder

    spoken = pick_lang(lang)
    config = load_recipe(recipe, overrides or [])
    refuse_unbuilt(config)
    refuse_misplaced(config)
    with TerminalObserver(err(), spoken, quiet=quiet) as watching:
        watching.stage("reading data")
        prepared, tokenizer, template = prepare_recipe(config, progress=watching.reading, keep=not dry_run)
        for text in prepared.told:
            watching.note(text)
    if not dry_run and prepared.folder is not None:
        from gogpt.show import write_samples

        if not (prepared.folder / "samples.jsonl").exists():
            write_samples(prepared.folder / "samples.jsonl", prepared.train, prepared.sampled, tokenizer, template.name)
    removed = _prune(sets_folder(config), prepared) if prune and not dry_run else []
    document = _document(prepared, dry_run, removed)
    if output_format == "json":
        put_json(document)
    else:
        _print(prepared, document, out(), spoken, dry_run=dry_run)
    return 0


def _document(prepared: Prepared, dry_run: bool, removed: list[str]) -> dict[str, Any]:
    facts, ledger = prepared.facts, prepared.ledger
    return {
        "folder": None if dry_run or prepared.folder is None else str(prepared.folder), "made": prepared.made, "seconds": prepared.seconds,
        "rows_in": ledger.rows_in, "conversations": ledger.conversations, "drops": dict(ledger.drops), "first": ledger.first, "kept": ledger.kept,
        "examples": facts.examples, "eval_examples": facts.eval_examples, "tokens": facts.tokens, "trained_tokens": facts.trained_tokens,
        "duplicates": facts.duplicates.count, "reports": {k: {"count": t.count, "first": list(t.first)} for k, t in facts.reports.items()},
        "notes": ledger.notes, "schema": ledger.schema, "mix": list(prepared.mix), "engine": prepared.engine, "template": facts.template,
        "removed": removed,
    }


def _prune(folder: Path, prepared: Prepared) -> list[str]:
    """Remove the sets beside this one, and what killed processes left of others; what another process is making stays."""
    import re
    import shutil

    from filelock import FileLock, Timeout

    removed = []
    for other in sorted(folder.iterdir()):
        if other == prepared.folder or not re.fullmatch(r"[0-9a-f]{20}(\.partial)?", other.name):
            continue
        file = folder / f".{other.name.removesuffix('.partial')}.lock"
        try:
            with FileLock(str(file), timeout=0):
                shutil.rmtree(other)
                file.unlink(missing_ok=True)
        except Timeout:
            continue
        removed.append(str(other))
    return removed


def _print(prepared: Prepared, d: dict[str, Any], console: Console, lang: str, *, dry_run: bool) -> None:
    from rich.table import Table

    def put(text: str, **values: Any) -> None:
        console.print(say(lang, text, **values), markup=False)

    share = d["trained_tokens"] / d["tokens"] if d["tokens"] else 0
    put("data      {rows:,} rows in, {dropped:,} dropped, {examples:,} examples to train, {held:,} held out", rows=d["rows_in"],
        dropped=sum(d["drops"].values()), examples=d["examples"], held=d["eval_examples"])
    put("tokens    {tokens} an epoch, {trained} trained ({share:.0%}), template {template}", tokens=short_number(d["tokens"]),
        trained=short_number(d["trained_tokens"]), share=share, template=d["template"])
    for name, found in (("dropped", {k: (n, d["first"].get(k, [])) for k, n in d["drops"].items()}),
                        ("reported", {k: (v["count"], v["first"]) for k, v in d["reports"].items()}
                         | ({"duplicate": (d["duplicates"], list(prepared.facts.duplicates.first))} if d["duplicates"] and "duplicate" not in d["drops"] else {}))):
        if not found:
            continue
        table = Table(box=None, pad_edge=False, show_edge=False)
        for heading in (say(lang, name), say(lang, "rows"), say(lang, "first")):
            table.add_column(heading, justify="right" if heading == say(lang, "rows") else "left", overflow="fold")
        for reason, (count, first) in found.items():
            table.add_row(reason, f"{count:,}", first[0] if first else "")
        console.print(table)
    if len(prepared.mix) > 1:
        console.print(mix_table(prepared, lang))
    for what, count in d["notes"].items():
        console.print(f"{count:>9,} {what}", markup=False)
    if dry_run:
        put("nothing was kept (--dry-run)")
    else:
        assert prepared.folder is not None
        put("set       {folder} ({size}), {how}", folder=d["folder"], size=size(sum(f.stat().st_size for f in prepared.folder.iterdir())),
            how=say(lang, "made in {seconds:.1f} s with {engine}", seconds=d["seconds"], engine=d["engine"]) if d["made"]
            else say(lang, "up to date"))
    for path in d["removed"]:
        put("removed   {path}", path=path)


def mix_table(prepared: Prepared, lang: str) -> Any:
    """What each source (and language) contributes to an epoch; the folder that all paths share is left out."""
    import os
    from dataclasses import replace

    from rich.table import Table

    from gogpt.data.mix import MixRow, mix_lines

    rows = [MixRow(**row) for row in prepared.mix]
    paths = [row.name for row in rows if row.kind == "source" and os.path.isabs(row.name)]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if len(paths) > 1 else None
    lines = mix_lines([replace(row, name=_short_name(row.name, common)) if row.kind == "source" else row for row in rows])
    table = Table(box=None, pad_edge=False, show_edge=False)
    for i, heading in enumerate(lines[0]):
        table.add_column(say(lang, heading) if heading else say(lang, "an epoch of"), justify="right" if i else "left", overflow="fold")
    for line in lines[1:]:
        table.add_row(*line)
    return table


def _short_name(name: str, common: str | None) -> str:
    import os

    from gogpt.data.sources import display_path

    if not os.path.isabs(name):
        return name
    return display_path(name) if common is None else os.path.relpath(name, common)
