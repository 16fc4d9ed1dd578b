"""gogpt show"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import Format, Lang, Overrides, out, put_json

if TYPE_CHECKING:
    from rich.console import Console


def command(
    thing: Annotated[str, typer.Argument(metavar="FILE:ROW | RECIPE", help="A row of a data file (the first row is 1), or a recipe.")],
    overrides: Overrides = None,
    template: Annotated[str | None, typer.Option("--template", help="A template by name, auto, or a .jinja file.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", help="Folder or hub id whose tokenizer is used.", show_default=False)] = None,
    schema: Annotated[str, typer.Option("--schema", help="A schema by name, or auto.")] = "auto",
    train_on: Annotated[str, typer.Option("--train-on", help="assistant, last or all.")] = "assistant",
    row: Annotated[int, typer.Option("--row", help="With a recipe: the row of its first source.")] = 1,
    output_format: Format = "text",
    lang: Lang = "auto",
) -> int:
    """Show one row at every stage.

    Origin, schema, messages, text, and tokens with the trained ones painted.
    """
    from gogpt.config import DataConfig, SourceConfig, load_recipe
    from gogpt.data.sources import find_files, is_hub_id
    from gogpt.errors import GogptError
    from gogpt.modelfiles import find_tokenizer
    from gogpt.show import find_conversation, show_documents
    from gogpt.templates import NO_TEMPLATE, TRAIN_ON, pick_template
    from gogpt.tokenize import Tokenizer

    if train_on not in TRAIN_ON:
        raise typer.BadParameter(f"{train_on!r} is none of {', '.join(TRAIN_ON)}", param_hint="--train-on")
    if Path(thing).suffix in (".yaml", ".yml"):
        config = load_recipe(thing, overrides or [])
        source, data_config = config.data.train[0], config.data
        model = model or config.model.path
        template = template or (NO_TEMPLATE if config.stage == "pretrain" else config.data.template)
        if not is_hub_id(source.path):
            source = source.model_copy(update={"path": str(find_files(source.path)[0])})
    else:
        found = re.fullmatch(r"(.+):(\d+)", thing)
        if found is None:
            raise GogptError("DAT309", "which row?", where=thing, expected="FILE:ROW, as in data.json:17; the first row is 1",
                             fix=f"gogpt show {thing}:1")
        row = int(found.group(2))
        source = SourceConfig.model_validate({"path": found.group(1), "schema": schema})
        data_config = DataConfig.model_validate({"train": [source], "train_on": train_on})
    tokenizer = Tokenizer(find_tokenizer(model)) if model else None
    chosen = pick_template(template or ("auto" if model else "chatml"), tokenizer)
    conversation, name = find_conversation(source, row)
    documents = show_documents(conversation, name, data_config, tokenizer, chosen)
    if output_format == "json":
        put_json(documents[0] if len(documents) == 1 else {**documents[0], "examples": documents})
        return 0
    _print(documents, out())
    return 0


def _print(documents: list[dict[str, Any]], console: Console) -> None:
    from rich.text import Text

    first = documents[0]
    console.print(Text("origin    ", style="bold") + Text(f"{first['origin']['path']}:{first['origin']['row']}"))
    console.print(Text("schema    ", style="bold") + Text(first["schema"]))
    console.print(Text("messages", style="bold"))
    for message in first["messages"]:
        console.print(Text(f"  {message['role']}: ", style="cyan") + Text(message["content"]))
        for call in message.get("tool_calls", ()):
            console.print(Text(f"    calls {call}", style="dim"))
    for i, document in enumerate(documents):
        number = f" {i + 1} of {len(documents)}" if len(documents) > 1 else ""
        console.print(Text(f"text{number}", style="bold") + Text(f" (template {document['template']}; trained text painted)"))
        console.print(paint([(s["text"], s["train"]) for s in document["segments"]], console))
        if "labels" in document:
            trained = sum(label != -100 for label in document["labels"])
            total = len(document["labels"])
            console.print(Text(f"tokens{number}", style="bold") + Text(f" ({total} tokens, {trained} trained)"))
            pieces = [(piece, label != -100) for piece, label in zip(document["pieces"], document["labels"], strict=True)]
            console.print(paint(pieces, console, tokens=True))
        else:
            console.print(Text("tokens    name a --model to see them", style="dim"))


def paint(pieces: list[tuple[str, bool]], console: Console, *, tokens: bool = False) -> Any:
    """Trained pieces on green, the others dim; without colour, trained ones in ⟦ ⟧. ``tokens``: mark every border."""
    from rich.text import Text

    colour = console.is_terminal and not console.no_color
    text = Text()
    inside = False
    for i, (piece, train) in enumerate(pieces):
        shown = piece.replace("\n", "⏎\n") if tokens else piece
        if colour:
            style = ("black on green" if i % 2 or not tokens else "black on bright_green") if train else "dim"
            text.append(shown, style=style)
            if tokens and not train and piece:
                text.append("·", style="dim")
            continue
        if train != inside:
            text.append("⟦" if train else "⟧")
            inside = train
        text.append(shown)
        if tokens and i + 1 < len(pieces) and pieces[i + 1][1] == train and piece:
            text.append("|")
    if inside:
        text.append("⟧")
    return text
