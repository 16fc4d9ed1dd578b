"""The recipe as transformers' TrainingArguments."""

from __future__ import annotations

import dataclasses
import difflib
import os
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from gogpt.config import RunConfig
from gogpt.engines import before_deepspeed
from gogpt.errors import GogptError
from gogpt.plan import RunPlan
from gogpt.runfolder import RunFolder

OURS = {
    "output_dir": "output", "num_train_epochs": "train.epochs", "max_steps": "train.max_steps",
    "learning_rate": "train.learning_rate", "lr_scheduler_type": "train.schedule", "warmup_steps": "train.warmup",
    "warmup_ratio": "train.warmup", "per_device_train_batch_size": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.batch_size", "seed": "train.seed", "data_seed": "train.seed",
    "bf16": "train.precision", "fp16": "train.precision", "max_grad_norm": "train.max_grad_norm",
    "weight_decay": "train.weight_decay", "optim": "train.optimizer", "report_to": "train.report_to",
    "adam_beta1": "train.adam_beta1", "adam_beta2": "train.adam_beta2", "adam_epsilon": "train.adam_epsilon",
    "gradient_checkpointing": "train.gradient_checkpointing", "save_strategy": "train.save_every",
    "save_steps": "train.save_every", "save_total_limit": "train.keep_checkpoints", "eval_strategy": "train.eval_every",
    "eval_steps": "train.eval_every", "per_device_eval_batch_size": "train.micro_batch_size",
    "logging_nan_inf_filter": "nothing: the watch must see raw values", "resume_from_checkpoint": "gogpt train --resume",
    "load_best_model_at_end": "train.early_stopping", "remove_unused_columns": "nothing: GoGPT makes the batches",
    "deepspeed": "parallel", "fsdp": "parallel", "label_smoothing_factor": "nothing: the loss is the mean over trained tokens",
    "auto_find_batch_size": "train.micro_batch_size", "group_by_length": "data.packing",
    "train_sampling_strategy": "data.packing", "disable_tqdm": "-q", "do_train": "nothing", "do_eval": "data.eval",
    "lr_scheduler_kwargs": "train.schedule", "dataloader_drop_last": "nothing: every row is trained",
    "label_names": "nothing: GoGPT makes the batches", "logging_dir": "nothing", "logging_strategy": "nothing: every step is logged",
    "logging_steps": "nothing: every step is logged", "max_length": "data.max_length",
    "activation_checkpointing": "train.gradient_checkpointing",
    "use_cpu": "nothing: the device is found", "average_tokens_across_devices": "nothing: it always is so",
}
"""Keys of TrainingArguments that the recipe sets elsewhere, and where."""


def check_trainer_keys(config: RunConfig) -> set[str]:
    """Keys of ``train.trainer`` against the installed TrainingArguments, whose keys are returned. Raises GogptError CFG231."""
    known = {f.name for f in dataclasses.fields(TrainingArguments)}
    for key in config.train.trainer:
        if key in OURS:
            raise GogptError("CFG231", f"train.trainer.{key} is set elsewhere", where="recipe", fix=f"use {OURS[key]}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise GogptError("CFG231", f"the installed transformers has no TrainingArguments key {key!r}", where="recipe",
                             fix=f"did you mean {near[0]!r}?" if near else "take it out of train.trainer")
    return known


def training_arguments(config: RunConfig, plan: RunPlan, folder: RunFolder, deepspeed: dict[str, Any] | None = None,
                       *, experts: bool = False) -> TrainingArguments:
    """The one place where keys of TrainingArguments pass. ``deepspeed``: the engine's own settings. Of several processes, they find each
    other here. Raises GogptError CFG231, ENV111."""
    known = check_trainer_keys(config)
    train = config.train
    # transformers 5.23 renamed it; the old name still works there, with a warning in every run.
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)  # of an earlier run in this process; the Trainer sets it where DeepSpeed is asked for
    if deepspeed is not None:
        before_deepspeed()
    # Unused parameters are a fault that DDP then tells, but for experts, of which a batch uses some.
    several: dict[str, Any] = {"ddp_find_unused_parameters": experts} if plan.world_size > 1 and config.parallel.engine == "ddp" else {}
    if (plan.world_size > 1 or config.parallel.engine != "ddp") and not torch.cuda.is_available():
        # Without it accelerate 1.15 takes each process for a run of its own where there is no GPU: nothing is averaged, and nothing says so.
        several |= {"use_cpu": True} if deepspeed is None else {"accelerator_config": {"use_configured_state": True}}
    checkpointing = {name: True, f"{name}_kwargs": {"use_reentrant": False}} if train.gradient_checkpointing else {}
    try:
        args = TrainingArguments(
            output_dir=str(folder.checkpoints), num_train_epochs=1, max_steps=plan.steps,
            learning_rate=train.learning_rate, per_device_train_batch_size=train.micro_rows,
            gradient_accumulation_steps=plan.accumulation, seed=train.seed,
            bf16=plan.precision == "bf16", fp16=plan.precision == "fp16", max_grad_norm=train.max_grad_norm,
            weight_decay=train.weight_decay, adam_beta1=train.adam_beta1, adam_beta2=train.adam_beta2,
            adam_epsilon=train.adam_epsilon, optim=optimizer_name(config, plan.precision),
            save_strategy="no", eval_strategy="no", logging_strategy="steps", logging_steps=1, logging_first_step=True,
            logging_nan_inf_filter=False, remove_unused_columns=False, label_names=["labels"], disable_tqdm=True, dataloader_pin_memory=torch.cuda.is_available(),
            report_to=list(train.report_to) or "none", dataloader_num_workers=0, save_only_model=False,
            **checkpointing, **several, **({} if deepspeed is None else {"deepspeed": deepspeed}),
            **train.trainer,
        )
        # Several visible GPUs: the Trainer would take DataParallel, and micro-batches would not be the plan's.
        args._n_gpu = min(args.n_gpu, 1)
        for tracker in get_reporting_integration_callbacks(args.report_to):
            tracker()  # raises now what the Trainer would raise after the model is loaded
        return args
    except ImportError as problem:
        raise missing_package(problem) from problem
    except (TypeError, ValueError, RuntimeError) as problem:
        if "to be installed" in str(problem):
            raise missing_package(problem) from problem
        raise GogptError("CFG231", f"transformers refuses the settings: {problem}", where="recipe: train.trainer",
                         fix="correct the key it names") from problem


def optimizer_name(config: RunConfig, precision: str) -> str:
    """transformers' name of it. AdamW is torch's one pass over all of a tensor's state, where nothing stands between it and the weights: a sharding
    engine does, and so does fp16's loss scale, whose skipped steps accelerate tells by a step that was not called (a fused one always is)."""
    if config.train.optimizer != "adamw":
        return config.train.optimizer
    return "adamw_torch_fused" if config.parallel.engine == "ddp" and precision != "fp16" else "adamw_torch"


def missing_package(problem: Exception) -> GogptError:
    """An optional package that a setting needs (a tracker, an attention kernel)."""
    return GogptError("ENV111", f"an optional package is missing: {str(problem).strip().splitlines()[0]}", where="recipe",
                      fix="install it, or take out the setting that needs it (train.report_to, model.attention)")
