"""Where what a configuration names lies: models, data sets, requirements. Nothing is fetched."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gogpt.data.sources import display_path, find_files, is_hub_id, read_rows
from gogpt.errors import GogptError, RowError
from gogpt.yaml12 import parse_yaml

ON_HUB = "an id of a hub: nothing is fetched by a check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The data of a configuration. ``train`` and ``eval``: paths or ids as they can be compared; ``local``: those that are here;
    ``undefined``: what is named and not there -> key; ``schemas``: local path -> GoGPT's schema, where the configuration names the columns."""

    train: tuple[str, ...] = ()
    eval: tuple[str, ...] = ()
    local: tuple[Path, ...] = ()
    local_eval: tuple[Path, ...] = ()
    undefined: Mapping[str, str] = field(default_factory=dict)
    not_read: tuple[tuple[str, str], ...] = ()


def local_file(name: str, folder: Path) -> Path | None:
    """A file or folder that a configuration names: as from the current folder, from the file's own, or from one above it."""
    try:
        path = Path(name).expanduser()
        if path.is_absolute():
            return path if path.exists() else None
        bases = (folder, Path(), *folder.resolve().parents[:3])
        return next((p for base in bases if (p := base / path).exists()), None)
    except (OSError, RuntimeError):
        return None


def find_model_folder(name: str, folder: Path) -> tuple[Path | None, str]:
    """The model's folder, or why it is not read."""
    found = local_file(name, folder)
    if found is not None and (found / "config.json").is_file():
        return found, ""
    if found is not None:
        return None, "the folder holds no config.json"
    return None, ON_HUB if is_hub_id(name) and not name.startswith((".", "/")) else "it is not here"


def read_document(path: Path) -> dict[str, Any] | None:
    """A YAML or JSON file as a mapping; None where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text) if path.suffix == ".json" else parse_yaml(text, str(path))[0]
    except (OSError, ValueError, GogptError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def find_data(tool: str, document: Mapping[str, Any], folder: Path) -> Found:
    finder = {"llamafactory": _llamafactory, "axolotl": _axolotl, "swift": _swift, "trl": _trl}[tool]
    return finder(document, folder)


def _gather(train: list[str], evaluation: list[str], folder: Path, undefined: dict[str, str] | None = None,
            not_read: list[tuple[str, str]] | None = None) -> Found:
    """Names to what is here: a local path in its whole form, so that two spellings of one file are equal."""
    missing = list(not_read or [])
    places: dict[str, Path] = {}
    for name in dict.fromkeys([*train, *evaluation]):
        found = local_file(name, folder)
        if found is not None:
            places[name] = found.resolve()
        else:
            missing.append((f"data {name}", ON_HUB if is_hub_id(name) and not name.startswith((".", "/")) else "it is not here"))
    def shown(name: str) -> str:
        return display_path(places[name]) if name in places else name

    return Found(train=tuple(map(shown, train)), eval=tuple(map(shown, evaluation)),
                 local=tuple(places[n] for n in train if n in places), local_eval=tuple(places[n] for n in evaluation if n in places),
                 undefined=undefined or {}, not_read=tuple(missing))


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [w.strip() for w in value.split(",") if w.strip()]
    return [str(v) for v in value] if isinstance(value, list) else []


def _llamafactory(document: Mapping[str, Any], folder: Path) -> Found:
    """Names of dataset_info.json in dataset_dir."""
    where = str(document.get("dataset_dir") or "data")
    names = {"dataset": _list(document.get("dataset")), "eval_dataset": _list(document.get("eval_dataset"))}
    if not any(names.values()):
        return Found()
    base = local_file(where, folder)
    file = base / "dataset_info.json" if base else None
    if file is None or not file.is_file():
        return Found(train=tuple(names["dataset"]), eval=tuple(names["eval_dataset"]), not_read=((f"data {', '.join(names['dataset'])}", f"{where}/dataset_info.json is not here"),))
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        return Found(not_read=((str(file), f"it cannot be read: {problem}"),))
    undefined: dict[str, str] = {}
    sources: dict[str, list[str]] = {key: [] for key in names}
    not_read: list[tuple[str, str]] = []
    for key, wanted in names.items():
        for name in wanted:
            entry = table.get(name) if isinstance(table, dict) else None
            if not isinstance(entry, dict):
                near = difflib.get_close_matches(name, list(table), n=1)
                undefined[f"the data set {name!r} ({file.name} has no such entry" + (f"; did you mean {near[0]!r}?)" if near else ")")] = key
            elif entry.get("file_name"):
                path = file.parent / str(entry["file_name"])
                sources[key].append(str(path))
                undefined.update(dict.fromkeys(_columns(path, entry, name), key))
            else:
                hub = str(entry.get("hf_hub_url") or entry.get("ms_hub_url") or entry.get("script_url") or name)
                sources[key].append(hub)
    return _gather(sources["dataset"], sources["eval_dataset"], folder, undefined, not_read)


DEFAULT_COLUMNS = {"alpaca": {"prompt": "instruction", "query": "input", "response": "output"}, "sharegpt": {"messages": "conversations"}}
NEEDED = {"alpaca": ("prompt", "response"), "sharegpt": ("messages",)}


def _columns(path: Path, entry: Mapping[str, Any], name: str) -> list[str]:
    """Columns that an entry of dataset_info.json names and that the data's first row has not."""
    kind = str(entry.get("formatting") or "alpaca")
    columns = {**DEFAULT_COLUMNS.get(kind, {}), **(entry.get("columns") or {})}
    try:
        row = next((r for r, _ in read_rows(find_files(str(path))[0]) if isinstance(r, dict)), None)
    except (GogptError, RowError, OSError):
        return []
    if row is None:
        return []
    wanted = [columns[part] for part in NEEDED.get(kind, ()) if columns.get(part)] + [str(v) for k, v in (entry.get("columns") or {}).items() if k not in NEEDED.get(kind, ())]
    out = []
    for column in dict.fromkeys(wanted):
        if column not in row:
            near = difflib.get_close_matches(column, list(row), n=1)
            out.append(f"the column {column!r} of the data set {name!r}" + (f" (did you mean {near[0]!r}?)" if near else f" (its first row has {', '.join(map(str, list(row)[:6]))})"))
    return out


def _axolotl(document: Mapping[str, Any], folder: Path) -> Found:
    def names(value: Any) -> list[str]:
        out = []
        for entry in value if isinstance(value, list) else []:
            if isinstance(entry, dict) and entry.get("path"):
                files = entry.get("data_files")
                out += [str(Path(str(entry["path"])) / str(f)) if local_file(str(entry["path"]), folder) else str(f) for f in _list(files)] if files else [str(entry["path"])]
        return out

    return _gather(names(document.get("datasets")), names(document.get("test_datasets")), folder)


def _swift(document: Mapping[str, Any], folder: Path) -> Found:
    """``path:subset#count``."""
    def names(value: Any) -> list[str]:
        listed = [str(v) for v in value] if isinstance(value, list) else str(value).split() if value else []
        return [re.sub(r"(?::[\w/.-]+)?(?:#\d+)?$", "", n) if not re.match(r"^[A-Za-z]:\\", n) else n for n in listed]

    return _gather(names(document.get("dataset")), names(document.get("val_dataset")), folder)


def _trl(document: Mapping[str, Any], folder: Path) -> Found:
    train = [str(document["dataset_name"])] if document.get("dataset_name") else []
    listed = document.get("datasets")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("path"):
            files = _list(entry.get("data_files"))
            train += files or [str(entry["path"])]
    split = str(document.get("dataset_train_split") or "train")
    test = str(document.get("dataset_test_split") or "test")
    evaluates = str(document.get("eval_strategy") or "no") != "no"
    found = _gather(train, [], folder)
    if evaluates and test == split and document.get("test_split_size") is None:
        return Found(train=found.train, eval=found.train, local=found.local, local_eval=found.local, undefined=found.undefined, not_read=found.not_read)
    return found


_PIN = re.compile(r"^\s*[\"']?transformers(?:\[[^\]]*\])?\s*([^#;\"']*)", re.I)
FIXED = (4, 46)
"""From this release on the loss of a step is a mean over its tokens, whatever the accumulation (huggingface/transformers PR#34191)."""


def transformers_pin(folder: Path) -> tuple[str | None, str | None]:
    """The newest transformers that a requirements file beside the configuration, or above it, allows, if that is below 4.46."""
    for base in (folder, *folder.resolve().parents[:2]):
        for file in sorted(base.glob("requirements*.txt")):
            try:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for i, line in enumerate(lines, 1):
                found = _PIN.match(line)
                if found and (newest := _newest(found[1])):
                    return newest, f"{file}:{i}"
    return None, None


def _newest(spec: str) -> str | None:
    """``==4.41.2``, ``<4.46``, ``~=4.41.0``: the bound, where all that it allows is below FIXED."""
    for sign, version in re.findall(r"(==|~=|<=|<)\s*(\d+(?:\.\d+)*)", spec):
        parts = tuple(int(p) for p in version.split("."))
        least = parts[:2] if len(parts) > 1 else (*parts, 0)
        if least < FIXED or (sign == "<" and parts[:3] in (FIXED, (*FIXED, 0))):
            return f"{sign}{version}"
    return None
