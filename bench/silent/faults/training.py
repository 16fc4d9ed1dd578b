"""Faults in the settings of the training, and in going on with it."""

from __future__ import annotations

import json
from typing import Any

from ..cases import GOGPT, LLAMAFACTORY, TRL, Case, Step, gogpt_files, lf_files, llamafactory, same, trl_files
from .fault import Fault
from .rows import answer, plain, question, row


def _rate(rate: float) -> dict[str, Case]:
    return same(plain(), gogpt_={"train": {"learning_rate": rate}}, trl_={"learning_rate": rate}, lf_={"learning_rate": rate})


USUAL = same(plain())
RATE_WORDS = (r"learning.?rate", r"diverg", r"\bnan\b", r"not finite|non-?finite", r"\binf\b")

RATE_HIGH = Fault(
    id="rate_high", title="a learning rate of 0.5", rows="3; LLaMA-Factory#2810", planted="learning rate 0.5 with LoRA",
    caught="it is said that the learning rate is too high, or that the loss rises", keywords=(*RATE_WORDS, r"loss.*(rise|rose|grow|grew)"),
    faulty=_rate(0.5), healthy=USUAL)

RATE_NAN = Fault(
    id="rate_nan", title="a learning rate that makes the weights NaN", rows="3; LLaMA-Factory#8088, trl#6702", planted="learning rate 1e20 with LoRA",
    caught="it is said that the learning rate, the loss or the gradient is not usable", keywords=RATE_WORDS, faulty=_rate(1e20), healthy=USUAL)

RATE_ZERO = Fault(
    id="rate_zero", title="a learning rate of 0", rows="2; transformers#33086", planted="learning rate 0",
    caught="it is said that nothing is learned", keywords=(r"learning.?rate", r"(weights|parameters).*not move"), faulty=_rate(0.0), healthy=USUAL)

WARMUP_LONG = Fault(
    id="warmup_long", title="a warm-up longer than the run", rows="2, 18", planted="100 steps of warm-up, 12 steps of training",
    caught="it is said that the warm-up does not fit the run", keywords=(r"warm.?up",),
    faulty=same(plain(), gogpt_={"train": {"warmup": 100}}, trl_={"warmup_steps": 100}, lf_={"warmup_steps": 100}), healthy=USUAL)

FP16 = Fault(
    id="fp16", title="a precision that the device does not have", rows="2, 3; Qwen3#670", planted="fp16 on a CPU",
    caught="it is said that fp16 is not there", keywords=(r"(fp16|float16|half).*(support|not |refus|cannot)", r"(support|not |cannot).*(fp16|float16|half)"),
    faulty=same(plain(), gogpt_={"train": {"precision": "fp16"}}, trl_={"fp16": True}, lf_={"fp16": True}), healthy=USUAL)

OPTION = Fault(
    id="option", title="an option's name is misspelt", rows="case j of the measurements", planted="learning_rte",
    caught="the name is told", keywords=(r"learning_rte",),
    faulty=same(plain(), gogpt_={"train": {"learning_rate": 5e-4, "learning_rte": 1e-3}},
                trl_={"learning_rte": 1e-3}, lf_={"learning_rte": 1e-3}), healthy=USUAL)


def _stopping(test: bool) -> dict[str, Case]:
    """Early stopping; TRL's command line offers the best model at the end instead."""
    rows = plain(16, start=500) if test else None
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 6, "save_strategy": "steps", "save_steps": 6}
    return same(plain(), test=rows, gogpt_={"train": {"early_stopping": 2, "eval_every": 6}}, trl_=best,
                lf_={"early_stopping_steps": 2, **({**best, "eval_dataset": "test"} if test else {})})


EARLY_STOPPING = Fault(
    id="early_stopping", title="early stopping without evaluation rows", rows="the checks of a recipe across its keys",
    planted="early stopping (TRL: the best model at the end) and no evaluation set", caught="it is said that evaluation is missing",
    keywords=(r"evaluat", r"eval_", r"KeyError: 'test'", r"early.?stopping", r"load_best_model_at_end", r"metric_for_best_model"), faulty=_stopping(False), healthy=_stopping(True))


def _frozen(layers: int) -> dict[str, Case]:
    return {
        GOGPT: Case(steps=(Step(words=("train", "recipe.yaml"), files=gogpt_files(
            plain(), {"method": {"kind": "freeze", "trainable_layers": layers, "rank": None, "alpha": None}})),)),
        LLAMAFACTORY: llamafactory(plain(), {"finetuning_type": "freeze", "freeze_trainable_layers": layers, "lora_target": None, "lora_rank": None,
                                             "lora_alpha": None}),
    }


FROZEN = Fault(
    id="frozen", title="nothing is trainable", rows="LoRA with nothing to move: microsoft/LoRA#120", planted="the last 0 layers train",
    caught="it is said that nothing trains", keywords=(r"trainable_layers", r"(no|nothing|0) trainable", r"require.? grad", r"requires_grad"), faulty=_frozen(0), healthy=_frozen(1),
    not_here={TRL: "has no option that freezes"})

FILE_DS: dict[str, Any] = {"train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "zero_optimization": {"stage": 0}, "gradient_clipping": "auto"}
OWN_SCHEDULER = {"scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": 0, "warmup_max_lr": 1e-3, "warmup_num_steps": 1, "warmup_type": "linear"}}}
ONE_PROCESS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617",
               "DS_ACCELERATOR": "cpu", "ACCELERATE_USE_DEEPSPEED": "true"}


def _deepspeed(own: bool) -> dict[str, Case]:
    file = {"ds.json": json.dumps({**FILE_DS, **(OWN_SCHEDULER if own else {})}, indent=1)}
    return {
        GOGPT: Case(planned=0, steps=(Step(words=("check", "ds.json", "train.schedule=cosine", "train.learning_rate=1e-3", "train.max_steps=12"), files=file),)),
        TRL: Case(steps=(Step(words=("sft.py", "--config", "sft.yaml"), env=ONE_PROCESS, files={
            **file, **trl_files(plain(), {"deepspeed": "ds.json", "lr_scheduler_type": "cosine"})}),), timeout=400.0),
        LLAMAFACTORY: Case(steps=(Step(words=("train", "train.yaml"), env={**ONE_PROCESS, "MASTER_PORT": "29618"}, files={
            **file, **lf_files(plain(), {"deepspeed": "ds.json", "lr_scheduler_type": "cosine"})}),), timeout=400.0),
    }


DEEPSPEED = Fault(
    id="deepspeed_scheduler", title="a scheduler in the DeepSpeed file overrides the one asked for", rows="1; LLaMA-Factory#2495, DeepSpeed#7303",
    planted="cosine asked for, WarmupLR (no decay) in the DeepSpeed file", caught="it is said that the two are at odds",
    keywords=(r"scheduler.*(overrid|ignor|replac|conflict|own|differ|instead)", r"WarmupLR", r"never decays"), harm="never_decays", faulty=_deepspeed(True), healthy=_deepspeed(False))


# -- going on after a kill -------------------------------------------------------------------------


def _resumed(*, start: int = 0, rate: float = 1e-3) -> dict[str, Case]:
    """Killed after step 8, a checkpoint at step 6; then gone on with, over data from ``start`` on, at this learning rate."""
    saving = {"save_strategy": "steps", "save_steps": 6}
    first, second = plain(), plain(start=start)
    going_on = {**saving, "resume_from_checkpoint": "run/checkpoint-6", "learning_rate": rate}
    own = {"train": {"save_every": 6}}
    return {
        GOGPT: Case(steps=(Step(words=("train", "recipe.yaml"), files=gogpt_files(first, own), kill_after=8),
                           Step(words=("train", "recipe.yaml", "--resume", "run"),
                                files=gogpt_files(second, {"train": {"save_every": 6, "learning_rate": rate}})))),
        TRL: Case(steps=(Step(words=("sft", "--config", "sft.yaml"), files=trl_files(first, saving), kill_after=8),
                         Step(words=("sft", "--config", "sft.yaml"), files=trl_files(second, going_on)))),
        LLAMAFACTORY: Case(steps=(Step(words=("train", "train.yaml"), files=lf_files(first, saving), kill_after=8),
                                  Step(words=("train", "train.yaml"), files=lf_files(second, going_on)))),
    }


RESUME_DATA = Fault(
    id="resume_data", title="a run goes on with other data", rows="25; transformers PR#40691, ms-swift#10050",
    planted="killed after step 8, every conversation replaced, gone on with from the checkpoint of step 6", caught="it is said that the data are others",
    keywords=(r"data.*(differ|chang|other|not the|not what)", r"differs from", r"do not match"), faulty=_resumed(start=300), healthy=_resumed())

RESUME_RATE = Fault(
    id="resume_rate", title="a run goes on with another learning rate, which is not used", rows="25; accelerate#2016, open-instruct#1823",
    planted="killed after step 8, gone on with at a learning rate of 1e-4 instead of 1e-3",
    caught="it is said that the recipe is not the run's, or the new rate is used", keywords=(r"learning.?rate.*(differ|chang|ignor|not)", r"recipe is not", r"do not match"),
    harm="old_rate", faulty=_resumed(rate=1e-4), healthy=_resumed())


def _accumulated(micro: int) -> dict[str, Case]:
    """Four steps of eight rows at once; then the same as so many micro-batches, into another folder. With ``micro`` 8 the two are the same."""
    # One answer in eight is long: a mean of means would weigh its tokens as a fraction of the others'.
    rows = [row(question(i), answer(i) if i % 8 else " ".join(answer(i + k) for k in range(9))) for i in range(32)]
    # All weights train: an adapter's random matrices would make two runs differ.
    gogpt = [{"method": {"kind": "full", "rank": None, "alpha": None}, "train": {"max_steps": 4, "batch_size": 8, "micro_batch_size": m}, "output": out} for m, out in ((8, "run"), (micro, "run2"))]
    steps = [{"max_steps": 4, "per_device_train_batch_size": m, "gradient_accumulation_steps": 8 // m, "output_dir": out} for m, out in ((8, "run"), (micro, "run2"))]
    return {
        GOGPT: Case(planned=4, steps=tuple(Step(words=("train", "recipe.yaml"), files=gogpt_files(rows, c)) for c in gogpt)),
        TRL: Case(planned=4, steps=tuple(Step(words=("sft", "--config", "sft.yaml"), files=trl_files(rows, {**c, "use_peft": False, "lora_r": None, "lora_alpha": None, "lora_target_modules": None})) for c in steps)),
        LLAMAFACTORY: Case(planned=4, steps=tuple(Step(words=("train", "train.yaml"), files=lf_files(rows, {**c, "finetuning_type": "full", "lora_rank": None, "lora_alpha": None, "lora_target": None})) for c in steps)),
    }


ACCUMULATION = Fault(
    id="accumulation", title="the loss depends on gradient accumulation", rows="15; transformers PR#34191, axolotl#2262",
    planted="nothing: eight rows of unequal length at once, and as eight micro-batches of one", caught="the first step's loss and gradient norm are equal, or it is said that they are not",
    keywords=(r"accumulation",), harm="accumulation", faulty=_accumulated(1), healthy=_accumulated(8))

TRAINING_FAULTS = (RATE_HIGH, RATE_NAN, RATE_ZERO, WARMUP_LONG, FP16, OPTION, EARLY_STOPPING, FROZEN, DEEPSPEED, RESUME_DATA, RESUME_RATE, ACCUMULATION)

