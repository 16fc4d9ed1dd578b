"""What a run leaves behind, whoever trained it: recognised, read, and turned into HistoryFacts for the checks. torch is not imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from gogpt.autopsy import checkpoints, events, settings, textlogs
from gogpt.autopsy.history import facts_of
from gogpt.autopsy.records import History, Known, Record, record_of, whole
from gogpt.errors import GogptError
from gogpt.facts import HistoryFacts
from gogpt.logs import Match
from gogpt.logs import read_log as first_error_of

LOG_NAMES = (".log", ".out", ".err")
JSON_LOGS = ("trainer_log.jsonl", "logging.jsonl", "metrics.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leavings:
    """What a path was recognised as. ``kind``: trainer_run, tensorboard, log, deepspeed_checkpoint, gogpt_run."""

    path: Path
    kind: str


def find_leavings(path: Path) -> Leavings | None:
    """What a run left at this path, or None: by names, and for single files by what stands in their first lines."""
    try:
        kind = _folder_kind(path) if path.is_dir() else _file_kind(path) if path.is_file() else None
    except OSError:
        return None
    return Leavings(path=path, kind=kind) if kind else None


def _folder_kind(folder: Path) -> str | None:
    if (folder / "metrics.jsonl").is_file() and (folder / "plan.json").is_file():
        return "gogpt_run"
    if _state_of(folder) is not None or any((folder / name).is_file() for name in JSON_LOGS):
        return "trainer_run"
    if checkpoints.holds_shards(folder) or (folder / "latest").is_file():
        return "deepspeed_checkpoint"
    return "tensorboard" if _event_files(folder) else None


def _file_kind(path: Path) -> str | None:
    name = path.name.lower()
    if name.startswith("events.out.tfevents"):
        return "tensorboard"
    if name.endswith(".json"):
        return "trainer_run" if name == "trainer_state.json" else None
    if name.endswith((".jsonl", ".ndjson")):
        return "log" if name in JSON_LOGS or _rows_are_records(path) else None
    plain = name.removesuffix(".gz")
    if plain.endswith(LOG_NAMES):
        return "log"
    return "log" if plain.endswith(".txt") and textlogs.holds_metrics(textlogs.lines_of(path), limit=2000) else None


def _rows_are_records(path: Path) -> bool:
    """A loss or a rate beside a step or an epoch in one of the first lines: no row of training data has both."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in islice(file, 5):
            try:
                record = record_of(json.loads(line))
            except (ValueError, RecursionError, AttributeError, TypeError):
                continue
            if record is not None and (record.step, record.epoch) != (None, None):
                return True
    return False


def _state_of(folder: Path) -> Path | None:
    """trainer_state.json of a folder, or of its newest checkpoint, whichever has more steps (a finished run writes its own)."""
    own = folder / "trainer_state.json"
    if own.is_file():
        return own
    last = checkpoints.newest(folder)
    return last / "trainer_state.json" if last is not None and (last / "trainer_state.json").is_file() else None


def _event_files(folder: Path) -> list[Path]:
    """Event files of a folder and up to three folders below it."""
    return sorted(p for depth in ("", "*/", "*/*/", "*/*/*/") for p in folder.glob(f"{depth}events.out.tfevents.*"))


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Autopsy:
    """A run's leavings as read."""

    leavings: Leavings
    history: History
    facts: HistoryFacts


def read_leavings(left: Leavings, assignments: Sequence[str] = ()) -> Autopsy:
    """Read them all. Raises GogptError RUN615 (cannot be read), CFG202, CFG204 (``assignments``)."""
    asked = settings.read_asked(assignments)
    try:
        history = _READERS[left.kind](left.path)
    except (OSError, EOFError, ValueError, RecursionError) as problem:
        said = getattr(problem, "strerror", None) or str(problem).splitlines()[0] or type(problem).__name__
        raise GogptError("RUN615", f"what the run left cannot be read: {said}", where=str(left.path),
                         fix="give a run folder, a checkpoint, an event file or a log as the trainer wrote it") from problem
    known = Known(values=dict(asked.values), sources=dict(asked.sources))
    for name, value in history.known.values.items():
        known.say(name, value, history.known.sources[name])
    history.known = known
    found = next((f for f in (left.path, left.path.parent) if f.is_dir() and left.kind in ("trainer_run", "deepspeed_checkpoint")), None)
    place = checkpoints.newest(found) or found if found is not None else None
    seen = checkpoints.look_at(place) if place is not None else None
    return Autopsy(leavings=left, history=history, facts=facts_of(history, str(left.path), seen))


def _read_state(path: Path) -> History:
    """trainer_state.json of transformers' Trainer, and what lies beside it."""
    state = path if path.is_file() else _state_of(path)
    folder = path.parent if path.is_file() else path
    history = History(tool="Trainer")
    if state is not None:
        document = json.loads(state.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or not isinstance(document.get("log_history"), list):
            raise ValueError("no log_history")
        _take_state(history, document, state)
    for name in JSON_LOGS:
        if (folder / name).is_file():
            other = textlogs.read_log(folder / name)
            history.tool = {"trainer_log.jsonl": "LLaMA-Factory", "logging.jsonl": "ms-swift"}.get(name, history.tool)
            if len(other.records) > len(history.records):
                history.records, history.finished = other.records, other.finished or history.finished
            for key, value in other.known.values.items():
                history.known.say(key, value, other.known.sources[key])
            history.read.append(str(folder / name))
    for place in dict.fromkeys((state.parent if state else folder, folder, folder.parent if folder.name.startswith("checkpoint-") else folder)):
        settings.take_files(history.known, place, history.read, history.unread)
    history.tool = _tool(folder, history.tool)
    history.finished = history.finished or (folder / "train_results.json").is_file()
    found = _event_files(folder)
    if found:
        _take_event_settings(history, found)
    _take_logs(history, folder)
    return history


def _take_state(history: History, document: dict[str, Any], state: Path) -> None:
    steps = whole(document.get("max_steps"))
    history.known.say("max_steps", steps if steps and steps > 0 else None, "max_steps")
    history.best_kept = document.get("best_model_checkpoint") is not None
    for line in document["log_history"]:
        if isinstance(line, dict) and (record := record_of(line, history)) is not None:
            history.records.append(record)
    history.read.append(str(state))


def _take_event_settings(history: History, found: list[Path]) -> None:
    try:
        texts = events.read_events(found[-1]).texts
    except OSError:
        return
    settings.take(history.known, events.settings_in(texts), "settings in the event file")


def _take_logs(history: History, folder: Path) -> None:
    """Skipped steps and world size from logs in the folder; the records are the state's."""
    for path in sorted(p for pattern in ("*.log", "*.out") for p in folder.glob(pattern))[:4]:
        try:
            other = textlogs.read_log(path)
        except (OSError, EOFError):
            continue
        history.skipped += other.skipped
        if other.skipped_total is not None:
            history.skipped_total, history.counted_steps = other.skipped_total, other.counted_steps
        for key in ("world_size", "precision", "accumulation"):
            history.known.say(key, other.known.get(key), path.name)
        history.read.append(str(path))


def _tool(folder: Path, told: str) -> str:
    if told != "Trainer":
        return told
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace")[:20_000] if card.is_file() else ""
    if (folder / "trainer_log.jsonl").is_file() or "llama-factory" in text:
        return "LLaMA-Factory"
    if "axolotl" in text or any("axolotl" in p.name for p in folder.glob("*")):
        return "Axolotl"
    return "TRL" if "library_name: trl" in text or "\n- trl\n" in text else told


def _read_tensorboard(path: Path) -> History:
    """Event files of one run: those of the newest folder, and of earlier ones that it continues."""
    files = [path] if path.is_file() else _event_files(path)
    groups: dict[Path, list[tuple[Path, events.EventFile]]] = {}
    for file in files:
        groups.setdefault(file.parent, []).append((file, events.read_events(file)))
    if path in groups:
        groups = {path: groups[path]}
    ordered = sorted(groups.values(), key=lambda g: min(f.started for _, f in g))
    ordered = [g for g in ordered if any(f.scalars for _, f in g)] or ordered[-1:]
    chosen = ordered[-1:]
    while len(chosen) < len(ordered) and _first_step(chosen[0]) > max(1, _first_step(ordered[-len(chosen) - 1])):
        chosen = ordered[-len(chosen) - 1:]
    history = History(tool="TensorBoard")
    for group in ordered[: len(ordered) - len(chosen)]:
        history.unread |= {str(file): "another run" for file, _ in group}
    for group in chosen:
        for file, found in sorted(group, key=lambda g: g[1].started):
            _take_events(history, found)
            history.read.append(str(file))
            settings.take(history.known, events.settings_in(found.texts), "settings in the event file")
            if found.problem:
                history.unread[str(file)] = found.problem
    history.records.sort(key=lambda r: r.step or 0)
    return history


def _first_step(group: list[tuple[Path, events.EventFile]]) -> int:
    return min((p[0] for _, f in group for points in f.scalars.values() for p in points), default=0)


def _take_events(history: History, found: events.EventFile) -> None:
    """Scalars of one file as records, one a step; a step that an earlier file has, too, is the later one's (a resumed run)."""
    by_step: dict[int, dict[str, float]] = {}
    for tag, points in found.scalars.items():
        for step, value, _ in points:
            by_step.setdefault(step, {})[tag] = value
    made = []
    for step, values in sorted(by_step.items()):
        record = record_of(values, history)
        if record is not None:
            record.step = step
            made.append(record)
    again = {r.step for r in made}
    if made:
        history.records = [r for r in history.records if r.step not in again] + made


def _read_gogpt(folder: Path) -> History:
    """A run folder of GoGPT: every step's raw numbers, and the plan's own rates."""
    history = History(tool="GoGPT")
    for line in _json_lines(folder / "metrics.jsonl"):
        record = record_of(line)
        if record is not None:
            history.records.append(record)
    if (folder / "evals.jsonl").is_file():
        history.records += [r for line in _json_lines(folder / "evals.jsonl") if (r := record_of(line)) is not None]
    history.records.sort(key=lambda r: r.step or 0)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    if not isinstance(plan, dict):
        raise ValueError("plan.json is no plan")
    history.known.say("max_steps", whole(plan.get("steps")), "plan.json")
    for name in ("world_size", "precision", "accumulation"):
        history.known.say(name, plan.get(name), "plan.json")
    history.known.say("warmup", plan.get("warmup_steps"), "plan.json")
    history.known.say("rate", plan.get("learning_rate"), "plan.json")
    history.rates = {int(s): float(lr) for s, lr in plan.get("lr", [])}
    history.read += [str(folder / "metrics.jsonl"), str(folder / "plan.json")]
    history.finished = (folder / "final").is_dir()
    return history


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if isinstance(data, dict):
            yield data


def _read_deepspeed(folder: Path) -> History:
    """A checkpoint that DeepSpeed wrote by itself: names and sizes; its states are pickles."""
    history = History(tool="DeepSpeed")
    seen = checkpoints.look_at(folder)
    if seen.ranks:
        history.known.say("world_size", len(seen.ranks), "shards")
    history.unread = {str(p): "a pickle, which can run code when it is opened" for p in islice(folder.glob("**/*_states.pt"), 1)}
    _take_logs(history, folder)
    return history


def _read_text(path: Path) -> History:
    return textlogs.read_log(path)


def first_problem(left: Leavings) -> Match | None:
    """The first error of a log, explained. Raises GogptError ENV131."""
    return first_error_of(left.path)


def unjudged(facts: HistoryFacts) -> dict[str, str]:
    """Checks for which the run left nothing to judge by, and why."""
    losses, checkpoint = "no loss is logged", "no checkpoint is there"
    nothing = {
        **({} if facts.num_losses else dict.fromkeys(("RUN601", "RUN603", "RUN661", "RUN667", "RUN670"), losses)),
        **({} if facts.num_rates else {"RUN602": "no learning rate is logged"}),
        **({} if facts.num_evals else {"RUN660": "no evaluation loss is logged"}),
        **({} if facts.epochs_planned else {"RUN662": "it is not known for how many epochs the run was asked"}),
        **({} if facts.checkpoint else dict.fromkeys(("RUN663", "RUN664", "RUN665"), checkpoint)),
        **({} if facts.skipped_steps is not None else {"RUN666": "skipped steps are not logged"}),
        **({} if facts.num_grad_norms else {"RUN668": "no gradient norm is logged"}),
        **({} if facts.vocab_size and facts.num_losses else {"RUN669": "the vocabulary is not known" if facts.num_losses else losses}),
    }
    return dict(sorted(nothing.items()))


_READERS = {"trainer_run": _read_state, "tensorboard": _read_tensorboard, "log": _read_text, "deepspeed_checkpoint": _read_deepspeed,
            "gogpt_run": _read_gogpt}

__all__ = ["Autopsy", "Leavings", "Record", "find_leavings", "first_problem", "read_leavings", "unjudged"]
