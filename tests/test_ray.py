"""Data preparation and evaluation on a Ray cluster of two local workers: the set and the loss of one process, whatever happens to a worker.

One cluster for the whole file; two processes of pytest have one each.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import ROOT, Ran, rows, write_jsonl
from gogpt import ray_cluster
from gogpt.config import DataConfig
from gogpt.data import ray_pool, stretches
from gogpt.data.prepare import Prepared, prepare
from gogpt.errors import GogptError
from gogpt.templates import pick_template
from gogpt.tokenize import Tokenizer

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra ray is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Two workers on this machine, ended before tests of other files fork processes; gives the cluster's address."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    ray = ray_cluster.import_ray("the tests")
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=100 << 20)
    yield context.address_info["gcs_address"]
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many stretches of little data."""
    monkeypatch.setattr(stretches, "SMALLEST", 1 << 15)
    monkeypatch.setattr(stretches, "NUM_ROWS", 100)


BROKEN = [{"messages": []}, {"messages": [{"role": "user", "content": "no answer"}]}, {"other": 1}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Lines with duplicates and broken rows in them, and an array, whose rows are read before they are sent."""
    folder = tmp_path / "data"
    write_jsonl(folder / "a.jsonl", [*rows(900, turns=3), *BROKEN, *rows(40), {"messages": rows(1)[0]["messages"]}])
    (folder / "b.json").write_text(json.dumps(rows(250, start=2000)), encoding="utf-8")
    return folder


def config(data: Path, **more: Any) -> DataConfig:
    return DataConfig.model_validate({"train": [str(data / "a.jsonl"), str(data / "b.json")], "eval": 0.1, "max_length": 200, **more})


def made(folder: Path, config: DataConfig, tiny: Path, **how: Any) -> Prepared:
    tokenizer = Tokenizer(tiny)
    return prepare(config, tokenizer, pick_template("auto", tokenizer), seed=3, folder=folder, **how)


def files(prepared: Prepared) -> dict[str, bytes]:
    assert prepared.folder is not None
    return {p.name: p.read_bytes() for p in sorted(prepared.folder.iterdir())}


# -- the same set -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [{}, {"duplicates": "near", "leakage": "exact"}])
def test_the_set_of_one_process_bit_for_bit(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str, monkeypatch: pytest.MonkeyPatch,
                                            clean: dict[str, str]) -> None:
    if clean:
        pytest.importorskip("rensa")
    asked = config(data, clean=clean)
    one = made(tmp_path / "one", asked, tiny)
    on_ray = made(tmp_path / "ray", asked, tiny, ray=True)
    assert on_ray.made
    assert on_ray.told == ()
    assert len([name for name in files(one) if name.endswith(".arrow")]) > 8
    assert sum(one.ledger.drops.values()) >= len(BROKEN)
    assert files(on_ray) == files(one)
    assert on_ray.folder is not None
    assert one.folder is not None
    assert on_ray.folder.name == one.folder.name  # its fingerprint: where it was made is no part of it
    monkeypatch.setattr("gogpt.data.prepare.WORTH_PROCESSES", 0)
    assert files(made(tmp_path / "two", asked.model_copy(update={"workers": 2}), tiny)) == files(one)


def test_a_set_that_is_not_kept(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str) -> None:
    one, on_ray = (made(tmp_path / "sets", config(data), tiny, keep=False, ray=ray) for ray in (False, True))
    assert (one.train.digest(), one.eval.digest(), one.facts) == (on_ray.train.digest(), on_ray.eval.digest(), on_ray.facts)
    assert list(one.rejects()) == list(on_ray.rejects())
    assert not (tmp_path / "sets").exists()


def test_what_an_interrupted_one_left_is_used(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(tmp_path / "one", config(data), tiny)
    monkeypatch.setattr(ray_cluster, "AHEAD", 1)  # of more than eight blocks at most six are made before the second is told
    done = 0

    def interrupt(rows_read: int) -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "ray", config(data), tiny, ray=True, progress=interrupt)
    partial, = (tmp_path / "ray").glob("*.partial")
    left = {p.name for p in partial.glob("block-*.json")}
    assert 2 <= len(left) <= 6
    given: list[int] = []
    digest = ray_pool._digest
    monkeypatch.setattr(ray_pool, "_digest", lambda stretch: given.append(stretch.number) or digest(stretch))
    again = made(tmp_path / "ray", config(data), tiny, ray=True)
    assert not {f"block-{number:05}.json" for number in given} & left
    assert given
    assert files(again) == files(one)


# -- a worker that is lost ---------------------------------------------------------------------------


def busy_workers(task: str) -> list[psutil.Process]:
    """This cluster's workers that are at work: their title is the task's name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] == [f"ray::{task}"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


class Killer(threading.Thread):
    """Ends workers of a task by SIGKILL while they are at work, until it has ended ``count``."""

    def __init__(self, task: str, count: int) -> None:
        super().__init__(daemon=True)
        self.task, self.left, self.killed, self.over = task, count, [], threading.Event()

    def run(self) -> None:
        while self.left and not self.over.wait(0.01):
            for process in busy_workers(self.task)[: self.left]:
                # Stopped first: what is killed is in the middle of its work, or its title would have changed.
                process.send_signal(signal.SIGSTOP)
                if process.cmdline()[:1] == [f"ray::{self.task}"]:
                    self.killed.append(process.pid)
                    self.left -= 1
                process.send_signal(signal.SIGKILL)

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def test_a_killed_workers_stretches_are_made_again(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str) -> None:
    one = made(tmp_path / "one", config(data), tiny)
    with Killer("_work", 1) as killer:
        on_ray = made(tmp_path / "ray", config(data), tiny, ray=True)
    assert len(killer.killed) == 1
    assert files(on_ray) == files(one)
    assert 1 <= len(on_ray.told) <= 2
    assert all("its Ray worker was lost (WorkerCrashedError); done again" in text for text in on_ray.told), on_ray.told


def test_a_stretch_that_loses_every_worker_ends_it_and_keeps_the_rest(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str) -> None:
    with Killer("_work", 10_000) as killer, pytest.raises(GogptError) as caught:
        made(tmp_path / "ray", config(data), tiny, ray=True)
    assert (caught.value.code, caught.value.where) == ("ENV114", f"{data / 'a.jsonl'}, rows 1 to {first_rows(data)}")
    assert len(killer.killed) >= ray_cluster.NUM_TRIES
    assert list((tmp_path / "ray").glob("*.partial"))


def first_rows(data: Path) -> int:
    inputs = stretches.find_inputs(config(data).train)
    return next(iter(stretches.stretches(inputs))).num_rows


# -- errors are those of one process ----------------------------------------------------------------


def test_an_error_in_a_worker_is_that_of_one_process(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str) -> None:
    asked = config(data, max_length=40, overlong="error")
    told = []
    for on_ray in (False, True):
        with pytest.raises(GogptError) as caught:
            made(tmp_path / f"sets-{on_ray}", asked, tiny, ray=on_ray)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert told[0].startswith("TOK409")


def test_a_file_that_a_node_does_not_see(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = ray_pool._digest

    def gone(stretch: Any) -> str:
        found = digest(stretch)
        if stretch.rows is None:
            Path(stretch.path).rename(stretch.path + ".elsewhere")
        return found

    monkeypatch.setattr(ray_pool, "_digest", gone)
    monkeypatch.setattr(stretches, "SMALLEST", 1 << 24)
    with pytest.raises(GogptError) as caught:
        made(tmp_path / "sets", config(data), tiny, ray=True)
    assert caught.value.code == "ENV116"
    assert caught.value.where == f"node {cluster.partition(':')[0]}: {data / 'a.jsonl'}"
    assert "No such file" in caught.value.message


def test_another_copy_of_a_file_is_another_file(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = ray_pool._digest

    def then_changed(stretch: Any) -> str:
        found = digest(stretch)
        if stretch.number == 2:
            with open(stretch.path, "r+b") as file:
                file.seek(stretch.start + 40)
                file.write(b"X")
        return found

    monkeypatch.setattr(ray_pool, "_digest", then_changed)
    with pytest.raises(GogptError, match="another content") as caught:
        made(tmp_path / "sets", config(data), tiny, ray=True)
    assert caught.value.code == "ENV116"
    assert str(data / "a.jsonl") in str(caught.value.where)


def test_a_node_with_other_code_is_refused(tmp_path: Path, data: Path, tiny: Path, small: None, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ray_cluster.versions()
    monkeypatch.setattr(ray_cluster, "versions", lambda: here | {"tokenizers": "0.1.0"})
    with pytest.raises(GogptError) as caught:
        made(tmp_path / "sets", config(data), tiny, ray=True)
    assert (caught.value.code, caught.value.got, caught.value.expected) == ("ENV117", f"tokenizers {here['tokenizers']}", "tokenizers 0.1.0")


# -- the recipe --------------------------------------------------------------------------------------


def test_without_the_package_one_error_names_the_extra(gogpt: Callable[..., Ran], recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for words in (("prepare", recipe(), "parallel.prepare=ray"), ("train", recipe(), "parallel.prepare=ray")):
        ran = gogpt(*words)
        assert ran.code == 2
        assert "ENV111: parallel.prepare: ray needs the package ray" in ran.err
        assert 'pip install "gogpt[ray]"' in ran.err


def test_a_stream_cannot_be_prepared_on_ray(gogpt: Callable[..., Ran], recipe: Callable[..., Path]) -> None:
    ran = gogpt("check", recipe(data={"streaming": True, "eval": 0.0}, train={"max_steps": 2}), "parallel.prepare=ray")
    assert ran.code == 2
    assert "CFG251 recipe: a stream cannot do parallel.prepare: ray" in ran.err
    assert gogpt("check", recipe(data={"streaming": True, "eval": 0.0}, train={"max_steps": 2}), "parallel.prepare=processes").code == 0


def test_the_command_joins_the_cluster_that_runs(cluster: str, recipe: Callable[..., Path], gogpt: Callable[..., Ran], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end in a process of its own, by RAY_ADDRESS: one document on stdout, and the set that a command without Ray takes as its own."""
    path = recipe()
    ran = subprocess.run([sys.executable, "-m", "gogpt", "prepare", str(path), "parallel.prepare=ray", "--format", "json", "-q"], capture_output=True, text=True,
                         cwd=tmp_path, env={**os.environ, "RAY_ADDRESS": cluster, "PYTHONPATH": str(ROOT / "src")}, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    document = json.loads(ran.stdout)
    assert document["made"]
    monkeypatch.chdir(tmp_path)
    again = gogpt("prepare", path, "--format", "json").json
    assert not again["made"]
    assert again["folder"] == document["folder"]


def test_a_cluster_that_does_not_answer(gogpt: Callable[..., Ran], recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at once; Ray by itself tries for minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        began = time.perf_counter()
        ran = gogpt("prepare", recipe(), "parallel.prepare=ray")
    assert ran.code == 2
    assert f"ENV117 {address}: the Ray cluster cannot be joined" in ran.err
    assert f"nothing answers at {address}" in ran.err
    assert time.perf_counter() - began < 20


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for Ray's sockets (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_cluster_of_its_own_is_ended(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none runs, also where ``ray start`` left the address of one that is gone."""
    stale = short / "ray" / "ray_current_cluster"
    stale.parent.mkdir(parents=True)
    stale.write_text("127.0.0.1:9", encoding="utf-8")
    code = ("import gogpt.ray_cluster as r, ray, psutil\n"
            "from pathlib import Path\n"
            "with r.connected('--ray', 1) as c: print(c.at_once, int(ray.cluster_resources()['CPU']))\n"
            "print(ray.is_initialized())\n"
            "print(psutil.wait_procs(psutil.Process().children(recursive=True), timeout=10)[1])")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "RAY_TMPDIR": str(short)}
    env.pop("RAY_ADDRESS", None)
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    assert ray_cluster._running() == "127.0.0.1:9"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120, check=False)
    assert (ran.stdout.splitlines(), ran.returncode) == (["2 1", "False", "[]"], 0), ran.stderr


# -- evaluation ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A run with an evaluation file of its own."""
    import contextlib
    import io

    from gogpt.cli import run

    folder = tmp_path_factory.mktemp("evaluated")
    write_jsonl(folder / "data.jsonl", rows(24, turns=2))
    write_jsonl(folder / "held.jsonl", rows(70, start=500, turns=2))
    (folder / "recipe.yaml").write_text(json.dumps({
        "model": str(tiny), "data": {"train": "data.jsonl", "eval": "held.jsonl", "max_length": 256}, "method": {"rank": 4, "alpha": 8}, "output": "run",
        "train": {"epochs": 1, "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 2}}), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["train", str(folder / "recipe.yaml"), "-q"]) == 0
    return folder


def last(run: Path) -> dict[str, Any]:
    return json.loads((run / "eval.jsonl").read_text(encoding="utf-8").splitlines()[-1])


def test_the_loss_is_the_runs_own_on_its_set_and_on_its_file(trained: Path, gogpt: Callable[..., Ran]) -> None:
    own = gogpt("evaluate", trained / "run", "--format", "json", "-q").json
    assert (own["loss"], own["trained_tokens"]) == (last(trained / "run")["eval_loss"], last(trained / "run")["eval_tokens"])
    named = gogpt("evaluate", trained / "run", "--data", trained / "held.jsonl", "--format", "json", "-q").json
    same = ("loss", "perplexity", "examples", "trained_tokens", "sources", "template", "batch_size")
    assert {k: own[k] for k in same} == {k: named[k] for k in same}
    assert (own["rows_in"], named["rows_in"], named["drops"]) == (None, 70, {})
    assert sum(s["trained_tokens"] for s in own["sources"]) == own["trained_tokens"]
    assert sum(s["examples"] for s in own["sources"]) == own["examples"] == 70
    base = gogpt("evaluate", json.loads((trained / "recipe.yaml").read_text())["model"], "--data", trained / "held.jsonl", "--format", "json", "-q").json
    assert base["loss"] > own["loss"] + 0.01


def test_ray_gives_the_same_loss_where_a_worker_is_lost_too(trained: Path, cluster: str, gogpt: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gogpt.evaluate.AT_ONCE", 2)
    own = gogpt("evaluate", trained / "run", "--format", "json", "-q").json
    with Killer("_work", 1) as killer:
        ran = gogpt("evaluate", trained / "run", "--ray", "--format", "json")
    assert len(killer.killed) == 1
    assert ran.json["ray"]
    assert {**ran.json, "ray": False, "seconds": own["seconds"]} == own  # no tolerance: the same bits
    assert "examples from" in ran.err
    assert "its Ray worker was lost (WorkerCrashedError); done again" in ran.err


def test_a_damaged_model_is_told_before_ray_starts(trained: Path, gogpt: Callable[..., Ran]) -> None:
    began = time.perf_counter()
    ran = gogpt("evaluate", trained / "nothing", "--ray", "--data", trained / "held.jsonl")
    assert ran.code == 2
    assert "MOD500" in ran.err
    assert time.perf_counter() - began < 10


def test_nothing_to_evaluate_on(trained: Path, tiny: Path, gogpt: Callable[..., Ran], recipe: Callable[..., Path]) -> None:
    ran = gogpt("evaluate", tiny)
    assert (ran.code, ran.err.count("RUN614")) == (2, 2)
    path = recipe(data={"eval": 0.0})
    assert gogpt("train", path, "-q").code == 0
    ran = gogpt("evaluate", path.parent / "run")
    assert (ran.code, ran.err.count("RUN614")) == (2, 2)
    assert "data.eval holds nothing out" in ran.err
    assert gogpt("evaluate", path.parent / "run", "--data", trained / "held.jsonl", "-q").code == 0


def test_text_and_chinese(trained: Path, gogpt: Callable[..., Ran]) -> None:
    write_jsonl(trained / "more.jsonl", [*rows(3), {"messages": []}])
    words = ("evaluate", trained / "run", "--data", trained / "held.jsonl", "--data", trained / "more.jsonl")
    text = gogpt(*words).out.splitlines()
    assert text[0].startswith("evaluated 73 examples, ")
    assert text[1].startswith("dropped   1 of 74 rows read (")
    assert text[2].startswith("loss      ")
    assert [line.split()[-2] for line in text[4:]] == ["70", "3"]
    assert [line for line in gogpt(*words, "--lang", "zh").out.splitlines()[:4] if not any("一" <= c <= "鿿" for c in line)] == []
    assert gogpt("evaluate", trained / "run", "--workers", 2).code == 2
