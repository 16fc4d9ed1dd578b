"""What `gogpt plan` says against what the run then takes: peak memory and seconds of a step, full and LoRA, at three lengths.

    python bench/plan.py --model FOLDER                       both; ten minutes on two cores that do nothing else
    python bench/plan.py --model FOLDER --no-time             memory alone, which a busy machine does not change

Each setting is a process of its own: `gogpt plan RECIPE --format json`, then `gogpt train RECIPE`, on random conversations of about one length, a row of one of them a
micro-batch and two a step. Measured: the highest `memory` of metrics.jsonl (of the process on a CPU, of the allocator on a GPU) and the median
`seconds` after the first step. Printed as a markdown table; the ratio is predicted over measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORDS = ["red", "blue", "green", "one", "two", "three", "four", "five", "north", "south", "east", "west", "sun", "moon", "star", "tree", "stone", "river", "what", "follows", "and", "after", "comes", "a", "question"]
STEPS = 4


def conversations(length: int, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """``count`` conversations of about ``length`` tokens (these words are a token each), half of it answered."""
    draw = random.Random(seed)
    half = max(8, length // 2 - 12)

    def text() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(half))

    return [{"messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]} for _ in range(count)]


def gogpt(*arguments: str, threads: int | None) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent / "src"), **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    done = subprocess.run([sys.executable, "-m", "gogpt", *arguments], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def measure(folder: Path, model: str, method: str, length: int, settings: list[str], *, timed: bool, threads: int | None) -> dict[str, float]:
    data, recipe = folder / f"{length}.jsonl", folder / f"{method}-{length}.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in conversations(length, 2 * STEPS)))
    recipe.write_text(json.dumps({
        "model": model, "method": method, "output": str(folder / f"{method}-{length}"),
        "data": {"train": str(data), "template": "chatml", "max_length": length},
        "train": {"epochs": 1, "batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-5, "schedule": "constant", "warmup": 0, "save_every": 1000},
    }))
    plan = json.loads(gogpt("plan", str(recipe), "--format", "json", *([] if timed else ["--no-probe"]), *settings, threads=threads))
    gogpt("train", str(recipe), "-q", *settings, threads=threads)
    lines = [json.loads(line) for line in (folder / f"{method}-{length}" / "metrics.jsonl").read_text().splitlines()]
    return {"planned": plan["memory"]["total"], "peak": max(line["memory"] for line in lines), "tokens": statistics.median(line["computed"] for line in lines),
            "planned_s": plan["seconds"] / plan["steps"] if timed else float("nan"), "seconds": statistics.median(line["seconds"] for line in lines[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True)
    parser.add_argument("--lengths", default="256,1024,2048")
    parser.add_argument("--methods", default="full,lora")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("settings", nargs="*", help="further key=value of the recipe")
    asked = parser.parse_args()
    print("| method | row, tokens | planned, GiB | measured | ratio |" + ("" if asked.no_time else " planned, s a step | measured | ratio |"))
    print("|---|---:|---:|---:|---:|" + ("" if asked.no_time else "---:|---:|---:|"))
    with tempfile.TemporaryDirectory() as name:
        for method in asked.methods.split(","):
            for length in map(int, asked.lengths.split(",")):
                d = measure(Path(name), str(Path(asked.model).resolve()), method, length, asked.settings, timed=not asked.no_time, threads=asked.threads)
                time = "" if asked.no_time else f" {d['planned_s']:.2f} | {d['seconds']:.2f} | {d['planned_s'] / d['seconds']:.2f} |"
                print(f"| {method} | {d['tokens'] / 2:,.0f} | {d['planned'] / 2**30:.2f} | {d['peak'] / 2**30:.2f} | {d['planned'] / d['peak']:.2f} |{time}", flush=True)


if __name__ == "__main__":
    main()
