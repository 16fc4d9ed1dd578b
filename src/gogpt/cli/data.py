"""gogpt data convert"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from gogpt.cli.console import Format, Lang, Quiet, err, put_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read and convert data.")


@app.callback()
def data() -> None:
    """Read and convert data."""


@app.command("convert")
def convert(
    path: Annotated[str, typer.Argument(help="File, folder, glob or hub id.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .jsonl to write; its ledger stands beside it.")],
    schema: Annotated[str, typer.Option("--schema", help="A schema by name, or auto.")] = "auto",
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Convert any data to OpenAI messages, one object a line, in order; with a ledger of every row."""
    from gogpt.config import SourceConfig
    from gogpt.data.ledger import Ledger
    from gogpt.data.read import read_conversations
    from gogpt.data.sources import find_files, is_hub_id
    from gogpt.errors import GogptError
    from gogpt.runfolder import disk_error, write_json

    ledger = Ledger()
    target = Path(output)
    if not output or not target.parent.is_dir():
        raise GogptError("ENV110", "cannot write: there is no such folder", where=output or "(an empty name)", fix="name a file in a folder that exists")
    try:
        onto_itself = target.exists() and any(file.samefile(target) for file in ([] if is_hub_id(path) else find_files(path)))
    except OSError as problem:
        raise disk_error(problem, target) from problem
    if onto_itself:
        raise GogptError("RUN610", "the output is the data itself", where=output, fix="name another file")
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as f:
            for conversation in read_conversations(SourceConfig.model_validate({"path": path, "schema": schema}), ledger):
                if conversation.is_text:
                    document: dict[str, object] = {"text": conversation.messages[0].content}
                else:
                    messages = [m.to_dict() for m in conversation.messages]
                    for message in messages:
                        message.pop("input", None)
                    document = {"messages": messages}
                if conversation.tools:
                    document["tools"] = [dict(t) for t in conversation.tools]
                f.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
        partial.replace(target)
    except OSError as problem:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise disk_error(problem, target) from problem
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    result = {k: v for k, v in ledger.to_dict().items() if k in ("rows_in", "conversations", "drops", "schema", "first", "notes")}
    write_json(target.with_name(target.name + ".ledger.json"), result)
    if output_format == "json":
        put_json(result)
    elif not quiet:
        dropped = ", ".join(f"{n} {reason} (first {ledger.first[reason][0]})" for reason, n in ledger.drops.most_common())
        err().print(f"{ledger.rows_in:,} rows in = {ledger.conversations:,} conversations + {sum(ledger.drops.values()):,} dropped"
                    + (f": {dropped}" if dropped else "") + f"\nwritten   {target}\nledger    {target}.ledger.json", markup=False)
    return 0
