"""How fast is data prepared: from a JSON lines file to a tokenised set on the disk, GoGPT beside its peers and beside the
fastest tokenizer library alone. See README.md in this folder.

    python bench/prepare.py --tokenizer FOLDER                 the table
    python bench/prepare.py --tokenizer FOLDER --no-peers      GoGPT alone
    python bench/prepare.py --tokenizer FOLDER --scale --cold  and how it grows, and how it starts
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import conversations
from contenders import (
    CEILING_CONTENDERS,
    MINE,
    PEER_CONTENDERS,
    Contender,
    Task,
    empty_folder,
    folder_size,
    gogpt_command,
    gogpt_environment,
    gogpt_samples,
    measure,
    peer_samples,
)
from environments import environment
from equality import Equality, compare
from table import Run, markdown, rate, ratio_lines, ratios, rows_of, table

from processes import Failed, Finished, run

HERE = Path(__file__).resolve().parent
DATA = HERE / ".data"
SIZES = (10_000, 100_000, 1_000_000)
NUM_COLD, COLD_ROWS = 5, 10
FIRST_RUN = "first run, empty cache"


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def words(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the preparation of data", epilog="See bench/README.md.")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json and tokenizer_config.json; figures are for SmolLM2's")
    parser.add_argument("--data", type=Path, help="your own messages, JSON lines; default: generated conversations")
    parser.add_argument("--conversations", type=int, default=20_000, help="how many to generate [20000]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, in alternation; medians are printed [3]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of each [every core]")
    parser.add_argument("--no-peers", action="store_true", help="neither environments nor peers: GoGPT alone")
    parser.add_argument("--only", action="append", help="only this one (TRL, LLaMA-Factory, ceiling, GoGPT); may be given several times")
    parser.add_argument("--gogpt", default=f"{shlex.quote(sys.executable)} -m gogpt", help="the command up to its verb [this Python -m gogpt]")
    parser.add_argument("--scale", type=int, nargs="*", metavar="N", help="GoGPT alone at these sizes, once each [10000 100000 1000000]")
    parser.add_argument("--cold", action="store_true", help=f"the whole command on {COLD_ROWS} rows, median of {NUM_COLD}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured, as one document")
    args = parser.parse_args(given)
    if args.repeat < 1:
        parser.error("--repeat: at least 1")
    return args


def chosen(args: argparse.Namespace) -> list[Contender]:
    everyone = [MINE] if args.no_peers else [MINE, *PEER_CONTENDERS, *CEILING_CONTENDERS]
    if args.only:
        names = {name.lower() for name in args.only}
        known = {c.who.lower() for c in everyone}
        if names - known:
            sys.exit(f"--only {', '.join(sorted(names - known))}: not among {', '.join(sorted(known))}")
        everyone = [c for c in everyone if c.who.lower() in names]
    return everyone


def conversations_file(count: int, seed: int) -> Path:
    file = DATA / f"conversations-{count}-{seed}.jsonl"
    if not file.exists():
        note(f"data         generating {count:,} conversations ...")
    written = conversations.make(count, file, seed=seed)
    note(f"data         {written.conversations:,} conversations ({written.chinese:,} Chinese), {written.bytes / 1e6:.1f} MB, "
         f"{100 * written.share_repeated:.1f} % of the sentences stood before; sha256 {written.sha256[:16]}")
    return file


def tokenizer_as_it_stands(folder: Path) -> Path:
    """A copy of the tokenizer's files that transformers takes as they are. transformers 5 builds a tokenizer of its class
    name anew from vocabulary and merges: under GPT2Tokenizer, which SmolLM2's configuration names, digits are no longer
    split first, and the peers' ids differ wherever white space stands before a digit. Under the plain class they agree."""
    copy = DATA / "tokenizer"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix in (".json", ".model", ".txt", ".jinja"):
            shutil.copyfile(file, copy / file.name)
    config_file = copy / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config_file.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
    return copy


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """``first``: GoGPT's first run with an empty cache, in which it proves the tokenizer library."""

    first: Run
    equalities: list[Equality]


def compare_ids(everyone: Sequence[Contender], task: Task, scratch: Path) -> Compared:
    """Before anything is timed. GoGPT's cache is new, so this is its first run on this machine."""
    shutil.rmtree(task.cache, ignore_errors=True)
    note("equality     GoGPT ...")
    first, mine = gogpt_samples(task, scratch=scratch)
    equalities = []
    for contender in everyone:
        if contender.who != MINE.who and contender.setting == MINE.setting:
            note(f"equality     {contender.who} ...")
            equalities.append(compare(contender.who, mine, peer_samples(contender, task, scratch=scratch)))
    return Compared(first=replace(first, setting=FIRST_RUN), equalities=equalities)


def measure_all(everyone: Sequence[Contender], task: Task, repeat: int, scratch: Path) -> list[Run]:
    """In alternation, so that a slow minute of the machine falls on all of them."""
    out = []
    for number in range(1, repeat + 1):
        for contender in everyone:
            made = measure(contender, task, scratch=scratch)
            note(f"run {number} of {repeat}   {contender.who}, {contender.setting}: {made.seconds:.2f} s, {rate(made.tokens / made.seconds)} tokens/s")
            out.append(made)
    return out


# -- how it grows, how it starts -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """One size, GoGPT alone; ``disk_mb``: everything that the run left in its folder."""

    run: Run
    data_mb: float
    disk_mb: float


def measure_scale(sizes: Sequence[int], task: Task, seed: int, scratch: Path) -> list[Scaled]:
    out = []
    for size in sizes:
        file = conversations_file(size, seed)
        disk: list[int] = []

        def look(_: Finished, folder: Path, disk: list[int] = disk) -> None:
            disk.append(folder_size(folder))

        made = measure(MINE, replace(task, data=file), scratch=scratch, look=look)
        note(f"scale        {size:,}: {made.seconds:.2f} s, {rate(made.tokens / made.seconds)} tokens/s")
        out.append(Scaled(run=made, data_mb=file.stat().st_size / 1e6, disk_mb=disk[0] / 1e6))
    return out


def scale_table(scaled: Sequence[Scaled]) -> str:
    header = ("conversations", "data MB", "seconds", "whole command", "tokens", "tokens/s", "conversations/s", "largest MB", "all MB", "disk MB")
    return markdown(header, ((
        f"{s.run.conversations:,}", f"{s.data_mb:,.0f}", f"{s.run.seconds:.2f}", f"{s.run.process_seconds:.1f}", f"{s.run.tokens:,}",
        rate(s.run.tokens / s.run.seconds), rate(s.run.conversations / s.run.seconds), f"{s.run.peak_rss_mb:,.0f}",
        f"{s.run.tree_rss_mb:,.0f}", f"{s.disk_mb:,.0f}") for s in scaled))


def measure_cold(task: Task, scratch: Path) -> list[float]:
    """Seconds of whole commands on a few rows, one process after another; the files are in the page cache after the first."""
    with empty_folder(scratch) as folder:
        few = folder / "few.jsonl"
        with task.data.open(encoding="utf-8") as lines:
            few.write_text("".join(line for line, _ in zip(lines, range(COLD_ROWS), strict=False)), encoding="utf-8")
        small = replace(task, data=few)

        def once(number: int) -> Finished:
            place = folder / str(number)
            place.mkdir()
            return run(gogpt_command(small, place), env=gogpt_environment(small), log=place / "log.txt")

        return [once(number).seconds for number in range(NUM_COLD)]


# -- all of it -------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}


def make_environments(everyone: Sequence[Contender]) -> None:
    for name in dict.fromkeys(c.environment for c in everyone if c.environment):
        environment(name).make()


def measure_table(args: argparse.Namespace, everyone: Sequence[Contender], task: Task, scratch: Path) -> dict[str, Any]:
    """Equality first, then the runs; prints both."""
    out: dict[str, Any] = {}
    lines: list[str] = []
    runs = []
    if MINE in everyone:
        compared = compare_ids(everyone, task, scratch)
        lines += [e.line() for e in compared.equalities]
        out["equality"] = [asdict(e) for e in compared.equalities]
        runs = [compared.first]
    runs += measure_all(everyone, task, args.repeat, scratch)
    rows = rows_of(runs)
    lines += [f"ids in memory, {r.setting} and tokenizers: equal for {r.equal:,} of {r.compared:,} conversations"
              for r in rows if r.compared is not None and r.equal is not None]
    found = ratios([r for r in rows if r.setting != FIRST_RUN])
    print("\n".join([*lines, "", table(rows), "", *ratio_lines(found)]), flush=True)
    out["rows"] = [{**asdict(r), "tokens_per_second": r.tokens_per_second, "conversations_per_second": r.conversations_per_second} for r in rows]
    out["over_peer"], out["over_ceiling"] = found.over_peer, found.over_ceiling
    return out


def main() -> None:
    args = words()
    everyone = chosen(args)
    if not (args.tokenizer / "tokenizer.json").is_file():
        sys.exit(f"--tokenizer {args.tokenizer}: no tokenizer.json in it")
    make_environments(everyone)
    file = args.data.resolve() if args.data else conversations_file(args.conversations, args.seed)
    task = Task(data=file, tokenizer=tokenizer_as_it_stands(args.tokenizer), workers=args.workers, gogpt=tuple(shlex.split(args.gogpt)),
                cache=DATA / "gogpt-cache")
    scratch = DATA / "scratch"
    document: dict[str, Any] = {"date": datetime.date.today().isoformat(), **machine(), "workers": args.workers}
    try:
        document |= measure_table(args, everyone, task, scratch)
        if args.scale is not None:
            scaled = measure_scale(args.scale or SIZES, task, args.seed, scratch)
            print("\n" + scale_table(scaled), flush=True)
            document["scale"] = [asdict(s) for s in scaled]
        if args.cold:
            seconds = measure_cold(task, scratch)
            print(f"\ngogpt prepare, {COLD_ROWS} rows, whole command: {statistics.median(seconds):.2f} s "
                  f"(median of {NUM_COLD}: {min(seconds):.2f} - {max(seconds):.2f})", flush=True)
            document["cold_seconds"] = seconds
    except Failed as problem:
        sys.exit(f"a run failed, so nothing after it was measured\n{problem}")
    if args.json:
        args.json.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
