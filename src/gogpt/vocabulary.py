"""Train a vocabulary; extend a model's tokenizer, and with it the model's embeddings. Every result is read back before it is there."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.config import ModelConfig
from gogpt.embeddings import INDEX, Embeddings, Init, find_embeddings, resize
from gogpt.errors import GogptError
from gogpt.extension import NOTE, tokenizer_fingerprint, write_extension
from gogpt.extension import Extension as Note
from gogpt.model import SavedAs, save_form
from gogpt.modelfiles import Checkpoint, check_weights, find_model, weights_fingerprint
from gogpt.runfolder import whole_folder, write_json
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.backend import Backend
from gogpt.tokenize.compare import first_difference
from gogpt.tokenize.corpus import Compression, Corpus, measure
from gogpt.tokenize.extend import (
    Extension,
    Unchanged,
    extend,
    extended_document,
    extended_model,
    kind_of,
)
from gogpt.tokenize.fast import FastBackend
from gogpt.tokenize.load import find_sentencepiece
from gogpt.tokenize.probes import PROBES
from gogpt.tokenize.spm import SentencePieceBackend, open_sentencepiece
from gogpt.tokenize.train import Recipe, train_vocabulary

CARRIED = ("*.json", "*.jinja", "*.py", "LICENSE*", "NOTICE*", "USE_POLICY*")
"""Files of a base that go with it. Those of the tokenizer and of the weights are written anew."""

NOT_CARRIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "config.json", INDEX, NOTE)

STAGED = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja")

NUM_COMPARED = 200
"""Texts of the corpus on which the saved tokenizer is compared, beside the fixed probes."""

Stage = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a command line shows."""

    stage: Stage = lambda name: None
    reading: Callable[[int], None] = lambda number: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    folder: Path
    kind: str
    size: int
    texts: int
    characters: int
    saved_as: SavedAs
    measured_on: str
    compression: tuple[Compression, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"output": str(self.folder), "kind": self.kind, "size": self.size, "texts": self.texts, "characters": self.characters,
                "tokenizer_class": self.saved_as.kind, "measured_on": self.measured_on, "compression": [c.to_dict() for c in self.compression]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    folder: Path
    extension: Extension
    note: Note
    saved_as: SavedAs
    tied: bool | None
    """None: there are no weights"""
    files_anew: tuple[str, ...]
    measured_on: str | None
    compression: tuple[Compression, ...]

    def to_dict(self) -> dict[str, Any]:
        found, note = self.extension, self.note
        return {"output": str(self.folder), "base": note.base, "kind": found.kind, "first_new_id": found.first_id, "new_tokens": len(found.tokens),
                "present": found.present, "left_out": dict(found.left_out), "size": found.size, "rows": note.rows, "base_rows": note.base_rows,
                "init": note.init, "tied": self.tied, "files_rewritten": list(self.files_anew), "tokenizer_class": self.saved_as.kind,
                "measured_on": self.measured_on, "compression": [c.to_dict() for c in self.compression]}


def train(corpus: Corpus, recipe: Recipe, out: Path, *, progress: Progress = Progress()) -> Trained:
    """Train a vocabulary on a corpus and write it as a tokenizer folder.

    Raises GogptError DAT3xx, TOK430, TOK431, TOK424, RUN610, ENV110.
    """
    _refuse_existing(out)
    with whole_folder(out) as partial, _scratch() as scratch:
        progress.stage("reading the corpus and training the vocabulary")
        train_vocabulary(corpus.training_texts(progress.reading), recipe, scratch)
        texts, where = corpus.measured()
        progress.stage("saving the tokenizer")
        saved = _save(Tokenizer(scratch), partial, texts)
        progress.stage("measuring")
        made = Tokenizer(partial)
        compression = measure(texts, made.plain_ids)
    return Trained(folder=out, kind=recipe.kind, size=made.size, texts=corpus.num_texts, characters=corpus.num_chars, saved_as=saved,
                   measured_on=where, compression=tuple(compression))


def extend_base(base: str, new: str | None, out: Path, *, corpus: Corpus | None = None, size: int | None = None, init: Init = "mean-of-pieces",
                pad_to_multiple: int = 1, progress: Progress = Progress()) -> Extended:
    """The base's tokenizer with the tokens of ``new`` (or of a vocabulary of ``size`` trained on ``corpus``), and where the
    base has weights the model with their rows.

    Raises GogptError MOD500, MOD508, DAT3xx, TOK410, TOK424, TOK430 to TOK434, RUN610, ENV110.
    """
    _refuse_existing(out)
    folder = _base_folder(base)
    tokenizer = Tokenizer(folder)
    found = _weights_of(folder, tokenizer)
    exact = _exact(tokenizer)
    if new is None and kind_of(exact) in ("byte-level", "sentencepiece"):
        assert corpus is not None
        assert size is not None
        fresh = _train_beside(exact, corpus, size, progress)
    else:
        fresh = _new_vocabulary(new or base)
    progress.stage("merging the vocabularies")
    extension = extend(exact, tokenizer.size, fresh)
    texts, where = _texts_of(corpus, trained=new is None, progress=progress)
    rows = None if found is None else _rows(found, extension, pad_to_multiple)
    with whole_folder(out) as partial, _scratch() as scratch:
        _stage_tokenizer(tokenizer, exact, extension, scratch)
        _carry(folder, partial, rows)
        progress.stage("saving the tokenizer")
        saved = _save(Tokenizer(scratch), partial, texts[:NUM_COMPARED])
        again = Tokenizer(partial)
        _prove(tokenizer, extension, again)
        anew: list[str] = []
        note = Note(base=str(folder), base_tokenizer=tokenizer_fingerprint(exact, tokenizer.size),
                    base_weights=None if found is None else weights_fingerprint(folder), kind=extension.kind, first_new_id=extension.first_id,
                    num_new_tokens=len(extension.tokens), rows=rows, base_rows=None if found is None else found.rows, init=None if found is None else init)
        if found is not None and rows is not None:
            progress.stage("writing the embeddings")
            anew = resize(folder, found, partial, first=extension.first_id, pieces=[t.pieces for t in extension.tokens], rows=rows, init=init)
            check_weights(partial)
        write_extension(note, partial)
        progress.stage("measuring")
        compression = measure(texts, again.plain_ids, tokenizer.plain_ids, extension.first_id) if texts else []
    return Extended(folder=out, extension=extension, note=note, saved_as=saved, tied=None if found is None else found.tied, files_anew=tuple(anew),
                    measured_on=where, compression=tuple(compression))


# -- what goes in ----------------------------------------------------------------------------------


def _refuse_existing(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GogptError("RUN610", "the output exists already", where=str(out), fix="name a new folder")


def _base_folder(base: str) -> Path:
    """A local folder with a tokenizer (with or without weights), or a hub model."""
    folder = Path(base)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return folder
    return find_model(ModelConfig(path=base), weights=not folder.is_dir())


def _weights_of(folder: Path, tokenizer: Tokenizer) -> Embeddings | None:
    """The embeddings of a base that has weights. Raises GogptError MOD508."""
    if not (folder / "config.json").is_file() or not any(p for kind in ("*.safetensors", "*.bin", "*.gguf") for p in folder.glob(kind)):
        return None
    found = find_embeddings(Checkpoint(folder))
    if found.rows < tokenizer.size:
        raise GogptError("MOD508", "the base's embedding has fewer rows than its tokenizer has ids", where=str(folder),
                         got=f"{found.rows} rows, {tokenizer.size} ids", fix="give the base with the tokenizer that belongs to it")
    return found


def _exact(tokenizer: Tokenizer) -> Backend:
    """The form that everything is derived from: a SentencePiece model where there is one."""
    return next((b for b in (tokenizer.backend, tokenizer.other) if isinstance(b, SentencePieceBackend)), tokenizer.backend)


def _new_vocabulary(path: str) -> Backend:
    """A trained tokenizer: a folder, a SentencePiece model or a tokenizer.json. Raises GogptError MOD500, TOK410."""
    file = Path(path)
    if file.is_file():
        if file.suffix == ".json":
            return FastBackend.from_file(file)
        return open_sentencepiece(file, {}, add_bos=False)
    if not file.is_dir():
        raise GogptError("MOD500", "there is no such tokenizer", where=path, expected="a folder, a SentencePiece .model or a tokenizer.json",
                         fix="gogpt tokenizer train CORPUS -o NEW makes one")
    return _exact(Tokenizer(file))


def _train_beside(base: Backend, corpus: Corpus, size: int, progress: Progress) -> Backend:
    """A vocabulary of the base's kind; of a byte-level base also its normalizer and pre-tokenizer, so that no token is cut by them."""
    steps = None
    if isinstance(base, FastBackend) and kind_of(base) == "byte-level":
        document = base.document()
        steps = {name: document.get(name) for name in ("normalizer", "pre_tokenizer")}
    recipe = Recipe(kind="bpe" if kind_of(base) == "byte-level" else "sentencepiece", size=size, steps=steps)
    progress.stage("reading the corpus and training the vocabulary")
    with _scratch() as scratch:
        train_vocabulary(corpus.training_texts(progress.reading), recipe, scratch)
        if recipe.kind == "bpe":
            return FastBackend.from_file(scratch / "tokenizer.json")
        return open_sentencepiece(scratch / "tokenizer.model", {}, add_bos=False)


def _texts_of(corpus: Corpus | None, *, trained: bool, progress: Progress) -> tuple[list[str], str | None]:
    """Texts to measure on, and what they are: ``held_out``, ``training`` or ``corpus``."""
    if corpus is None:
        return [], None
    if trained:
        return corpus.measured()
    progress.stage("reading the corpus")
    for _ in corpus.training_texts(progress.reading):
        pass
    return corpus.kept + corpus.held, "corpus"


# -- what comes out --------------------------------------------------------------------------------


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gogpt-") as name:
        yield Path(name)


def _save(tokenizer: Tokenizer, out: Path, texts: Sequence[str]) -> SavedAs:
    if tokenizer.chat_template is not None:
        (out / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    saved = save_form(tokenizer, out, texts[:NUM_COMPARED])
    again = Tokenizer(out)
    found = first_difference([*PROBES, *texts[:NUM_COMPARED]], tokenizer.ids, again.ids)
    if found is not None or again.size != tokenizer.size:
        raise GogptError("TOK434", "the saved tokenizer is not the one that was made", where=str(out), got=str(found or f"{again.size} ids"),
                         expected=f"{tokenizer.size} ids, and the same ones for every text", fix="please report this with the two tokenizers", exit_code=1)
    return saved


def _stage_tokenizer(tokenizer: Tokenizer, exact: Backend, extension: Extension, scratch: Path) -> None:
    """The extended tokenizer's files, before transformers is asked about them."""
    for name in STAGED:
        if (tokenizer.folder / name).is_file():
            shutil.copyfile(tokenizer.folder / name, scratch / name)
    fast = next((b for b in (tokenizer.backend, tokenizer.other) if isinstance(b, FastBackend)), None)
    if isinstance(exact, SentencePieceBackend):
        file = find_sentencepiece(tokenizer.folder)
        assert file is not None
        (scratch / "tokenizer.model").write_bytes(extended_model(exact, file.read_bytes(), extension))
        added = tokenizer.folder / "added_tokens.json"
        if added.is_file():
            shutil.copyfile(added, scratch / added.name)
    if fast is not None and fast is tokenizer.backend:
        document = extended_document(fast.document(), fast.added, extension)
        (scratch / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _prove(base: Tokenizer, extension: Extension, made: Tokenizer) -> None:
    """Raises GogptError TOK434 where an id of the base has moved, or a new token is not where it was put."""
    wrong = Unchanged(_exact(base), base.size).first_difference(made.backend)
    wrong = wrong or next((f"id {t.id} was to be {t.text!r} and is {made.backend.token(t.id)!r}" for t in extension.tokens
                           if made.backend.token(t.id) != t.text), None)
    texts = [t for t in PROBES if all(i < base.size for i in made.plain_ids(t))]
    found = first_difference(texts, base.plain_ids, made.plain_ids)
    if wrong or found:
        raise GogptError("TOK434", "the extended tokenizer is not what it should be", where=base.path, got=wrong or str(found),
                         expected="every id of the base as it was, and text without a new token encoded as before",
                         fix="please report this with the two tokenizers", exit_code=1)


def _rows(found: Embeddings, extension: Extension, multiple: int) -> int:
    """Rows of the new matrices: those that the tokenizer needs, never fewer than the base has (padding is used first)."""
    return -(-max(found.rows, extension.size) // multiple) * multiple


def _carry(folder: Path, out: Path, rows: int | None) -> None:
    """The base's other files, and its config.json with the new number of rows."""
    for pattern in CARRIED:
        for file in folder.glob(pattern):
            if file.is_file() and file.name not in NOT_CARRIED and not file.name.endswith(".index.json"):
                shutil.copyfile(file, out / file.name)
    if not (folder / "config.json").is_file():
        return
    config = dict(Checkpoint(folder).config)
    if rows is not None:
        inner = config.get("text_config")
        if isinstance(inner, dict) and "vocab_size" in inner:
            config["text_config"] = {**inner, "vocab_size": rows}
        if "vocab_size" in config or not isinstance(inner, dict):
            config["vocab_size"] = rows
    write_json(out / "config.json", config)


