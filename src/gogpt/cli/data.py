"""gogpt data inspect | list | convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gogpt.cli.console import Format, Lang, Quiet, err, out, pick_lang, put_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into data, find and convert it.")


@app.callback()
def data() -> None:
    """Look into data, find and convert it."""


@app.command("inspect")
def inspect_data(
    path: Annotated[str, typer.Argument(help="File, folder, glob or hub id.")],
    schema: Annotated[str, typer.Option("--schema", help="A schema by name, or auto.")] = "auto",
    model: Annotated[str | None, typer.Option("--model", help="Folder or hub id: lengths in its tokens, too.", show_default=False)] = None,
    template: Annotated[str | None, typer.Option("--template", help="With --model: a template by name, auto (the default), or a .jinja file.",
                                                 show_default=False)] = None,
    html: Annotated[str | None, typer.Option("--html", help="Also write a page that opens offline.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only the first rows of each file.", show_default=False)] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Show what data holds, and what looks odd.

    The schema of each file and its evidence, counts, lengths, languages, repeats, placeholders, sample conversations.
    """
    from gogpt.cli.inspection import print_inspection
    from gogpt.cli.observer import TerminalObserver
    from gogpt.config import ModelConfig
    from gogpt.data.inspect import Measure, inspect
    from gogpt.errors import GogptError
    from gogpt.modelfiles import find_model
    from gogpt.report.inspect import write_inspection
    from gogpt.report.inspect_labels import LABELS
    from gogpt.templates import pick_template
    from gogpt.tokenize import Tokenizer

    if template is not None and model is None:
        raise typer.BadParameter("name a --model whose tokenizer counts the tokens", param_hint="--template")
    if html is not None and not (Path(html).name and Path(html).parent.is_dir()):
        raise GogptError("ENV110", "cannot write: there is no such folder", where=html or "(an empty name)", fix="name a file in a folder that exists")
    spoken = pick_lang(lang)
    measure = None
    if model is not None:
        tokenizer = Tokenizer(find_model(ModelConfig(path=model)))
        measure = Measure(model=model, tokenizer=tokenizer, template=pick_template(template or "auto", tokenizer))
    with TerminalObserver(err(), spoken, quiet=quiet) as watching:
        watching.stage(LABELS[spoken]["reading"])
        found = inspect(path, schema=schema, limit=limit, measure=measure, progress=watching.reading)
    if html is not None:
        write_inspection(found, Path(html), spoken)
    if output_format == "json":
        put_json(found)
    else:
        print_inspection(found, LABELS[spoken], out())
    if html is not None and not quiet:
        err().print(f"{LABELS[spoken]['written']}   {html}", markup=False)
    return 2 if found.failed else 0


@app.command("list")
def list_data(
    language: Annotated[str | None, typer.Option("--lang-of", help="A language of the data: en, zh, ...", show_default=False)] = None,
    schema: Annotated[str | None, typer.Option("--schema", help="A schema by name.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option("--task", help="What it is for: chat, code, math, tools, ...", show_default=False)] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
) -> int:
    """List well-known data sets, and their traps.

    Hub id, size, languages, licence, schema, what each is good for.
    """
    from gogpt.cli.inspection import print_catalogue
    from gogpt.data.catalogue import TASKS, catalogue, select
    from gogpt.facts import to_json
    from gogpt.report.inspect_labels import LABELS

    known = {"--lang-of": (language, sorted({code for d in catalogue() for code in d.languages})),
             "--schema": (schema, sorted({d.schema for d in catalogue()})), "--task": (task, TASKS)}
    for name, (value, values) in known.items():
        if value is not None and value not in values:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(values)}", param_hint=name)
    chosen = select(language=language, schema=schema, task=task)
    if output_format == "json":
        put_json([{**to_json(d), "readable": d.readable} for d in chosen])
    else:
        spoken = pick_lang(lang)
        print_catalogue(chosen, len(catalogue()), LABELS[spoken], spoken, out())
    return 0


@app.command("convert")
def convert(
    path: Annotated[str, typer.Argument(help="File, folder, glob or hub id.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .jsonl, .jsonl.gz or .parquet to write; its ledger stands beside it.")],
    schema: Annotated[str, typer.Option("--schema", help="A schema by name, or auto.")] = "auto",
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Convert any data to OpenAI messages.

    One object a row, in order; with a ledger of every row.
    """
    from gogpt.data.convert import convert as convert_data

    ledger = convert_data(path, Path(output), schema=schema)
    if output_format == "json":
        put_json(ledger)
    elif not quiet:
        drops, first = ledger["drops"], ledger["first"]
        dropped = ", ".join(f"{n} {reason} (first {first[reason][0]})" for reason, n in drops.items())
        err().print(f"{ledger['rows_in']:,} rows in = {ledger['conversations']:,} conversations + {sum(drops.values()):,} dropped"
                    + (f": {dropped}" if dropped else "") + f"\nwritten   {output}\nledger    {output}.ledger.json", markup=False)
    return 0
