"""Who trains, and how each is started: one process for a run, in an empty folder that goes away afterwards."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contenders import PEERS, ROOT, empty_folder
from environments import environment
from equality import IGNORE, Sample, read_gogpt

from processes import Failed, Finished, run
from training.operations import LORA_ALPHA, LORA_RANK, Shape
from training.sets import Conversation, SetKind, write

GOGPT, TRL, LLAMAFACTORY = "GoGPT", "TRL", "LLaMA-Factory"
PARTS = Path(__file__).resolve().parent
MAX_LENGTH = 2048
"""Tokens of GoGPT's packed rows: the recipe's default."""
LOOK = 0.005
"""Seconds between two looks at metrics.jsonl."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every contender is given. ``gogpt``: the command up to the verb. ``adapter``: LoRA matrices A that all start from."""

    model: Path
    shape: Shape
    threads: int
    steps: int
    warmup: int
    most_seconds: float
    rates: dict[str, float]
    gogpt: tuple[str, ...]
    overrides: tuple[str, ...]
    adapter: Path
    cache: Path
    scratch: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSet:
    """One step's data. ``ids``: JSON lines of ids and labels, as GoGPT prepared them; ``checksum``: sum of the trained ids."""

    name: str
    template: str
    file: Path
    ids: Path
    lengths: tuple[int, ...]
    trained: int
    checksum: int

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A contender. ``environment`` and ``script``: a peer's. ``short_rows``: GoGPT with rows no longer than the longest example, so that a
    micro-batch has as many tokens as a peer's of one example. ``default``: as it comes. ``asked``: only runs where --only names it."""

    who: str
    setting: str
    environment: str = ""
    script: str = ""
    default: bool = False
    short_rows: bool = False
    asked: bool = False

    @property
    def name(self) -> str:
        return f"{self.who}, {self.setting}"


TRAINERS: tuple[Trainer, ...] = (
    Trainer(who=GOGPT, setting="default", default=True),
    Trainer(who=TRL, setting="default", environment="trl", script="trl_train.py", default=True),
    Trainer(who=LLAMAFACTORY, setting="default", environment="llamafactory", script="llamafactory_train.py", default=True),
    Trainer(who=GOGPT, setting="short rows", short_rows=True),
    Trainer(who=TRL, setting="best", environment="trl", script="trl_train.py"),
    Trainer(who=LLAMAFACTORY, setting="micro batch 1", environment="llamafactory", script="llamafactory_train.py"),
    Trainer(who=LLAMAFACTORY, setting="neat packing", environment="llamafactory", script="llamafactory_train.py"),
    Trainer(who=TRL, setting="micro batch 1", environment="trl", script="trl_train.py", asked=True),
    Trainer(who=LLAMAFACTORY, setting="packing", environment="llamafactory", script="llamafactory_train.py", asked=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The machine's matrix-multiply rate, operations a second: of a layer's product, and of a large one."""

    layer: float
    large: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRun:
    """One run. ``seconds``: from the end of a step to the end of the next, for each step from the first on, the warm-up among them;
    of the first, from the start of training. ``told``: the same as GoGPT itself writes it, empty for peers."""

    set_name: str
    method: str
    who: str
    setting: str
    default: bool
    warmup: int
    losses: tuple[float, ...]
    grad_norms: tuple[float | None, ...]
    seconds: tuple[float, ...]
    tokens: int
    """of the set: what a step stands for"""
    computed: tuple[int, ...]
    """tokens that a step really ran through the layers, padding counted"""
    trained: tuple[int, ...]
    checksum: int | None
    """sum of the ids that a step trained; None: not told"""
    peak: int
    """bytes, the highest resident memory until the last step's end"""
    process_peak: int
    """the same of the whole process, saving among it, seen from outside"""
    floor: int
    """resident bytes after the imports, before the model"""
    process_seconds: float
    rates: tuple[Rates, Rates]
    """before and after"""
    told: tuple[float, ...] = ()
    update_norms: tuple[float | None, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[float, ...]:
        return self.seconds[self.warmup :]

    @property
    def rate(self) -> float:
        """The layer's matrix-multiply rate around the run."""
        return (self.rates[0].layer + self.rates[1].layer) / 2


# -- environment -------------------------------------------------------------------------------------


def threads_environment(threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def own_environment(task: Task) -> dict[str, str]:
    """The checkout that this file is part of, not what happens to be installed."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **threads_environment(task.threads), "PYTHONPATH": path, "GOGPT_CACHE": str(task.cache), "GOGPT_LANG": "en"}


def peer_environment(task: Task) -> dict[str, str]:
    """Without PYTHONPATH: each peer sees its own packages alone."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **threads_environment(task.threads)}


def multiply_rate(task: Task) -> Rates:
    finished = run([sys.executable, str(PARTS / "matmul.py")], env=own_environment(task), log=task.scratch / "matmul.txt")
    return Rates(**json.loads(finished.output))


def make_adapter(task: Task) -> None:
    run([sys.executable, str(PARTS / "adapter.py"), str(task.model), str(task.adapter)], env=own_environment(task), log=task.scratch / "adapter.txt")


def own_floor(task: Task) -> int:
    finished = run([sys.executable, str(PARTS / "adapter.py"), "floor"], env=own_environment(task), log=task.scratch / "floor.txt")
    return int(json.loads(finished.output)["floor"])


# -- data --------------------------------------------------------------------------------------------


def prepare(kind: SetKind, conversations: Sequence[Conversation], task: Task, folder: Path) -> TrainSet:
    """The set's file, and what GoGPT makes of it, written out for the peers."""
    file = write(conversations, folder / f"{kind.name}.jsonl")
    recipe = folder / f"{kind.name}.json"
    recipe.write_text(json.dumps({"model": str(task.model), "output": str(folder / "run"),
                                  "data": {"train": [str(file)], "template": kind.template, "max_length": MAX_LENGTH}}), encoding="utf-8")
    finished = run([*task.gogpt, "prepare", str(recipe), "--format", "json"], env=own_environment(task), log=folder / "log.txt")
    samples: dict[int, Sample] = read_gogpt(Path(json.loads(finished.output)["folder"]))
    rows = [samples[number] for number in sorted(samples)]
    if len(rows) != len(conversations):
        raise Failed(f"{kind.name}: {len(conversations)} conversations, but {len(rows)} examples")
    labels = [[i if trained else IGNORE for i, trained in zip(s.ids, s.trained or [], strict=True)] for s in rows]
    ids = folder / f"{kind.name}.ids.jsonl"
    ids.write_text("".join(json.dumps({"ids": s.ids, "labels": row}) + "\n" for s, row in zip(rows, labels, strict=True)), encoding="utf-8")
    chosen = [i for row in labels for i in row[1:] if i != IGNORE]
    return TrainSet(name=kind.name, template=kind.template, file=file, ids=ids, lengths=tuple(len(s.ids) for s in rows), trained=len(chosen), checksum=sum(chosen))


# -- GoGPT -------------------------------------------------------------------------------------------


def recipe_of(data: TrainSet, method: str, task: Task, folder: Path, *, short_rows: bool = False, train_on: str = "assistant") -> dict[str, Any]:
    """JSON is YAML. ``batch_size`` is in rows: how many the set makes is asked of ``gogpt plan`` afterwards."""
    lora = {"kind": "lora", "rank": LORA_RANK, "alpha": LORA_ALPHA, "dropout": 0.0, "targets": "all-linear"}
    steps = task.warmup + task.steps
    return {
        "model": str(task.model), "output": str(folder / "run"),
        "data": {"train": [str(data.file)], "template": data.template, "packing": True, "train_on": train_on,
                 "max_length": max(data.lengths) if short_rows else MAX_LENGTH},
        "method": lora if method == "lora" else {"kind": "full"},
        "train": {"max_steps": steps, "learning_rate": task.rates[method], "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "max_grad_norm": 1.0,
                  "batch_size": 1, "micro_batch_size": 1, "precision": "fp32", "save_every": steps, "seed": 0},
    }


class Tail:
    """When the lines of a file appeared, seen from outside."""

    def __init__(self, file: Path) -> None:
        self._file, self.times = file, []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    times: list[float]

    def _watch(self) -> None:
        while not self._done.wait(LOOK):
            with contextlib.suppress(OSError):
                seen = self._file.read_bytes().count(b"\n")
                now = time.perf_counter()
                self.times += [now] * (seen - len(self.times))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()


def seconds_of(told: Sequence[float], times: Sequence[float]) -> tuple[float, ...]:
    """Seconds of each step: of the first as told, of others from line to line."""
    return (told[0], *(b - a for a, b in itertools.pairwise(times))) if len(times) == len(told) else tuple(told)


def run_gogpt(data: TrainSet, method: str, task: Task, folder: Path, *, short_rows: bool = False, train_on: str = "assistant") -> tuple[Finished, dict[str, Any]]:
    """``gogpt train`` on the whole set a step: what it wrote of its steps, when, and how many rows there were. Raises Failed."""
    recipe = folder / "recipe.yaml"
    document = recipe_of(data, method, task, folder, short_rows=short_rows, train_on=train_on)
    recipe.write_text(json.dumps(document), encoding="utf-8")
    environment_ = own_environment(task)
    plan = json.loads(run([*task.gogpt, "plan", str(recipe), "--no-probe", "--format", "json", *task.overrides], env=environment_, log=folder / "plan.txt").output)
    document["train"]["batch_size"] = plan["rows"]
    recipe.write_text(json.dumps(document), encoding="utf-8")
    tail = Tail(folder / "run" / "metrics.jsonl")
    with tail.watching():
        finished = run([*task.gogpt, "train", str(recipe), "--format", "json", *task.overrides], env=environment_, log=folder / "log.txt")
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return finished, {"lines": lines, "times": tail.times, "rows": plan["rows"], "predicted": plan["memory"]["total"]}


def gogpt_run(data: TrainSet, method: str, trainer: Trainer, task: Task, folder: Path, floor: int, *, train_on: str = "assistant") -> dict[str, Any]:
    finished, seen = run_gogpt(data, method, task, folder, short_rows=trainer.short_rows, train_on=train_on)
    lines = seen["lines"]
    told = tuple(float(line["seconds"]) for line in lines)
    return {
        "losses": tuple(float(line["loss"]) for line in lines), "grad_norms": tuple(line["grad_norm"] for line in lines),
        "update_norms": tuple(line["update_norm"] for line in lines), "told": told, "seconds": seconds_of(told, seen["times"]),
        # The number of tokens that ran through the layers, where the run tells one of its own (common prefixes run once).
        "computed": tuple(int(line.get("computed") or line["tokens"]) for line in lines), "trained": tuple(int(line["trained_tokens"]) for line in lines),
        "checksum": None, "peak": int(lines[-1]["memory"]), "process_peak": int(finished.largest_mb * 2**20), "floor": floor,
        "process_seconds": finished.seconds, "more": {"rows": seen["rows"], "predicted_memory": seen["predicted"]},
    }


# -- peers -------------------------------------------------------------------------------------------


def peer_run(data: TrainSet, method: str, trainer: Trainer, task: Task, folder: Path) -> dict[str, Any]:
    record = folder / "record.json"
    command = [str(environment(trainer.environment).python), str(PEERS / trainer.script), "--model", str(task.model), "--data", str(data.ids),
               "--output", str(folder), "--record", str(record), "--setting", trainer.setting, "--method", method,
               "--learning-rate", repr(task.rates[method]), "--steps", str(task.steps), "--warmup", str(task.warmup), "--most-seconds", str(task.most_seconds)]
    if method == "lora":
        command += ["--adapter", str(task.adapter)]
    finished = run(command, env=peer_environment(task), log=folder / "log.txt")
    seen = json.loads(record.read_text(encoding="utf-8"))
    steps = seen.pop("steps")
    checksums = {s["checksum"] for s in steps}
    return {
        "losses": tuple(s["loss"] for s in steps), "grad_norms": tuple(s["grad_norm"] for s in steps), "seconds": tuple(s["seconds"] for s in steps),
        "computed": tuple(s["computed"] for s in steps), "trained": tuple(s["trained"] for s in steps),
        "checksum": checksums.pop() if len(checksums) == 1 else -1, "peak": steps[-1]["peak"], "process_peak": int(finished.largest_mb * 2**20),
        "floor": seen.pop("floor"), "process_seconds": finished.seconds, "more": {"micro_batches": steps[-1]["micro_batches"], **seen},
    }


# -- one run -----------------------------------------------------------------------------------------


def measure(data: TrainSet, method: str, trainer: Trainer, task: Task, *, floor: int, before: Rates, train_on: str = "assistant") -> TrainRun:
    """``before``: the multiply rate that was measured last; it is measured again afterwards. Raises Failed."""
    with empty_folder(task.scratch) as folder:
        made = gogpt_run(data, method, trainer, task, folder, floor, train_on=train_on) if trainer.who == GOGPT else peer_run(data, method, trainer, task, folder)
    return TrainRun(set_name=data.name, method=method, who=trainer.who, setting=trainer.setting, default=trainer.default, warmup=task.warmup,
                    tokens=data.tokens, rates=(before, multiply_rate(task)), **made)


def own_command(text: str | None) -> tuple[str, ...]:
    return tuple(shlex.split(text)) if text else (sys.executable, "-m", "gogpt")
