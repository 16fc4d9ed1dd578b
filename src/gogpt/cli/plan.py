"""gogpt plan"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import (
    Format,
    Lang,
    Overrides,
    Quiet,
    check_passed_keys,
    duration,
    err,
    out,
    pick_lang,
    print_verdict,
    put_json,
    short_number,
    size,
)

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.preflight import Preflight


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe (YAML).")],
    overrides: Overrides = None,
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Time a few real micro-batches for the time estimate.")] = True,
    cluster: Annotated[str | None, typer.Option("--cluster", metavar="COUNTxDEVICE", help="Work it out for a cluster that is not here: 8xA100-80G, 1024xH100-80G, or "
                                                "'8 x 80 @ 312' (GiB, TFLOPS). Reads config.json alone, no data.")] = None,
    tokens: Annotated[float | None, typer.Option("--tokens", min=1, help="Of a cluster's whole run; without it, train.max_steps full steps.")] = None,
    utilisation: Annotated[float, typer.Option("--utilisation", min=0.01, max=1, help="Of a cluster's peak: what is assumed to be reached.")] = 0.4,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Show what will happen; write nothing.

    Steps, tokens, learning rates (drawn), memory, time. With --cluster: memory, traffic and time there, and what breaks first.
    """
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import load_recipe
    from gogpt.preflight import preflight

    spoken = pick_lang(lang)
    config = load_recipe(recipe, overrides or [])
    if cluster is not None:
        from gogpt.cli.cluster import show_cluster

        return show_cluster(config, cluster, tokens=tokens, utilisation=utilisation, output_format=output_format, lang=spoken)
    check_passed_keys(config)
    seconds = None
    with TerminalObserver(err(), spoken, quiet=quiet) as watching:
        watching.stage("reading data")
        before = preflight(config, progress=watching.reading)
        if probe and not before.verdict.refusals:
            from gogpt.probe import time_run

            watching.stage("timing micro-batches")
            seconds = time_run(before)
    document = before.plan.to_dict(seconds)
    if output_format == "json":
        put_json(document)
    else:
        _print(before, document, out(), spoken)
    return 1 if before.verdict.refusals else 0


def _print(before: Preflight, d: dict[str, Any], console: Console, lang: str) -> None:
    data, memory = before.prepared.facts, d["memory"]
    share = data.trained_tokens / data.tokens if data.tokens else 0
    filled = data.tokens / (d["rows"] * d["max_length"]) if d["packing"] and d["rows"] else None
    rows = f"{d['rows']:,} rows of up to {d['max_length']:,} tokens" + (f", {filled:.0%} filled" if filled else "")
    streaming, length = d["sampled_rows"] > 0, "" if d["epochs"] is None else f" = {d['epochs']:.3g} epochs"
    lines = [
        *([("streaming", f"judged on the first {d['sampled_rows']:,} rows; the others are read while training")] if streaming else []),
        ("data", f"{data.rows_in:,} rows in, {sum(data.drops.values()):,} dropped, {data.examples:,} examples to train, {data.eval_examples:,} held out"),
        ("tokens", f"{data.tokens:,} {'in them' if streaming else 'an epoch'}, {data.trained_tokens:,} trained ({share:.1%}), template {data.template}"),
        ("packing" if d["packing"] else "rows", rows if d["packing"] else f"{d['rows']:,} examples, one a row"),
        ("steps", f"{d['steps']:,}{length}, {d['batch_size']} rows each = {d['micro_batch_size']} x {d['accumulation']} accumulated x {d['world_size']} process"),
        ("a step", f"about {d['tokens_per_step']:,.0f} tokens, {d['trained_tokens_per_step']:,.0f} trained"),
        *([("prefixes", f"{d['computed_tokens'] / d['tokens']:.1%} of the tokens are computed: examples that begin alike share their prefix")] if d["shared_prefixes"]
          else [("prefixes", f"prefixes are not shared: {d['why_not_shared']}")] if d["packing"] and d["stage"] == "sft" else []),
        ("train", f"{d['method']}: {short_number(d['trainable_parameters'])} of {short_number(d['parameters'])} parameters, {d['precision']}"),
        *([("base", f"{short_number(d['quantised_parameters'])} parameters in {d['quant_type']}, {short_number(d['parameters'] - d['quantised_parameters'])} in {d['weights_dtype']}")]
          if d["quant_type"] else []),
        ("memory", f"about {size(memory['total'])} = " + (f"runtime {size(memory['runtime'])} + " if memory["runtime"] else "") + f"weights {size(memory['weights'])} + gradients {size(memory['gradients'])} + optimizer {size(memory['optimizer'])} + activations {size(memory['activations'])}"),
        ("time", f"about {duration(d['seconds'])} (from timed micro-batches)" if d["seconds"] is not None else "not timed"),
        ("lr", f"{d['schedule']}, peak {d['learning_rate']:g} after {d['warmup_steps']} warm-up steps" if d["driven_by"] is None else
         f"{d['driven_by']} of the DeepSpeed file, peak {max(y for _, y in d['lr']):g}, last {d['lr'][-1][1]:g}; the recipe's {d['schedule']} is not used"),
    ]
    for name, text in lines:
        console.print(f"{name:<9} {text}", markup=False)
    for line in draw(d["lr"]):
        console.print(line, markup=False)
    print_verdict(before.verdict, lang, console)


DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def draw(points: list[list[float]], width: int = 60, height: int = 8) -> list[str]:
    """A curve ``[[x, y], ...]`` (x ascending) in Braille dots, with its axes."""
    if not points:
        return []
    top = max(y for _, y in points) or 1.0
    first, last = points[0][0], points[-1][0]
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for column in range(width * 2):
        x = first + (last - first) * column / (width * 2 - 1)
        y = _at(points, x) / top
        row = round((1 - min(1.0, max(0.0, y))) * (height * 4 - 1))
        low, high = (row, row) if before is None else (min(row, before), max(row, before))
        for r in range(low, high + 1):
            cells[r // 4][column // 2] |= DOTS[r % 4][column % 2]
        before = row
    out_lines = []
    for i, line in enumerate(cells):
        label = f"{top:.2e}" if i == 0 else "0" if i == height - 1 else ""
        out_lines.append(f"{label:>9} ┤" + "".join(chr(0x2800 + c) for c in line))
    out_lines.append(" " * 10 + "└" + "─" * width)
    out_lines.append(" " * 11 + f"{int(first):<{width // 2}}{f'step {int(last)}':>{width - width // 2}}")
    return out_lines


def _at(points: list[list[float]], x: float) -> float:
    """The curve's value at x, by the nearest point on the left (learning rates hold for a step)."""
    import bisect

    i = bisect.bisect_right(points, [x, float("inf")]) - 1
    return points[max(0, i)][1]
