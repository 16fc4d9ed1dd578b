"""The command: run the faults, judge them, write results.json and docs/silent-benchmark.md.

    python -m bench.silent                        every tool; makes the peers' environments first (about 4 GB)
    python -m bench.silent --tool gogpt           GoGPT alone; the peers' cells stay as results.json has them
    python -m bench.silent --only packing_leaks   one fault; the others stay as they are
    python -m bench.silent --show packing_leaks   where its files and outputs lie, and what was judged of them
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from .cases import GOGPT, TOOLS
from .faults import FAULTS, Fault
from .judge import judge
from .page import write_page
from .results import NOT_HERE_CELL, Results, cell_key, load, machine, save, today
from .runs import DATA, read_run, run_cases, versions_of
from .world import make_models


def words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.silent", description=__doc__.splitlines()[0])
    parser.add_argument("--tool", action="append", choices=TOOLS, help="only this tool (may be repeated)")
    parser.add_argument("--only", action="append", choices=[f.id for f in FAULTS], metavar="FAULT", help="only this fault (may be repeated)")
    parser.add_argument("--again", action="store_true", help="run also what was run with these versions before")
    parser.add_argument("--serial", action="store_true", help="one tool after another, not two at once")
    parser.add_argument("--show", choices=[f.id for f in FAULTS], metavar="FAULT", help="print what was judged and where it lies; run nothing")
    parser.add_argument("--page", action="store_true", help="write the page from results.json; run nothing")
    return parser.parse_args()


def make_environments(tools: list[str]) -> None:
    """The peers'; nothing where they are as the requirements ask."""
    from bench.environments import environment

    for tool in tools:
        if tool != GOGPT:
            environment(tool).make()


def run_tool(tool: str, faults: list[Fault], results: Results, *, again: bool) -> None:
    models, version = make_models(DATA), versions_of(tool)
    run_cases(tool, [(name, case) for f in faults if tool not in f.not_here
                     for name, case in ((f.id, f.faulty[tool]), (f"{f.id}, healthy", f.healthy[tool]))], models, version, again=again)
    results.versions[tool] = version
    results.measured[tool] = {"date": today(), "machine": machine()}
    for fault in faults:
        if tool in fault.not_here:
            results.cells.setdefault(fault.id, {})[tool] = NOT_HERE_CELL
            continue
        case = fault.faulty[tool]
        cell = judge(tool, fault, read_run(tool, case, models), read_run(tool, fault.healthy[tool], models), case.planned)
        results.put(fault.id, tool, cell, cell_key(fault, tool, version))


def show(fault: Fault) -> None:
    results = load()
    for tool in TOOLS:
        if tool in fault.not_here:
            print(f"{tool}: n/a: {fault.not_here[tool]}")
            continue
        cell = results.cells.get(fault.id, {}).get(tool)
        print(f"{tool}: {cell}")
        for name, case in (("fault", fault.faulty[tool]), ("twin", fault.healthy[tool])):
            print(f"  {name}: {DATA / 'runs' / tool / case.key}")


def main() -> None:
    args = words()
    if args.show:
        show(next(f for f in FAULTS if f.id == args.show))
        return
    results = load()
    if not args.page:
        tools = args.tool or list(TOOLS)
        faults = [f for f in FAULTS if not args.only or f.id in args.only]
        make_environments(tools)
        make_models(DATA)
        with ThreadPoolExecutor(1 if args.serial else 2) as pool:
            for done in [pool.submit(run_tool, tool, faults, results, again=args.again) for tool in tools]:
                done.result()
        for fault_id, tool in results.stale(set(tools)):
            print(f"{fault_id}: {tool}'s cell is of another version of the fault: run it again (--tool {tool})", file=sys.stderr)
        save(results)
    write_page(results)


if __name__ == "__main__":
    main()
