"""gogpt doctor"""

from __future__ import annotations

import os
import sys
from pathlib import Path
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
    print_findings,
    print_verdict,
    put_json,
)
from gogpt.cli.words import say

if TYPE_CHECKING:
    from gogpt.facts import DoctorFacts
    from gogpt.findings import Verdict


def command(
    thing: Annotated[str | None, typer.Argument(metavar="OBJECT", show_default=False,
                                                help="A recipe: disk and memory against its plan. A folder: git-lfs pointers in it.")] = None,
    overrides: Overrides = None,
    log: Annotated[Path | None, typer.Option("--log", metavar="FILE", show_default=False,
                                             help="Find and explain the first real error of a log instead.")] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Explain this machine: CUDA, compilers, libraries, disk, cache.

    Each finding comes with the command that fixes it; torch is not imported.
    With --log the first real error of a build or run is explained. Exit code 1
    when a finding is an error, or when the log holds one.
    """
    spoken = pick_lang(lang)
    if log is not None:
        return _explain_log(log, spoken, output_format)

    from gogpt.checks import DOCTOR
    from gogpt.facts import Facts
    from gogpt.findings import judge

    seen = _look(thing, overrides or [], quiet=quiet, lang=spoken)
    verdict = judge(DOCTOR, Facts(doctor=seen))
    if output_format == "json":
        put_json(document(seen, verdict, spoken))
    else:
        _print_facts(seen, spoken)
        print_verdict(verdict, spoken, out())
    return 1 if verdict.refusals else 0


def document(seen: DoctorFacts, verdict: Verdict, lang: str) -> dict[str, Any]:
    """The document of ``--format json``."""
    from gogpt.facts import to_json

    return {
        "facts": to_json(seen),
        "findings": [f.to_dict(lang) for f in verdict.findings],
        "checked": list(verdict.checked),
        "not_checked": [{"code": code, "why": why} for code, why in verdict.not_checked],
    }


def _look(thing: str | None, overrides: list[str], *, quiet: bool, lang: str) -> DoctorFacts:
    from gogpt.errors import GogptError
    from gogpt.survey import survey

    path = Path(thing) if thing else None
    folder, disk, memory = Path.cwd(), 0, 0
    if path is not None and path.suffix in (".yaml", ".yml") and not path.is_dir():
        folder, disk, memory = _plan(thing or "", overrides, quiet=quiet, lang=lang)
        path = None
    elif path is not None and not path.exists():
        raise GogptError("ENV131", "there is no such file or folder", where=thing, expected="a recipe (YAML), or a folder of a model or of data",
                         fix="gogpt doctor alone looks at this machine")
    elif overrides:
        raise GogptError("CFG204", f"cannot use {overrides[0]!r}", where="command line", expected="settings after a recipe", fix="take it out")
    return survey(dict(os.environ), sys_path=[p for p in sys.path if p and Path(p) != Path(sys.argv[0]).parent], folder=folder, start=Path.cwd(), searched=path,
                  disk_needed=disk, memory_needed=memory)


def _plan(thing: str, overrides: list[str], *, quiet: bool, lang: str) -> tuple[Path, int, int]:
    """Where a recipe writes, the bytes that it writes, and the bytes of a step."""
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.preflight import preflight

    config = load_recipe(thing, overrides)
    with TerminalObserver(err(), lang, quiet=quiet) as watching:
        watching.stage("reading data")
        before = preflight(config, progress=watching.reading)
    trained = before.plan.trainable_parameters
    # A checkpoint: trained weights and AdamW's two moments in fp32; while it is written one more than are kept lies there. Then the model.
    return Path(config.output), 12 * trained * (config.train.keep_checkpoints + 1) + 4 * trained, before.plan.memory.total


def _print_facts(seen: DoctorFacts, lang: str) -> None:
    """What was seen, in a few lines."""
    console = out()
    none = say(lang, "none")
    cuda = ", ".join(f"{path} ({version})" for path, version in seen.toolkits.items()) or none
    rows = (
        (say(lang, "torch"), f"{seen.torch or none} (CUDA {seen.torch_cuda or none})"),
        (say(lang, "GPUs"), f"{', '.join(seen.gpus) or none}" + (f" ({seen.driver}, CUDA {seen.driver_cuda})" if seen.driver else "")),
        (say(lang, "CUDA toolkits"), cuda),
        (say(lang, "compilers"), f"{seen.compiler or none}{f' (GCC {seen.gcc})' if seen.gcc else ''}, ninja: {say(lang, 'yes') if seen.ninja else none}"),
        (say(lang, "libraries"), ", ".join(f"{k} {v}" for k, v in seen.versions.items() if k != "torch") or none),
        *([(say(lang, "4 bits"), f"libbitsandbytes_{seen.bitsandbytes_wanted}")] if seen.bitsandbytes_wanted else []),
        (say(lang, "disk"), f"{seen.disk}: {seen.disk_free / 2**30:.1f} GiB; {say(lang, 'memory')} {seen.memory / 2**30:.1f} GiB; "
         f"/dev/shm {(seen.shm_total or 0) / 2**30:.1f} GiB"),
        (say(lang, "hub cache"), seen.hub_cache),
    )
    for name, value in rows:
        console.print(f"{name}: {value}", markup=False)


def _explain_log(path: Path, lang: str, output_format: str) -> int:
    from gogpt.logs import read_log

    match = read_log(path)
    finding = match.finding(str(path)) if match else None
    if output_format == "json":
        put_json({"object": {"path": str(path), "kind": "log"}, "findings": [finding.to_dict(lang)] if finding else []})
    elif finding is None or match is None:
        out().print(say(lang, "no line looks like an error"))
    else:
        print_findings([finding], lang, out())
        out().print(f"  {match.line}: {match.text}", markup=False)
        if match.follows:
            out().print(say(lang, "  later lines that only follow from an error: {count}", count=match.follows))
    return 1 if finding else 0
