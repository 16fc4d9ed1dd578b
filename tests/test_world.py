"""Which process this is, from what launchers set; which settings go together; which rows a process takes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gogpt.batches import RankBatches
from gogpt.checks.cases import ENV
from gogpt.config import RunConfig
from gogpt.errors import GogptError
from gogpt.world import (
    OF_OTHERS,
    World,
    deepspeed_settings,
    first_host,
    refuse_accelerate,
    refuse_parallel,
    settled,
    started_world,
)

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234", "TORCHELASTIC_RUN_ID": "x"}
SLURM = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_JOB_ID": "70001"}
MPI = {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "MASTER_ADDR": "10.0.0.1"}


def config(**parallel: Any) -> RunConfig:
    return RunConfig.model_validate({"model": "m", "data": {"train": "a.jsonl"}, "output": "out", "parallel": parallel})


@pytest.mark.parametrize(("environ", "by"), [
    (TORCHRUN, "torchrun"), ({**TORCHRUN, "ACCELERATE_MIXED_PRECISION": "no"}, "accelerate"), ({**TORCHRUN, "GOGPT_LAUNCHED": "/tmp/x"}, "gogpt"),
    ({k: v for k, v in TORCHRUN.items() if k[:5] != "TORCH"} | {"CROSS_RANK": "1"}, "deepspeed"), (SLURM, "slurm"), (MPI, "mpi"),
], ids=lambda x: x if isinstance(x, str) else "")
def test_every_launcher_is_read(environ: dict[str, str], by: str) -> None:
    world = started_world(environ)
    assert world is not None
    assert (world.rank, world.size, world.local_rank, world.local_size, world.nodes, world.by) == (5, 8, 1, 4, 2, by)
    again = started_world(world.variables())
    assert again is not None
    assert replace(again, by=by) == world


@pytest.mark.parametrize("environ", [{}, {"SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, {"RANK": "0"}, {"OMPI_COMM_WORLD_SIZE": "1"}])
def test_alone(environ: dict[str, str]) -> None:
    assert started_world(environ) is None


@pytest.mark.parametrize("change", [{"RANK": "8"}, {"RANK": "-1"}, {"WORLD_SIZE": "many"}, {"LOCAL_RANK": "4"}, {"LOCAL_WORLD_SIZE": "9"}])
def test_numbers_that_do_not_fit(change: dict[str, str]) -> None:
    with pytest.raises(GogptError) as told:
        started_world({**TORCHRUN, **change})
    assert told.value.code == "CFG252"


@pytest.mark.parametrize(("names", "host"), [("gpu[03-05,9],login1", "gpu03"), ("node1", "node1"), ("a,b", "a"), ("r[1,2]-x", "r1-x"), ("", "")])
def test_first_host(names: str, host: str) -> None:
    assert first_host(names) == host


def test_a_recipe_takes_what_was_started() -> None:
    world = started_world(TORCHRUN)
    taken = settled(config(), world).parallel
    assert (taken.processes, taken.nodes, taken.world_size) == (4, 2, 8)
    assert settled(config(processes=4, nodes=2), world).parallel.world_size == 8
    assert settled(config(), None) == config()
    with pytest.raises(GogptError) as told:
        settled(config(processes=2), world)
    assert (told.value.code, told.value.got) == ("CFG254", "8 processes")


@pytest.mark.parametrize(("name", "engine"), [("ACCELERATE_USE_DEEPSPEED", "deepspeed"), ("ACCELERATE_USE_FSDP", "fsdp")])
def test_accelerate_must_not_ask_for_another_engine(name: str, engine: str) -> None:
    with pytest.raises(GogptError) as told:
        refuse_accelerate(config(), {name: "true"})
    assert (told.value.code, told.value.got) == ("CFG254", engine)
    refuse_accelerate(config(engine=engine), {name: "true"})
    refuse_accelerate(config(), {name: "false"})


@pytest.mark.parametrize("parallel", [
    {"zero": 2}, {"config": "ds.json"}, {"engine": "deepspeed", "zero": 3, "config": "ds.json"}, {"offload": "all"}, {"engine": "fsdp", "offload": "optimizer"},
    {"engine": "deepspeed", "zero": 2, "offload": "all"}, {"engine": "deepspeed", "zero": 0, "offload": "optimizer"}, {"master": "a:1"},
], ids=str)
def test_settings_that_say_nothing_together(parallel: dict[str, Any]) -> None:
    env = replace(ENV, versions={**ENV.versions, "deepspeed": "0.19.8"})
    with pytest.raises(GogptError) as told:
        refuse_parallel(config(**parallel), env)
    assert told.value.code == "CFG253"


@pytest.mark.parametrize("parallel", [
    {}, {"processes": 2}, {"engine": "fsdp", "processes": 2, "offload": "all"}, {"engine": "deepspeed", "zero": 3, "offload": "all"},
    {"engine": "deepspeed", "offload": "optimizer"}, {"engine": "deepspeed", "config": "ds.json"}, {"nodes": 2, "master": "a:1"},
], ids=str)
def test_settings_that_go_together(parallel: dict[str, Any]) -> None:
    refuse_parallel(config(**parallel), replace(ENV, device="cpu", versions={**ENV.versions, "deepspeed": "0.19.8"}))


def test_what_the_machine_does_not_have() -> None:
    with pytest.raises(GogptError) as told:
        refuse_parallel(config(processes=4), replace(ENV, device="cuda", num_devices=2))
    assert "2 GPUs" in told.value.message
    with pytest.raises(GogptError) as told:
        refuse_parallel(config(engine="deepspeed"), replace(ENV, versions={}))
    assert told.value.code == "ENV111"


@given(rows=st.integers(1, 90), micro=st.integers(1, 4), accumulation=st.integers(1, 4), size=st.integers(1, 5))
def test_every_row_once_and_every_process_in_step(rows: int, micro: int, accumulation: int, size: int) -> None:
    batch = micro * accumulation * size
    ranks = [list(b) for rank in range(size) if (b := RankBatches(rows, batch_size=batch, micro_batch_size=micro, rank=rank, size=size))]
    assert len({len(r) for r in ranks}) == 1
    assert len(ranks[0]) == len(RankBatches(rows, batch_size=batch, micro_batch_size=micro, rank=0, size=size))
    trained = sorted(i for r in ranks for b in r for i in b if i >= 0)
    assert trained == list(range(rows))
    # Micro-batch k of every process belongs to the same step: they meet when they average.
    steps = -(-rows // batch)
    per_step = [accumulation] * (rows // batch) + ([len(ranks[0]) - accumulation * (rows // batch)] if rows % batch else [])
    assert len(per_step) == steps
    for r in ranks:
        at = 0
        for step, count in enumerate(per_step):
            assert {(i if i >= 0 else ~i) // batch for b in r[at : at + count] for i in b} == {step}
            at += count
    # What must not count is alone in its micro-batch, and never the first process's.
    assert all(len(b) == 1 for r in ranks for b in r if b[0] < 0)
    assert not any(b[0] < 0 for b in ranks[0])


def test_settings_of_deepspeed_never_hold_what_overrides_the_run() -> None:
    from types import SimpleNamespace

    plan: Any = SimpleNamespace(micro_batch_size=2, accumulation=4, batch_size=16, precision="bf16")
    for stage in (0, 1, 2, 3):
        made = deepspeed_settings(config(engine="deepspeed", zero=stage, processes=2), plan)
        assert not {"optimizer", "scheduler"} & set(made)
        assert made["train_batch_size"] == 16
        assert made["zero_optimization"]["stage"] == stage
        assert made["zero_optimization"].get("stage3_gather_16bit_weights_on_model_save", False) is (stage == 3)
    own = {"zero_optimization": {"stage": 1}, "bf16": {"enabled": "auto"}, "fp16": {"enabled": False, "loss_scale_window": 500}, "train_batch_size": "auto"}
    merged = deepspeed_settings(config(engine="deepspeed", config="ds.json"), plan, own)
    assert merged["fp16"] == {"enabled": False, "loss_scale_window": 500}
    assert (merged["train_batch_size"], merged["zero_optimization"]) == (16, {"stage": 1})


@pytest.mark.parametrize(("text", "others"), [
    ("Connection closed by peer [127.0.0.1]:55459", True), ("NCCL communicator was aborted", True), ("CUDA out of memory. Tried to allocate 2 GiB", False),
    ("RUN601: the loss is nan at step 3", False), ("Watchdog caught collective operation timeout", True),
])
def test_whose_error_it_is(text: str, others: bool) -> None:
    assert bool(OF_OTHERS.search(text)) is others


def test_the_deepspeed_launcher_puts_its_option_first(gogpt: Any) -> None:
    assert gogpt("--local_rank=1", "explain", "RUN630").code == 0
    assert "local_rank" not in gogpt("--help").out


def test_world_of_one_node() -> None:
    assert World(rank=0, size=2, local_rank=0, local_size=2, by="torchrun").nodes == 1


class _Ended:
    """An agent whose processes ended so: rank -> (exit code, when)."""

    def __init__(self, failures: dict[int, tuple[int, float]]) -> None:
        self.failures, self.problem = failures, None


def _note(folder: Path, rank: int, at: float, code: int, text: str) -> None:
    (folder / f"rank-{rank}.pid").write_text("1")
    document = {"rank": rank, "at": at, "exit_code": code, "text": text, "of_others": bool(OF_OTHERS.search(text))}
    (folder / f"rank-{rank}.error.json").write_text(json.dumps(document))


def test_the_first_failing_process_is_told_and_not_those_that_lost_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gogpt.launch import _told

    _note(tmp_path, 0, 1.0, 70, "gogpt: unexpected RuntimeError: Connection closed by peer")
    _note(tmp_path, 1, 2.0, 1, "RUN620 step 3: out of memory\n")  # noted later, and yet the cause
    assert _told(_Ended({0: (70, 1.0), 1: (1, 2.0)}), tmp_path) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().err == "process 1, the first to fail:\nRUN620 step 3: out of memory\n"


def test_what_all_processes_say_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gogpt.launch import _told

    for rank in (0, 1):
        _note(tmp_path, rank, 1.0 + rank, 1, "RUN601 run: the loss is nan\n")
    assert _told(_Ended({0: (1, 1.0), 1: (1, 2.0)}), tmp_path) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().err == "RUN601 run: the loss is nan\n"


def test_a_process_that_the_system_ended_comes_first(tmp_path: Path) -> None:
    from gogpt.launch import _told

    _note(tmp_path, 0, 1.0, 70, "gogpt: unexpected RuntimeError: NCCL communicator was aborted")
    (tmp_path / "rank-1.pid").write_text("1")
    with pytest.raises(GogptError) as told:
        _told(_Ended({0: (70, 1.5), 1: (-9, 1.0)}), tmp_path)  # type: ignore[arg-type]
    assert (told.value.code, told.value.where) == ("RUN630", "rank 1")
    assert "SIGKILL" in told.value.message


def test_the_lock_of_a_broken_build_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every later start of DeepSpeed would wait for it, without end and without a word."""
    from gogpt import engines

    lock = tmp_path / "cpu_adam" / "lock"
    lock.parent.mkdir()
    lock.touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    engines.before_deepspeed()  # a build that goes on
    os.utime(lock, (0, 0))
    with pytest.raises(GogptError) as told:
        engines.before_deepspeed()
    assert (told.value.code, told.value.where) == ("ENV115", str(lock))
