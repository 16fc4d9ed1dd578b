"""Logs as text: the dictionaries that trainers print, JSON lines, progress bars, and DeepSpeed's own lines, among anything else."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gogpt.autopsy.records import History, Record, number, record_of, whole
from gogpt.logs import ANSI

DICT = re.compile(r"\{[^{}]*\}")
PAIR = re.compile(r"""(['"])([\w ./()-]+)\1\s*:\s*\[?(['"]?)([-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|\.\d+|nan|inf|NaN|Infinity)(?:/\d+)?)\3""")
BAR = re.compile(r"(?:^|\s)\d+%\|[^|]*\|\s*(\d+)/(\d+) \[")
DEEPSPEED_STEP = re.compile(r"step=(\d+), skipped=(\d+), lr=\[([^\]]*)\]")
OVERFLOW = re.compile(r"OVERFLOW! Rank (\d+) Skipping step|Overflow detected\. Skipping step")
TOTALS = (
    ("max_steps", re.compile(r"Total optimization steps\s*=\s*([\d,]+)")), ("epochs_told", re.compile(r"Num Epochs\s*=\s*([\d,]+)")),
    ("accumulation", re.compile(r"Gradient Accumulation steps\s*=\s*([\d,]+)")),
    ("micro_batch", re.compile(r"Instantaneous batch size per device\s*=\s*([\d,]+)")),
    ("total_batch", re.compile(r"Total train batch size \(w\. parallel, distributed & accumulation\)\s*=\s*([\d,]+)")),
    ("world_size", re.compile(r"\bworld size: (\d+)")),
)
"""What transformers' Trainer and LLaMA-Factory say before the first step."""
PRECISION = (("fp16", re.compile(r"compute dtype: torch\.float16|Using fp16|\bfp16\s*[:=]\s*True|'fp16': True|--fp16(?: True)?\b")),
             ("bf16", re.compile(r"compute dtype: torch\.bfloat16|--bf16(?: True)?\b|\bbf16\s*[:=]\s*True|'bf16': True")))
TOOLS = (("LLaMA-Factory", re.compile(r"llamafactory|llmtuner", re.IGNORECASE)), ("Axolotl", re.compile(r"\[axolotl|axolotl\.", re.IGNORECASE)),
         ("ms-swift", re.compile(r"\[INFO:swift\]|swift/")), ("TRL", re.compile(r"/trl/|\btrl sft\b|SFTTrainer")))


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, piece): a progress bar writes over its line, so that a line has pieces. Colours are taken out. Raises OSError, EOFError."""
    packed = path.suffix == ".gz"
    with (gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") if packed
          else path.open(encoding="utf-8", errors="replace", newline="\n")) as file:
        for at, line in enumerate(file, start=1):
            for piece in line.rstrip("\r\n").split("\r"):
                if piece.strip():
                    yield at, ANSI.sub("", piece)


def read_log(path: Path) -> History:
    """Every record of a log, with the step where a bar, a key or the epochs tell it. Raises OSError, EOFError."""
    history = History(tool="log", read=[str(path)])
    reader = _Reader(history)
    for at, piece in lines_of(path):
        reader.take(at, piece)
    reader.close()
    return history


class _Reader:
    """Goes through a log once. A dictionary's bar is the first that is drawn after it (tqdm draws again after what it prints)."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.waiting: list[Record] = []
        self.bars: list[tuple[Record, int, int]] = []
        self.tools: Counter[str] = Counter()
        self.ranks: set[str] = set()
        self.last_bar: dict[int, int] = {}
        self.own_steps: list[Record] = []

    def take(self, at: int, piece: str) -> None:
        self._told(piece)
        for data in _mappings(piece):
            record = record_of(data, self.history)
            if record is not None:
                record.line = at
                self.history.records.append(record)
                self.waiting = [record] if record.loss is not None or record.lr is not None else []
        for found in BAR.finditer(DICT.sub("", piece)):
            done, total = int(found[1]), int(found[2])
            self.last_bar[total] = done
            for record in self.waiting:
                self.bars.append((record, done, total))
            self.waiting = []

    def _told(self, piece: str) -> None:
        known = self.history.known
        if "=" in piece or ":" in piece:
            for name, regex in TOTALS:
                if found := regex.search(piece):
                    known.say(name, whole(found[1].replace(",", "")), "log")
            for name, regex in PRECISION:
                if regex.search(piece):
                    known.say("precision", name, "log")
        for name, regex in TOOLS:
            self.tools[name] += bool(regex.search(piece))
        if found := DEEPSPEED_STEP.search(piece):
            step, skipped = int(found[1]), int(found[2])
            self.history.skipped_total, self.history.counted_steps = skipped, step
            self.own_steps.append(Record(step=step, lr=number(found[3].split(",")[0])))
        elif found := OVERFLOW.search(piece):
            rank = found[1] or "0"
            self.ranks.add(rank)
            if rank == min(self.ranks):
                self.history.skipped.append(None)

    def close(self) -> None:
        history = self.history
        if not any(r.lr is not None for r in history.records) and not any(r.loss is not None for r in history.records):
            history.records += [r for r in self.own_steps if r.lr is not None]
        name, count = max(self.tools.items(), key=lambda x: x[1], default=("log", 0))
        history.tool = name if count else "DeepSpeed" if self.own_steps else "Trainer" if history.records else "log"
        totals = Counter(total for _, _, total in self.bars if total > 1)
        if totals:
            total = totals.most_common(1)[0][0]
            for record, done, of in self.bars:
                if of == total:
                    record.counter = done
            history.known.say("max_steps", total, "progress bar")
        micro, total_batch, accumulation = (history.known.get(k) for k in ("micro_batch", "total_batch", "accumulation"))
        if micro and total_batch and total_batch % (micro * (accumulation or 1)) == 0:
            history.known.say("world_size", total_batch // (micro * (accumulation or 1)), "log")


def _mappings(piece: str) -> Iterator[dict[str, Any]]:
    """The dictionaries of a line: JSON or Python, with a loss or a rate in them."""
    if "loss" not in piece and "learning_rate" not in piece and '"lr"' not in piece and "train_runtime" not in piece:
        return
    text = piece.strip()
    if text.startswith("{") and text.endswith("}"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict):
            yield data
            return
    for found in DICT.finditer(piece):
        data = {name: value for _, name, _, value in PAIR.findall(found[0])}
        if data:
            yield data


def holds_metrics(pieces: Iterable[tuple[int, str]], limit: int = 20_000) -> bool:
    """Whether a log's first lines hold a record (or DeepSpeed's line of one)."""
    for i, (_, piece) in enumerate(pieces):
        if i > limit:
            return False
        if DEEPSPEED_STEP.search(piece) or any(record_of(d) for d in _mappings(piece)):
            return True
    return False
