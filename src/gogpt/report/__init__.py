"""The report of a run: the documents of its folder -> one HTML file that opens offline.

A pure function of the folder: every number on the page was read from a document or computed from such
numbers, and a document that is missing or was cut short is named on the page instead of failing. This module
reads and computes; ``report.html.jinja`` words and lays out, by ``LABELS``.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gogpt.records import IGNORE_INDEX
from gogpt.report.charts import Point, Series, differences, figure, number, share, size, smooth, to_float
from gogpt.report.labels import LABELS

if TYPE_CHECKING:
    from jinja2 import Template

NUM_SAMPLES = 10
MAX_TOKENS_SHOWN = 4000
"""tokens painted of one example; what is left out is said"""
NUM_TABLE_ROWS = 24
MAX_COUNT = 2**53
"""what counts and sums stay below: a document with more of anything is broken"""
LR_TOLERANCE = 1e-6
"""difference from the planned learning rate, as a part of the highest planned one, that is called one"""

PROOFS = {
    "accumulation": ("rows", "trained_tokens", "loss_expected", "loss_together", "loss_apart", "gradient_difference"),
    "packing": ("documents", "tokens", "leak", "alone"),
    "gradients": ("tensors", "missing", "non_finite", "zero"),
    "adapter": ("tensors", "moved", "loss_before", "loss_after"),
    "initial_loss": ("tokens", "answers", "loss", "alone", "shuffled"),
    "generation": ("answers", "prompts_equal", "stops_trained", "stopped"),
    "trained_stop": ("answers", "stopped", "max_new_tokens", "probability"),
}
"""Proof -> the figures of facts.json that the page tells of it."""


def write_report(run: Path, lang: str = "en") -> Path:
    """Write ``report.html`` into the run folder ``run`` (which must exist) and return its path.

    ``lang`` is en or zh; any other is read as en. The file is replaced in one step, so that a reader never
    sees half a page.
    """
    target = run / "report.html"
    temporary = run / f".report.html.{os.getpid()}"
    try:
        # A lone surrogate (broken text in somebody's data) has no UTF-8 form.
        temporary.write_bytes(render_report(run, lang).encode("utf-8", errors="replace"))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def render_report(run: Path, lang: str = "en") -> str:
    """The page of ``write_report`` as text."""
    say = Words(LABELS.get(lang, LABELS["en"]))
    folder = read_folder(run)
    return _template().render(
        {name.partition(".")[0]: document.data for name, document in folder.documents.items()},
        lang="zh" if lang == "zh" else "en", L=say.labels, say=say, documents=folder.documents, folder=folder,
        name=run.name or run.resolve().name, resume=f"gogpt train --resume {shlex.quote(str(run))}",
        findings=folder.findings, state=_state(folder), key=_key_numbers(folder), charts=_charts(folder, say), rollbacks=_rollbacks(folder),
        proofs=_proofs(folder, say), table=_table(folder), balance=_balance(folder), samples=[_sample(s, say) for s in folder["samples.jsonl"].data],
    )


@functools.cache
def _template() -> Template:
    from jinja2 import ChainableUndefined, Environment

    environment = Environment(autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "size": size, "share": share, "exact": _exact, "seq": _list, "obj": _dict}
    return environment.from_string(Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"))


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a run folder. ``state`` is read, missing, unneeded or broken; ``data`` then is empty but of its
    type. ``bad_lines`` numbers the lines left out of a .jsonl file."""

    name: str
    state: str
    data: Any
    why: str = ""
    bad_lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The documents by name, and the steps of metrics.jsonl in order, each once. ``undone``: those that a rollback passed over."""

    documents: Mapping[str, Document]
    steps: Sequence[Mapping[str, Any]]
    undone: Sequence[Mapping[str, Any]]
    repeated: int
    checkpoint: str | None

    def __getitem__(self, name: str) -> Document:
        return self.documents[name]

    def points(self, key: str, name: str = "metrics.jsonl") -> list[Point]:
        """``(step, value)`` of each record that has the value, NaN and infinities included."""
        rows = self.steps if name == "metrics.jsonl" else self.documents[name].data
        return [(row["step"], y) for row in rows if (y := to_float(row.get(key))) is not None]

    @property
    def step(self) -> int:
        """The last step known of: run.json may lag behind the metrics, or the metrics be gone."""
        return max(int(_sum([self["run.json"].data.get("step")])), self.steps[-1]["step"] if self.steps else 0)

    @property
    def findings(self) -> list[dict[str, Any]]:
        return [f | {"code": str(f.get("code")), "severity": str(f.get("severity"))}
                for f in _list(self["findings.json"].data.get("findings")) if isinstance(f, dict)]

    @property
    def refusals(self) -> list[dict[str, Any]]:
        """Findings of severity error that the recipe did not allow."""
        allowed = _list(self["findings.json"].data.get("allowed"))
        return [f for f in self.findings if f.get("severity") == "error" and f.get("code") not in allowed]


def read_folder(run: Path) -> Folder:
    """Read whatever documents the folder has; nothing in them can make this fail."""
    json_names = ("run.json", "plan.json", "facts.json", "findings.json", "ledger.json")
    documents = {name: _read(run / name, _json, {}) for name in json_names}
    documents["recipe.yaml"] = _read(run / "recipe.yaml", lambda p: (p.read_text("utf-8", "replace"), ()), "")
    for name in ("metrics.jsonl", "eval.jsonl"):
        documents[name] = _read(run / name, lambda p: _lines(p, need_step=True), [])
    documents["samples.jsonl"] = _read(run / "samples.jsonl", lambda p: _lines(p, limit=NUM_SAMPLES), [])
    if documents["eval.jsonl"].state == "missing" and _without_eval(documents):
        documents["eval.jsonl"] = Document(name="eval.jsonl", state="unneeded", data=[])
    by_step = {row["step"]: row for row in documents["metrics.jsonl"].data}
    saved = [(int(m[1]), p.name) for p in run.glob("checkpoints/step-*") if (m := re.fullmatch(r"step-(\d+)", p.name))]
    rows = [by_step[s] for s in sorted(by_step)]
    return Folder(documents=documents, steps=[r for r in rows if r.get("rolled_back") is not True],
                  undone=[r for r in rows if r.get("rolled_back") is True],
                  repeated=len(documents["metrics.jsonl"].data) - len(by_step),
                  checkpoint=max(saved)[1] if saved else None)


def _without_eval(documents: Mapping[str, Document]) -> bool:
    """Whether the documents say that nothing was held out, so that no evaluation is missing."""
    kept = _dict(documents["ledger.json"].data.get("kept"))
    held_out = kept.get("eval", _dict(documents["facts.json"].data.get("data")).get("eval_examples", 0 if kept else None))
    return held_out == 0


def _read(path: Path, parse: Callable[[Path], tuple[Any, tuple[int, ...]]], empty: Any) -> Document:
    try:
        data, bad = parse(path)
    except FileNotFoundError:
        return Document(name=path.name, state="missing", data=empty)
    except (OSError, ValueError, RecursionError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else str(problem)
        return Document(name=path.name, state="broken", data=empty, why=why or type(problem).__name__)
    return Document(name=path.name, state="read", data=data, bad_lines=bad)


def _json(path: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    data = json.loads(path.read_text("utf-8", "replace"))
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not an object")
    return data, ()


def _lines(path: Path, need_step: bool = False, limit: int | None = None) -> tuple[list[Any], tuple[int, ...]]:
    rows: list[Any] = []
    bad = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for i, line in enumerate(file, 1):
            if limit is not None and len(rows) >= limit:
                break
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                row = False
            if isinstance(row, dict) and (not need_step or _is_count(row.get("step"))):
                rows.append(row)
            elif row is not None:
                bad.append(i)
    return rows, tuple(bad)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sum(values: Iterable[Any]) -> float:
    total = sum(x for v in values if (x := to_float(v)) is not None and math.isfinite(x))
    return total if abs(total) < MAX_COUNT else 0.0


# -- words -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """The labels of one language. Calling it fills a label in; numbers are formatted on the way."""

    labels: Mapping[str, str]

    def __call__(self, key: str, **values: Any) -> str:
        return self.labels[key].format(**{k: v if isinstance(v, str) else number(v) for k, v in values.items()})

    def name(self, key: str) -> str:
        """The label of a document's key, or the key where it has none."""
        return self.labels.get(key, key)

    def time(self, seconds: Any) -> str:
        """Seconds as hours, minutes and seconds: the two that matter."""
        x = to_float(seconds)
        if x is None or not math.isfinite(x) or x < 60:
            return number(None) if x is None else self("s", n=number(x, 3))
        minutes, rest = divmod(round(x), 60)
        hours, minutes = divmod(minutes, 60)
        parts = [("h", hours), ("min", minutes)] if hours else [("min", minutes), ("s", rest)]
        return " ".join(self(unit, n=n) for unit, n in parts)


def _exact(value: Any) -> str:
    """For re-deriving: nothing is rounded."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- computing -------------------------------------------------------------------------------------


def _state(folder: Folder) -> dict[str, Any]:
    """How the run ended, and what its status alone would hide.

    ``tone`` is good, bad or open. ``code`` and ``finding``: what stopped a stopped run, from the error in
    run.json, else the first refusal.
    """
    run = folder["run.json"].data
    status, error = run.get("status"), run.get("error")
    steps = run.get("steps", folder["plan.json"].data.get("steps"))
    bad = [int(x) for x, y in folder.points("loss") if not math.isfinite(y)]
    early = run.get("stopped_early") is True
    short = status == "finished" and folder.step < _sum([steps]) and not early
    named = re.search(r"\b[A-Z]{3}\d{3}\b", str(error or ""))
    refusal = next((f for f in folder.refusals if not named or f.get("code") == named[0]), None)
    tone = "open"
    if status == "stopped" or (status == "finished" and (short or bad or folder.refusals)):
        tone = "bad"
    elif status == "finished":
        tone = "good"
    return {
        "status": status, "tone": tone, "step": folder.step, "steps": steps, "error": error, "short": short, "bad": bad,
        "early": early, "code": named[0] if named else refusal and refusal.get("code"), "finding": refusal,
        "errors": sum(f.get("severity") == "error" for f in folder.findings),
        "warnings": sum(f.get("severity") == "warning" for f in folder.findings),
    }


def _key_numbers(folder: Folder) -> dict[str, Any]:
    """The figures of the tiles; None where the documents do not say."""
    run, ledger = folder["run.json"].data, folder["ledger.json"].data
    loss = folder.points("loss")
    evaluations = folder.points("eval_loss", "eval.jsonl")
    ending = [y for _, y in loss[-max(1, len(loss) // 10) :]]
    total = {k: _sum(s.get(k) for s in folder.steps) for k in ("trained_tokens", "tokens", "seconds")}
    change = loss[-1][1] / loss[0][1] - 1 if loss and loss[0][1] else math.nan
    return {
        "first": loss[0] if loss else None, "last": loss[-1] if loss else None,
        "ending": (len(ending), sum(y / len(ending) for y in ending)) if loss else None,
        "change": f"{100 * change:+.1f}%".replace("-", "−") if math.isfinite(change) and len(loss) > 1 else "",
        "best_eval": min((p for p in evaluations if math.isfinite(p[1])), key=lambda p: p[1], default=None),
        "last_eval": evaluations[-1] if evaluations else None,
        "trained_tokens": int(total["trained_tokens"]), "tokens": int(total["tokens"]), "seconds": total["seconds"],
        "rate": total["tokens"] / total["seconds"] if total["seconds"] else None,
        "trained_rate": total["trained_tokens"] / total["seconds"] if total["seconds"] else None,
        # A run that was resumed began before the start that run.json knows.
        "duration": max(_elapsed(run.get("started"), run.get("finished")) or 0.0, total["seconds"]) or None,
        "memory": max((int(y) for _, y in folder.points("memory") if math.isfinite(y)), default=None),
        "dropped": int(_sum(_dict(ledger.get("drops")).values())) if ledger else None,
    }


def _elapsed(start: Any, end: Any) -> float | None:
    try:
        # fromisoformat reads a final Z from Python 3.11 on only.
        first, last = (datetime.fromisoformat(str(t).replace("Z", "+00:00")) for t in (start, end))
        return (last - first).total_seconds()
    except (TypeError, ValueError):
        return None


def _charts(folder: Folder, say: Words) -> list[dict[str, Any]]:
    """Loss, learning rate, gradient norm, update norm and tokens per second, each with its legend and a note."""
    loss = folder.points("loss")
    span = max(3, len(loss) // 40)
    used, planned, off, note = _learning_rates(folder, say)
    charts = [
        ("loss", say("loss_unit"), False, "", [
            Series(label=say("raw"), points=loss, style="raw", shape="dot"),
            Series(label=say("smoothed", n=span), points=smooth(loss, span) if len(loss) >= 10 else [], style="smooth"),
            Series(label=say("eval"), points=folder.points("eval_loss", "eval.jsonl"), style="eval", shape="diamond"),
            Series(label=say("told_at"), points=_told(folder, dict(loss)), style="off", shape="ring"),
            Series(label=say("passed_over"), points=[(r["step"], y) for r in folder.undone if (y := to_float(r.get("loss"))) is not None],
                   style="undone", shape="diamond")]),
        ("lr", say("no_unit"), True, note, [
            Series(label=say("lr_planned"), points=planned, style="plan"),
            Series(label=say("lr_used"), points=used, style="used", shape="dot"),
            Series(label=say("lr_off"), points=off, style="off", shape="ring")]),
        *((key, say("l2"), True, "", [Series(label=say("raw"), points=folder.points(key), style="used", shape="dot")])
          for key in ("grad_norm", "update_norm")),
        ("tokens_per_second", say("rate_unit"), True, "", [Series(label=say("raw"), points=_rates(folder), style="used", shape="dot")]),
    ]
    return [figure(key, unit, zero, note, series, say) for key, unit, zero, note, series in charts]


def _rates(folder: Folder) -> list[Point]:
    pairs = [(r["step"], to_float(r.get("tokens")), to_float(r.get("seconds"))) for r in folder.steps]
    return [(step, tokens / seconds) for step, tokens, seconds in pairs if tokens is not None and seconds is not None and seconds > 0]


def _told(folder: Folder, loss: Mapping[float, float]) -> list[Point]:
    """The steps at which the watch told or stopped, on the loss."""
    evidence = [_dict(f.get("evidence")) for f in folder.findings if f["code"].startswith("RUN6")]
    told = {e.get("first_step", e.get("step")) for e in evidence if _is_count(e.get("first_step", e.get("step")))}
    return [(step, y) for step, y in loss.items() if step in told and math.isfinite(y)]


def _rollbacks(folder: Folder) -> list[dict[str, Any]]:
    """The rollbacks of run.json: where the trouble was, where the run went back to, what it passed over."""
    return [{"code": str(r.get("code")), "step": r.get("step"), "back_to": r.get("back_to"), "steps": ", ".join(map(str, _list(r.get("passed_over"))))}
            for r in _list(folder["run.json"].data.get("rollbacks")) if isinstance(r, dict)]


def _learning_rates(folder: Folder, say: Words) -> tuple[list[Point], list[Point], list[Point], str]:
    """Used, planned, used where it differs, and the verdict in words."""
    pairs = [(to_float(p[0]), to_float(p[1])) for p in _list(folder["plan.json"].data.get("lr"))
             if isinstance(p, list) and len(p) == 2]
    plan = {s: v for s, v in pairs if s is not None and v is not None and 0 <= s < MAX_COUNT and math.isfinite(v)}
    used = folder.points("lr")
    compared, off = differences(used, plan, LR_TOLERANCE)
    note = say("lr_same", n=compared) if compared else ""
    if off:
        step, y = off[0]
        note = say("lr_differs", n=len(off), of=compared, step=int(step), planned=plan[step], used=y)
    return used, sorted(plan.items()), [p for p in off if math.isfinite(p[1])], note


def _table(folder: Folder) -> list[Mapping[str, Any]]:
    """About ``NUM_TABLE_ROWS`` steps evenly over the run, the first and the last among them."""
    count = min(NUM_TABLE_ROWS, len(folder.steps))
    chosen = sorted({round(i * (len(folder.steps) - 1) / max(1, count - 1)) for i in range(count)})
    return [folder.steps[i] for i in chosen]


def _balance(folder: Folder) -> int:
    """Rows of the ledger that are unaccounted for: 0 in one that conserves."""
    ledger = folder["ledger.json"].data
    kept = _sum(_dict(ledger.get("kept")).values())
    conversations = _sum([ledger["conversations"]]) if ledger.get("conversations") is not None else kept
    off = _sum([ledger.get("rows_in")]) - conversations - _sum(_dict(ledger.get("drops")).values())
    return int(off or (conversations - kept if _dict(ledger.get("kept")) else 0))


def _proofs(folder: Folder, say: Words) -> list[dict[str, Any]]:
    """What was proven on the model and the data: its name, its figures in words or why it was not made, and its seconds."""
    proofs = _dict(_dict(folder["facts.json"].data).get("proofs"))
    skipped, seconds = _dict(proofs.get("skipped")), _dict(proofs.get("seconds"))
    out = []
    for name, fields in PROOFS.items():
        figures = {k: _dict(v).get("count", None) if isinstance(v, dict) else v for k, v in _dict(proofs.get(name)).items()}
        if figures:
            values = {k: to_float(figures.get(k)) if not isinstance(figures.get(k), str) else figures[k] for k in fields}
            out.append({"name": say(name), "text": say(f"proof_{name}", **values), "seconds": to_float(seconds.get(name)), "made": True})
        elif name in skipped:
            out.append({"name": say(name), "text": str(skipped[name]), "seconds": None, "made": False})
    return out


def _sample(row: Mapping[str, Any], say: Words) -> dict[str, Any]:
    """One example. ``tokens``: (trained, text, title) each; a token inside a character has no text."""
    ids, labels, raw = (_list(row.get(key)) for key in ("input_ids", "labels", "tokens"))
    pieces = _list(row.get("pieces")) or raw

    def tokens() -> Iterator[tuple[bool, str, str]]:
        for i, token in enumerate(ids[:MAX_TOKENS_SHOWN]):
            on = i < len(labels) and labels[i] != IGNORE_INDEX
            text = str(pieces[i]) if i < len(pieces) else f"[{token}]"
            title = (f"{say('token_id')} {token} · {raw[i] if i < len(raw) else ''} · "
                     f"{say('label')} {labels[i] if i < len(labels) else '–'}{'' if on else ' (' + say('ignored') + ')'}")
            yield on, text.replace("\r", "␍"), title

    return {"row": row, "tokens": list(tokens()), "length": len(ids),
            "trained": sum(label != IGNORE_INDEX for label in labels)}
