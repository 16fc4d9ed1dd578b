"""Who is measured, and how each is started: one process for each run, in an empty folder that goes away afterwards."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from environments import environment
from equality import Sample, read_gogpt, read_peer
from table import CEILING, GOGPT, Run

from processes import Finished, run

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every contender is given. ``gogpt``: the command up to the verb; ``cache``: GoGPT's cache folder."""

    data: Path
    tokenizer: Path
    workers: int
    gogpt: tuple[str, ...]
    cache: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """``environment`` and ``script``: a peer's; empty for GoGPT, which is a command."""

    who: str
    setting: str
    environment: str = ""
    script: str = ""


TRL_SETTINGS = ("assistant", "assistant, packed", "all", "all, packed")
LLAMAFACTORY_SETTINGS = ("assistant", "assistant, packed", "assistant, neat packed")
CEILING_SETTINGS = ("tokie", "fastokens", "tokenizers")

MINE = Contender(who=GOGPT, setting="assistant")
PEER_CONTENDERS: tuple[Contender, ...] = (
    *(Contender(who="TRL", setting=s, environment="trl", script="trl_prepare.py") for s in TRL_SETTINGS),
    *(Contender(who="LLaMA-Factory", setting=s, environment="llamafactory", script="llamafactory_prepare.py") for s in LLAMAFACTORY_SETTINGS),
)
CEILING_CONTENDERS: tuple[Contender, ...] = tuple(
    Contender(who=CEILING, setting=s, environment="ceiling", script="ceiling.py") for s in CEILING_SETTINGS)


# -- GoGPT -----------------------------------------------------------------------------------------


def recipe(task: Task, folder: Path) -> str:
    """JSON is YAML."""
    return json.dumps({
        "model": str(task.tokenizer), "output": str(folder / "run"),
        "data": {"train": [str(task.data)], "template": "chatml", "max_length": MAX_LENGTH, "packing": False},
    })


def gogpt_command(task: Task, folder: Path) -> list[str]:
    file = folder / "recipe.yaml"
    file.write_text(recipe(task, folder), encoding="utf-8")
    return [*task.gogpt, "prepare", str(file), "--format", "json", f"data.workers={task.workers}"]


def gogpt_environment(task: Task) -> dict[str, str]:
    """The checkout that this file is part of, not what happens to be installed."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "GOGPT_CACHE": str(task.cache), "HF_HUB_OFFLINE": "1"}


def gogpt_run(finished: Finished, setting: str) -> Run:
    document = json.loads(finished.output)
    return Run(who=GOGPT, setting=setting, conversations=document["conversations"], tokens=document["tokens"],
               trained_tokens=document["trained_tokens"], seconds=document["seconds"], process_seconds=finished.seconds,
               peak_rss_mb=finished.largest_mb, tree_rss_mb=finished.sum_mb)


# -- peers -----------------------------------------------------------------------------------------


def peer_command(contender: Contender, task: Task, folder: Path, ids: Path | None) -> list[str]:
    command = [str(environment(contender.environment).python), str(PEERS / contender.script), "--data", str(task.data),
               "--tokenizer", str(task.tokenizer), "--output", str(folder), "--setting", contender.setting,
               "--workers", str(task.workers), "--max-length", str(MAX_LENGTH)]
    return command + (["--ids", str(ids)] if ids else [])


def peer_environment() -> Mapping[str, str]:
    """Without PYTHONPATH: each peer sees its own packages alone."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def peer_run(finished: Finished) -> Run:
    """Progress bars and examples may be printed before; the last line is the runner's. Memory as seen from outside where
    that is more: a process that was ended by another one is in nobody's books."""
    line = json.loads(finished.output.strip().splitlines()[-1])
    line["peak_rss_mb"] = max(line["peak_rss_mb"], finished.largest_mb)
    return Run(**{**line, "process_seconds": finished.seconds, "tree_rss_mb": finished.sum_mb})


# -- one run ---------------------------------------------------------------------------------------


@contextmanager
def empty_folder(beside: Path) -> Iterator[Path]:
    """On the same disk as the data, and gone afterwards."""
    beside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=beside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def measure(contender: Contender, task: Task, *, scratch: Path, look: Callable[[Finished, Path], None] | None = None) -> Run:
    """One run. ``look`` sees what was printed and the folder before it goes away. Raises processes.Failed."""
    with empty_folder(scratch) as folder:
        if contender.who == GOGPT:
            finished = run(gogpt_command(task, folder), env=gogpt_environment(task), log=folder / "log.txt")
            made = gogpt_run(finished, contender.setting)
        else:
            finished = run(peer_command(contender, task, folder, None), env=peer_environment(), log=folder / "log.txt")
            made = peer_run(finished)
        if look is not None:
            look(finished, folder)
        return made


def gogpt_samples(task: Task, *, scratch: Path) -> tuple[Run, dict[int, Sample]]:
    """A run, and what it wrote, by row."""
    samples: dict[int, Sample] = {}

    def look(finished: Finished, _: Path) -> None:
        samples.update(read_gogpt(Path(json.loads(finished.output)["folder"])))

    return measure(MINE, task, scratch=scratch, look=look), samples


def peer_samples(contender: Contender, task: Task, *, scratch: Path) -> list[Sample]:
    with empty_folder(scratch) as folder:
        ids = folder / "ids.jsonl"
        run(peer_command(contender, task, folder, ids), env=peer_environment(), log=folder / "log.txt")
        return read_peer(ids)
