"""The note of an extended tokenizer: which ids were added, and whether their rows have been trained since."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from gogpt.errors import GogptError
from gogpt.runfolder import write_json
from gogpt.tokenize.backend import Backend

NOTE = "gogpt_extension.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """The document ``gogpt_extension.json``. ``rows``: of the embedding matrices now (None: a tokenizer without weights);
    ``base_tokenizer``, ``base_weights``: fingerprints."""

    base: str
    base_tokenizer: str
    base_weights: str | None
    kind: str
    first_new_id: int
    num_new_tokens: int
    rows: int | None
    base_rows: int | None
    init: str | None
    trained: bool = False
    """a run has trained the new rows"""

    @property
    def ids(self) -> list[int]:
        return list(range(self.first_new_id, self.first_new_id + self.num_new_tokens))


def read_extension(folder: Path) -> Extension | None:
    """None where there is no note. Raises GogptError CFG232 where it cannot be read."""
    file = folder / NOTE
    if not file.is_file():
        return None
    try:
        found = Extension(**json.loads(file.read_text(encoding="utf-8")))
        if not (isinstance(found.first_new_id, int) and isinstance(found.num_new_tokens, int) and found.first_new_id >= 0 < found.num_new_tokens):
            raise ValueError("the ids are no ids")
    except (OSError, ValueError, TypeError) as problem:
        raise GogptError("CFG232", f"the note of the extended tokenizer cannot be read: {problem}", where=str(file),
                         fix="extend the base again (gogpt tokenizer extend)") from problem
    return found


def write_extension(note: Extension, folder: Path, *, trained: bool | None = None) -> None:
    """``trained``: set when a run has trained the new rows. Raises GogptError ENV110."""
    write_json(folder / NOTE, replace(note, trained=note.trained or bool(trained)))


def tokenizer_fingerprint(backend: Backend, size: int) -> str:
    """SHA-256 over the tokens by id."""
    digest = hashlib.sha256()
    for number in range(size):
        digest.update(f"{number} {backend.token(number)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
