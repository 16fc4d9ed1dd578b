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

from gogpt.charts import Point, Series, differences, figure, number, share, size, smooth, to_float
from gogpt.records import IGNORE_INDEX

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

_TEXTS: dict[str, tuple[str, str]] = {
    "report": ("Fine-tuning report", "微调报告"),
    "finished": ("Finished: {step} of {steps} steps", "已完成：{step} / {steps} 步"),
    "running": ("Running: step {step} of {steps}", "运行中：第 {step} 步，共 {steps} 步"),
    "interrupted": ("Interrupted at step {step} of {steps}", "在第 {step} 步中断（共 {steps} 步）"),
    "stopped": ("Stopped by {code} at step {step} of {steps}", "被 {code} 停止于第 {step} 步（共 {steps} 步）"),
    "refused": ("Stopped by {code} before the first step", "在第一步之前被 {code} 停止"),
    "no_code": ("an error", "一个错误"),
    "unknown": ("Status unknown: at least {step} steps were recorded", "状态未知：至少记录了 {step} 步"),
    "unknown_early": ("Status unknown: no step was recorded", "状态未知：没有记录任何一步"),
    "other_status": ("Status “{status}” at step {step} of {steps}", "状态“{status}”，第 {step} 步，共 {steps} 步"),
    "resume": ("Go on from the last checkpoint with", "从最近的检查点继续："),
    "resume_if_dead": ("If its process no longer runs, go on with", "如果进程已不在运行，可用下面的命令继续："),
    "checkpoint": ("Last checkpoint in the folder: {name}", "目录中最近的检查点：{name}"),
    "no_checkpoint": ("There is no checkpoint in the folder.", "目录中还没有检查点。"),
    "found": ("Findings: errors {errors}, warnings {warnings}", "检查结果：{errors} 个错误，{warnings} 个警告"),
    "early": ("Stopped early, as the recipe asks: the eval loss no longer fell.", "按配方提前停止：验证损失不再下降。"),
    "short": ("The run says that it finished, but fewer steps were done than planned.",
        "运行自称已完成，但实际步数少于计划。"),
    "bad_steps": ("Steps whose loss was not finite: {n}, first step {step}.",
        "有 {n} 步的损失不是有限值，首次出现在第 {step} 步。"),
    "missing": ("{name} is not in the run folder.", "运行目录中没有 {name}。"),
    "broken": ("{name} cannot be read: {why}.", "无法读取 {name}：{why}。"),
    "partial": ("{name} has lines that cannot be read and are left out: {n} (first: line {line}).",
        "{name} 有 {n} 行无法读取（首处：第 {line} 行），已略过。"),
    "repeated": ("Steps recorded more than once (the run was resumed): {n}; the last record counts.",
        "有 {n} 步被重复记录（运行曾恢复过），以最后一次为准。"),
    "incomplete": ("Documents that are missing or incomplete", "缺失或不完整的文件"),
    "key_numbers": ("Key numbers", "关键数字"), "final_loss": ("Final loss", "最终损失"),
    "last_mean": ("step {step}; mean of the last {n}: {mean}", "第 {step} 步；最后 {n} 步平均 {mean}"),
    "first_last": ("Loss, first → last", "损失：首步 → 末步"), "best_eval": ("Best eval loss", "最佳验证损失"),
    "no_eval": ("no eval set", "没有验证集"),
    "at_step": ("at step {step}; last {last}", "第 {step} 步；最近一次 {last}"), "steps": ("Steps", "步数"),
    "of": ("of {n}", "共 {n}"), "trained_tokens": ("Trained tokens", "参与训练的 token"),
    "share_of_tokens": ("{share} of {n} tokens", "占全部 {n} 个 token 的 {share}"),
    "tokens_per_second": ("Tokens per second", "每秒 token 数"),
    "trained_per_second": ("{n} trained", "其中参与训练 {n}"), "duration": ("Duration", "用时"),
    "in_steps": ("{time} in {n} steps", "{n} 步共 {time}"), "peak_memory": ("Peak memory", "显存／内存峰值"),
    "planned": ("planned {n}", "计划 {n}"), "dropped_rows": ("Dropped rows", "丢弃的行"),
    "of_rows": ("{share} of {n} rows", "{n} 行中的 {share}"), "findings": ("Findings", "检查结果"),
    "none_found": ("None. Checks run: {n}.", "没有问题：共执行了 {n} 项检查。"),
    "checked": ("Checks run: {n}", "执行了 {n} 项检查"), "not_checked": ("Not checked", "未检查"),
    "why": ("Why", "原因"), "allowed": ("Overrides: allowed by name in the recipe", "放行：配方中点名允许的检查"),
    "allowed_badge": ("allowed by the recipe", "已由配方放行"),
    "allowed_fired": ("it fired, and was overridden", "已触发，被放行"),
    "allowed_silent": ("it did not fire", "未触发"), "error": ("error", "错误"), "warning": ("warning", "警告"),
    "info": ("info", "提示"), "fix": ("Fix", "修复办法"), "evidence": ("Evidence", "依据"), "code": ("Code", "代码"),
    "curves": ("Curves", "曲线"), "loss": ("Loss", "损失"),
    "loss_unit": ("nats per trained token", "nat / 参与训练的 token"), "raw": ("raw, each step", "原始值（每步）"),
    "smoothed": ("smoothed, over {n} steps", "平滑（{n} 步）"), "eval": ("eval", "验证"),
    "lr": ("Learning rate", "学习率"), "no_unit": ("rate, no unit", "无量纲"), "lr_planned": ("planned", "计划"),
    "lr_used": ("used", "实际"), "lr_off": ("differs from the plan", "与计划不符"),
    "lr_same": ("Compared with the plan at {n} steps: all the same.", "与计划比对了 {n} 步，全部一致。"),
    "lr_differs": ("{n} of {of} steps compared differ from the plan, first step {step}: planned {planned}, used {used}.",
        "比对的 {of} 步中有 {n} 步与计划不符，首次为第 {step} 步：计划 {planned}，实际 {used}。"),
    "grad_norm": ("Gradient norm", "梯度范数"), "update_norm": ("Update norm", "更新量范数"),
    "l2": ("l2 norm", "l2 范数"), "step": ("Step", "步"), "step_axis": ("optimizer step", "优化步"),
    "log": ("log scale", "对数坐标"), "no_finite": ("no finite value", "没有有限值"),
    "nothing": ("Nothing was recorded.", "没有记录。"),
    "mark_one": ("{kind} at step {step}", "第 {step} 步为 {kind}"),
    "mark_many": ("{kind} at {n} steps, first: {step}", "{n} 步为 {kind}，首次：第 {step} 步"),
    "chart_desc": ("{n} values; first {first}, last {last}, lowest {low} at step {low_at}, highest {high} at step {high_at}.",
        "{n} 个值；首个 {first}，最后 {last}，最低 {low}（第 {low_at} 步），最高 {high}（第 {high_at} 步）。"),
    "numbers": ("The numbers: {n} of {of} steps", "数值：{of} 步中的 {n} 步"), "plan": ("Plan", "训练计划"),
    "setting": ("Setting", "项目"), "value": ("Value", "值"), "warmup_steps": ("Warm-up steps", "预热步数"),
    "schedule": ("Schedule", "学习率调度"), "learning_rate": ("Peak learning rate", "峰值学习率"),
    "epochs": ("Epochs", "训练轮数"), "batch_size": ("Batch size", "批大小"),
    "batch_parts": ("{total} = {micro} (micro batch) × {accumulation} (accumulation) × {world} (processes)",
        "{total} = {micro}（微批）× {accumulation}（梯度累积）× {world}（进程）"),
    "min_lr_ratio": ("Lowest / peak learning rate", "最低／峰值学习率"), "fingerprint": ("Fingerprint", "指纹"),
    "precision": ("Precision", "精度"), "method": ("Method", "方法"), "rows": ("Rows per epoch", "每轮行数"),
    "tokens": ("Tokens", "token 数"), "tokens_per_step": ("Tokens per step", "每步 token 数"),
    "trained_tokens_per_step": ("Trained tokens per step", "每步参与训练的 token"),
    "max_length": ("Maximum length", "最大长度"), "packing": ("Packing", "打包"), "yes": ("yes", "是"),
    "no": ("no", "否"), "seconds": ("Estimated time", "预计用时"),
    "trainable_parameters": ("Trainable parameters", "可训练参数"), "memory": ("Planned memory", "计划内存"),
    "weights": ("weights", "权重"), "gradients": ("gradients", "梯度"), "optimizer": ("optimizer", "优化器"),
    "activations": ("activations", "激活值"), "ledger": ("Ledger", "数据台账"), "rows_in": ("rows in", "读入的行"),
    "kept_train": ("train", "训练"), "kept_eval": ("eval", "验证"), "conversations": ("conversations", "对话"),
    "balances": ("Every row is accounted for.", "每一行都有去向。"),
    "unbalanced": ("The ledger does not balance: {n} rows are unaccounted for.", "台账不平：有 {n} 行去向不明。"),
    "reason": ("Dropped because", "丢弃原因"), "count": ("Rows", "行数"), "share": ("Share", "占比"),
    "first_places": ("First places", "最先出现处"), "file": ("File", "文件"), "schema": ("Schema", "数据格式"),
    "examples_made": ("Training sequences made", "生成的训练序列"), "note": ("Note", "备注"),
    "no_drops": ("No row was dropped.", "没有丢弃任何行。"), "data": ("Data facts", "数据概况"),
    "examples": ("Examples", "样本数"), "longest": ("Longest example", "最长样本"),
    "template": ("Template", "对话模板"), "stop": ("Stop token", "停止符"), "one_token": ("one token", "单个 token"),
    "not_one_token": ("not one token of this tokenizer", "在此分词器中不是单个 token"),
    "answers": ("Trained answers", "参与训练的回答"),
    "answers_stopped": ("{n} of {of} end in the stop token", "{of} 个中有 {n} 个以停止符结尾"),
    "special_ids": ("BOS / EOS / PAD id", "BOS / EOS / PAD 的 id"), "kind": ("Noticed", "发现的情况"),
    "no_trained": ("no trained token", "没有参与训练的 token"), "cut_targets": ("answer cut off", "回答被截断"),
    "double_bos": ("two BOS tokens", "重复的 BOS"),
    "special_text": ("text that spells a special token", "正文含特殊 token 的写法"),
    "overlap": ("in both train and eval", "训练集与验证集重复"), "model": ("Base model", "基座模型"),
    "parameters": ("Parameters", "参数量"), "samples": ("Painted examples", "着色样本"),
    "painted_hint": ("What the model sees, token by token. Hover over a token for its id, raw form and label.",
        "模型逐个 token 看到的内容。将指针悬停在 token 上可查看其 id、原始形式和标签。"),
    "is_trained": ("trained: counts in the loss", "参与训练：计入损失"), "is_read": ("only read", "仅作上下文"),
    "sample_counts": ("{n} tokens, {trained} trained ({share})", "{n} 个 token，{trained} 个参与训练（{share}）"),
    "cut_shown": ("Only the first {n} of {of} tokens are shown.", "仅显示 {of} 个 token 中的前 {n} 个。"),
    "messages": ("The messages", "消息原文"), "label": ("label", "标签"), "ignored": ("ignored", "忽略"),
    "environment": ("Environment", "运行环境"), "command": ("Command", "命令"), "started": ("Started", "开始"),
    "ended": ("Finished", "结束"), "device": ("Device", "设备"), "platform": ("Platform", "平台"),
    "cpu_count": ("CPU cores", "CPU 核数"), "memory_total": ("Memory", "内存／显存"),
    "disk_free": ("Free disk", "可用磁盘"), "verdict": ("Verdict", "结论"), "sections": ("Sections", "章节"),
    "line_break": ("line break", "换行"), "token_id": ("id", "id"),
    "examples_split": ("{train} train, {eval} eval", "训练 {train}，验证 {eval}"), "package": ("Package", "软件包"),
    "version": ("Version", "版本"), "recipe": ("Recipe", "配方"),
    "as_resolved": ("as the run resolved it", "运行时解析的结果"), "h": ("{n} h", "{n} 小时"),
    "min": ("{n} min", "{n} 分"), "s": ("{n} s", "{n} 秒"),
}

LABELS: dict[str, dict[str, str]] = {
    "en": {key: en for key, (en, _) in _TEXTS.items()}, "zh": {key: zh for key, (_, zh) in _TEXTS.items()},
}
"""The words of the page, by language and key."""


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
        findings=folder.findings, state=_state(folder), key=_key_numbers(folder), charts=_charts(folder, say),
        table=_table(folder), balance=_balance(folder), samples=[_sample(s, say) for s in folder["samples.jsonl"].data],
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
    """The documents by name, and the steps of metrics.jsonl in order, each once."""

    documents: Mapping[str, Document]
    steps: Sequence[Mapping[str, Any]]
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
    return Folder(documents=documents, steps=[by_step[s] for s in sorted(by_step)],
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
    """Loss, learning rate, gradient norm and update norm, each with its legend and a note."""
    loss = folder.points("loss")
    span = max(3, len(loss) // 40)
    used, planned, off, note = _learning_rates(folder, say)
    charts = [
        ("loss", say("loss_unit"), False, "", [
            Series(label=say("raw"), points=loss, style="raw", shape="dot"),
            Series(label=say("smoothed", n=span), points=smooth(loss, span) if len(loss) >= 10 else [], style="smooth"),
            Series(label=say("eval"), points=folder.points("eval_loss", "eval.jsonl"), style="eval", shape="diamond")]),
        ("lr", say("no_unit"), True, note, [
            Series(label=say("lr_planned"), points=planned, style="plan"),
            Series(label=say("lr_used"), points=used, style="used", shape="dot"),
            Series(label=say("lr_off"), points=off, style="off", shape="ring")]),
        *((key, say("l2"), True, "", [Series(label=say("raw"), points=folder.points(key), style="used", shape="dot")])
          for key in ("grad_norm", "update_norm")),
    ]
    return [figure(key, unit, zero, note, series, say) for key, unit, zero, note, series in charts]


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
