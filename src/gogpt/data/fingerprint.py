"""What a prepared set is made of, as one digest: content of the sources, tokenizer, template, policy, seed, code and libraries."""

from __future__ import annotations

import hashlib
import json
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

from gogpt.config import DataConfig
from gogpt.data.stretches import Inputs
from gogpt.templates import Template
from gogpt.templates.documents import Documents
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.engines import identity_of, version_of

CODE = ("data", "templates", "tokenize", "records.py", "facts/before.py")
"""Folders and files of the package whose code decides what is in a set."""
LIBRARIES = ("tokenizers", "sentencepiece", "tiktoken", "jinja2", "orjson", "py3langid", "rensa", "pyarrow", "datasets")
NOT_POLICY = {"prepared", "workers", "packing"}
"""Keys of ``data`` that change nothing in a set."""


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over the code that reads, cleans, renders and encodes."""
    root = Path(__file__).resolve().parent.parent
    out = hashlib.sha256()
    for name in CODE:
        place = root / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in (".py", ".yaml"):
                out.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return out.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def parts(config: DataConfig, inputs: Inputs, tokenizer: Tokenizer, template: Template, seed: int) -> dict[str, str]:
    """Name -> digest of everything that a set depends on. A set whose parts differ in one is another set."""
    whole = {"max_length", "across_documents"} if isinstance(template, Documents) else set()
    policy = config.model_dump(mode="json", by_alias=True, exclude=NOT_POLICY | whole)
    names = tokenizer.special_names
    return {
        "sources": _digest([(f.shown, f.digest if f.digest is not None else uuid.uuid4().hex) for f in inputs.files]),
        "tokenizer": _digest([identity_of(tokenizer), names, tokenizer.stop_texts]),
        "template": _digest([type(template).__name__, template.name, template.jinja(), template.stop, template.control, _form(template)]),
        "policy": _digest([policy, seed, _identities(config)]),
        "code": _digest([code_digest(), {name: version_of(name) for name in LIBRARIES}]),
    }


def _form(template: Template) -> str:
    return repr(template) if type(template).__repr__ is not object.__repr__ else ""


def _identities(config: DataConfig) -> str:
    """Content of the user's own list of identities."""
    file = config.clean.identities_file
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""


def fingerprint(found: dict[str, str]) -> str:
    """One name for all parts."""
    return _digest(found)[:20]
