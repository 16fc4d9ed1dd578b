"""Run a command and watch it from outside: how long, and how much memory its processes hold."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.05
"""Seconds between two looks at the memory."""


class Failed(Exception):
    """The command ended with an error; its last words are the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """``largest_mb``: peak resident memory of the largest process; ``sum_mb``: peak of the sum over the process tree, where
    what forked processes share counts once for each of them."""

    output: str
    seconds: float
    largest_mb: float
    sum_mb: float


@dataclass(slots=True)
class Peak:
    largest: int = 0
    sum: int = 0

    def look(self, root: psutil.Process) -> None:
        sizes = []
        with contextlib.suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    sizes.append(process.memory_info().rss)
        if sizes:
            self.largest, self.sum = max(self.largest, *sizes), max(self.sum, sum(sizes))


def run(command: Sequence[str], *, env: Mapping[str, str], log: Path) -> Finished:
    """Standard error goes to ``log``. Raises Failed for an exit code that is not 0."""
    start = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(command, env=dict(env), stdout=subprocess.PIPE, stderr=errors)
    peak, done = Peak(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watcher.start()
    try:
        output, _ = process.communicate()
    finally:
        done.set()
        watcher.join()
    seconds = time.perf_counter() - start
    text = output.decode("utf-8", "replace")
    if process.returncode:
        words = (text + log.read_text(encoding="utf-8", errors="replace"))[-2000:]
        raise Failed(f"{' '.join(command)}\nended with {process.returncode}:\n{words}")
    return Finished(output=text, seconds=seconds, largest_mb=peak.largest / 2**20, sum_mb=peak.sum / 2**20)


def _watch(pid: int, peak: Peak, done: threading.Event) -> None:
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        while not done.wait(INTERVAL):
            peak.look(root)
