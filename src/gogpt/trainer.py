"""transformers' Trainer, with the loss, the order, the schedule and the saving of the plan."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from gogpt.attention import DOCUMENTS
from gogpt.batches import RankBatches, Rows, Steps, StreamRows, by_length, collate, collate_rows
from gogpt.config import ParallelConfig
from gogpt.data.store import ExampleSet
from gogpt.data.stream import RowStream
from gogpt.engines import (
    Ranks,
    check_saved,
    full_weights,
    is_sharded,
    load_full_weights,
    load_optimizer,
    num_trainable,
    save_optimizer,
    shard,
)
from gogpt.errors import GogptError
from gogpt.loss import summed_loss
from gogpt.plan import RunPlan
from gogpt.preflight import Preflight
from gogpt.runfolder import RunFolder, write_json
from gogpt.sharing import refused, why_model_apart
from gogpt.trees import StepShape
from gogpt.watch import Watch

STREAM_MARK = "stream.json"
"""In the checkpoint of a streaming run: how many rows it has trained, and their digest."""

class GogptTrainer(Trainer):
    """The loss is the sum over trained tokens divided by their number in the whole optimizer step; the order is the
    plan's; the schedule is ``plan.lr_at``; a checkpoint is renamed to ``step-N`` when everything is in it."""

    loss_is_scaled_for_ga = True
    lr_scheduler: Any
    control: Any

    def __init__(
        self, *, plan: RunPlan, watch: Watch, folder: RunFolder, train_set: ExampleSet, eval_set: ExampleSet,
        pad_id: int, keep: int, engine: ParallelConfig = ParallelConfig(), stream: RowStream | None = None,
        passed_over: Mapping[int, Mapping[str, Any] | None] | None = None, on_eval: Callable[[dict[str, float]], None] | None = None,
        shape: StepShape | None = None, **kwargs: Any,
    ) -> None:
        """``shape``: how each step is laid out as a whole; None: the plan's rows are its rows. ``stream``: where the rows come from, in place of ``train_set``. ``passed_over``: steps that train nothing after a rollback, with what
        was undone of them."""
        self.plan, self.watch, self.folder, self.keep, self.on_eval = plan, watch, folder, keep, on_eval
        self.passed_over = dict(passed_over or {})
        self.protected_step: int | None = None
        self.ranks, self.engine = Ranks(), engine
        self._eval_set, self._pad_id, self._stream = eval_set, pad_id, stream
        rows: Any
        make: Any
        if shape is not None:
            rows = Steps(plan.bins, plan.order, train_set, shape, batch_size=plan.batch_size, pad_id=pad_id, rank=self.ranks.rank)
            make = operator.itemgetter(0)  # an item is a whole micro-batch
        elif stream is not None:
            rows, make = StreamRows(stream, plan.steps * plan.batch_size), collate_rows(pad_id, across=plan.across_documents)
        else:
            rows, make = Rows(plan.bins, plan.order), collate(train_set, pad_id, across=plan.across_documents)
        super().__init__(train_dataset=rows, data_collator=make, **kwargs)
        # The number of trained tokens of the step comes to compute_loss whatever the model's signature says.
        self.model_accepts_loss_kwargs = True
        self.trainable = num_trainable(self.model)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    # -- data and schedule -------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def get_train_dataloader(self) -> Any:
        """Of several processes each has its own micro-batches of every step, and as many as the others."""
        if isinstance(self.train_dataset, Steps):
            return DataLoader(self.train_dataset, batch_sampler=self.train_dataset.slots(), collate_fn=self.data_collator, pin_memory=self.args.dataloader_pin_memory)
        if self.ranks.size == 1:
            return super().get_train_dataloader()
        batches = RankBatches(len(self.train_dataset), batch_size=self.plan.batch_size, micro_batch_size=self.plan.micro_batch_size,
                              rank=self.ranks.rank, size=self.ranks.size)
        return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator, pin_memory=self.args.dataloader_pin_memory)

    # -- engine ------------------------------------------------------------------------------------

    def _move_model_to_device(self, model: Any, device: torch.device) -> None:
        if self.engine.engine != "fsdp":  # FSDP2 moves its own part
            super()._move_model_to_device(model, device)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        if self.engine.engine == "fsdp":
            shard(self.model, precision=self.plan.precision, offload=self.engine.offload == "all")
        try:
            prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        except ValueError as problem:
            if "DeepSpeed config values" not in str(problem):
                raise
            wrong = [line[2:].strip() for line in str(problem).splitlines() if line.startswith("- ")]
            raise GogptError("CFG255", "the DeepSpeed file says otherwise than the run", where=str(self.engine.config), got="; ".join(wrong),
                             expected="auto, or the run's values", fix='write "auto" for them, or change the recipe') from problem
        self.watch.start(self.model)
        return prepared

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.engine.engine != "fsdp" or checkpoint is None:
            return super()._load_optimizer_and_scheduler(checkpoint)
        load_optimizer(self.model, self.optimizer.optimizer, Path(checkpoint) / OPTIMIZER_NAME)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))
        return None

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.engine.engine != "fsdp":
            return super()._save_optimizer_and_scheduler(output_dir)
        save_optimizer(self.model, self.optimizer.optimizer, Path(output_dir) / OPTIMIZER_NAME, main=self.ranks.main)
        if self.ranks.main:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)
        return None

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """With AdamW's state made now, as its first step would make it: made then, between a step's activations and the next one's, it takes the places that these
        would use again (measured: 5.4 GB at most become 4.9 with SmolLM2-135M, full, rows of 1,832 tokens)."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if type(optimizer) is torch.optim.AdamW and optimizer.defaults.get("fused") and not optimizer.defaults.get("amsgrad") and self.args.device.type == "cpu":
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.requires_grad and not optimizer.state[p]:
                        optimizer.state[p] = {"step": torch.zeros((), dtype=torch.float32), "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                                              "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format)}
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            peak = self.plan.learning_rate
            chosen = optimizer if optimizer is not None else self.optimizer

            def factor(done: int) -> float:
                return self.plan.lr_at(min(done + 1, self.plan.steps)) / peak

            self.lr_scheduler = LambdaLR(chosen, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # -- loss --------------------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        return torch.tensor(int(self.ranks.gather([sum(b["trained"] for b in batch_samples)]).sum()), device=device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        total, count = summed_loss(model, inputs, self._mask_dtype(model))
        if model.training:
            self.watch.micro_batch(total, count, inputs["tokens"], inputs["computed"], inputs)
            if self.is_deepspeed_enabled and self.accelerator.sync_gradients:  # its backward pass updates
                self._before_update(None)
        # Every engine averages gradients over the processes; the divisor is the tokens of all of them.
        return total * self.ranks.size / num_items_in_batch.clamp(min=1)

    def _before_update(self, grad_norm: float | None) -> None:
        self.watch.before_update(self.state.global_step + 1, grad_norm, float(self.optimizer.param_groups[0]["lr"]))

    @property
    def passes_over(self) -> bool:
        """Whether the step that is being done trains nothing."""
        return int(self.state.global_step) + 1 in self.passed_over

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """No forward and no backward pass of a micro-batch that holds nothing, or in a step that is passed over: without gradients the optimizer leaves
        weights and moments alone."""
        if self.passes_over or not inputs["input_ids"].numel():
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def _mask_dtype(self, model: Any) -> torch.dtype:
        if torch.is_autocast_enabled():
            return torch.get_autocast_dtype(self.args.device.type)
        return next(model.parameters()).dtype

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.passes_over:
            return norm
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        value = None if norm is None else float(norm)
        if self.is_deepspeed_enabled:
            self.watch.saw_grad_norm(value)
        else:
            self._before_update(value)
        return norm

    def gathered_weights(self) -> dict[str, Any] | None:
        """The whole weights of a model that is sharded, in the first process; None where the model itself holds them. All must call it."""
        if self.engine.engine == "fsdp":
            return full_weights(self.model)
        if self.is_deepspeed_enabled and is_sharded(self.model):
            adapter = hasattr(self.model, "get_base_model")
            found = self.deepspeed._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=adapter)
            return found if self.ranks.main else {}
        return None

    def load_weights(self, checkpoint: Path) -> None:
        """The weights of a checkpoint into the trained model (of early stopping: the best)."""
        if self.engine.engine != "fsdp":
            self._load_from_checkpoint(str(checkpoint), self.model)
            return
        load_full_weights(self.model, checkpoint)

    # -- evaluation --------------------------------------------------------------------------------

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Mean loss over all trained tokens of the held-out examples (not a mean of batch means)."""
        with self.watch.apart():
            return self._evaluated(metric_key_prefix)

    def _evaluated(self, metric_key_prefix: str) -> dict[str, float]:
        started = time.perf_counter()
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        loss, tokens = held_out_loss(model, self._eval_set, self._pad_id, self.args, self._mask_dtype(self.model), self.ranks)
        metrics = {f"{metric_key_prefix}_loss": loss, f"{metric_key_prefix}_tokens": float(tokens)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        line = {"step": self.state.global_step, "eval_loss": loss, "eval_tokens": tokens, "seconds": time.perf_counter() - started}
        if self.ranks.main:
            with self.folder.evals.open("a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
        if self.on_eval is not None and self.ranks.main:
            self.on_eval(line)
        self.watch.evaluated(loss)
        return metrics

    # -- saving ------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The weights, gathered where they are sharded, written by the first process, and looked at (EXP705)."""
        target = Path(output_dir or self.folder.checkpoints)
        if state_dict is None and self.engine.engine == "fsdp":
            state_dict = full_weights(self.model)
        with self.ranks.first_alone() as alone:
            if alone:
                target.mkdir(parents=True, exist_ok=True)
                self.model.save_pretrained(str(target), state_dict=state_dict)
                check_saved(target, self.trainable, trained=self.watch.moved)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        written = self.folder.checkpoints / f"checkpoint-{self.state.global_step}"
        final = self.folder.checkpoint(self.state.global_step)
        if self._stream is not None:
            self._stream.pass_over(int(self.state.global_step) * self.plan.batch_size)
        try:
            with self.watch.apart():
                super()._save_checkpoint(model, trial)
            self.ranks.wait()  # each process writes its state of random numbers; ZeRO its part of everything
            if self.ranks.main:
                if self._stream is not None:
                    self._mark_stream(written)
                shutil.rmtree(final, ignore_errors=True)
                os.replace(written, final)
        except BaseException:
            if self.ranks.main:
                shutil.rmtree(written, ignore_errors=True)
            raise
        self.ranks.wait()
        if not self.ranks.main:
            return
        steps = self.folder.checkpoint_steps()
        since = self.watch.facts.vitals.raised_since
        # While the loss stands too high, the last checkpoint from before is what a rollback needs.
        good = max((s for s in steps if since is not None and s < since - 1), default=None)
        for step in steps[: -self.keep]:
            if step not in (self.protected_step, good):
                shutil.rmtree(self.folder.checkpoint(step), ignore_errors=True)

    def _mark_stream(self, written: Path) -> None:
        """What a resumed run must find again, and the ledger of what was read so far."""
        assert self._stream is not None
        rows = int(self.state.global_step) * self.plan.batch_size
        write_json(written / STREAM_MARK, {"rows": rows, "digest": self._stream.digest(rows)})
        write_json(self.folder.ledger, self._stream.ledger.to_dict())


def held_out_loss(
    model: Any, examples: ExampleSet, pad_id: int, args: TrainingArguments, dtype: torch.dtype, ranks: Ranks | None = None
) -> tuple[float, int]:
    """Mean cross-entropy over the trained tokens of ``examples``, and their number. Batches by length, in turn over ``ranks``."""
    ranks = ranks or Ranks()
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    make = collate(examples, pad_id)
    autocast: Any = contextlib.nullcontext()
    if args.bf16 or args.fp16:
        autocast = torch.autocast(args.device.type, dtype=torch.bfloat16 if args.bf16 else torch.float16)
    with torch.no_grad(), autocast:
        batches = by_length(examples, args.per_device_train_batch_size)
        for turn in range(0, len(batches), ranks.size):
            at = turn + ranks.rank
            # Sharded weights are gathered in every process, or in none: one without a batch left goes along.
            batch = make([(i,) for i in batches[min(at, len(batches) - 1)]])
            loss, tokens = summed_loss(model, {k: v.to(args.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}, dtype)
            if at < len(batches):
                total += float(loss)
                count += tokens
    model.train(was_training)
    seen = ranks.gather([total, count]).sum(axis=0)
    total, count = float(seen[0]), int(seen[1])
    return (total / count if count else float("nan")), count


def checkpoint_of(path: Path) -> Path:
    """The trainer_state.json of a checkpoint. Raises GogptError RUN611."""
    state = path / "trainer_state.json"
    if not state.is_file():
        raise GogptError("RUN611", "the checkpoint is not whole: no trainer_state.json", where=str(path),
                         fix="remove that folder; an earlier checkpoint is used then")
    return state


def step_shape(base: Any, before: Preflight, note: Callable[[str], None]) -> StepShape | None:
    """How the steps of this run are laid out on this model; None where the plan's rows are its rows. Raises GogptError CFG234."""
    plan = before.plan
    if not plan.laid_out:
        return None
    shares = plan.sharing.on
    # The class fills in what config.json leaves out.
    if shares and (why := why_model_apart(base.config.get_text_config().to_dict())) is not None:
        if before.config.train.shared_prefixes == "on":
            raise refused(why)
        note(f"prefixes are not shared: {why}")
        shares = False
    # DeepSpeed counts its passes to know when a step ends.
    return plan.shape(flat=base.config._attn_implementation == DOCUMENTS, shares=shares, spread=before.config.parallel.engine == "deepspeed")
