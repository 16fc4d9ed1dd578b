"""Start the processes of a run on this node, with torchrun's agent, and tell the first error when one dies.

The agent is torch.distributed.launcher's, which ``torchrun`` itself is made of. It runs on a thread, so that it does not take over
Ctrl-C: the first asks the processes to save and stop, the second ends them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gogpt.config import RunConfig
from gogpt.errors import GogptError
from gogpt.world import LAUNCHED, RankError, missing_master, read_errors

GRACE = 5.0
"""Seconds that the other processes have after the first error: those that stop for the same reason write their documents."""


def launch(config: RunConfig, arguments: Sequence[str], note: Callable[[str], None]) -> int:
    """Run ``gogpt ARGUMENTS`` in every process of this node, and return the exit code.

    Raises GogptError CFG253 (several nodes and no meeting place), RUN630 (a process died without a word).
    """
    asked = config.parallel
    if asked.nodes > 1 and asked.master is None:
        raise missing_master(asked)
    with tempfile.TemporaryDirectory(prefix="gogpt-ranks-") as name, _environment(name, asked.processes):
        agent = _Agent(LaunchConfig(
            min_nodes=asked.nodes, max_nodes=asked.nodes, nproc_per_node=asked.processes, max_restarts=0, monitor_interval=0.1,
            rdzv_backend="c10d", rdzv_endpoint=asked.master or "localhost:0", run_id="gogpt" if asked.nodes > 1 else str(os.getpid()),
            logs_specs=DefaultLogsSpecs(log_dir=name), local_addr=None if asked.nodes > 1 else "localhost",
        ), ["-m", "gogpt", *arguments])
        notes = Path(name)
        with _passed_on(notes, note):
            agent.start()
            _await(agent, notes)
        return _told(agent, notes)


class _Agent(threading.Thread):
    """torchrun's agent on a thread; ``failures`` are its processes that ended badly: rank -> (exit code, when)."""

    def __init__(self, config: LaunchConfig, arguments: list[str]) -> None:
        super().__init__(daemon=True)
        self._config, self._arguments = config, arguments
        self.failures: dict[int, tuple[int, float]] = {}
        self.problem: BaseException | None = None

    def run(self) -> None:
        # Its words are about itself; ours say which process failed, and why.
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        try:
            elastic_launch(self._config, sys.executable)(*self._arguments)
        except ChildFailedError as failed:
            self.failures = {rank: (f.exitcode, float(f.timestamp)) for rank, f in failed.failures.items()}
        except BaseException as problem:
            self.problem = problem


def pids(notes: Path) -> list[int]:
    """The processes of this node, as they noted themselves (``world.noted``)."""
    out = []
    for file in sorted(notes.glob("rank-*.pid")):
        with contextlib.suppress(ValueError, OSError):
            out.append(int(file.read_text()))
    return out


def _signal(notes: Path, number: int) -> None:
    for pid in pids(notes):
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _await(agent: _Agent, notes: Path) -> None:
    """Until the agent ends. Once a process has told an error, the others have GRACE seconds: what hangs in a collective is ended."""
    since: float | None = None
    while agent.is_alive():
        agent.join(0.1)
        if since is None and any(notes.glob("rank-*.error.json")):
            since = time.monotonic()
        if since is not None and time.monotonic() - since > GRACE:
            _signal(notes, signal.SIGKILL)


@contextlib.contextmanager
def _environment(notes: str, processes: int) -> Iterator[None]:
    """What the processes inherit: where their notes go, and their share of the cores (more threads spin at barriers)."""
    before = dict(os.environ)
    os.environ[LAUNCHED] = notes
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _passed_on(notes: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM to the processes, which are in sessions of their own."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if not asked.is_set():
            note("stopping: this step is finished and saved first (once more stops at once)")
        _signal(notes, signal.SIGKILL if asked.is_set() else signal.SIGINT)
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(agent: _Agent, notes: Path) -> int:
    """The exit code of the run, with the first failing process's own error told."""
    errors = read_errors(notes)
    if not agent.failures and not errors:
        if agent.problem is not None:
            raise GogptError("RUN630", f"the processes could not be started: {agent.problem}", where=f"{os.uname().nodename}", fix=_START, exit_code=1)
        return 0
    died = {rank: code for rank, (code, _) in agent.failures.items() if code < 0 and not any(e.rank == rank for e in errors)}
    # A process that the system ended comes first: the others' errors are of losing it.
    causes = [e for e in errors if not e.of_others]
    if causes or not died:
        first: RankError | None = min(causes or errors, key=lambda e: e.at, default=None)
        if first is not None:
            return first.tell(sys.stderr, alone=len(causes or errors) == agent_size(notes))
    if died:
        rank, code = min(died.items(), key=lambda item: agent.failures[item[0]][1])
        name = signal.Signals(-code).name
        raise GogptError("RUN630", f"process {rank} was ended by {name}; the others were stopped", where=f"rank {rank}", got=f"exit by signal {-code}",
                         expected="a process that ends by itself", fix=_KILLED if -code == signal.SIGKILL else _CRASHED, exit_code=1)
    rank, (code, _) = next(iter(agent.failures.items()))
    raise GogptError("RUN630", f"process {rank} ended without a word", where=f"rank {rank}", got=f"exit code {code}", fix=_CRASHED, exit_code=1)


def agent_size(notes: Path) -> int:
    return len(list(notes.glob("rank-*.pid")))


_START = "see gogpt doctor; with several nodes, check that parallel.master can be reached from each"
_KILLED = ("as a rule the machine ran out of memory (dmesg says so): lower train.micro_batch_size or data.max_length, or shard with engine: fsdp; "
           "go on with gogpt train --resume RUN")
_CRASHED = "an engine crashed in that process: gogpt doctor looks at the installation; gogpt doctor --log FILE explains a log"

