"""The recipe, read top to bottom: plan, data, preflight, model, Trainer, save, report."""

from __future__ import annotations

import contextlib
import datetime
import gc
import hashlib
import json
import random
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import set_seed

from gogpt.adapters import add_method, base_note
from gogpt.arguments import training_arguments
from gogpt.attention import attend_by_document
from gogpt.config import RunConfig
from gogpt.data.ledger import Ledger
from gogpt.data.stream import RowStream, read_mark
from gogpt.engines import Ranks, check_saved, quiet_engines
from gogpt.errors import GogptError
from gogpt.extension import read_extension, write_extension
from gogpt.facts import ProofFacts, StepStats, to_json
from gogpt.findings import Finding, Severity, Text, Verdict
from gogpt.fused import fuse, keep_memory
from gogpt.model import load_base, rehearse_saving, save_generation_config, save_tokenizer
from gogpt.modelfiles import BASE_NOTE, Checkpoint, find_model, trains_new
from gogpt.preflight import Preflight, Refused, preflight
from gogpt.proofs import judge_proofs, prove, prove_stop
from gogpt.quantisation import quantisation_of
from gogpt.report import write_report
from gogpt.rhythm import Rhythm
from gogpt.rollback import Rollback, passed_over, plan_rollback, read_rollbacks, roll_back
from gogpt.runfolder import (
    RunFolder,
    as_disk_error,
    lines_up_to,
    read_json,
    refuse_folder,
    whole_folder,
    write_json,
    write_text,
)
from gogpt.show import pick_samples, write_samples
from gogpt.trainer import STREAM_MARK, GogptTrainer, checkpoint_of, step_shape
from gogpt.watch import RUN_CHECKS, RunStopped, Watch
from gogpt.world import World, deepspeed_settings

ENGINE_SETTINGS = "deepspeed.json"
"""In a run folder: the settings that DeepSpeed was given."""


class RefusedElsewhere(GogptError):
    """Another process found, on its own device, that the run cannot be trusted; its own error says what."""

    def __init__(self, rank: int) -> None:
        super().__init__("RUN630", f"process {rank} refused the run before its first step", where=f"rank {rank}", exit_code=1,
                         fix="see that process's own error; a fault of one device alone shows so")


class Interrupted(Exception):
    """Ctrl-C or SIGTERM; everything is saved and the run can go on."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(f"interrupted at step {step}")
        self.folder, self.step = folder, step


class RolledBack(Exception):
    """The run goes back; everything for it is on the disk."""

    def __init__(self, rollback: Rollback) -> None:
        super().__init__(rollback.told("en"))
        self.rollback = rollback


class Observer(Protocol):
    """Who watches a run from outside: the command line's progress bars, a test."""

    def stage(self, name: str) -> None: ...
    def reading(self, rows: int) -> None: ...
    def planned(self, before: Preflight) -> None: ...
    def proved(self, proofs: ProofFacts, findings: Sequence[Finding]) -> None: ...
    def started(self, steps: int, done: int) -> None: ...
    def step(self, stats: StepStats) -> None: ...
    def evaluated(self, line: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    folder: Path
    steps: int
    stopped_early: bool
    findings: tuple[Finding, ...]
    report: Path


def train(config: RunConfig, observer: Observer, *, resume: bool = False, overwrite: bool = False,
          command: Sequence[str] = (), lang: str = "en", world: World | None = None) -> Outcome:
    """Train a recipe to its run folder. ``resume``: go on from its last whole checkpoint, to the same numbers.

    ``world``: which of several processes this is; all of them call this, and the first one writes the documents. Data is read and
    encoded before they first meet, so that no one waits at a barrier for it.

    Raises GogptError (bad input; Refused by the preflight; RunStopped by the watch), Interrupted.
    """
    try:
        return _train(config, observer, resume=resume, overwrite=overwrite, command=command, lang=lang, main=world is None or world.rank == 0)
    except (RunStopped, Interrupted, Refused, RefusedElsewhere):
        Ranks().wait()  # all of them end here; a launcher ends the others with the first that leaves
        raise


def _train(config: RunConfig, observer: Observer, *, resume: bool, overwrite: bool, command: Sequence[str], lang: str, main: bool) -> Outcome:
    folder = RunFolder(Path(config.output))
    if main:
        refuse_folder(folder, resume=resume, overwrite=overwrite)
    observer.stage("reading data")
    before = preflight(config, progress=observer.reading, keep=True)
    config = before.config  # micro_batch_size: auto is a number now
    observer.planned(before)
    for told in before.prepared.told:
        observer.note(told)
    if before.verdict.refusals:
        raise Refused(before.verdict)
    if config.method.kind == "full" and config.method.new_tokens != "none":
        observer.note(f"method full trains every row already: method.new_tokens: {config.method.new_tokens} changes nothing")
    start = _start_step(folder, before) if resume else 0
    rollbacks = read_rollbacks(folder) if resume else []
    with quiet_engines():
        own = None if before.engine_file is None else before.engine_file.document
        settings = deepspeed_settings(config, before.plan, own) if config.parallel.engine == "deepspeed" else None
        args = training_arguments(config, before.plan, folder, settings, experts=Checkpoint(before.folder).has_experts)
        beside = None if config.method.kind in ("lora", "qlora") else before.folder / "config.json"
        saved = rehearse_saving(before.tokenizer, before.template, probe_texts(before), config=beside)
    for told in saved.refused:
        observer.note(f"transformers encodes otherwise as {told}; the tokenizer will be saved as {saved.kind}")
    if main and overwrite and folder.path.exists():
        shutil.rmtree(folder.path)
    status = _Status(folder, before, command, rollbacks, main=main)
    try:
        if main:
            write_documents(folder, before, lang)
            if settings is not None:
                write_json(folder.path / ENGINE_SETTINGS, settings)
        Ranks().wait()
        status.write("running", start)
        while True:
            try:
                return _run(before, args, folder, observer, status, start, lang)
            except RolledBack as back:
                start = back.rollback.back_to
            gc.collect()  # the model and optimizer of the attempt that was undone
            torch.cuda.empty_cache()
    except (RunStopped, Interrupted):
        raise
    except KeyboardInterrupt:
        with contextlib.suppress(GogptError):
            status.write("interrupted", status.step)
        raise
    except torch.OutOfMemoryError as problem:
        raise _out_of_memory(problem, status) from problem
    except Exception as problem:
        known = problem if isinstance(problem, GogptError) else as_disk_error(problem, folder.path)
        if known is None and "can't allocate memory" in str(problem):
            known = _out_of_memory(problem, status)
        if start == 0 and not folder.checkpoint_steps() and not lines_up_to(folder.metrics, 1):
            # It ended before the first step: there is nothing in the folder that is worth keeping.
            if main:
                shutil.rmtree(folder.path, ignore_errors=True)
        else:
            with contextlib.suppress(GogptError):
                status.write("stopped", status.step, error=str(known or problem))
        if known is not None and known is not problem:
            raise known from problem
        raise


def _start_step(folder: RunFolder, before: Preflight) -> int:
    """The step to go on from. Raises GogptError RUN611 (no checkpoint), RUN612 (other data or plan), RUN613 (ZeRO's parts of other processes)."""
    steps = folder.checkpoint_steps()
    if not steps:
        raise GogptError("RUN611", "there is no whole checkpoint to go on from", where=str(folder.checkpoints),
                         fix="start again: gogpt train RECIPE --overwrite")
    checkpoint_of(folder.checkpoint(steps[-1]))
    written = folder.checkpoint(steps[-1]).glob("global_step*/*zero_pp_rank_*_optim_states.pt")
    parts = len({m.group(1) for p in written if (m := re.search(r"zero_pp_rank_(\d+)_", p.name))})
    if parts and parts != before.plan.world_size:
        raise GogptError("RUN613", f"the checkpoint is of {parts} processes", where=str(folder.checkpoint(steps[-1])), got=f"{before.plan.world_size} processes",
                         expected=f"{parts}, whose parts of the optimizer lie in it", fix=f"gogpt train --resume {folder.path} parallel.processes={parts}")
    then = read_json(folder.plan)
    now = fingerprint(before)
    if then.get("fingerprint") != now:
        raise GogptError(
            "RUN612", "the data, the tokenizer or the plan is not what this run was started with", where=str(folder.path),
            got=f"fingerprint {now[:12]}", expected=f"fingerprint {str(then.get('fingerprint'))[:12]}",
            fix="bring back the files as they were, or start a new run",
        )
    return steps[-1]


def fingerprint(before: Preflight) -> str:
    """SHA-256 over every id, label, row, the order and the learning rates: what makes two runs one trajectory.

    Of a stream, over the ids and rows of its head and over all that its rows are made of (``ExampleStream.fingerprint``).
    """
    digest = hashlib.sha256()
    if before.stream is not None:
        digest.update(before.stream.fingerprint().encode())
    train_set, plan = before.prepared.train, before.plan
    digest.update(train_set.digest().encode())
    digest.update(np.ascontiguousarray(plan.order).tobytes())
    # Not how a step's rows are divided over processes and micro-batches: the gradient is the same.
    digest.update(plan.bins.tobytes())
    digest.update(json.dumps([plan.steps, plan.batch_size,
                              [plan.lr_at(s) for s in (1, plan.warmup_steps + 1, plan.steps)]]).encode())
    return digest.hexdigest()


class _Status:
    """run.json, kept current."""

    def __init__(self, folder: RunFolder, before: Preflight, command: Sequence[str], rollbacks: Sequence[Rollback] = (), *, main: bool = True) -> None:
        self._folder, self._before, self._command, self._main = folder, before, command, main
        self.rollbacks = list(rollbacks)
        self._started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self.step = 0

    def write(self, status: str, step: int, *, error: str | None = None, **more: Any) -> None:
        self.step = step
        if not self._main:
            return
        env = self._before.facts.env
        write_json(self._folder.status, {
            "status": status, "started": self._started, "step": step, "steps": self._before.plan.steps,
            "finished": None if status == "running" else datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "processes": self._before.plan.world_size, "device": env.device_name if env else "", "versions": dict(env.versions) if env else {},
            "command": " ".join(self._command), "allowed": list(self._before.config.checks.allow), "error": error,
            "rollbacks": self.rollbacks, **more,
        })


def findings_document(path: str, kind: str, verdict: Verdict, more: Sequence[Finding] = (), lang: str = "en") -> dict[str, Any]:
    """The document of ``check --format json`` and of findings.json."""
    return {
        "object": {"path": path, "kind": kind},
        "findings": [to_json(f.to_dict(lang)) for f in (*verdict.findings, *more)],
        "checked": list(verdict.checked),
        "not_checked": [{"code": code, "why": why} for code, why in verdict.not_checked],
        "allowed": list(verdict.allowed),
    }


def write_documents(folder: RunFolder, before: Preflight, lang: str) -> None:
    """What is known before the first step, on disk. Raises GogptError ENV110."""
    write_text(folder.recipe, before.config.to_yaml())
    write_json(folder.plan, {**before.plan.to_dict(), "fingerprint": fingerprint(before)})
    write_json(folder.facts, before.facts)
    write_json(folder.findings, findings_document(before.config.output, "run", before.verdict, lang=lang))
    if before.stream is None:
        _write_ledger(folder, before)
    write_samples(folder.samples, before.prepared.train, before.prepared.sampled, before.tokenizer, before.template.name)


def _write_ledger(folder: RunFolder, before: Preflight) -> None:
    write_json(folder.ledger, before.prepared.ledger.to_dict())
    rejects = (json.dumps(to_json(r), ensure_ascii=False, default=str) + "\n" for r in before.prepared.rejects())
    write_text(folder.rejects, "".join(rejects))


@contextlib.contextmanager
def opened_stream(before: Preflight, folder: RunFolder, start: int, note: Callable[[str], None]) -> Iterator[RowStream | None]:
    """The rows of a streaming run from the first on, None for another run. Whatever happens, the ledger of what was read is written.

    Raises GogptError RUN612 while the steps up to ``start`` are read again, where they are not what was trained.
    """
    if before.stream is None:
        yield None
        return
    held, size = before.prepared.held or Ledger(), before.plan.batch_size
    main = Ranks().main
    rows = RowStream(before.stream, ledger=held, rejects=folder.rejects if main else None, step_rows=size, note=note)
    mark = read_mark(folder.checkpoint(start) / STREAM_MARK) if start else None
    if start:
        note("reading the stream again up to the checkpoint")
    if mark is not None and mark.get("digest"):
        rows.expect(int(mark["rows"]), str(mark["digest"]), str(folder.path))
    try:
        yield rows
    finally:
        rows.close()
        if main:
            write_json(folder.ledger, rows.ledger.to_dict())


def _run(before: Preflight, args: Any, folder: RunFolder, observer: Observer, status: _Status, start: int, lang: str) -> Outcome:
    config, plan = before.config, before.plan
    set_seed(config.train.seed)
    random.seed(config.train.seed)
    observer.stage("loading the model")
    if args.device.type == "cpu":
        keep_memory()
    with quiet_engines():
        weights = find_model(config.model, weights=True)
        base = load_base(config.model, weights, plan.weights_dtype, quantisation_of(config, weights, plan.weights_dtype))
        attend_by_document(base, config.model.attention, args.device)
        shape = step_shape(base, before, observer.note)
        model = add_method(base, config.method, weights)
        if takes_fused(config, args):
            fused = fuse(model)
            if fused.kept:
                observer.note(fused.told())
        main = Ranks().main
        for path in (folder.metrics, folder.evals) if main else ():
            write_text(path, "".join(line + "\n" for line in lines_up_to(path, start)))
        Ranks().wait()
        if Ranks().size > 1:
            # All made the same model; what they draw from now on (dropout) must not be the same.
            set_seed(config.train.seed + Ranks().rank)
        trainer: GogptTrainer
        with interruptible(observer.note) as interrupted, opened_stream(before, folder, start, observer.note) as stream:
            facts = before.facts.model
            watch = Watch(plan, folder.metrics, allow=config.checks.allow, policy=config.checks.policy, on_step=observer.step, note=observer.note,
                          save_batch=_batch_saver(folder), interrupted=interrupted, vocab_size=facts.vocab_size if facts else None, lang=lang)
            watch.recall(lines_up_to(folder.metrics, start))
            rhythm = Rhythm(lambda: trainer, config, plan, evaluates=len(before.prepared.eval) > 0, interrupted=interrupted)
            trainer = GogptTrainer(
                model=model, args=args, plan=plan, watch=watch, folder=folder,
                train_set=before.prepared.train, eval_set=before.prepared.eval, pad_id=before.pad_id,
                keep=config.train.keep_checkpoints, engine=config.parallel, stream=stream, passed_over=passed_over(status.rollbacks),
                on_eval=observer.evaluated, callbacks=[rhythm], shape=shape,
            )
            rhythm.recall([json.loads(line) for line in lines_up_to(folder.evals, start)], folder.checkpoint_steps())
            before = _proven(trainer, before, folder, observer, lang)
            observer.started(plan.steps, start)
            checkpoint = str(folder.checkpoint(start)) if start else None
            try:
                trainer.train(resume_from_checkpoint=checkpoint)
            except RunStopped as stopped:
                _go_back(folder, status, watch, stopped, observer, config.train.rollbacks, lang)
                if main and stream is not None:
                    write_json(folder.ledger, stream.ledger.to_dict())
                if main:
                    _finish_stopped(before, folder, status, watch, stopped, trainer.state.global_step, lang)
                raise
            step = int(trainer.state.global_step)
            if (watch.interrupted or interrupted()) and step < plan.steps and not rhythm.stopped_early:
                status.write("interrupted", step)
                if main:
                    write_report(folder.path, lang)
                raise Interrupted(folder.path, step)
        if rhythm.best is not None and rhythm.best[1] != step:
            observer.note(f"keeping the weights of step {rhythm.best[1]}: the best evaluation loss, {rhythm.best[0]:.4f}")
            trainer.load_weights(folder.checkpoint(rhythm.best[1]))
        observer.stage("saving the model")
        save_final(trainer, before, weights, folder)
        before = _proven_after(trainer, before, folder, observer)
    for told in watch.warned():
        observer.note(_SUMMARY.of(lang).format(code=told.finding.code, steps=told.steps, first=told.first, last=told.last))
    report = folder.path / "report.html"
    if main:
        _finish_documents(before, folder, status, watch, lang)
        status.write("finished", step, stopped_early=rhythm.stopped_early)
        report = write_report(folder.path, lang)
    Ranks().wait()
    return Outcome(folder=folder.path, steps=step, stopped_early=rhythm.stopped_early,
                   findings=(*before.verdict.findings, *_found(status, watch)), report=report)


def takes_fused(config: RunConfig, args: Any) -> bool:
    """Whether the run's modules may be replaced: on a CPU, whole, and traced by nobody. FSDP2 and ZeRO 3 gather weights in the hooks of each module,
    which a function over several modules does not pass through."""
    settings = args.deepspeed if isinstance(args.deepspeed, dict) else {}
    sharded = config.parallel.engine == "fsdp" or (settings.get("zero_optimization") or {}).get("stage") == 3
    return config.train.fused and args.device.type == "cpu" and not sharded and not args.torch_compile


def _proven(trainer: GogptTrainer, before: Preflight, folder: RunFolder, observer: Observer, lang: str) -> Preflight:
    """Step 0: what the run relies on is proven on its own model and data, and is on disk. Raises Refused."""
    if before.config.checks.proofs:
        observer.stage("proving step 0")
    proofs = prove(trainer, before)
    before, found = judge_proofs(before, proofs)
    observer.proved(proofs, found)
    refused = Ranks().gather([float(bool(before.verdict.refusals))])[:, 0]
    if before.verdict.refusals:
        raise Refused(before.verdict)
    if refused.any():
        raise RefusedElsewhere(int(refused.argmax()))
    if Ranks().main:
        write_json(folder.facts, before.facts)
        write_json(folder.findings, findings_document(before.config.output, "run", before.verdict, lang=lang))
    return before


def _proven_after(trainer: GogptTrainer, before: Preflight, folder: RunFolder, observer: Observer) -> Preflight:
    """The trained model's stop, with the files that are served. It refuses nothing: the model is saved already."""
    proofs = prove_stop(trainer, before, folder.final)
    told = {f.code for f in before.verdict.findings}
    before, found = judge_proofs(before, proofs)
    observer.proved(proofs, [f for f in found if f.code not in told])
    return before


_SUMMARY = Text(en="{code}: at {steps} steps from {first} to {last}", zh="{code}：第 {first} 至 {last} 步之间共 {steps} 步")


def _go_back(folder: RunFolder, status: _Status, watch: Watch, stopped: RunStopped, observer: Observer, most: int, lang: str) -> None:
    """Raises RolledBack where a rollback is left that can mend what stopped the run."""
    rollback = plan_rollback(folder, stopped.finding, watch.facts, status.rollbacks, most=most)
    if rollback is None:
        return
    roll_back(folder, rollback)
    status.rollbacks.append(rollback)
    status.write("running", rollback.back_to)
    observer.note(f"{rollback.code}: {rollback.told(lang)}")
    raise RolledBack(rollback) from stopped


def _found(status: _Status, watch: Watch) -> tuple[Finding, ...]:
    return (*(r.finding() for r in status.rollbacks), *watch.findings)


def _finish_documents(before: Preflight, folder: RunFolder, status: _Status, watch: Watch, lang: str) -> None:
    write_json(folder.facts, replace(before.facts, run=watch.facts))
    # What the policy lets pass is, for a reader of the run, allowed by name.
    passed = (f.code for f in watch.findings if f.severity is Severity.ERROR and watch.action(f) != "stop")
    verdict = replace(before.verdict, checked=(*before.verdict.checked, *(c.code for c in RUN_CHECKS)),
                      allowed=tuple(dict.fromkeys((*before.verdict.allowed, *passed))))
    write_json(folder.findings, findings_document(before.config.output, "run", verdict, _found(status, watch), lang))


def _finish_stopped(before: Preflight, folder: RunFolder, status: _Status, watch: Watch, stopped: RunStopped, step: int, lang: str) -> None:
    _finish_documents(before, folder, status, watch, lang)
    status.write("stopped", step, error=str(stopped))
    write_report(folder.path, lang)


def _batch_saver(folder: RunFolder) -> Callable[[list[dict[str, Any]] | None, int], str]:
    def save(batches: list[dict[str, Any]] | None, rank: int) -> str:
        """The micro-batches of a step as JSON: ids, labels, documents, and where each came from."""
        path = folder.path / ("stopped_batch.json" if Ranks().size == 1 else f"stopped_batch-{rank}.json")
        if batches is not None:
            write_json(path, [{k: v.tolist() if hasattr(v, "tolist") else v for k, v in b.items()} for b in batches])
        return str(path)

    return save


def probe_texts(before: Preflight) -> list[str]:
    """Texts of the run's own data, on which the served tokenizer must give the ids that are trained."""
    train_set = before.prepared.train
    return [before.tokenizer.decode(train_set[i].input_ids) for i in pick_samples(train_set, before.prepared.sampled)]


def save_final(trainer: GogptTrainer, before: Preflight, weights: Path, folder: RunFolder) -> None:
    """final/: adapter or whole model, tokenizer, chat template and stop tokens, all or nothing. All processes gather, the first one writes."""
    state = trainer.gathered_weights()
    with Ranks().first_alone() as alone:
        if alone:
            _write_final(trainer, before, weights, folder, state)


def _write_final(trainer: GogptTrainer, before: Preflight, weights: Path, folder: RunFolder, state: dict[str, Any] | None) -> None:
    model = trainer.model
    with whole_folder(folder.final) as out:
        model.config.use_cache = True
        model.save_pretrained(str(out), state_dict=state)
        check_saved(out, trainer.trainable, trained=trainer.watch.moved)
        if not (out / "config.json").exists():
            write_json(out / BASE_NOTE, base_note(weights, quantisation_of(before.config, weights, before.plan.weights_dtype)))
        save_tokenizer(before.tokenizer, before.template, out, probe_texts(before))
        save_generation_config(before.tokenizer.generation_config, before.template, before.tokenizer, out)
        note = read_extension(weights)
        if note is not None:
            write_extension(note, out, trained=trains_new(Checkpoint(weights), before.config.method))
        (out / "README.md").unlink(missing_ok=True)


@contextlib.contextmanager
def interruptible(note: Callable[[str], None]) -> Iterator[Any]:
    """Ctrl-C and SIGTERM ask the loop to save and stop; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        note("stopping: this step is finished and saved first (once more stops at once)")

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _out_of_memory(problem: BaseException, status: _Status) -> GogptError:
    error = GogptError(
        "RUN620", "out of memory", where=f"step {status.step + 1}", got=str(problem).splitlines()[0][:160],
        fix="halve train.micro_batch_size (the same batch_size gives the same gradient), lower data.max_length, "
        "set train.gradient_checkpointing: true, or use method.kind: lora or qlora", exit_code=1,
    )
    with contextlib.suppress(GogptError):
        status.write("stopped", status.step, error=str(error))
    return error


