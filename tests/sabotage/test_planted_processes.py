"""Two processes on CPU: faults that only several processes have, and their healthy twins, which are an equality.

Each engine walks the trajectory of one process with twice the accumulation, saves what it trained, and goes on on any number of processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from planted import by_code, planted
from safetensors.torch import load_file

from conftest import ROOT, read_metrics, rows, write_jsonl

STEPS = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 2, "warmup": 0.1, "save_every": 3}
ENGINES = {
    "ddp": {"engine": "ddp"}, "fsdp": {"engine": "fsdp"}, "zero1": {"engine": "deepspeed", "zero": 1}, "zero2": {"engine": "deepspeed", "zero": 2},
    "zero3": {"engine": "deepspeed", "zero": 3},
}
METHODS = ("lora", "full")
DEEPSPEED = {"zero_optimization": {"stage": 2}, "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
             "gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}
DECAY = {**DEEPSPEED, "scheduler": {"type": "WarmupDecayLR", "params": {
    "warmup_min_lr": 0, "warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto", "warmup_type": "linear"}}}


@dataclass(frozen=True)
class Job:
    """One command line in two processes."""

    arguments: list[str]
    plant: str | None = None


@dataclass(frozen=True)
class Both:
    """What a command line did in each process, and its run folder."""

    codes: list[int]
    outs: list[str]
    errs: list[str]
    run: Path


class World:
    """All jobs of this file, done by one start of torchrun; recipes and runs lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # 25 rows to train, twice, of 8 a step: the last step is of two rows, none of them left for the second process.
        write_jsonl(folder / "data.jsonl", rows(28, turns=2))
        for method in METHODS:
            kind = {"kind": method, **({"rank": 4, "alpha": 8} if method == "lora" else {})}
            document = {"model": "model", "data": {"train": "data.jsonl", "max_length": 192, "eval": 0.12}, "method": kind, "train": STEPS, "output": "run"}
            (folder / f"{method}.yaml").write_text(yaml.safe_dump(document))
        (folder / "auto.json").write_text(json.dumps(DEEPSPEED))
        (folder / "decay.json").write_text(json.dumps(DECAY))
        other = {"type": "WarmupDecayLR", "params": {**DECAY["scheduler"]["params"], "total_num_steps": 6}}
        (folder / "other.json").write_text(json.dumps({**DECAY, "scheduler": other}))
        self.jobs: dict[str, Job] = {}
        self._add("first", "lora", "train.max_steps=1", plant="prepared_alone")
        for engine in ("ddp", "fsdp"):
            self._add_engine(engine)
        self._add("unpacked", "lora", "data.packing=false")
        self._add("empty_save", "lora", "parallel.engine=fsdp", plant="empty_save")
        self._add("gradients_apart", "lora", plant="gradients_apart")
        self._add("one_process_nan", "lora", "checks.proofs=[]", plant="one_process_nan")
        self._add("one_process_refuses", "lora", plant="one_process_nan")
        self._add("own_mean", "lora", "checks.proofs=[]", plant="own_mean")
        # transformers remembers in the process that ZeRO 3 was asked for: it comes last.
        self._add("json", "lora", "parallel.engine=deepspeed", f"parallel.config={folder}/auto.json", "--format", "json")
        self._add("decay", "lora", "parallel.engine=deepspeed", f"parallel.config={folder}/decay.json", "checks.allow=[CFG260]")
        self._add("other_numbers", "lora", "parallel.engine=deepspeed", f"parallel.config={folder}/other.json", "checks.allow=[CFG260]")
        for engine in ("zero1", "zero2", "zero3"):
            self._add_engine(engine)

    @cached_property
    def results(self) -> list[list[dict[str, Any]]]:
        return [json.loads((self.folder / f"results-{rank}.json").read_text()) for rank in (0, 1)]

    def _add_engine(self, engine: str) -> None:
        for method in METHODS:
            self._add(f"{engine}-{method}", method, *(f"parallel.{k}={v}" for k, v in ENGINES[engine].items()))

    def _add(self, name: str, method: str, *settings: str, plant: str | None = None) -> None:
        self.jobs[name] = Job(["train", str(self.folder / f"{method}.yaml"), f"output={self.folder / name}", *settings], plant)

    def work(self) -> None:
        jobs, results = self.folder / "jobs.json", self.folder / "results"
        jobs.write_text(json.dumps([{"arguments": j.arguments, "plant": j.plant} for j in self.jobs.values()]))
        done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(ROOT / "tests" / "processes.py"),
                               str(jobs), str(results)], capture_output=True, text=True, timeout=900, env=clean_environment(), check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def __getitem__(self, name: str) -> Both:
        at = list(self.jobs).index(name)
        seen = [r[at] for r in self.results]
        return Both([s["code"] for s in seen], [s["out"] for s in seen], [s["err"] for s in seen], self.folder / name)


def clean_environment(**more: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("GOGPT_LAUNCHED", "RANK", "WORLD_SIZE"))}, "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", **more}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny: Path, worker_id: str) -> World:
    """Made by the first of the test processes that wants it; the others wait, and read what it left."""
    base = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder = base / "processes"
    with FileLock(str(base / "processes.lock")):
        if (folder / "model").is_dir():
            return World(folder)
        folder.mkdir()
        shutil.copytree(tiny, folder / "model")
        made = World(folder)
        made.work()
        return made


@pytest.fixture(scope="module")
def alone(world: World, worker_id: str) -> dict[str, Path]:
    """The same recipes in one process, with twice the accumulation."""
    from gogpt.cli import run

    runs = {}
    for name, recipe, settings in (("lora", "lora", []), ("full", "full", []), ("unpacked", "lora", ["data.packing=false"])):
        runs[name] = world.folder / f"alone-{worker_id}-{name}"
        assert run(["train", str(world.folder / f"{recipe}.yaml"), f"output={runs[name]}", *settings, "-q"]) == 0
    return runs


def same_trajectory(one: Path, two: Path) -> None:
    """Loss, learning rate, gradient norm, update and tokens of every step, to float32 rounding."""
    a, b = read_metrics(one), read_metrics(two)
    assert [m["step"] for m in a] == [m["step"] for m in b]
    for x, y in zip(a, b, strict=True):
        assert (x["tokens"], x["trained_tokens"], x["lr"]) == (y["tokens"], y["trained_tokens"], y["lr"])
        for key in ("loss", "grad_norm", "update_norm"):
            if y[key] is not None:
                assert y[key] == pytest.approx(x[key], rel=2e-5), (key, x, y)
    evals = [[json.loads(line)["eval_loss"] for line in (run / "eval.jsonl").read_text().splitlines()] for run in (one, two)]
    assert evals[1] == pytest.approx(evals[0], rel=1e-5)
    assert evals[0]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in sorted((run / "final").glob("*.safetensors")) for k, v in load_file(f).items()}


def same_weights(one: Path, two: Path) -> None:
    a, b = weights_of(one), weights_of(two)
    assert a.keys() == b.keys()
    assert a
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_are_one(world: World, alone: dict[str, Path], engine: str, method: str) -> None:
    both = world[f"{engine}-{method}"]
    assert both.codes == [0, 0], both.errs
    same_trajectory(alone[method], both.run)
    same_weights(alone[method], both.run)
    state = json.loads((both.run / "run.json").read_text())
    assert (state["status"], state["processes"]) == ("finished", 2)
    assert json.loads((both.run / "findings.json").read_text())["findings"] == []
    assert json.loads((both.run / "plan.json").read_text())["accumulation"] == 2


def test_two_processes_are_one_unpacked(world: World, alone: dict[str, Path]) -> None:
    both = world["unpacked"]
    assert both.codes == [0, 0], both.errs
    same_trajectory(alone["unpacked"], both.run)


def test_the_last_step_leaves_the_second_process_without_rows(world: World) -> None:
    """What the runs above hold equal is not vacuous: some rows are spare."""
    plan = json.loads((world["unpacked"].run / "plan.json").read_text())
    assert 0 < round(plan["epochs"] * plan["rows"]) % STEPS["batch_size"] <= STEPS["micro_batch_size"]


def test_data_is_prepared_before_the_processes_meet(world: World) -> None:
    """Nobody waits at a barrier, up to its timeout, while another tokenises."""
    assert world["first"].codes == [0, 0]
    assert [json.loads((world.folder / f"met-{rank}.json").read_text()) for rank in (0, 1)] == [False, False]


def test_only_the_first_process_speaks(world: World) -> None:
    both = world["ddp-lora"]
    assert "done      " in both.errs[0]
    assert both.errs[1] == ""
    both = world["json"]
    assert json.loads(both.outs[0])["steps"] == len(read_metrics(both.run))
    assert both.outs[1] == ""


def test_a_file_left_to_the_run_is_the_same_run(world: World, alone: dict[str, Path]) -> None:
    assert world["json"].codes == [0, 0], world["json"].errs
    same_trajectory(alone["lora"], world["json"].run)
    settings = json.loads((world["json"].run / "deepspeed.json").read_text())
    assert settings["train_batch_size"] == 8
    assert "optimizer" not in settings
    assert "scheduler" not in settings


def test_a_scheduler_in_the_file_that_is_allowed_is_planned_as_it_drives(world: World) -> None:
    """Every rate of DeepSpeed's own WarmupDecayLR equals the simulated plan, or RUN602 would have stopped the run."""
    both = world["decay"]
    assert both.codes == [0, 0], both.errs
    plan = json.loads((both.run / "plan.json").read_text())
    assert plan["driven_by"] == "WarmupDecayLR"
    assert [m["lr"] for m in read_metrics(both.run)] == pytest.approx([lr for _, lr in plan["lr"]], abs=1e-12)
    assert max(m["lr"] for m in read_metrics(both.run)) <= STEPS["learning_rate"]
    assert [m["lr"] for m in read_metrics(both.run)] != pytest.approx([m["lr"] for m in read_metrics(world["ddp-lora"].run)])


def test_a_scheduler_with_other_numbers_is_told(world: World) -> None:
    both = world["other_numbers"]
    assert both.codes == [2, 2], both.errs
    assert "CFG255" in both.errs[0]
    assert "total_num_steps=6" in both.errs[0]
    assert not both.run.exists()


# -- planted faults --------------------------------------------------------------------------------


def test_an_empty_save_is_refused(world: World) -> None:
    both = world["empty_save"]
    assert both.codes[0] == 1
    assert "EXP705" in both.errs[0]
    assert not (both.run / "final").exists()
    assert not list((both.run / "checkpoints").glob("*"))


@planted("RUN631")
def test_processes_that_do_not_average_are_stopped(world: World) -> None:
    both = world["gradients_apart"]
    assert both.codes == [1, 1], both.errs
    assert "RUN631" in both.errs[0]
    assert len(read_metrics(both.run)) == 1


def test_a_nan_in_one_process_stops_all_at_that_step(world: World) -> None:
    both = world["one_process_nan"]
    assert both.codes == [1, 1], both.errs
    assert "RUN601" in both.errs[0]
    assert [m["loss"] for m in read_metrics(both.run)][-1] == "nan"
    assert len(read_metrics(both.run)) == 2
    finding = json.loads((both.run / "findings.json").read_text())["findings"][-1]
    assert finding["where"].endswith("stopped_batch-1.json")  # the rows of the process that met it
    assert Path(finding["where"]).is_file()
    assert not (both.run / "stopped_batch-0.json").exists()


def test_what_one_process_refuses_none_trains(world: World) -> None:
    """A device that computes wrongly shows in the proofs of its own process alone."""
    both = world["one_process_refuses"]
    assert both.codes == [1, 1], both.errs
    assert "RUN630 rank 1: process 1 refused the run before its first step" in both.errs[0]
    assert not (both.run / "metrics.jsonl").exists()


def test_a_mean_of_means_is_another_trajectory(world: World, alone: dict[str, Path]) -> None:
    """The comparison above sees what it is for: a token average that is not taken over processes."""
    assert world["own_mean"].codes == [0, 0]
    with pytest.raises(AssertionError):
        same_trajectory(alone["lora"], world["own_mean"].run)


# -- started by gogpt itself -----------------------------------------------------------------------


@pytest.fixture
def started(world: World, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: object) -> subprocess.Popen[str]:
        (tmp_path / "notes").mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-m", "gogpt", *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=clean_environment(TMPDIR=str(tmp_path / "notes")), cwd=tmp_path)

    return start


def await_steps(run: Path, steps: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if (run / "metrics.jsonl").is_file() and len(read_metrics(run)) >= steps:
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


LONG = ("train.max_steps=400", "train.save_every=100", "data.eval=0", "parallel.processes=2")


def test_a_process_that_is_killed_ends_the_run_with_its_name_on_top(started: Any, world: World, tmp_path: Path) -> None:
    process = started("train", world.folder / "lora.yaml", f"output={tmp_path / 'run'}", *LONG)
    await_steps(tmp_path / "run", 2, process)
    victim = int(next((tmp_path / "notes").glob("gogpt-ranks-*/rank-1.pid")).read_text())
    at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - at < 15, "the others did not end within seconds"
    assert process.returncode == 1
    errors = [line for line in err.splitlines() if re.match(r"[A-Z]{3}\d{3}\b|gogpt:|process |Traceback", line)]
    assert errors[0].startswith("RUN630"), err
    assert "process 1 was ended by SIGKILL" in err
    assert "Traceback" not in err


def test_interrupted_on_two_goes_on_on_one_and_is_the_straight_run(started: Any, world: World, tmp_path: Path) -> None:
    settings = ("train.max_steps=24", "train.save_every=100", "data.eval=0")
    process = started("train", world.folder / "lora.yaml", f"output={tmp_path / 'run'}", *settings, "parallel.processes=2")
    await_steps(tmp_path / "run", 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted at step" in err
    assert err.count("everything is saved") == 1
    done = len(read_metrics(tmp_path / "run"))
    assert 2 <= done < 24

    from gogpt.cli import run

    assert run(["train", "--resume", str(tmp_path / "run"), "parallel.processes=1", "-q"]) == 0
    assert run(["train", str(world.folder / "lora.yaml"), f"output={tmp_path / 'straight'}", *settings, "-q"]) == 0
    one, two = read_metrics(tmp_path / "straight"), read_metrics(tmp_path / "run")
    assert [m["step"] for m in two] == list(range(1, 25))
    assert [m["loss"] for m in two] == pytest.approx([m["loss"] for m in one], rel=2e-5)
    same_weights(tmp_path / "straight", tmp_path / "run")


def test_zero_goes_on_on_as_many_processes_alone(gogpt: Any, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another number it is refused by name, before a model is loaded."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}.items():
        monkeypatch.setenv(name, value)  # one process, started by a launcher: gogpt starts none itself

    folder = tmp_path / "run"
    shutil.copytree(world["zero2-lora"].run, folder)
    for name in ("final", "checkpoints/step-6"):
        shutil.rmtree(folder / name, ignore_errors=True)
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**state, "status": "stopped"}))
    ran = gogpt("train", "--resume", folder, "parallel.processes=1")
    assert ran.code == 2
    assert "RUN613" in ran.err
    assert "the checkpoint is of 2 processes" in ran.err


def test_a_refusal_starts_no_process(started: Any, world: World, tmp_path: Path) -> None:
    process = started("train", world.folder / "lora.yaml", f"output={tmp_path / 'run'}", "parallel.processes=2", "train.learning_rate=0.5")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "CFG211" in err
    assert "starting" not in err
    assert not (tmp_path / "run").exists()


# -- a DeepSpeed file that says otherwise ----------------------------------------------------------


@planted("CFG255")
@pytest.mark.parametrize(("change", "said"), [
    ({"train_micro_batch_size_per_gpu": 4}, "train_micro_batch_size_per_gpu: 4"), ({"gradient_accumulation_steps": 16}, "gradient_accumulation_steps: 16"),
    ({"train_batch_size": 64, "fp16": {"enabled": True}}, "train_batch_size: 64, fp16.enabled: true"),
])
def test_a_file_against_its_recipe(gogpt: Any, recipe: Any, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({**DEEPSPEED, **change}, indent=2))
    made = recipe(parallel={"engine": "deepspeed", "config": "ds.json"})
    ran = gogpt("check", made, "--format", "json")
    assert ran.code == 1
    found = by_code(ran.json["findings"])
    assert set(found) == {"CFG255"}
    assert said in found["CFG255"]["message"]
    refused = gogpt("train", made)
    assert refused.code == 1
    assert '+  "train_batch_size": "auto"' in refused.err or '+  "gradient_accumulation_steps": "auto"' in refused.err or '+  "train_micro' in refused.err
    assert not (tmp_path / "run").exists()


def test_a_file_left_to_the_run_is_silent(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(DEEPSPEED))
    ran = gogpt("check", recipe(parallel={"engine": "deepspeed", "config": "ds.json"}), "--format", "json")
    assert (ran.code, ran.json["findings"]) == (0, [])
    assert {"CFG255", "CFG260", "CFG273"} <= set(ran.json["checked"])


def test_a_scheduler_in_the_file_is_refused_with_the_patch(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """And the plan shows the rates that it would set, not those that were asked for."""
    file = {**DEEPSPEED, "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-3, "warmup_num_steps": 2, "warmup_type": "linear"}}}
    (tmp_path / "ds.json").write_text(json.dumps(file, indent=2))
    made = recipe(parallel={"engine": "deepspeed", "config": "ds.json"})
    refused = gogpt("train", made)
    assert refused.code == 1
    assert "CFG260" in refused.err
    assert '-  "scheduler": {' in refused.err
    plan = gogpt("plan", made, "--format", "json").json
    assert plan["driven_by"] == "WarmupLR"
    assert plan["lr"][-1][1] == pytest.approx(1e-3)  # it never decays
