"""How fast, and in how much memory, is the same gradient taken: GoGPT beside TRL and LLaMA-Factory, full and LoRA, on three data sets, in one
run. See README.md in this folder.

    python bench/train.py --model FOLDER                     everything
    python bench/train.py --model FOLDER --quick             few examples and steps, to see that it works
    python bench/train.py --model FOLDER --turns             one pass over an n-turn conversation against its n samples, GoGPT alone
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from contenders import empty_folder
from environments import environment
from training import sets
from training.operations import shape_of, standing_bytes, useful
from training.runs import (
    GOGPT,
    TRAINERS,
    Rates,
    Task,
    Trainer,
    TrainRun,
    TrainSet,
    make_adapter,
    measure,
    multiply_rate,
    own_command,
    own_floor,
    prepare,
)
from training.tables import (
    TrainRow,
    Turns,
    clock_line,
    problem_lines,
    rows_of,
    summary,
    summary_line,
    table,
    turns_table,
)

from processes import Failed

DATA = Path(__file__).resolve().parent / ".data" / "training"
METHODS = ("full", "lora")
TURNS = (2, 4, 8, 16)
PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers")


def note(text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S}  {text}", file=sys.stderr, flush=True)


def listed(known: Sequence[str]) -> Any:
    def read(text: str) -> list[str]:
        names = [n.strip() for n in text.split(",") if n.strip()]
        if wrong := [n for n in names if n not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: not among {', '.join(known)}")
        return names

    return read


def words(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure training", epilog="See bench/README.md.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a Hugging Face model of the Llama family; figures are for SmolLM2-135M-Instruct")
    parser.add_argument("--only", action="append", metavar="WHO", help="only this one: GoGPT, TRL, LLaMA-Factory, or with its setting (TRL/best); several times")
    parser.add_argument("--sets", type=listed([k.name for k in sets.KINDS]), default=[k.name for k in sets.KINDS], help="[short,multi,sys]")
    parser.add_argument("--methods", type=listed(METHODS), default=list(METHODS), help="[full,lora]")
    parser.add_argument("--steps", type=int, default=2, help="measured optimizer steps of a run [2]")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them [1]")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in alternation [1]")
    parser.add_argument("--most-seconds", type=float, default=30.0, help="a peer's run ends after the measured step that passes this [30]")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of every contender [every core]")
    for kind in sets.KINDS:
        parser.add_argument(f"--{kind.name}-examples", type=int, help=f"{kind.about}: examples of a step [{kind.count}]")
    parser.add_argument("--learning-rate", type=float, default=2e-5, help="full; LoRA takes ten times as much [2e-5]")
    parser.add_argument("--seed", type=int, default=0, help="of the texts")
    parser.add_argument("--quick", action="store_true", help="2, 1 and 3 examples, one measured step")
    parser.add_argument("--turns", type=int, nargs="*", metavar="N", help=f"instead: one pass over N turns against N samples {list(TURNS)}")
    parser.add_argument("--gogpt", help="the command up to its verb [this Python -m gogpt]")
    parser.add_argument("--gogpt-set", action="append", default=[], metavar="KEY=VALUE", help="for GoGPT's recipes; several times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured, as one document")
    args = parser.parse_args(given)
    if args.steps < 1 or args.warmup < 0 or args.repeat < 1:
        parser.error("--steps and --repeat: at least 1; --warmup: at least 0")
    if args.quick:
        args.steps = 1
    return args


def chosen(only: Sequence[str] | None) -> list[Trainer]:
    if not only:
        return [t for t in TRAINERS if not t.asked]
    out = [t for t in TRAINERS if any(name.lower() == f"{t.who}/{t.setting}".lower() or (name.lower() == t.who.lower() and not t.asked) for name in only)]
    names = {n for t in TRAINERS for n in (t.who.lower(), f"{t.who}/{t.setting}".lower())}
    if wrong := [n for n in only if n.lower() not in names]:
        sys.exit(f"--only {', '.join(wrong)}: not among {', '.join(sorted(names))}")
    return out


def make_sets(args: argparse.Namespace, task: Task, folder: Path) -> dict[str, TrainSet]:
    out = {}
    for name in args.sets:
        kind = sets.kind_of(name)
        count = getattr(args, f"{name}_examples") or (kind.quick if args.quick else kind.count)
        conversations = sets.make(name, count, sets.standard_text(args.seed), seed=args.seed)
        out[name] = made = prepare(kind, conversations, task, folder)
        note(f"data      {name}: {len(made.lengths)} examples, {made.tokens:,} tokens, {made.trained:,} trained ({made.trained / made.tokens:.0%}), "
             f"{min(made.lengths)} to {max(made.lengths)} tokens each")
    return out


# -- the table ---------------------------------------------------------------------------------------


def measure_all(args: argparse.Namespace, trainers: Sequence[Trainer], task: Task, data: dict[str, TrainSet], floor: int) -> tuple[list[TrainRun], list[str]]:
    """Contenders in alternation for each set and method, with the multiply rate between them; and what failed."""
    runs: list[TrainRun] = []
    failed: list[str] = []
    now: Rates = multiply_rate(task)
    for name, made in data.items():
        for method in args.methods:
            for trainer in [t for _ in range(args.repeat) for t in trainers]:
                try:
                    found = measure(made, method, trainer, task, floor=floor, before=now)
                except Failed as problem:
                    failed.append(f"{trainer.name} ({name}, {method}): {problem}")
                    note(f"FAILED    {failed[-1]}")
                    continue
                now = found.rates[1]
                runs.append(found)
                told = "" if not found.told else f" (told {', '.join(f'{s:.2f}' for s in found.told)})"
                note(f"{name:<6}{method:<5}{trainer.name}: steps of {', '.join(f'{s:.2f}' for s in found.seconds)} s{told}, loss {', '.join(f'{x:.5f}' for x in found.losses)}, "
                     f"peak {found.peak / 1e9:.2f} GB, multiply {now.layer / 1e9:.0f} GFLOP/s")
    return runs, failed


def print_tables(rows: Sequence[TrainRow], runs: Sequence[TrainRun], data: dict[str, TrainSet], task: Task) -> dict[str, Any]:
    """Prints; returns the ratios."""
    found: dict[str, Any] = {}
    for name, method in dict.fromkeys((r.set_name, r.method) for r in rows):
        part = [r for r in rows if (r.set_name, r.method) == (name, method)]
        made = data[name]
        needed = useful(task.shape, made.lengths, made.trained, method)
        print(f"\n**{name}, {method}**: {len(made.lengths)} examples, {made.tokens:,} tokens a step, {made.trained:,} of them trained; {needed.total / 1e12:.3f} TFLOP needed "
              f"(layers {needed.body / needed.total:.0%}, attention {needed.attention / needed.total:.0%}, head {needed.head / needed.total:.0%}); "
              f"weights, gradients and optimizer state {standing_bytes(task.shape, method) / 1e9:.2f} GB\n")
        print(table(part))
        found[f"{name}, {method}"] = ratios = summary(part)
        clock = clock_line([r for r in runs if (r.set_name, r.method) == (name, method)])
        print("\n" + "\n".join([summary_line(name, method, ratios), *([clock] if clock else []), *problem_lines(part)]), flush=True)
    return found


# -- one pass against n samples ----------------------------------------------------------------------


def measure_turns(args: argparse.Namespace, task: Task, folder: Path, floor: int) -> list[Turns]:
    trainer = TRAINERS[0]
    assert trainer.who == GOGPT
    whole = sets.turns(sets.standard_text(args.seed), max(args.turns), random.Random(f"{args.seed}: turns"))
    chat = sets.kind_of("multi")
    now, out = multiply_rate(task), []
    for turns in args.turns:
        conversation = whole[: 2 * turns]
        one = prepare(replace(chat, name=f"one-{turns}"), [conversation], task, folder)
        samples = prepare(replace(chat, name=f"samples-{turns}"), sets.samples_of(conversation), task, folder)
        for method in args.methods:
            first = measure(one, method, trainer, task, floor=floor, before=now)
            second = measure(samples, method, trainer, task, floor=floor, before=first.rates[1], train_on="last")
            now = second.rates[1]
            out.append(Turns(turns=turns, method=method, one=first, samples=second))
            note(f"{turns} turns, {method}: one pass {first.tokens:,} tokens {first.measured[-1]:.2f} s, samples {second.tokens:,} tokens {second.measured[-1]:.2f} s")
    return out


# -- all of it ---------------------------------------------------------------------------------------


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(args: argparse.Namespace) -> dict[str, Any]:
    return {"date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"), "cpu": processor(), "cores": os.cpu_count(), "threads": args.threads,
            "python": platform.python_version(), "versions": {p: importlib.metadata.version(p) for p in PACKAGES}, "model": args.model.name,
            "steps": args.steps, "warmup": args.warmup, "repeat": args.repeat}


def print_head(document: dict[str, Any]) -> None:
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    print(f"{document['date']}; {document['cpu']}, {document['cores']} cores, {document['threads']} threads each; {document['model']}, float32; Python {document['python']}, "
          f"{versions}; {document['warmup']} warm-up and up to {document['steps']} measured steps, {document['repeat']} run of each", flush=True)


def task_of(args: argparse.Namespace, folder: Path) -> Task:
    config = json.loads((args.model / "config.json").read_text(encoding="utf-8"))
    return Task(model=args.model.resolve(), shape=shape_of(config), threads=args.threads, steps=args.steps, warmup=args.warmup, most_seconds=args.most_seconds,
                rates={"full": args.learning_rate, "lora": args.learning_rate * 10}, gogpt=own_command(args.gogpt), overrides=tuple(args.gogpt_set),
                adapter=folder / "adapter.safetensors", cache=DATA / "gogpt-cache", scratch=folder)


def main() -> None:
    args = words()
    if not (args.model / "config.json").is_file():
        sys.exit(f"--model {args.model}: no config.json in it")
    args.turns = list(TURNS) if args.turns == [] else args.turns
    trainers = [] if args.turns else chosen(args.only)
    for name in dict.fromkeys(t.environment for t in trainers if t.environment):
        environment(name).make()
    document = machine(args)
    failed: list[str] = []
    with empty_folder(DATA) as folder:
        task = task_of(args, folder)
        try:
            floor = own_floor(task)
            print_head(document)
            if args.turns:
                found = measure_turns(args, task, folder, floor)
                print("\n" + turns_table(found), flush=True)
                document["turns"] = [{**asdict(t), "loss_off": t.loss_off, "norm_off": t.norm_off, "update_off": t.update_off, "ratio": t.ratio} for t in found]
            else:
                if "lora" in args.methods:
                    make_adapter(task)
                data = make_sets(args, task, folder)
                runs, failed = measure_all(args, trainers, task, data, floor)
                rows = rows_of(runs, data, task.shape)
                document["ratios"] = print_tables(rows, runs, data, task)
                document["sets"] = [asdict(made) for made in data.values()]
                document["rows"] = [{**asdict(r), "trained_per_second": r.trained_per_second, "tokens_per_second": r.tokens_per_second,
                                     "useful_fraction": r.useful_fraction, "computed_fraction": r.computed_fraction, "honest": r.honest} for r in rows]
                document["runs"] = [asdict(r) for r in runs]
                document["failed"] = failed
        except Failed as problem:
            sys.exit(f"a run failed, so nothing after it was measured\n{problem}")
    if args.json:
        args.json.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    if failed:
        sys.exit("\n".join(["failed:", *failed]))


if __name__ == "__main__":
    main()
