"""What an engine does to a model, a step and a save, and what the processes of a run tell each other.

ddp and deepspeed go through the Trainer and accelerate. FSDP2 is torch's own ``fully_shard``: through the Trainer it becomes DDP on a CPU,
in silence (measured with accelerate 1.15), so that what is tested would not be what runs.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState
from safetensors import safe_open
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from gogpt.errors import GogptError

PRECISION = {"bf16": torch.bfloat16, "fp32": None}
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Ranks:
    """The processes of this run. Alone (no process group), every call is free and answers for one."""

    @property
    def rank(self) -> int:
        return dist.get_rank() if dist.is_initialized() else 0

    @property
    def size(self) -> int:
        return dist.get_world_size() if dist.is_initialized() else 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def gather(self, values: Sequence[float]) -> npt.NDArray[np.float64]:
        """``values`` of every process, ``[W, K]`` in the order of ranks. All must call it."""
        if self.size == 1:
            return np.asarray([values], dtype=np.float64)
        # NCCL takes tensors of the device only; float64 keeps sums of losses and counts exact.
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
        mine = torch.tensor(list(values), dtype=torch.float64, device=device)
        out = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(out, mine)
        return np.asarray(torch.stack(out).cpu().numpy())

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[bool]:
        """What the first process does for all (True there), which end together where it fails: one that is gone would be waited for."""
        problem: Exception | None = None
        try:
            yield self.main
        except Exception as raised:
            problem = raised
        failed = self.gather([float(problem is not None)])[:, 0]
        if problem is not None:
            raise problem
        if failed.any():
            raise GogptError("RUN630", f"process {int(failed.argmax())} failed, and this one with it", where=f"rank {int(failed.argmax())}", exit_code=1,
                             fix="see that process's own error")

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            self.gather([0.0])


def unwrapped(model: Any) -> Any:
    """The model inside DDP's or DeepSpeed's wrapper."""
    return model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) or type(model).__name__ == "DeepSpeedEngine" else model


@contextlib.contextmanager
def quiet_engines() -> Iterator[None]:
    """The engines' own chatter (progress bars, advice) is not the run's; their errors still come through."""
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            yield
    finally:
        hf_logging.set_verbosity(before)


# -- FSDP2 -----------------------------------------------------------------------------------------


def shard(model: Any, *, precision: str, offload: bool) -> Any:
    """Shard a model in place over all processes: every decoder layer by itself, then the rest. All parameters must have one dtype.

    Gradients are reduced after every micro-batch, so that each process holds its part of them alone; leaving them unreduced until the last
    (``no_sync``) would save traffic and keep them whole on every device.
    """
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(device, (dist.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=PRECISION[precision], reduce_dtype=torch.float32 if PRECISION[precision] else None),
        "offload_policy": CPUOffloadPolicy() if offload else OffloadPolicy(),
    }
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = set(getattr(base, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, **settings)
    fully_shard(model, **settings)

    model._is_accelerate_prepared = True  # accelerate would put DDP around it
    return model


def is_sharded(model: Any) -> bool:
    """Whether this process holds only a part of each weight (FSDP2, ZeRO 3)."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_tensor") for p in model.parameters())


def local_part(parameter: torch.Tensor) -> torch.Tensor:
    """What this process holds of a parameter; all of it where nothing is sharded."""
    found: Any = parameter
    if isinstance(parameter, DTensor):
        found = parameter.to_local()
    elif hasattr(parameter, "ds_tensor"):
        found = parameter.ds_tensor
    return found.detach()  # type: ignore[no-any-return]


def full_weights(model: Any) -> dict[str, Any]:
    """The whole state dict of a model that FSDP2 shards, on the CPU of the first process. All must call it."""
    found: dict[str, Any] = get_model_state_dict(model, options=FULL)
    return found


def load_full_weights(model: Any, folder: Path) -> None:
    """Saved weights into a model that FSDP2 shards: an adapter's, or all."""
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(str(file))
    if (folder / "adapter_config.json").is_file():
        # PEFT saves lora_A.weight of what the model calls lora_A.default.weight.
        names = {name.replace(".default.", "."): name for name, _ in model.named_parameters()}
        state = {names.get(k, k): v for k, v in state.items()}
    set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True, strict=False))


def save_optimizer(model: Any, optimizer: Any, path: Path, *, main: bool) -> None:
    """The optimizer of a model that FSDP2 shards, whole and by parameter name, so that any number of processes can go on from it."""
    state = get_optimizer_state_dict(model, optimizer, options=FULL)
    if main:
        torch.save(state, path)


def load_optimizer(model: Any, optimizer: Any, path: Path) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=FULL)


# -- DeepSpeed -------------------------------------------------------------------------------------

STALE = 1800.0
"""Seconds after which the lock of an extension's build is nobody's: builds take under a minute, those of CUDA some minutes."""


def before_deepspeed() -> None:
    """What must be so before DeepSpeed starts. Raises GogptError ENV115 for the lock of a build that was broken off: every process would
    wait for it without end and without a word.

    Without a GPU its shared-memory collectives are left out: gloo does their work, they are compiled at the first start, and they
    print to stdout.
    """
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path("~/.cache/torch_extensions").expanduser())
    for lock in folder.glob("*/*/lock") if "TORCH_EXTENSIONS_DIR" not in os.environ else folder.glob("*/lock"):
        with contextlib.suppress(OSError):
            if time.time() - lock.stat().st_mtime > STALE:
                raise GogptError("ENV115", "a build of an extension was broken off, and its lock is still there", where=str(lock),
                                 got=f"a lock {(time.time() - lock.stat().st_mtime) / 60:.0f} minutes old", expected="none, or a build that is going on",
                                 fix=f"rm -r {lock.parent}, which makes it be built again")
    if not torch.cuda.is_available():
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if "WORLD_SIZE" in os.environ:
            # The Trainer names no backend to accelerate, which then counts one process where there is no GPU: we name it first.
            AcceleratorState._reset_state(reset_partial_state=True)
            os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
            PartialState(backend="gloo")
            del os.environ["ACCELERATE_USE_DEEPSPEED"]


# -- what was saved --------------------------------------------------------------------------------


def num_trainable(model: Any) -> int:
    """Elements of all trainable parameters, over all processes."""
    return sum(int(getattr(p, "ds_numel", p.numel())) for p in model.parameters() if p.requires_grad)


def check_saved(folder: Path, trainable: int, *, trained: bool) -> None:
    """A save holds what trains: no file or tensor is empty, and there are at least as many elements as are trained.

    ``trained``: at least one step moved the weights, so that an adapter whose every ``lora_B`` is zero lost its training.
    Sharded weights that nobody gathered are how empty adapters were saved (huggingface/trl#4416, huggingface/peft#2450,
    deepspeedai/DeepSpeed#7900). Raises GogptError EXP705.
    """
    files = sorted(folder.glob("*.safetensors"))
    elements, empty, adapters, moved = 0, [], 0, False
    for file in files:
        with safe_open(str(file), framework="pt") as saved:
            for name in saved.keys():  # noqa: SIM118 - not a mapping
                shape = saved.get_slice(name).get_shape()
                elements += math.prod(shape)
                if math.prod(shape) == 0:
                    empty.append(name)
                elif "lora_B" in name:
                    adapters += 1
                    moved = moved or bool(saved.get_tensor(name).any())
    if not files or empty or elements < trainable or (adapters and trained and not moved):
        got = "no weights" if not files else f"{len(empty)} empty tensors, as {empty[0]}" if empty else \
            f"{elements:,} elements" if elements < trainable else "adapters that are all zero"
        raise GogptError("EXP705", "what was saved is not what was trained", where=str(folder), got=got, expected=f"{trainable:,} trained elements",
                         fix="the checkpoint before it is whole; start again from it with another engine, and please report this", exit_code=1)


def spread(values: Mapping[int, float] | Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Largest relative difference among values that should be one."""
    seen = np.asarray(list(values.values()) if isinstance(values, Mapping) else values, dtype=np.float64)
    top = float(np.abs(seen).max(initial=0.0))
    return float(seen.max() - seen.min()) / top if top > 0 else 0.0
