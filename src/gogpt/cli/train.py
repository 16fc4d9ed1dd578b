"""gogpt train"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gogpt.cli.console import (
    Format,
    Lang,
    Overrides,
    Quiet,
    check_passed_keys,
    pick_lang,
    print_counts,
    print_findings,
    put_json,
)
from gogpt.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.config import RunConfig
    from gogpt.findings import Verdict
    from gogpt.world import World

RESUMABLE = ("parallel.processes", "parallel.nodes", "parallel.master", "train.micro_batch_size")
"""What may be another value when a run goes on: how a step is divided, which its gradient does not depend on."""

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
    checkpoint first and says how to go on. With parallel.processes it starts
    them itself, or is started by torchrun, accelerate, deepspeed, srun or mpirun.
    """
    from gogpt.cli.console import console_of
    from gogpt.errors import GogptError
    from gogpt.world import refuse_accelerate, started_world

    spoken = pick_lang(lang)
    if resume is not None and recipe is not None and "=" in recipe:
        overrides = [recipe, *(overrides or [])]
        recipe = None
    if resume is None and recipe is None:
        raise typer.BadParameter("name a recipe, or --resume RUN")
    if resume is not None and (kept := [o for o in overrides or [] if o.partition("=")[0] not in RESUMABLE]):
        raise GogptError("RUN612", "a resumed run keeps its recipe", where=resume, got=" ".join(kept),
                         expected=f"at most other values of {', '.join(RESUMABLE)}", fix="leave the settings out, or start a new run")
    world = started_world(os.environ)
    asked = Asked(recipe=recipe, overrides=tuple(overrides or ()), resume=resume, overwrite=overwrite, output_format=output_format, lang=lang,
                  spoken=spoken, quiet=quiet or (world is not None and world.rank > 0), console=console_of(world is None or world.rank == 0), world=world)
    config = _config(asked)
    refuse_accelerate(config, os.environ)
    if dry_run and resume is None:
        return _dry_run(asked, config)
    if resume is not None and _is_finished(asked, resume):
        return 0
    if world is None and (config.parallel.world_size > 1 or config.parallel.engine != "ddp"):
        return _start(asked, config)
    return _train(asked, config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for, and which process this is. Of several, the first one speaks."""

    recipe: str | None
    overrides: tuple[str, ...]
    resume: str | None
    overwrite: bool
    output_format: str
    lang: str
    spoken: str
    quiet: bool
    console: Console
    world: World | None

    @property
    def speaks(self) -> bool:
        return self.world is None or self.world.rank == 0

    @property
    def arguments(self) -> list[str]:
        """The same command line for another process."""
        what = [self.recipe] if self.resume is None else ["--resume", self.resume]
        return ["train", *(w for w in what if w), *self.overrides, *(["--overwrite"] if self.overwrite else []), "--format", self.output_format,
                "--lang", self.lang, *(["--quiet"] if self.quiet else [])]


def _config(asked: Asked) -> RunConfig:
    from gogpt.config import load_recipe
    from gogpt.errors import GogptError
    from gogpt.runfolder import RunFolder, load_run_recipe
    from gogpt.world import settled

    if asked.resume is None:
        assert asked.recipe is not None
        return settled(load_recipe(asked.recipe, asked.overrides), asked.world)
    stored = load_run_recipe(RunFolder(Path(asked.resume)), asked.overrides)
    if asked.recipe is not None and load_recipe(asked.recipe).model_copy(update={"output": stored.output}) != stored:
        raise GogptError("RUN612", "the recipe is not the one that this run was started with", where=asked.resume,
                         fix=f"gogpt train --resume {asked.resume}, without a recipe; or start a new run")
    return settled(stored.model_copy(update={"output": str(Path(asked.resume).resolve())}), asked.world)


def _is_finished(asked: Asked, run: str) -> bool:
    from gogpt.runfolder import RunFolder, read_json

    if read_json(RunFolder(Path(run)).status).get("status") != "finished":
        return False
    if asked.speaks and asked.output_format == "json":
        put_json({"run": run, "status": "finished", "model": f"{run}/final", "report": f"{run}/report.html"})
    elif not asked.quiet:
        asked.console.print(say(asked.spoken, "the run is finished; there is nothing to go on with: {folder}/final", folder=run), markup=False)
    return True


def _dry_run(asked: Asked, config: RunConfig) -> int:
    from gogpt.cli.check import document
    from gogpt.cli.observer import TerminalObserver
    from gogpt.preflight import preflight

    check_passed_keys(config)
    with TerminalObserver(asked.console, asked.spoken, quiet=asked.quiet) as watching:
        watching.stage("reading data")
        before = preflight(config, progress=watching.reading)
        if asked.output_format != "json":
            watching.planned(before)
    if not asked.speaks:
        return 1 if before.verdict.refusals else 0
    if asked.output_format == "json":
        put_json(document(config.output, "recipe", before.verdict, asked.spoken))
    elif asked.quiet:
        print_findings(before.verdict.refusals, asked.spoken, asked.console)
    else:
        print_counts(before.verdict, asked.spoken, asked.console)
    return 1 if before.verdict.refusals else 0


def _start(asked: Asked, config: RunConfig) -> int:
    """Judge the recipe and prepare its data here, then start the processes, which find both ready."""
    from gogpt.cli.observer import TerminalObserver
    from gogpt.launch import launch
    from gogpt.preflight import preflight
    from gogpt.runfolder import RunFolder, refuse_folder

    refuse_folder(RunFolder(Path(config.output)), resume=asked.resume is not None, overwrite=asked.overwrite)
    with TerminalObserver(asked.console, asked.spoken, quiet=asked.quiet) as watching:
        watching.stage("reading data")
        before = preflight(config, progress=watching.reading, keep=True)
        watching.planned(before)
        if before.verdict.refusals:
            return _refused(asked, config, before.verdict)
        watching.note_of("starting {processes} processes ({engine})", processes=config.parallel.world_size, engine=config.parallel.engine)
    return launch(config, asked.arguments, watching.note)


def _refused(asked: Asked, config: RunConfig, verdict: Verdict) -> int:
    """What the preflight refuses, told; raises the refusal."""
    from gogpt.cli.check import document
    from gogpt.preflight import Refused

    if asked.speaks and asked.quiet:
        print_findings(verdict.refusals, asked.spoken, asked.console)
    if asked.speaks and asked.output_format == "json":
        put_json(document(config.output, "recipe", verdict, asked.spoken))
    raise Refused(verdict)


def _train(asked: Asked, config: RunConfig) -> int:
    from gogpt import train as recipes
    from gogpt.cli.observer import TerminalObserver
    from gogpt.preflight import Refused

    spoken = asked.spoken
    started = asked.world is not None and asked.world.by == "gogpt"
    if asked.world is not None and not started:
        os.environ.update(asked.world.variables())
    try:
        with TerminalObserver(asked.console, spoken, quiet=asked.quiet, told=started) as watching:
            outcome = recipes.train(config, watching, resume=asked.resume is not None, overwrite=asked.overwrite,
                                    command=["gogpt", *sys.argv[1:]], lang=spoken, world=asked.world)
    except Refused as refused:
        return _refused(asked, config, refused.verdict)
    except recipes.Interrupted as stop:
        if asked.speaks:
            asked.console.print(say(spoken, "interrupted at step {step}; everything is saved. Go on with:\n  gogpt train --resume {folder}",
                                    step=stop.step, folder=_shown(stop.folder)), markup=False)
        return 130
    if not asked.speaks:
        return 0
    folder = _shown(outcome.folder)
    if asked.output_format == "json":
        put_json({"run": str(outcome.folder), "steps": outcome.steps, "stopped_early": outcome.stopped_early,
                  "model": str(outcome.folder / "final"), "report": str(outcome.report),
                  "findings": [f.to_dict(spoken) for f in outcome.findings]})
    elif not asked.quiet:
        early = " (stopped early)" if outcome.stopped_early else ""
        said = {"steps": outcome.steps, "folder": folder}
        if config.stage == "sft":
            text = say(spoken, "done      {steps} steps" + early + "\nmodel     {folder}/final\nreport    {folder}/report.html\n"
                       "talk      gogpt chat {folder}", **said)
        else:
            text = say(spoken, "done      {steps} steps" + early + "\nmodel     {folder}/final\nreport    {folder}/report.html\n"
                       'go on     gogpt generate {folder} --template none "Once upon a time"', **said)
        asked.console.print(text, markup=False)
    return 0


def _shown(path: Path) -> str:
    from gogpt.data.sources import display_path

    return display_path(path)
