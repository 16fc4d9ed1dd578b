"""gogpt migrate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gogpt.cli.console import Format, Lang, Overrides, Quiet, err, pick_lang, put_json
from gogpt.cli.words import say


def command(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A configuration or launch script of LLaMA-Factory, Axolotl, ms-swift or TRL.")],
    overrides: Overrides = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="RECIPE", help="The recipe to write; else it is printed.", show_default=False)] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Write another tool's configuration as a recipe.

    Each key that has no counterpart is told, with its line. Settings override the configuration's, in the tool's own words.
    """
    from gogpt.config import parse_recipe
    from gogpt.errors import GogptError
    from gogpt.foreign import TOOL_NAMES, read_foreign
    from gogpt.foreign.recipe import to_recipe
    from gogpt.recognise import recognise
    from gogpt.runfolder import write_text
    from gogpt.yaml12 import dump_yaml

    path, spoken = Path(config), pick_lang(lang)
    if not path.is_file():
        raise GogptError("CFG200", "there is no such configuration", where=config, fix="give the path of the file that the tool is started with")
    kind = recognise(path, config).kinds[0]
    if kind not in (*TOOL_NAMES, "script"):
        raise GogptError("CFG206", "this is no configuration of another tool", where=config, got=f"recognised as {kind}",
                         expected=", ".join(TOOL_NAMES.values()), fix="a recipe needs no migration: gogpt check tells what is wrong with it")
    if output is not None and Path(output).exists():
        raise GogptError("RUN610", "the output exists already", where=output, fix="name a new file")
    file = read_foreign(path.read_text(encoding="utf-8-sig"), config, None if kind == "script" else kind, overrides or [])
    folder = Path(output).resolve().parent if output is not None else Path.cwd()
    recipe, left = to_recipe(file)
    recipe = _relative(recipe, file.folder, folder)
    text = dump_yaml(recipe)
    parse_recipe(text, name=output or "recipe", base=folder)  # what would be refused is told now
    told = [{"key": key, "why": why, "where": file.facts.at(key)} for key, why in left]
    if output is not None:
        write_text(Path(output), text)
    if output_format == "json":
        put_json({"object": {"path": config, "kind": kind}, "recipe": recipe, "left_out": told, "output": output})
        return 0
    if output is None:
        typer.echo(text, nl=False)
    if not quiet:
        for entry in told:
            err().print(f"{entry['where']}: {entry['key']}: {entry['why']}", markup=False)
        if output is not None:
            err().print(say(spoken, "written   {path}; what would happen: gogpt plan {path}", path=output), markup=False)
    return 0


def _relative(recipe: dict[str, object], source: Path, folder: Path) -> dict[str, object]:
    """Paths as the recipe's folder sees them; ids of a hub stay."""
    import os

    from gogpt.foreign.places import local_file

    def seen(name: str) -> str:
        found = local_file(name, source)
        return os.path.relpath(found.resolve() if not found.is_symlink() else found.absolute(), folder) if found is not None else name

    def moved(value: object) -> object:
        return [{**s, "path": seen(str(s["path"]))} for s in value] if isinstance(value, list) else value

    data = dict(recipe["data"])  # type: ignore[call-overload]
    return {**recipe, "model": seen(str(recipe["model"])) if recipe["model"] else "", "data": {**data, "train": moved(data["train"]), "eval": moved(data["eval"])}}
