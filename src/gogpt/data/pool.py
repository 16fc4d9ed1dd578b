"""Stretches -> blocks: in this process, or in as many as there are cores; written as they are made, or kept in memory."""

from __future__ import annotations

import gc
import io
import json
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.config import DataConfig
from gogpt.data.store import Block, block_bytes, read_block
from gogpt.data.work import Made, Stretch, Worker, rejects_of
from gogpt.errors import GogptError
from gogpt.templates import Template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.engines import open_engine

START = "fork" if sys.platform == "linux" else "spawn"
"""How processes begin: forked ones share what is loaded already."""
WORTH_PROCESSES = 2 << 20
"""Bytes of data below which one process is as quick as several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A block that is made: its document, and where its examples and rejects are."""

    number: int
    source: int
    document: dict[str, Any]
    block: Block
    rejects: Path | list[dict[str, Any]]
    signatures: Any = None


def block_name(number: int) -> str:
    return f"block-{number:05}"


def num_workers(asked: int | None) -> int:
    """``data.workers``, else the cores that this process may use."""
    return asked or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """How blocks are made. ``folder``: where they are written; None keeps them in memory. ``ray``: by the workers of a Ray cluster, at most
    ``processes`` of them (0: one a core); ``note`` is told what became of those."""

    config: DataConfig
    tokenizer: Tokenizer
    template: Template
    engine: str
    seed: int
    processes: int
    folder: Path | None
    ray: bool = False
    note: Callable[[str], None] | None = None

    def run(self, stretches: Iterator[Stretch]) -> Iterator[Done]:
        """Every block in order. Blocks that lie in the folder already are taken as they are.

        Raises GogptError (of the first stretch that fails; ENV114 where a process died), EngineDiffers.
        """
        if self.ray:
            from gogpt.data.ray_pool import run_on_ray

            yield from run_on_ray(self, stretches, self.note or (lambda text: None))
            return
        if self.folder is None or self.processes < 2:
            worker = self.worker()
            for stretch in stretches:
                yield self._found(stretch) or self._done(stretch, worker.make(stretch))
            return
        yield from self._many(stretches)

    def worker(self) -> Worker:
        return Worker(self.config, self.tokenizer, self.template, open_engine(self.engine, self.tokenizer), self.seed)

    def _many(self, stretches: Iterator[Stretch]) -> Iterator[Done]:
        global _POOL, _WORKER
        _POOL, _WORKER = self, self.worker()  # loaded once: forked processes share it
        waiting: deque[tuple[Stretch, Future[None] | None]] = deque()
        executor = ProcessPoolExecutor(self.processes, mp_context=multiprocessing.get_context(START), initializer=_start,
                                       initargs=(None if START == "fork" else self,))
        try:
            for stretch in stretches:
                waiting.append((stretch, None if self.is_done(stretch) else executor.submit(_make, stretch)))
                while len(waiting) > 4 * self.processes:
                    yield self._collect(*waiting.popleft())
            while waiting:
                yield self._collect(*waiting.popleft())
        except BrokenProcessPool as problem:  # met where a stretch is handed over, or where its block is waited for
            raise GogptError("ENV114", "a process that prepares data was ended from outside", where=waiting[0][0].shown if waiting else None,
                             expected="enough memory for every process", fix="set data.workers to fewer processes; what was made is kept, "
                             "and the same command goes on from there") from problem
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
            _POOL = _WORKER = None

    def _collect(self, stretch: Stretch, future: Future[None] | None) -> Done:
        if future is not None:
            future.result()
        return self.found(stretch)

    # -- on disk -----------------------------------------------------------------------------------

    def is_done(self, stretch: Stretch) -> bool:
        return self.folder is not None and (self.folder / f"{block_name(stretch.number)}.json").exists()

    def found(self, stretch: Stretch) -> Done:
        """A block that lies in the folder."""
        found = self._found(stretch)
        assert found is not None
        return found

    def _found(self, stretch: Stretch) -> Done | None:
        if not self.is_done(stretch):
            return None
        assert self.folder is not None
        name = block_name(stretch.number)
        document = json.loads((self.folder / f"{name}.json").read_bytes())
        signatures = self.folder / f"{name}.signatures.npy"
        if signatures.exists():
            import numpy as np

            loaded = np.load(signatures, mmap_mode="r")
        else:
            loaded = None
        return Done(number=stretch.number, source=stretch.source, document=document, block=read_block(self.folder / f"{name}.arrow"),
                    rejects=self.folder / f"{name}.rejects.jsonl", signatures=loaded)

    def _done(self, stretch: Stretch, made: Made) -> Done:
        if self.folder is not None:
            self.write(stretch, made)
            return self.found(stretch)
        return Done(number=stretch.number, source=stretch.source, document=made.document(), block=made.block, rejects=made.ledger.rejects,
                    signatures=made.signatures)

    def write(self, stretch: Stretch, made: Made) -> None:
        self.put(stretch, self.files_of(made))

    @staticmethod
    def files_of(made: Made) -> Iterator[tuple[str, Any]]:
        """Suffix and bytes of each of the block's files; the document comes last and says that the others are there."""
        if made.ledger.rejects:
            yield "rejects.jsonl", b"".join(rejects_of(made.ledger))
        if made.signatures is not None:
            yield "signatures.npy", _saved(made.signatures)
        yield "arrow", block_bytes(made.block)
        yield "json", json.dumps(made.document(), ensure_ascii=False).encode("utf-8", "surrogatepass")

    def put(self, stretch: Stretch, files: Iterable[tuple[str, Any]]) -> None:
        """Each file whole or not at all, in their order."""
        assert self.folder is not None
        name = block_name(stretch.number)
        for suffix, data in files:
            partial = self.folder / f"{name}.{suffix}.tmp"
            partial.write_bytes(data)
            os.replace(partial, self.folder / f"{name}.{suffix}")


def _saved(array: Any) -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


_POOL: Pool | None = None
_WORKER: Worker | None = None


def _start(pool: Pool | None) -> None:
    """In a new process. Each has one thread: together they fill the cores."""
    global _POOL, _WORKER
    # Rows are trees of new lists and dicts: the collector would walk them all, again and again, and find nothing.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if pool is not None:
        _POOL, _WORKER = pool, pool.worker()


def _make(stretch: Stretch) -> None:
    assert _POOL is not None
    assert _WORKER is not None
    _POOL.write(stretch, _WORKER.make(stretch))
