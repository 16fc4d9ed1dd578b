"""gogpt schema"""

from __future__ import annotations

import json

import typer


def command() -> int:
    """Print the recipe's JSON schema, for editors."""
    from gogpt.config import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))
    return 0
