"""Work over a Ray cluster: joined or started, divided over its workers, done again where a worker was lost, given back in order.

Ray is optional (``pip install "gogpt[ray]"``) and imported here alone. What a worker gives depends on the item and on what it was started with,
never on which worker it was or how often the item was tried: so the results are those of one process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from gogpt.errors import GogptError

NUM_TRIES = 3
"""How often an item is given to a worker before its loss is taken for the item's own fault (it needs more memory than there is)."""
AHEAD = 4
"""Items that may be under way or wait for their turn, for each that is worked on at once."""
CONNECT_SECONDS = 5
LOST = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError", "LocalRayletDiedError")
"""Ray's errors of a worker, a node or a result that is gone; all others are the work's own."""
LIBRARIES = ("tokenizers", "sentencepiece", "tiktoken", "jinja2", "orjson", "py3langid", "rensa", "pyarrow", "numpy", "torch", "transformers", "peft")
"""Libraries that decide what comes out, and must be the same on every node."""

Item = TypeVar("Item")
State = TypeVar("State")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that this process is connected to. ``at_once``: items that are worked on or lie ready at a worker; ``gpus``: whether it has any."""

    ray: Any
    at_once: int
    gpus: bool


def import_ray(asked_by: str) -> Any:
    """The package, quiet. Raises GogptError ENV111."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray tells of lost workers on stdout, where results belong, whatever its logging level is; they are told as notes instead.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError as problem:
        raise GogptError("ENV111", f"{asked_by} needs the package ray", got=str(problem), fix='pip install "gogpt[ray]"') from problem
    return ray


@contextlib.contextmanager
def connected(asked_by: str, workers: int | None) -> Iterator[Cluster]:
    """The cluster that this process is connected to already, that of ``RAY_ADDRESS``, that of ``ray start`` on this machine, or one that is started
    here and ended afterwards, in that order. ``workers``: at most so many at once; None: one a core of the cluster.

    Raises GogptError ENV111, ENV117.
    """
    ray = import_ray(asked_by)
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, workers)
    try:
        have = ray.cluster_resources()
        cores = max(1, int(have.get("CPU", 0)))
        # Two a core, so that none waits for the driver; no more than was asked for where that is less than there is.
        yield Cluster(ray=ray, at_once=workers if workers is not None and workers < cores else 2 * cores, gpus=have.get("GPU", 0) >= 1)
    finally:
        if mine:
            ray.shutdown()


def _connect(ray: Any, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    asked, running = os.environ.get("RAY_ADDRESS"), _running()
    if running is not None and not _answers(running):
        running = None  # it is gone, and ray stop was not there to say so
    try:
        if asked:
            if not _answers(asked):
                raise ConnectionError(f"nothing answers at {asked}")
            ray.init(**quiet)
        elif running is not None:
            ray.init(address=running, **quiet)
        else:
            cores = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
    except Exception as problem:  # ConnectionError, RuntimeError (another version of Ray or Python), and whatever a port or a folder refuses
        text = str(problem).strip().splitlines()
        raise GogptError("ENV117", "the Ray cluster cannot be joined" if asked or running else "a Ray cluster cannot be started here", where=asked or running or "this machine",
                         got=text[0] if text else type(problem).__name__, expected="a running cluster of the same Ray and Python",
                         fix="start it (ray start --head), or take RAY_ADDRESS out of the environment" if asked else "ray stop, then the same command again") from problem


def _running() -> str | None:
    """Address of the cluster that ``ray start`` last started here. Not "auto", which also joins what another command has started for itself and ends with it."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _answers(address: str) -> bool:
    """Whether something listens there: Ray itself tries for minutes, and fills stderr. What is no host and port is left to Ray."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d+)", address)
    if found is None:
        return True
    try:
        with socket.create_connection((found.group(1), int(found.group(2))), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """What must be the same on every node: GoGPT's own code, by its digest, and the libraries."""
    digest, root = hashlib.sha256(), Path(__file__).resolve().parent
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".yaml", ".jinja", ".json")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    found = {"gogpt": digest.hexdigest()[:12]}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# -- on the driver ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Job(Generic[Item]):
    item: Item
    tries: int = 0
    done: bool = False
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[Item, State, Result]):
    """What workers do: ``start(shared)`` once in each, then ``make(state, item)`` for every item. Both are functions of modules of the package.

    ``settle``: here, as soon as a result has come, in any order; what it gives takes the result's place. ``name``: of an item, for messages.
    ``computes``: on a GPU, where the cluster has one.
    """

    shared: Any
    start: Callable[[Any], State]
    make: Callable[[State, Item], Any]
    settle: Callable[[Item, Any], Result]
    name: Callable[[Item], str]
    computes: bool = False


def in_order(cluster: Cluster, work: Work[Item, State, Result], items: Iterable[Item], note: Callable[[str], None]) -> Iterator[Result]:
    """The results of ``items``, in their order. An item whose worker or node is lost is given to another, ``NUM_TRIES`` times; ``note`` is told.

    Raises the error of the first item, in order, that failed; GogptError ENV114 (its workers were lost each time), ENV116 (a node does not see
    what it needs), ENV117 (a node has other code).
    """
    ray = cluster.ray
    lost = tuple(getattr(ray.exceptions, name) for name in LOST)
    remote = ray.remote(max_retries=0, **({"num_gpus": 1} if cluster.gpus and work.computes else {"num_cpus": 1}))(_work)
    key, kept = uuid.uuid4().hex, [ray.put(work.shared)]
    line: deque[_Job[Item]] = deque()
    running: dict[Any, _Job[Item]] = {}
    left = iter(items)

    def give(job: _Job[Item]) -> None:
        job.tries += 1
        running[remote.remote(work.start, work.make, key, versions(), kept, job.item)] = job

    def collect(ref: Any) -> None:
        job = running.pop(ref)
        try:
            outcome = ray.get(ref)
        except lost as problem:
            if job.tries < NUM_TRIES:
                note(f"{work.name(job.item)}: its Ray worker was lost ({type(problem).__name__}); done again")
                give(job)
                return
            outcome = _Outcome(error=GogptError(
                "ENV114", f"the Ray workers of this part were lost {NUM_TRIES} times", where=work.name(job.item), got=type(problem).__name__,
                expected="enough memory for every worker", fix="give Ray fewer cores (data.workers), so that each worker has more memory; what was made is kept"))
        except ray.exceptions.RayTaskError as problem:
            outcome = _Outcome(error=_not_run(problem))
        job.done, job.result = True, outcome if outcome.error is not None else _Outcome(value=work.settle(job.item, outcome.value))

    try:
        while True:
            while len(running) < cluster.at_once and len(line) < AHEAD * cluster.at_once:
                try:
                    job = _Job(next(left))
                except StopIteration:
                    break
                line.append(job)
                give(job)
            if not line:
                return
            if line[0].done:
                outcome = line.popleft().result
                if outcome.error is not None:
                    outcome.error.__cause__ = RuntimeError(outcome.trace) if outcome.trace else None
                    raise outcome.error
                yield outcome.value
                continue
            for ref in ray.wait(list(running), num_returns=1)[0]:
                collect(ref)
    finally:
        for ref in running:
            with contextlib.suppress(Exception):
                ray.cancel(ref)


def _not_run(problem: Any) -> Exception:
    """What a task says that did not get as far as GoGPT's code."""
    text = str(problem)
    if "No module named 'gogpt" in text:
        return GogptError("ENV117", "GoGPT is not installed on a node of the Ray cluster", where=f"node {getattr(problem, 'ip', '?')}",
                          expected="the same GoGPT on every node", fix="install it there, as here")
    cause = getattr(problem, "cause", None)
    return cause if isinstance(cause, Exception) else RuntimeError(text)


# -- on a worker -----------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """A result, or the error in its place: returned, not raised, so that it arrives as what it is."""

    value: Any = None
    error: Exception | None = None
    trace: str = ""


_STATE: dict[str, Any] = {}
"""What this worker was started with, by the driver's name for it; one at a time."""


def _work(start: Callable[[Any], Any], make: Callable[[Any, Any], Any], key: str, asked: dict[str, str], kept: list[Any], item: Any) -> _Outcome:
    import ray

    node = f"node {ray.util.get_node_ip_address()}"
    try:
        if key not in _STATE:
            _refuse_others(asked, node)
            _STATE.clear()
            _STATE[key] = _started(start, ray.get(kept[0]), node)
        return _Outcome(value=make(_STATE[key], item))
    except OSError as problem:
        return _Outcome(error=unseen(problem, node))
    except Exception as problem:
        return _Outcome(error=problem, trace="" if isinstance(problem, GogptError) else traceback.format_exc())


def _started(start: Callable[[Any], Any], shared: Any, node: str) -> Any:
    try:
        return start(shared)
    except GogptError as problem:  # the driver has opened the same before: here something is not there
        raise GogptError("ENV116", "a node of the Ray cluster cannot open what this computer could", where=node, got=str(problem),
                         expected="the same files under the same paths on every node", fix="put them into a folder that all nodes share") from problem


def unseen(problem: OSError, node: str) -> GogptError:
    """A file that a node does not see."""
    return GogptError("ENV116", f"a file cannot be read on a node of the Ray cluster: {problem.strerror or problem}", where=f"{node}: {problem.filename or '?'}",
                      expected="the same files under the same paths on every node", fix="put the data and the model into a folder that all nodes share")


def _refuse_others(asked: dict[str, str], node: str) -> None:
    """Raises GogptError ENV117 where this node would make something else than the driver."""
    here = versions()
    other = [name for name in asked | here if asked.get(name) != here.get(name)]
    if other:
        raise GogptError("ENV117", "a node of the Ray cluster has other code than the driver", where=node,
                         got=", ".join(f"{name} {here.get(name, 'missing')}" for name in other), expected=", ".join(f"{name} {asked.get(name, 'missing')}" for name in other),
                         fix="install the same versions on every node")
