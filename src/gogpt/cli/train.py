"""gogpt train"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gogpt.cli.console import (
    Format,
    Lang,
    Overrides,
    Quiet,
    check_passed_keys,
    err,
    pick_lang,
    print_counts,
    print_findings,
    put_json,
)
from gogpt.cli.words import say


def command(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="The recipe (YAML).", show_default=False)] = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the preflight.")] = False,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run from its last checkpoint.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run folder if it exists.")] = False,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Train a recipe: preflight, train, save, report.

    The run folder holds the model (final/), its adapter or weights, and report.html. Ctrl-C saves a
    checkpoint first and says how to go on.
    """
    from gogpt.cli.check import document
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.errors import GogptError

    spoken = pick_lang(lang)
    console = err()
    if resume is not None and recipe is not None and "=" in recipe:
        overrides = [recipe, *(overrides or [])]
        recipe = None
    if resume is None and recipe is None:
        raise typer.BadParameter("name a recipe, or --resume RUN")
    if resume is not None and overrides:
        raise GogptError("RUN612", "a resumed run keeps its recipe", where=resume, got=" ".join(overrides),
                         fix="leave the settings out, or start a new run")
    config = load_recipe(recipe, overrides or []) if recipe is not None else None
    if dry_run and config is not None:
        check_passed_keys(config)
        from gogpt.preflight import preflight

        with TerminalObserver(console, spoken, quiet=quiet) as watching:
            watching.stage("reading data")
            before = preflight(config, progress=watching.reading)
            if output_format != "json":
                watching.planned(before)
        if output_format == "json":
            put_json(document(config.output, "recipe", before.verdict, spoken))
        elif quiet:
            print_findings(before.verdict.refusals, spoken, console)
        else:
            print_counts(before.verdict, spoken, console)
        return 1 if before.verdict.refusals else 0

    from gogpt.runfolder import RunFolder, read_json

    if resume is not None and read_json(RunFolder(Path(resume)).status).get("status") == "finished":
        if output_format == "json":
            put_json({"run": resume, "status": "finished", "model": f"{resume}/final", "report": f"{resume}/report.html"})
        elif not quiet:
            console.print(say(spoken, "the run is finished; there is nothing to go on with: {folder}/final", folder=resume), markup=False)
        return 0
    from gogpt import train as recipes

    if resume is not None:
        stored = recipes.load_run_recipe(RunFolder(Path(resume)))
        if config is not None and config.model_copy(update={"output": stored.output}) != stored:
            raise GogptError("RUN612", "the recipe is not the one that this run was started with", where=resume,
                             fix=f"gogpt train --resume {resume}, without a recipe; or start a new run")
        config = stored.model_copy(update={"output": str(Path(resume).resolve())})
    assert config is not None
    try:
        with TerminalObserver(console, spoken, quiet=quiet) as watching:
            outcome = recipes.train(config, watching, resume=resume is not None, overwrite=overwrite,
                                    command=["gogpt", *sys.argv[1:]], lang=spoken)
    except recipes.Refused as refused:
        if quiet:
            print_findings(refused.verdict.refusals, spoken, console)
        if output_format == "json":
            put_json(document(config.output, "recipe", refused.verdict, spoken))
        raise
    except recipes.Interrupted as stop:
        console.print(say(spoken, "interrupted at step {step}; everything is saved. Go on with:\n  gogpt train --resume {folder}",
                          step=stop.step, folder=_shown(stop.folder)), markup=False)
        return 130
    folder = _shown(outcome.folder)
    if output_format == "json":
        put_json({"run": str(outcome.folder), "steps": outcome.steps, "stopped_early": outcome.stopped_early,
                  "model": str(outcome.folder / "final"), "report": str(outcome.report),
                  "findings": [f.to_dict(spoken) for f in outcome.findings]})
    elif not quiet:
        early = " (stopped early)" if outcome.stopped_early else ""
        said = {"steps": outcome.steps, "folder": folder}
        if config.stage == "sft":
            text = say(spoken, "done      {steps} steps" + early + "\nmodel     {folder}/final\nreport    {folder}/report.html\n"
                       "talk      gogpt chat {folder}", **said)
        else:
            text = say(spoken, "done      {steps} steps" + early + "\nmodel     {folder}/final\nreport    {folder}/report.html\n"
                       'go on     gogpt generate {folder} --template none "Once upon a time"', **said)
        console.print(text, markup=False)
    return 0


def _shown(path: Path) -> str:
    from gogpt.data.sources import display_path

    return display_path(path)
