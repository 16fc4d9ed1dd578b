"""gogpt evaluate"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import Format, Lang, Quiet, err, out, pick_lang, put_json
from gogpt.cli.words import say

if TYPE_CHECKING:
    from gogpt.evaluate import Evaluated, Held


def command(
    model: Annotated[str, typer.Argument(metavar="RUN-or-MODEL", help="A run folder, an adapter, a model folder or a hub id.")],
    data: Annotated[list[str] | None, typer.Option("--data", "-d", help="Held-out conversations: file, folder, glob or hub id. Default: the run's own evaluation set.",
                                                   show_default=False)] = None,
    template: Annotated[str | None, typer.Option("--template", help="Default: the run's; of a model, the one saved with it.", show_default=False)] = None,
    base: Annotated[str | None, typer.Option("--base", help="The adapter's base model.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Examples of one forward pass. Default: the run's micro-batch, else 4.",
                                                   show_default=False)] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=2, help="Tokens of an example. Default: the run's, else 2048.", show_default=False)] = None,
    ray: Annotated[bool, typer.Option("--ray", help="On the workers of a Ray cluster: the same loss.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="With --ray, at most so many. Default: one a core.", show_default=False)] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Measure the loss on held-out examples.

    The mean over all trained tokens, as training evaluates: on a run's own
    evaluation set it is the run's last evaluation loss.
    """
    if workers is not None and not ray:
        raise typer.BadParameter("--workers is of --ray")
    from gogpt.cli.observer import TerminalObserver
    from gogpt.evaluate import evaluate, hold

    spoken, began = pick_lang(lang), time.perf_counter()
    with TerminalObserver(err(), spoken, quiet=quiet) as watching:
        watching.stage("reading data")
        held = hold(model, data or (), template=template, base=base, batch_size=batch_size, max_length=max_length, progress=watching.reading)
        for text in held.prepared.told:
            watching.note(text)
        if count := held.prepared.facts.special_text.count:
            watching.note_of("{count} rows spell special tokens, which were encoded as such", count=count)
        watching.stage("evaluating")
        found = evaluate(held, ray=ray, workers=workers, note=watching.note, progress=watching.reading)
    document = _document(model, held, found, time.perf_counter() - began, own=not data, ray=ray)
    if output_format == "json":
        put_json(document)
    else:
        _print(document, spoken)
    return 0 if math.isfinite(found.loss) else 1


def _document(model: str, held: Held, found: Evaluated, seconds: float, *, own: bool, ray: bool) -> dict[str, Any]:
    ledger = None if own else held.prepared.ledger  # that of a run's own set is of its training rows too
    return {
        "object": {"path": model, "kind": held.kind}, "loss": found.loss, "perplexity": found.perplexity, "examples": len(held.examples),
        "trained_tokens": found.trained_tokens, "sources": [{"path": path, "examples": number, "trained_tokens": tokens} for path, number, tokens in found.sources],
        "rows_in": ledger.rows_in if ledger else None, "drops": dict(ledger.drops) if ledger else None, "template": held.template, "batch_size": held.batch_size, "precision": held.loading.precision,
        "ray": ray, "seconds": seconds,
    }


def _print(d: dict[str, Any], lang: str) -> None:
    from rich.table import Table

    def put(text: str, **values: Any) -> None:
        out().print(say(lang, text, **values), markup=False)

    put("evaluated {examples:,} examples, {tokens:,} trained tokens, template {template}", examples=d["examples"], tokens=d["trained_tokens"], template=d["template"])
    if dropped := sum((d["drops"] or {}).values()):
        put("dropped   {dropped:,} of {rows:,} rows read ({reasons})", dropped=dropped, rows=d["rows_in"], reasons=", ".join(d["drops"]))
    put("loss      {loss:.6f}, perplexity {perplexity:.4g}", loss=d["loss"], perplexity=d["perplexity"])
    if len(d["sources"]) > 1:
        table = Table(box=None, pad_edge=False, show_edge=False)
        for i, heading in enumerate(("file", "examples", "trained tokens")):
            table.add_column(say(lang, heading), justify="right" if i else "left", overflow="fold")
        for source in d["sources"]:
            table.add_row(source["path"], f"{source['examples']:,}", f"{source['trained_tokens']:,}")
        out().print(table)
