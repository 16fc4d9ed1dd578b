"""Progress of a run on stderr: bars in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gogpt.cli.console import duration, print_findings, short_number
from gogpt.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.facts import StepStats
    from gogpt.preflight import Preflight


class TerminalObserver:
    """Shows where a run is: the stage, rows read, steps with loss, learning rate, tokens/s and time left."""

    def __init__(self, console: Console, lang: str, *, quiet: bool, told: bool = False) -> None:
        """``told``: data and plan were told by the command that started this process."""
        self._told = told
        self._console, self._lang, self._quiet = console, lang, quiet
        self._progress: Any = None
        self._task: Any = None
        self._window: list[tuple[float, int]] = []
        self._last_line = 0.0
        self._total = 0

    def __enter__(self) -> TerminalObserver:
        if not self._quiet and self._console.is_terminal:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
                TextColumn("{task.fields[info]}"), TimeElapsedColumn(), TextColumn(say(self._lang, "left")), TimeRemainingColumn(),
                console=self._console, transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, markup=False)

    def stage(self, name: str) -> None:
        if not (self._told and name == "reading data"):
            self._stage(name)

    def _stage(self, text: str, **values: Any) -> None:
        name = say(self._lang, text, **values)
        if self._progress is None:
            self._say(f"{name} ...")
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=None, info="")

    def reading(self, rows: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=rows, info=say(self._lang, "rows"))

    def planned(self, before: Preflight) -> None:
        if self._quiet or self._told:
            return
        plan, data = before.plan, before.prepared.facts
        dropped = sum(before.prepared.ledger.drops.values())
        share = data.trained_tokens / data.tokens if data.tokens else 0
        if plan.streaming:
            self._say(say(self._lang, "streaming judged on the first {rows:,} rows; the others are read while training", rows=data.sampled_only))
        self._say(say(
            self._lang, "data      {rows:,} rows in, {dropped:,} dropped, {examples:,} examples to train, {held:,} held out",
            rows=data.rows_in, dropped=dropped, examples=data.examples, held=data.eval_examples))
        self._say(say(
            self._lang, "tokens    {tokens} in them, {trained} trained ({share:.0%}), template {template}" if plan.streaming else
            "tokens    {tokens} an epoch, {trained} trained ({share:.0%}), template {template}",
            tokens=short_number(data.tokens), trained=short_number(data.trained_tokens), share=share, template=data.template))
        length = " ({epochs:.3g} epochs)" if not plan.streaming else ""
        self._say(say(
            self._lang, "plan      {steps:,} steps of {batch} rows" + length + ", learning rate up to {rate:g} ({schedule}, "
            "warm-up {warmup} steps), {precision}", steps=plan.steps, batch=plan.batch_size, epochs=plan.epochs,
            rate=plan.learning_rate, schedule=plan.schedule, warmup=plan.warmup_steps, precision=plan.precision))
        self._say(say(
            self._lang, "train     {trainable} of {parameters} parameters ({method})", trainable=short_number(plan.trainable_parameters),
            parameters=short_number(plan.parameters), method=plan.method))
        print_findings(before.verdict.findings, self._lang, self._console, allowed=before.verdict.allowed)
        if before.patch:
            self._console.print(before.patch, markup=False, end="")

    def started(self, steps: int, done: int) -> None:
        self._total = steps
        self._stage("training" if not done else "training from step {step}", step=done + 1)
        if self._progress is not None:
            self._progress.update(self._task, total=steps, completed=done)

    def step(self, stats: StepStats) -> None:
        now = time.monotonic()
        self._window = [*self._window[-19:], (stats.seconds, stats.tokens)]
        seconds = sum(s for s, _ in self._window)
        rate = sum(t for _, t in self._window) / seconds if seconds else 0.0
        info = say(self._lang, "loss {loss:.4f}  lr {lr:.2e}  {rate:,.0f} tokens/s", loss=stats.loss, lr=stats.lr, rate=rate)
        if self._progress is not None:
            self._progress.update(self._task, completed=stats.step, info=info)
        elif now - self._last_line > 10 or stats.step in (1, self._total):
            self._last_line = now
            left = (self._total - stats.step) * seconds / max(1, len(self._window))
            self._say(say(self._lang, "step {step}/{total}  {info}  left {left}", step=stats.step, total=self._total, info=info,
                          left=duration(left)))

    def evaluated(self, line: dict[str, Any]) -> None:
        self._say(say(
            self._lang, "step {step}  evaluation loss {loss:.4f} over {tokens:,} trained tokens ({seconds:.1f} s)", step=line["step"],
            loss=line["eval_loss"], tokens=line["eval_tokens"], seconds=line["seconds"]))

    def note_of(self, text: str, **values: Any) -> None:
        self._say(say(self._lang, text, **values))

    def note(self, text: str) -> None:
        self._say(say(self._lang, text) if "{" not in text else text)
