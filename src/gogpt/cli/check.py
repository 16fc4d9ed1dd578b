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
from gogpt.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.findings import Verdict
    from gogpt.parallel import EngineFile


def command(
    thing: Annotated[str, typer.Argument(metavar="OBJECT", help="A recipe, a DeepSpeed file (JSON), or what a run left: folder, checkpoint, event file, log.")],
    overrides: Overrides = None,
    fix: Annotated[str | None, typer.Option("--fix", metavar="OUT", show_default=False,
                                            help="Write a corrected copy of a DeepSpeed file, and print the patch.")] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Find mistakes in a recipe, a DeepSpeed file or a run: findings and fixes.

    Of a recipe it is the preflight alone. A DeepSpeed file is held against the run that it is for where that is told:
    train.learning_rate, train.schedule, train.max_grad_norm, train.max_steps, parallel.processes. So is what a run of another
    trainer left, with train.warmup and train.epochs, too. Exit code 1 when a finding
    is an error that the recipe does not allow by name, or, with --fix, when one is left in the copy.
    """
    from gogpt.autopsy import find_leavings
    from gogpt.cli.check_run import check_leavings
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.errors import GogptError
    from gogpt.parallel import find_engine_file
    from gogpt.preflight import preflight

    spoken = pick_lang(lang)
    path = Path(thing)
    if (file := find_engine_file(path, thing, overrides or [])) is not None:
        return check_engine_file(file, fix, output_format, spoken)
    if fix is not None:
        raise GogptError("CFG206", "only a DeepSpeed file can be corrected", where=thing, expected="a DeepSpeed file (JSON)",
                         fix="leave --fix out; each finding says what to write")
    if (left := find_leavings(path)) is not None:
        return check_leavings(left, overrides or [], output_format, spoken)
    if path.exists() and (path.is_dir() or path.suffix not in (".yaml", ".yml", ".json", "")):
        raise GogptError("CFG206", "this version checks recipes, DeepSpeed files and runs", where=thing, expected="a recipe (YAML), a DeepSpeed file (JSON), or a run",
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


MOST_DRAWN = 100_000
"""Steps up to which every one is looked at."""


def check_engine_file(file: EngineFile, target: str | None, output_format: str, lang: str) -> int:
    """Findings of a DeepSpeed file, the learning rates of its own scheduler, and a corrected copy if one is asked for."""
    from gogpt.checks import DEEPSPEED
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.parallel import corrected, patch, read_engine_file, written
    from gogpt.runfolder import write_text

    verdict = left = judge(DEEPSPEED, Facts(engine=file.facts))
    told = document(file.path, "deepspeed", verdict, lang)
    if target is not None:
        text = written(file, corrected(file))
        left = judge(DEEPSPEED, Facts(engine=read_engine_file(text, target, file.asked).facts))
        write_text(Path(target), text)
        told["fixed"] = {"path": target, "patch": patch(file, text, target), "findings": [f.to_dict(lang) for f in left.findings]}
    if output_format == "json":
        put_json(told)
        return 1 if left.refusals else 0
    console = out()
    draw_rates(file, console, lang)
    print_verdict(verdict, lang, console)
    if target is not None:
        console.print(told["fixed"]["patch"], markup=False, end="")
        console.print(say(lang, "written   {path}, {findings} findings left", path=target, findings=len(left.findings)), markup=False)
    return 1 if left.refusals else 0


def draw_rates(file: EngineFile, console: Console, lang: str) -> None:
    """The learning rates that the file's own scheduler sets, drawn as those of a plan."""
    from gogpt.cli.plan import draw
    from gogpt.parallel import file_rates

    found = file_rates(file)
    if found is None:
        return
    rate, steps = found
    points = [[float(s), rate(s)] for s in range(1, steps + 1, max(1, steps // MOST_DRAWN))]
    console.print(say(lang, "lr        {scheduler} of the file over {steps:,} steps, peak {peak:g}, last {last:g}", scheduler=file.facts.scheduler,
                      steps=steps, peak=max(y for _, y in points), last=rate(steps)), markup=False)
    for line in draw(points):
        console.print(line, markup=False)


def document(path: str, kind: str, verdict: Verdict, lang: str) -> dict[str, Any]:
    """The document of ``--format json``."""
    return {
        "object": {"path": path, "kind": kind},
        "findings": [f.to_dict(lang) for f in verdict.findings],
        "checked": list(verdict.checked),
        "not_checked": [{"code": code, "why": why} for code, why in verdict.not_checked],
        "allowed": list(verdict.allowed),
    }
