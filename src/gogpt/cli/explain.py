"""gogpt explain"""

from __future__ import annotations

from typing import Annotated

import typer

from gogpt.cli.console import Format, Lang, out, pick_lang, put_json


def command(
    code: Annotated[str, typer.Argument(metavar="CODE", help="A code, as in TOK403.")],
    output_format: Format = "text",
    lang: Lang = "auto",
) -> int:
    """Print the page of a check or an error.

    What it checks, why it matters, how to fix it, an example.
    """
    from gogpt.checks import page_of
    from gogpt.checks.markdown import page_markdown

    spoken = pick_lang(lang)
    name = code.upper()
    page = page_of(name)
    if output_format == "json":
        put_json({"code": name, "title": page.title.of(spoken), "what": page.what.of(spoken), "why": page.why.of(spoken),
                  "fix": page.fix.of(spoken), "example": page.example})
        return 0
    console = out()
    text = page_markdown(name, spoken)
    if console.is_terminal:
        from rich.markdown import Markdown

        console.soft_wrap = False
        console.print(Markdown(text))
    else:
        typer.echo(text.rstrip("\n"))
    return 0
