"""Several command lines, one after the other, in each of the processes that torchrun starts: one start for many runs.

    torchrun --nproc-per-node 2 tests/processes.py JOBS.json RESULTS

JOBS: a list of {"arguments": [...], "plant": name or null}. RESULTS-RANK.json: [{"code", "out", "err"}, ...].
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

RANK = int(os.environ["RANK"])


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    yield


@contextlib.contextmanager
def empty_save() -> Iterator[None]:
    """Sharded weights that nobody gathers: what was saved as an empty adapter."""
    from gogpt import trainer

    with mock.patch.object(trainer, "full_weights", return_value={}):
        yield


@contextlib.contextmanager
def gradients_apart() -> Iterator[None]:
    """Each process for itself, as accelerate has it where it sees no GPU and use_cpu is not said."""
    import torch

    class Alone(torch.nn.Module):
        def __init__(self, module: torch.nn.Module, **kwargs: Any) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.module(*args, **kwargs)

    # The loss looks for the model inside DDP's wrapper by this name.
    with mock.patch.object(torch.nn.parallel, "DistributedDataParallel", Alone):
        yield


@contextlib.contextmanager
def one_process_nan() -> Iterator[None]:
    """The second process meets a NaN in its third micro-batch."""
    from gogpt import trainer

    seen, real = [0], trainer.summed_loss

    def loss(model: Any, batch: Any, dtype: Any) -> Any:
        total, count = real(model, batch, dtype)
        seen[0] += bool(model.training)
        return (total * float("nan") if RANK == 1 and seen[0] == 3 and model.training else total), count

    with mock.patch.object(trainer, "summed_loss", loss):
        yield


@contextlib.contextmanager
def own_mean() -> Iterator[None]:
    """Each process divides by its own tokens: the mean of means of huggingface/transformers#34242."""
    from gogpt.trainer import GogptTrainer

    def count(self: Any, batches: list[Any], device: Any) -> Any:
        import torch

        return torch.tensor(sum(b["trained"] for b in batches) * self.ranks.size)

    with mock.patch.object(GogptTrainer, "_get_num_items_in_batch", count):
        yield


@contextlib.contextmanager
def prepared_alone() -> Iterator[None]:
    """No fault: notes whether the processes had met when data was read and encoded."""
    import torch.distributed as dist

    from gogpt import preflight

    real = preflight.prepare

    def prepare(*args: Any, **kwargs: Any) -> Any:
        Path(sys.argv[2]).with_name(f"met-{RANK}.json").write_text(json.dumps(dist.is_initialized()))
        return real(*args, **kwargs)

    with mock.patch.object(preflight, "prepare", prepare):
        yield


PLANTS = {None: nothing, "prepared_alone": prepared_alone, "empty_save": empty_save, "gradients_apart": gradients_apart, "one_process_nan": one_process_nan, "own_mean": own_mean}


def main() -> None:
    from gogpt.cli import run

    results = []
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)  # the Trainer's own mark of the job before
        with PLANTS[job["plant"]](), contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            code = run(job["arguments"])
        results.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
        Path(f"{sys.argv[2]}-{RANK}.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
