"""A configuration or a launch script of another tool, read: its keys with their places, and its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError
from gogpt.facts import ForeignFacts
from gogpt.foreign.places import read_document
from gogpt.foreign.script import Launch, find_launch
from gogpt.foreign.settings import collect
from gogpt.yaml12 import parse_value, parse_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFile:
    """A configuration as read. ``document``: key -> value, those of the command line over those of the file. ``not_read``: what could not
    be looked at, and why."""

    path: str
    tool: str
    document: Mapping[str, Any]
    places: Mapping[str, str]
    folder: Path
    facts: ForeignFacts
    launch: Launch | None = None
    not_read: tuple[tuple[str, str], ...] = field(default=())

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read."""
        return tuple(dict.fromkeys([self.path, *(p.rpartition(":")[0] for p in self.places.values() if ":" in p and not p.startswith("command line"))]))


def _mapping(text: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    data, where = parse_yaml(text, name)
    if not isinstance(data, dict):
        raise GogptError("CFG206", "a configuration is a mapping of keys to values", where=name, got=f"a {type(data).__name__}",
                         fix="give the file that the tool is started with")
    places = {".".join(map(str, keys)): place for keys, place in where.items() if keys}
    return {str(k): v for k, v in data.items()}, places


def _override(document: dict[str, Any], places: dict[str, str], assignments: Sequence[str]) -> None:
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise GogptError("CFG204", "not key=value", where="command line", got=assignment)
        document[key.removeprefix("--")] = parse_value(value)
        places[key.removeprefix("--")] = "command line"


def read_foreign(text: str, name: str, tool: str | None, assignments: Sequence[str] = ()) -> ForeignFile:
    """``tool`` None: a launch script. Raises GogptError CFG201 (the file it names is no YAML), CFG206 (no training command)."""
    path, not_read = Path(name), []
    launch: Launch | None = None
    document: dict[str, Any] = {}
    places: dict[str, str] = {}
    if tool is None:
        launch = find_launch(text)
        if launch is None:
            raise GogptError("CFG206", "no training command of a tool that is known here", where=name,
                             expected="llamafactory-cli train | axolotl train | swift sft | trl sft, or a script of theirs under torchrun, accelerate or deepspeed",
                             fix="give the configuration itself")
        tool = launch.tool
        not_read += [(word, "a variable that the script does not set") for word in launch.unresolved]
        if launch.commands > 1:
            not_read.append((f"{launch.commands - 1} more training commands", f"the first is read (line {launch.line})"))
        if launch.config is not None:
            found = _beside(launch.config, path.parent)
            if found is None:
                not_read.append((launch.config, "the configuration that the script names is not here"))
            else:
                document, places = _mapping(found.read_text(encoding="utf-8-sig"), _shown(found, path))
        launch = _with_accelerate(launch, document, places, path.parent)
        document.update(launch.arguments)
        places.update({key: f"{name}:{line}" for key, line in launch.lines.items()})
    else:
        document, places = _mapping(text, name)
    _override(document, places, assignments)
    facts, more = collect(tool, document, places, name, path.parent, launch)
    return ForeignFile(path=name, tool=tool, document=document, places=places, folder=path.parent, facts=facts, launch=launch, not_read=(*not_read, *more))


def _with_accelerate(launch: Launch, document: dict[str, Any], places: dict[str, str], folder: Path) -> Launch:
    """Processes and DeepSpeed file of accelerate's configuration, where the command does not say them itself."""
    found = _beside(launch.accelerate_config, folder) if launch.accelerate_config else None
    said = read_document(found) if found else None
    if not said:
        return launch
    part = said.get("deepspeed_config")
    engine = part.get("deepspeed_config_file") if isinstance(part, dict) else None
    if isinstance(engine, str) and "deepspeed" not in document:
        document["deepspeed"] = engine
        places["deepspeed"] = str(found)
    processes = said.get("num_processes")
    return launch if launch.processes or not isinstance(processes, int) or processes < 1 else replace(launch, processes=processes)


def _beside(name: str, folder: Path) -> Path | None:
    """A file that a script names: as from the current folder, from the script's, or from one above it."""
    return next((p for base in (Path(), folder, *folder.resolve().parents[:3]) if (p := base / name).is_file()), None)


def _shown(found: Path, script: Path) -> str:
    return str(found) if found.is_absolute() == script.is_absolute() or not found.is_absolute() else found.name
