"""Stretches -> blocks on the workers of a Ray cluster; the files are those that one machine writes.

A worker reads its stretch from the file itself, so that the sources must lie under the same paths on every node, and sends the finished files of
the block back as bytes: they are a fraction of the text, and the folder of prepared sets need not be one that all nodes share. The driver sends
the digest of the stretch's bytes with it: a copy of the file that differs on some node is an error, not another set.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from gogpt.data.work import Stretch, Worker
from gogpt.errors import GogptError
from gogpt.ray_cluster import Work, connected, in_order

if TYPE_CHECKING:
    from gogpt.data.pool import Done, Pool

ASKED_BY = "parallel.prepare: ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A stretch, and the digest of its bytes ("" where its rows are in it)."""

    stretch: Stretch
    digest: str


def run_on_ray(pool: Pool, stretches: Iterator[Stretch], note: Callable[[str], None]) -> Iterator[Done]:
    """Every block in order, as ``Pool.run``. Raises what it raises, and GogptError ENV111, ENV116, ENV117."""
    assert pool.folder is not None
    pool.worker()  # what cannot be opened here is told as in one process, before Ray starts

    def settle(sent: _Sent, files: list[tuple[str, Any]]) -> Stretch:
        pool.put(sent.stretch, files)
        return sent.stretch

    work: Work[_Sent, tuple[Pool, Worker], Stretch] = Work(
        shared=replace(pool, folder=None, note=None), start=_start, make=_make, settle=settle, name=lambda sent: _name(sent.stretch))
    # Blocks from before an interruption lie at the head, in the order of the stretches, but for a few that came before their turn.
    with connected(ASKED_BY, pool.processes or None) as cluster:
        waiting: list[Stretch] = []

        def missing() -> Iterator[_Sent]:
            for stretch in stretches:
                waiting.append(replace(stretch, rows=None))
                if not pool.is_done(stretch):
                    yield _Sent(stretch=stretch, digest=_digest(stretch))

        def found(until: int | None) -> Iterator[Done]:
            while waiting and (until is None or waiting[0].number <= until):
                yield pool.found(waiting.pop(0))

        for made in in_order(cluster, work, missing(), note):
            yield from found(made.number)
        yield from found(None)


def _name(stretch: Stretch) -> str:
    return f"{stretch.shown}, rows {stretch.row + 1:,} to {stretch.row + stretch.num_rows:,}" if stretch.rows is None else f"{stretch.shown}, block {stretch.number}"


def _digest(stretch: Stretch) -> str:
    """XXH3 of the stretch's bytes. Raises OSError."""
    if stretch.rows is not None:
        return ""
    with open(stretch.path, "rb") as file:
        file.seek(stretch.start)
        return xxhash.xxh3_128(file.read(stretch.end - stretch.start)).hexdigest()


# -- on a worker -----------------------------------------------------------------------------------


def _start(pool: Pool) -> tuple[Pool, Worker]:
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)  # as in ``pool``: rows are trees of new lists and dicts
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return pool, pool.worker()


def _make(state: tuple[Pool, Worker], sent: _Sent) -> list[tuple[str, Any]]:
    """The block's files as arrays of bytes, which Ray hands over without a copy."""
    pool, worker = state
    here = _digest(sent.stretch)
    if here != sent.digest:
        import ray

        raise GogptError("ENV116", "a file has another content on a node of the Ray cluster than on the driver",
                         where=f"node {ray.util.get_node_ip_address()}: {sent.stretch.path}", got=f"XXH3 {here[:12]} of bytes {sent.stretch.start:,} to {sent.stretch.end:,}",
                         expected=f"XXH3 {sent.digest[:12]}", fix="put the data into a folder that all nodes share")
    return [(suffix, np.frombuffer(data, dtype=np.uint8)) for suffix, data in pool.files_of(worker.make(sent.stretch))]
