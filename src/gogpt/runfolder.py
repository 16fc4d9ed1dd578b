"""The run folder: its documents, written atomically, and found again. See shared names in docs/cli.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.config import RunConfig, parse_recipe
from gogpt.errors import GogptError
from gogpt.facts import to_json


def disk_error(problem: OSError, path: Path) -> GogptError:
    """The one message for anything that the disk refuses."""
    full = problem.errno in (28, 122, 27)  # ENOSPC, EDQUOT, EFBIG
    return GogptError(
        "ENV110", "the disk is full" if full else f"cannot write: {problem.strerror or problem}", where=str(path),
        got=_free(path), fix="free some room, or write elsewhere (output=...)" if full
        else "check that the folder exists and that you may write there",
    )


def _free(path: Path) -> str | None:
    try:
        folder = path
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free"
    except OSError:
        return None


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: a temporary file beside, then a rename. Raises GogptError ENV110."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except OSError as problem:
        partial.unlink(missing_ok=True)
        raise disk_error(problem, path) from problem


def write_json(path: Path, document: Any) -> None:
    write_text(path, json.dumps(to_json(document), ensure_ascii=False, indent=1, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Raises GogptError RUN611 where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise GogptError("RUN611", f"the run folder is not whole: {problem}", where=str(path),
                         fix="give the folder of a run that got past its preflight") from problem


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Write a folder under another name and rename it when everything is in it; remove it on any error.

    Raises GogptError ENV110 when the disk refuses, whatever library was writing.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    except BaseException as problem:
        shutil.rmtree(partial, ignore_errors=True)
        found = as_disk_error(problem, target)
        if found is not None:
            raise found from problem
        raise


def as_disk_error(problem: BaseException, path: Path) -> GogptError | None:
    """An OSError of the disk's, also where safetensors or torch wrapped it in an exception of their own."""
    if isinstance(problem, GogptError):
        return None
    if isinstance(problem, OSError):
        return disk_error(problem, path)
    match = re.search(r"os error (\d+)", str(problem))
    if match:
        number = int(match.group(1))
        return disk_error(OSError(number, os.strerror(number)), path)
    if "PytorchStreamWriter failed writing" in str(problem) or "inline_container" in str(problem):
        return disk_error(OSError(28, os.strerror(28)), path)
    return None


@dataclass(frozen=True)
class RunFolder:
    """Names of the documents in a run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def facts(self) -> Path:
        return self.path / "facts.json"

    @property
    def findings(self) -> Path:
        return self.path / "findings.json"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evals(self) -> Path:
        return self.path / "eval.jsonl"

    @property
    def rejects(self) -> Path:
        return self.path / "rejects.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def status(self) -> Path:
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def is_run(self) -> bool:
        return self.recipe.is_file() and self.plan.is_file()

    def checkpoint_steps(self) -> list[int]:
        """Steps of the whole checkpoints, ascending. A folder named step-N is always whole (renamed last)."""
        found = (re.fullmatch(r"step-(\d+)", p.name) for p in self.checkpoints.glob("step-*"))
        return sorted(int(m.group(1)) for m in found if m)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step}"


def lines_up_to(path: Path, step: int) -> list[str]:
    """The lines of a metrics file up to a step: what a resumed run keeps."""
    if not path.is_file():
        return []
    out = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            if json.loads(line).get("step", step + 1) <= step:
                out.append(line)
    return out


def load_run_recipe(folder: RunFolder, assignments: Sequence[str] = ()) -> RunConfig:
    """The recipe that a run was started with, ``key=value`` of the command line over it. Raises GogptError RUN611."""
    if not folder.is_run:
        raise GogptError("RUN611", "not a run folder: recipe.yaml and plan.json are not in it", where=str(folder.path),
                         fix="give the folder that the recipe names as its output")
    return parse_recipe(folder.recipe.read_text(encoding="utf-8"), name=str(folder.recipe), base=folder.path, assignments=assignments)


def refuse_folder(folder: RunFolder, *, resume: bool, overwrite: bool) -> None:
    """A new run never goes into a folder that holds something. Raises GogptError RUN610."""
    if resume:
        return
    if overwrite and folder.path.is_dir() and any(folder.path.iterdir()) and not folder.is_run:
        raise GogptError("RUN610", "the folder is no run's; --overwrite removes only runs", where=str(folder.path),
                         got=", ".join(sorted(p.name for p in folder.path.iterdir())[:6]), fix="name another output, or empty the folder yourself")
    if folder.path.exists() and not folder.path.is_dir():
        raise GogptError("RUN610", "the output is a file", where=str(folder.path), fix="name a folder")
    if folder.path.is_dir() and any(folder.path.iterdir()) and not overwrite:
        steps = folder.checkpoint_steps()
        at = f"a run with a checkpoint at step {steps[-1]}" if steps else "a folder that is not empty"
        raise GogptError("RUN610", "the run folder exists already", where=str(folder.path), got=at,
                         fix=f"gogpt train --resume {folder.path}, or output=another, or --overwrite")
