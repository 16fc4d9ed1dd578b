"""What a run really trained, measured inside it without a word to its output: only so can *silent* be told from *does not happen*.

All three tools train through transformers' Trainer, so its ``training_step`` and its step events are listened to. Runs in the
tools' own Pythons: nothing is imported here but at work.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

NUM_BATCHES = 200
IGNORE = -100


def _trained(inputs: Any) -> Any:
    """The trained ids of a batch, as often as they are trained: its labels, or the targets and weights that GoGPT has in their place."""
    if "targets" in inputs:
        return inputs["targets"].repeat_interleave(inputs["weights"])
    labels = inputs["labels"]
    return labels[labels != IGNORE]


def _first_text(tokenizer: Any, inputs: Any) -> dict[str, str]:
    ids = inputs["input_ids"][0].tolist()
    trained = _trained(inputs if "targets" in inputs else {"labels": inputs["labels"][:1]}).tolist()
    return {"text": tokenizer.decode(ids, skip_special_tokens=False)[:600], "trained": tokenizer.decode(trained, skip_special_tokens=False)[:300]}


class Probe:
    """Writes probe.json at the end of the process, and after every step (a run may be killed)."""

    def __init__(self, file: str, model: str, leak: bool) -> None:
        from tokenizers import Tokenizer

        self.file, self.leak = file, leak
        self.training = False
        self.tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
        self.stop = self.tokenizer.token_to_id("<|im_end|>")
        self.bos = self.tokenizer.token_to_id("<s>")
        self.start = self.tokenizer.token_to_id("<|im_start|>")
        self.seen: dict[str, Any] = {"steps": 0, "batches": 0, "rows": 0, "tokens": 0, "trained_tokens": 0, "stops_trained": 0, "double_bos": 0}
        self.before: list[Any] = []
        self.parameters: list[Any] = []

    def batch(self, trainer: Any, model: Any, inputs: Any) -> None:
        ids = inputs.get("input_ids")
        if ids is None or ("labels" not in inputs and "targets" not in inputs):
            return
        if not self.parameters:
            self.parameters = [p for p in model.parameters() if p.requires_grad]
            self.before = [p.detach().clone() for p in self.parameters]
            self.seen["trainable"] = sum(p.numel() for p in self.parameters)
            self.seen["first"] = _first_text(self.tokenizer, inputs)
            if self.leak:
                self._measure_leak(trainer, model, inputs)
        if self.seen["batches"] < NUM_BATCHES:
            self.seen["rows"] += len(ids)
            self.seen["tokens"] += int(ids.numel())
            trained = _trained(inputs)
            self.seen["trained_tokens"] += len(trained)
            self.seen["stops_trained"] += int((trained == self.stop).sum())
            self.seen["double_bos"] += int(((ids[:, 1:] == self.bos) & (ids[:, :-1] == self.bos)).any(dim=1).sum())
            # Of each pair of runs that ought to see the same: the words of all rows, whatever their padding.
            words = {self.tokenizer.decode([i for i in row if i]) for row in ids.tolist()}
            self.seen["words"] = sorted({*self.seen.get("words", ()), *(w[:200] for w in words)})[:80]
        self.seen["batches"] += 1

    def step(self, done: int) -> None:
        self.seen["steps"] = done
        self.write()

    def logged(self, logs: Any) -> None:
        for name in ("loss", "grad_norm", "learning_rate"):
            if name in logs:
                self.seen.setdefault(f"logged_{name}", []).append(float(logs[name]) if logs[name] is not None else None)

    def write(self) -> None:
        import torch

        if self.parameters:
            with torch.no_grad():
                moved = [float((p.detach() - b).abs().max()) if p.numel() else 0.0 for p, b in zip(self.parameters, self.before, strict=True)]
                self.seen["moved"] = max(moved, default=0.0)
                self.seen["finite"] = all(bool(torch.isfinite(p).all()) for p in self.parameters)
        with open(self.file + ".partial", "w", encoding="utf-8") as out:
            json.dump(self.seen, out)
        os.replace(self.file + ".partial", self.file)

    def _measure_leak(self, trainer: Any, model: Any, inputs: Any) -> None:
        """Change the tokens of one document in the first row: the loss of the last document of the row must stay what it is.

        In a forked process, so that the run itself does not notice (a trainer counts what passes its loss)."""
        row = inputs["input_ids"][0].tolist()
        begins = [i for i, t in enumerate(row[:-3]) if t == self.start and self.tokenizer.decode(row[i + 1 : i + 4]).startswith("user")]
        if len(begins) < 2:
            self.seen["documents"] = len(begins)
            return
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, json.dumps(self._leak(trainer, model, inputs, begins)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        self.seen.update({"documents": len(begins), **(json.loads(told) if told else {"leak": None})})

    def _leak(self, trainer: Any, model: Any, inputs: Any, begins: list[int]) -> dict[str, Any]:
        import torch

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        last, losses = begins[-1], []
        for shift in (0, 7):
            changed = {k: v.clone() if torch.is_tensor(v) else v for k, v in inputs.items()}
            before = changed["input_ids"][0, :last]
            ordinary = before > 20
            if "targets" in inputs:
                late = inputs["at"] >= last
                late &= inputs["at"] < inputs["input_ids"].shape[1]
                changed |= {k: inputs[k][late] for k in ("at", "targets", "weights")}
                changed["trained"] = int(changed["weights"].sum())
                if "ends" in inputs:  # a beginning that documents share is the last one's own
                    ordinary &= inputs["ends"][0, :last] <= last
            else:
                changed["labels"][:] = IGNORE
                changed["labels"][0, last + 1 :] = inputs["labels"][0, last + 1 :]
            before[ordinary] = 21 + (before[ordinary] - 21 + shift) % 300
            count = torch.tensor(len(_trained(changed)))
            with torch.no_grad():
                model.eval()
                losses.append(float(trainer.compute_loss(model, changed, num_items_in_batch=count)))
        return {"leak": abs(losses[0] - losses[1])}


def install(file: str, model: str, leak: bool, kill_after: int | None) -> Probe:
    """Listens from now on, and raises nothing into the run. ``kill_after``: the process is killed before the step after that one begins,
    as a machine that goes down does it."""
    from transformers import Trainer
    from transformers.trainer_callback import CallbackHandler

    probe = Probe(file, model, leak)
    training_step, on_log = Trainer.training_step, CallbackHandler.on_log
    on_step_begin, on_step_end = CallbackHandler.on_step_begin, CallbackHandler.on_step_end

    def step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if probe.training:  # what a tool tries out before its first step is no training
                probe.batch(self, model, inputs)
        except Exception as problem:
            probe.seen["probe_failed"] = f"{type(problem).__name__}: {problem}"
        return training_step(self, model, inputs, *args, **kwargs)

    def step_end(self: Any, args: Any, state: Any, control: Any) -> Any:
        probe.step(state.global_step)
        return on_step_end(self, args, state, control)

    def log(self: Any, args: Any, state: Any, control: Any, logs: Any, *rest: Any, **kwargs: Any) -> Any:
        probe.logged(logs)
        return on_log(self, args, state, control, logs, *rest, **kwargs)

    def step_begin(self: Any, args: Any, state: Any, control: Any) -> Any:
        probe.training = True
        if kill_after is not None and state.global_step >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return on_step_begin(self, args, state, control)

    Trainer.training_step = step
    CallbackHandler.on_step_begin = step_begin
    CallbackHandler.on_step_end = step_end
    CallbackHandler.on_log = log
    return probe
