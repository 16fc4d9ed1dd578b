"""The catalogue of well-known data sets: ``catalogue.yaml`` as records."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gogpt.data.schemas import schema_named
from gogpt.errors import GogptError

TASKS = ("general", "chat", "roleplay", "code", "math", "science", "reasoning", "tools", "medical", "exam", "qa", "summary", "long", "preference",
         "pretraining")
"""What a set is mostly used for."""

MANY = "mul"
"""ISO 639's code for many languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One entry. ``rows``: of the usual training split, ``about``: rounded, None: not known. ``good_for`` and ``trap``
    by language (en, zh)."""

    id: str
    name: str
    licence: str
    rows: int | None
    languages: tuple[str, ...]
    schema: str
    tasks: tuple[str, ...]
    good_for: Mapping[str, str]
    trap: Mapping[str, str]
    about: bool = False

    @property
    def readable(self) -> bool:
        """Whether this version has the schema (or the family of schemas) that reads it."""
        try:
            return bool(schema_named(self.schema))
        except GogptError:
            return False


@functools.cache
def catalogue() -> tuple[Dataset, ...]:
    """Every entry, in the order of the file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries: list[dict[str, Any]] = yaml.load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8"), Loader=loader)
    return tuple(Dataset(**{**entry, "languages": tuple(entry["languages"]), "tasks": tuple(entry["tasks"])}) for entry in entries)


def select(*, language: str | None = None, schema: str | None = None, task: str | None = None) -> list[Dataset]:
    """The entries with all that is asked for."""
    return [d for d in catalogue() if (language is None or language in d.languages) and (schema is None or schema == d.schema)
            and (task is None or task in d.tasks)]
