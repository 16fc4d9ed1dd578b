"""What every runner has in common: its words, and the one JSON line that it prints. Only the standard library and psutil."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

IGNORE = -100
"""Label of a token that is not trained, with every peer."""

NUM_COMPARED = 2_000
"""Conversations whose ids a tokenizer library's are compared on."""

NUM_WRITTEN = 20_000
"""Conversations whose ids and labels a peer writes out, to be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run, as it is printed. ``seconds``: from file to disk, without imports; ``trained_tokens``: None where there are no labels."""

    who: str
    setting: str
    conversations: int
    tokens: int
    trained_tokens: int | None
    seconds: float
    process_seconds: float
    peak_rss_mb: float
    """of the largest process"""
    compared: int | None = None
    """conversations whose ids were held against the ``tokenizers`` library's"""
    equal: int | None = None
    """those of them whose ids are the same"""


def words(description: str, settings: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines, each {\"messages\": [...]}")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json and tokenizer_config.json")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder; the caches go there too")
    parser.add_argument("--setting", choices=settings, default=settings[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max-length", type=int, default=4096)
    parser.add_argument("--ids", type=Path, help="write the first conversations' ids and labels here, outside the timing")
    return parser.parse_args()


def fresh_caches(output: Path) -> None:
    """Before ``datasets`` is imported: nothing of an earlier run may be found again, and nothing is asked of a hub."""
    output.mkdir(parents=True, exist_ok=True)
    os.environ["HF_DATASETS_CACHE"] = str(output / "cache")
    os.environ["HF_HUB_OFFLINE"] = "1"


def report(who: str, setting: str, *, conversations: int, tokens: int, trained_tokens: int | None, seconds: float,
           compared: int | None = None, equal: int | None = None) -> None:
    line = Line(who=who, setting=setting, conversations=conversations, tokens=tokens, trained_tokens=trained_tokens,
                seconds=round(seconds, 4), process_seconds=round(time.time() - psutil.Process().create_time(), 3),
                peak_rss_mb=round(peak_rss_mb(), 1), compared=compared, equal=equal)
    print(json.dumps(asdict(line)), flush=True)


def peak_rss_mb() -> float:
    """Peak of the largest process, this one or a child that has ended."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def write_ids(path: Path, rows: Iterable[tuple[Sequence[int], Sequence[int] | None]]) -> None:
    """(ids, labels or None) of conversations in the order of the file, one JSON line each."""
    with path.open("w", encoding="utf-8") as out:
        for ids, labels in rows:
            out.write(json.dumps({"ids": list(ids), "labels": None if labels is None else list(labels)}) + "\n")
