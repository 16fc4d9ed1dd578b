"""When a run evaluates, saves and stops, and the watch's place after an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from gogpt.config import RunConfig
from gogpt.plan import RunPlan
from gogpt.trainer import GogptTrainer


class Rhythm(TrainerCallback):
    """When to evaluate, save and stop; and the watch's place after the update."""

    def __init__(self, trainer_of: Callable[[], GogptTrainer], config: RunConfig, plan: RunPlan, *, evaluates: bool,
                 interrupted: Callable[[], bool]) -> None:
        self._trainer_of, self._interrupted, self._evaluates = trainer_of, interrupted, evaluates
        self._plan = plan
        per_epoch = max(1, plan.steps // 10 if plan.streaming else round(plan.num_rows / plan.batch_size))
        self._eval_every = config.train.eval_every or per_epoch
        self._save_every = config.train.save_every or per_epoch
        self._patience = config.train.early_stopping
        self.best: tuple[float, int] | None = None
        self._waited = 0
        self.stopped_early = False

    def recall(self, evals: Sequence[Mapping[str, Any]], saved: Sequence[int]) -> None:
        """What a run that goes on knew of early stopping: the best evaluation so far, and how many came after it."""
        kept = [(float(line["eval_loss"]), int(line["step"])) for line in evals if int(line["step"]) in saved]
        if self._patience is None or not kept:
            return
        self.best = min(kept)
        self._trainer_of().protected_step = self.best[1]
        self._waited = sum(int(line["step"]) > self.best[1] for line in evals)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self._trainer_of()
        if trainer.passes_over:
            step = int(state.global_step) + 1
            trainer.watch.pass_over(step, float(trainer.optimizer.param_groups[0]["lr"]), trainer.passed_over[step])
        else:
            skipped = bool(trainer.accelerator.optimizer_step_was_skipped)
            trainer.watch.after_update(state.global_step + 1, skipped=skipped)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        last = step >= self._plan.steps
        if step in self._trainer_of().passed_over:
            # Trackers get no loss of a step that had none: 0 would be a lie, and a mean with the next step's too.
            control.should_log = False
            self._trainer_of()._globalstep_last_logged = step
        control.should_evaluate = self._evaluates and (step % self._eval_every == 0 or last)
        control.should_save = step % self._save_every == 0 or last
        if self._trainer_of().watch.interrupted or (self._trainer_of().ranks.size == 1 and self._interrupted()):
            control.should_save, control.should_training_stop, control.should_evaluate = True, True, False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        loss = (metrics or {}).get("eval_loss")
        if self._patience is None or loss is None:
            return
        if self.best is None or loss < self.best[0]:
            self.best, self._waited = (loss, state.global_step), 0
            self._trainer_of().protected_step = state.global_step
            control.should_save = True
            return
        self._waited += 1
        if self._waited >= self._patience:
            self.stopped_early = True
            control.should_training_stop = True
