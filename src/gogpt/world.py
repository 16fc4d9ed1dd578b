"""The processes of a run: which one this is, who started it, and what a recipe asks of all of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from gogpt.config import ParallelConfig, RunConfig
from gogpt.errors import GogptError
from gogpt.facts import EnvFacts
from gogpt.plan import RunPlan

LAUNCHED = "GOGPT_LAUNCHED"
"""Environment variable of a process that ``launch`` started: the folder for its notes."""
PORTS = 20_000
"""Slurm gives no port: one from here on, by the job's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One process among ``size``. ``by``: who started it (gogpt, torchrun, accelerate, deepspeed, slurm, mpi)."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    by: str
    master: str = "127.0.0.1"
    port: int = 29500

    @property
    def nodes(self) -> int:
        return max(1, self.size // max(1, self.local_size))

    def variables(self) -> dict[str, str]:
        """What torch.distributed, accelerate and DeepSpeed read from the environment."""
        return {"RANK": str(self.rank), "WORLD_SIZE": str(self.size), "LOCAL_RANK": str(self.local_rank),
                "LOCAL_WORLD_SIZE": str(self.local_size), "MASTER_ADDR": self.master, "MASTER_PORT": str(self.port)}


def started_world(environ: Mapping[str, str]) -> World | None:
    """The world that a launcher says this process is in; None: it was started alone. Raises GogptError CFG252.

    torchrun, accelerate and deepspeed set RANK and WORLD_SIZE (docs of torch.distributed.run); srun sets SLURM_PROCID and the like in
    each task of a step; Open MPI sets OMPI_COMM_WORLD_RANK and the like.
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        by = "gogpt" if LAUNCHED in environ else "accelerate" if any(k.startswith("ACCELERATE_") for k in environ) else \
            "torchrun" if "TORCHELASTIC_RUN_ID" in environ else "deepspeed" if "CROSS_RANK" in environ else "a launcher"
        size = _number(environ, "WORLD_SIZE", 1)
        local_size = _number(environ, "LOCAL_WORLD_SIZE", _number(environ, "LOCAL_SIZE", size))
        return _checked(rank=_number(environ, "RANK", 0), size=size, local_rank=_number(environ, "LOCAL_RANK", 0), local_size=local_size, by=by,
                        master=environ.get("MASTER_ADDR", "127.0.0.1"), port=_number(environ, "MASTER_PORT", 29500))
    if _number(environ, "SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in environ:
        size, nodes = _number(environ, "SLURM_STEP_NUM_TASKS", 1), _number(environ, "SLURM_STEP_NUM_NODES", 1)
        host = first_host(environ.get("SLURM_STEP_NODELIST", "")) or environ.get("SLURM_LAUNCH_NODE_IPADDR") or "127.0.0.1"
        return _checked(rank=_number(environ, "SLURM_PROCID", 0), size=size, local_rank=_number(environ, "SLURM_LOCALID", 0),
                        local_size=max(1, size // max(1, nodes)), by="slurm", master=environ.get("MASTER_ADDR", host),
                        port=_number(environ, "MASTER_PORT", PORTS + _number(environ, "SLURM_JOB_ID", 0) % PORTS))
    if _number(environ, "OMPI_COMM_WORLD_SIZE", 1) > 1:
        return _checked(rank=_number(environ, "OMPI_COMM_WORLD_RANK", 0), size=_number(environ, "OMPI_COMM_WORLD_SIZE", 1),
                        local_rank=_number(environ, "OMPI_COMM_WORLD_LOCAL_RANK", 0), local_size=_number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE", 1),
                        by="mpi", master=environ.get("MASTER_ADDR", "127.0.0.1"), port=_number(environ, "MASTER_PORT", 29500))
    return None


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if text is None or text == "":
        return default
    try:
        return int(text)
    except ValueError as problem:
        raise GogptError("CFG252", f"{name} is not a number", where="environment", got=text, expected="what a launcher sets",
                         fix=f"unset {name}, or start with gogpt train alone: it starts its processes itself") from problem


def _checked(**values: Any) -> World:
    world = World(**values)
    if not (0 <= world.rank < world.size and 0 <= world.local_rank < world.local_size <= world.size):
        raise GogptError("CFG252", "the launcher's numbers do not fit together", where="environment",
                         got=f"rank {world.rank} of {world.size}, local rank {world.local_rank} of {world.local_size}",
                         expected="0 <= rank < world size, and the same on the node",
                         fix="unset RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, or start with one launcher alone")
    return world


def first_host(names: str) -> str:
    """The first host of a Slurm node list: ``gpu[03-05,9],login1`` -> ``gpu03``."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", names)
    return "" if match is None else match[1] + (match[2] or "") + match[3]


def settled(config: RunConfig, world: World | None) -> RunConfig:
    """The recipe with the processes that a launcher really started, where it names none. Raises GogptError CFG254 where they differ."""
    if world is None:
        return config
    asked = config.parallel
    if asked.world_size not in (1, world.size):
        raise GogptError("CFG254", "other processes were started than the recipe asks for", where=f"started by {world.by}", got=f"{world.size} processes",
                         expected=f"parallel.processes: {asked.processes}, nodes: {asked.nodes}",
                         fix=f"start {asked.world_size}, or leave parallel.processes out: it is then what the launcher starts")
    if asked.world_size == world.size:
        return config
    even = world.size % world.local_size == 0
    real = {"processes": world.local_size if even else world.size, "nodes": world.size // world.local_size if even else 1}
    return config.model_copy(update={"parallel": asked.model_copy(update=real)})


def refuse_accelerate(config: RunConfig, environ: Mapping[str, str]) -> None:
    """accelerate's own configuration must not ask for another engine: it would win, in silence. Raises GogptError CFG254."""
    for name, engine in (("ACCELERATE_USE_DEEPSPEED", "deepspeed"), ("ACCELERATE_USE_FSDP", "fsdp")):
        if environ.get(name, "").lower() in ("true", "1", "yes") and config.parallel.engine != engine:
            raise GogptError("CFG254", "accelerate was configured for another engine than the recipe asks for", where=f"environment, {name}", got=engine,
                             expected=f"parallel.engine: {config.parallel.engine}",
                             fix=f"start with torchrun, or with accelerate launch without {engine}; or set parallel.engine: {engine}")


def refuse_parallel(config: RunConfig, env: EnvFacts) -> None:
    """Settings of ``parallel`` that say nothing together, or that this machine does not have. Raises GogptError CFG253, ENV111."""
    asked = config.parallel
    sharded = asked.engine == "fsdp" or asked.engine == "deepspeed"
    wrong: dict[str, bool] = {
        "parallel.zero without engine: deepspeed": asked.zero is not None and asked.engine != "deepspeed",
        "parallel.config without engine: deepspeed": asked.config is not None and asked.engine != "deepspeed",
        "parallel.zero beside parallel.config, whose stage it is": asked.zero is not None and asked.config is not None,
        "parallel.offload beside parallel.config": asked.offload != "none" and asked.config is not None,
        "parallel.offload with engine: ddp": asked.offload != "none" and asked.engine == "ddp",
        "parallel.offload: optimizer with engine: fsdp, which offloads all or nothing": asked.offload == "optimizer" and asked.engine == "fsdp",
        "parallel.offload: all below zero 3": asked.offload == "all" and asked.engine == "deepspeed" and asked.config is None and asked.stage != 3,
        "parallel.offload: optimizer with zero 0": asked.offload == "optimizer" and asked.engine == "deepspeed" and asked.config is None and asked.stage == 0,
        "parallel.master with one node": asked.master is not None and asked.nodes == 1,
        "train.precision: fp16 with engine: fsdp": config.train.precision == "fp16" and asked.engine == "fsdp",
        f"train.optimizer: {config.train.optimizer} with engine: {asked.engine}": config.train.optimizer == "adafactor" and sharded,
        "train.early_stopping with engine: deepspeed": config.train.early_stopping is not None and asked.engine == "deepspeed",
    }
    if asked.engine == "deepspeed" and "deepspeed" not in env.versions:
        raise GogptError("ENV111", "an optional package is missing: deepspeed", where="recipe", fix="pip install 'gogpt[deepspeed]', or parallel.engine: ddp or fsdp")
    if env.device == "cuda" and asked.processes > env.num_devices:
        wrong[f"parallel.processes: {asked.processes} on a machine that shows {env.num_devices} GPUs"] = True
    found = [name for name, yes in wrong.items() if yes]
    if found:
        raise GogptError("CFG253", "; ".join(found), where="recipe", expected="settings that go together",
                         fix="see docs/parallel.md for what each engine takes")


def missing_master(asked: ParallelConfig) -> GogptError:
    return GogptError("CFG253", "parallel.nodes needs parallel.master, or a launcher", where="recipe", got=f"nodes: {asked.nodes}",
                      expected="host:port of one of the nodes", fix="set parallel.master and start the same command on every node; or start with torchrun or srun")


def deepspeed_settings(config: RunConfig, plan: RunPlan, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The DeepSpeed configuration of a run: the sizes of the plan over ``own``, the user's file, or over our settings of the stage asked for.

    Ours hold no optimizer and no scheduler: the plan's are used, so that nothing can override them.
    """
    out: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": plan.micro_batch_size, "gradient_accumulation_steps": plan.accumulation,
        "train_batch_size": plan.batch_size, "gradient_clipping": config.train.max_grad_norm, "steps_per_print": 2**31 - 1,
        "bf16": {"enabled": plan.precision == "bf16"}, "fp16": {"enabled": plan.precision == "fp16"},
    }
    if own is not None:
        return {**own, **out, **{k: {**own[k], **out[k]} for k in ("bf16", "fp16") if isinstance(own.get(k), dict)}}
    stage, offload = config.parallel.stage, config.parallel.offload
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    return {**out, "zero_optimization": zero, "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}


# -- what a process notes for the one that started it -----------------------------------------------

OF_OTHERS = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Socket|[Gg]loo|NCCL|ncclRemoteError|DistBackendError|DistStoreError|Watchdog|recvBytes|"
    r"collective operation|store->|Timed out waiting", re.I)
"""Errors of a collective: as a rule another process is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankError:
    """How a process ended: what it would have said on stderr, and its exit code. ``of_others``: because another one was gone."""

    rank: int
    at: float
    exit_code: int
    text: str
    of_others: bool

    def tell(self, stream: TextIO, *, alone: bool) -> int:
        """Say it once for all processes. ``alone``: every one of them ended so."""
        if self.text:
            stream.write(("" if alone else f"process {self.rank}, the first to fail:\n") + self.text)
            stream.flush()
        return self.exit_code


def note_start(world: World) -> None:
    """Tell the starting process which one this is."""
    if world.by == "gogpt":
        (Path(os.environ[LAUNCHED]) / f"rank-{world.rank}.pid").write_text(str(os.getpid()), encoding="utf-8")


def note_error(world: World, exit_code: int, text: str) -> None:
    """Leave an error to the starting process, which tells the first of all of them."""
    document = {"rank": world.rank, "at": time.time(), "exit_code": exit_code, "text": text, "of_others": bool(OF_OTHERS.search(text))}
    path = Path(os.environ[LAUNCHED]) / f"rank-{world.rank}.error.json"
    with contextlib.suppress(OSError):
        path.with_suffix(".partial").write_text(json.dumps(document), encoding="utf-8")
        os.replace(path.with_suffix(".partial"), path)


def read_errors(notes: Path) -> list[RankError]:
    """In the order in which they happened."""
    found = [RankError(**json.loads(path.read_text(encoding="utf-8"))) for path in notes.glob("rank-*.error.json")]
    return sorted(found, key=lambda e: e.at)
