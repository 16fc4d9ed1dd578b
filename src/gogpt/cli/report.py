"""gogpt report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gogpt.cli.console import Lang, pick_lang


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    lang: Lang = "auto",
) -> int:
    """Write report.html of a run folder anew."""
    from gogpt.errors import GogptError
    from gogpt.report import write_report

    folder = Path(run)
    if not (folder / "recipe.yaml").is_file():
        raise GogptError("RUN611", "not a run folder: recipe.yaml is not in it", where=run,
                         fix="give the folder that the recipe names as its output")
    typer.echo(str(write_report(folder, pick_lang(lang))))
    return 0
