"""gogpt tokenizer train | extend"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gogpt.cli.console import Format, Lang, Quiet, err, out, pick_lang, put_json
from gogpt.cli.words import say

if TYPE_CHECKING:
    from gogpt.tokenize.corpus import Compression
    from gogpt.vocabulary import Extended, Trained

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train a vocabulary, and extend a model with it.")

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Read only the first rows of each file.", show_default=False)]
Schema = Annotated[str, typer.Option("--schema", help="A schema by name, or auto.")]
Folder = Annotated[str, typer.Option("--output", "-o", help="The new folder.")]


@app.callback()
def tokenizer() -> None:
    """Train a vocabulary, and extend a model with it."""


@app.command("train")
def train_tokenizer(
    corpus: Annotated[list[str], typer.Argument(metavar="CORPUS...", help="Files, folders, globs or hub ids: documents or conversations.")],
    output: Folder,
    size: Annotated[int, typer.Option("--size", min=1, help="Tokens of the vocabulary, bytes and special tokens included.")] = 8000,
    kind: Annotated[Literal["bpe", "sentencepiece", "unigram"], typer.Option(
        "--kind", help="bpe: byte-level (GPT-2, Qwen, Llama 3); sentencepiece: BPE with byte fallback (Llama, Mistral); unigram.")] = "bpe",
    split_digits: Annotated[bool, typer.Option("--split-digits/--keep-digits", help="Every digit a token of its own.")] = True,
    coverage: Annotated[float, typer.Option("--coverage", min=0.5, max=1.0, help="SentencePiece: share of all characters that become "
                                            "pieces; the rest is written as bytes.")] = 0.9995,
    schema: Schema = "auto",
    limit: Limit = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Train a vocabulary on documents or conversations.

    Writes a tokenizer folder that transformers loads to the same ids. One text of 20 is held out, and the
    characters per token are counted on those, by language.
    """
    from gogpt.cli.observer import TerminalObserver
    from gogpt.engines import quiet_engines
    from gogpt.tokenize.corpus import Corpus
    from gogpt.tokenize.train import Recipe
    from gogpt.vocabulary import Progress, train

    spoken = pick_lang(lang)
    recipe = Recipe(kind=kind, size=size, split_digits=split_digits, coverage=coverage)
    with TerminalObserver(err(), spoken, quiet=quiet) as watching, quiet_engines():
        made = train(Corpus(corpus, schema=schema, limit=limit), recipe, Path(output),
                     progress=Progress(stage=watching.stage, reading=watching.reading))
    if output_format == "json":
        put_json(made.to_dict())
    else:
        _print_trained(made, spoken)
    return 0


@app.command("extend")
def extend_tokenizer(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A model or tokenizer folder, or a hub id; with weights the model grows too.")],
    output: Folder,
    new: Annotated[str | None, typer.Option("--with", metavar="NEW", help="A trained tokenizer: its folder, .model or tokenizer.json.",
                                            show_default=False)] = None,
    corpus: Annotated[list[str] | None, typer.Option("--corpus", help="Data to measure on; without --with also to train on. May be repeated.",
                                                     show_default=False)] = None,
    size: Annotated[int, typer.Option("--size", min=1, help="Without --with: tokens of the vocabulary trained on the corpus.")] = 8000,
    init: Annotated[Literal["mean-of-pieces", "mean"], typer.Option(
        "--init", help="A new row: the mean of the rows that its text had before, or of all rows.")] = "mean-of-pieces",
    pad_to_multiple: Annotated[int, typer.Option("--pad-to-multiple", min=1, max=65536, help="Rows of the embeddings: a multiple of this.")] = 1,
    schema: Schema = "auto",
    limit: Limit = None,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Merge a vocabulary into a base tokenizer, and its rows into the model.

    Every id of the base stays, and text without a new token encodes as before. Train the new rows with
    method.new_tokens: rows in the recipe.
    """
    from gogpt.cli.observer import TerminalObserver
    from gogpt.engines import quiet_engines
    from gogpt.tokenize.corpus import Corpus
    from gogpt.vocabulary import Progress, extend_base

    if new is None and not corpus:
        raise typer.BadParameter("name a trained tokenizer, or a --corpus to train one on", param_hint="--with")
    spoken = pick_lang(lang)
    with TerminalObserver(err(), spoken, quiet=quiet) as watching, quiet_engines():
        made = extend_base(base, new, Path(output), corpus=Corpus(corpus, schema=schema, limit=limit) if corpus else None, size=size, init=init,
                           pad_to_multiple=pad_to_multiple, progress=Progress(stage=watching.stage, reading=watching.reading))
    if output_format == "json":
        put_json(made.to_dict())
    else:
        _print_extended(made, spoken)
    return 0


# -- what is printed -------------------------------------------------------------------------------


def _line(text: str) -> None:
    out().print(text, markup=False)


def _print_trained(made: Trained, lang: str) -> None:
    _line(say(lang, "corpus    {texts:,} texts, {characters:,} characters", texts=made.texts, characters=made.characters))
    _line(say(lang, "tokenizer {folder}: {kind}, {size:,} tokens, read by transformers as {cls}", folder=made.folder, kind=made.kind, size=made.size,
              cls=made.saved_as.kind))
    _print_compression(made.compression, made.measured_on, lang)


def _print_extended(made: Extended, lang: str) -> None:
    found, note = made.extension, made.note
    _line(say(lang, "tokenizer {folder}: {new:,} new tokens, ids {first} to {last}; {present:,} were in the base", folder=made.folder,
              new=len(found.tokens), first=found.first_id, last=found.size - 1, present=found.present))
    for reason, number in found.left_out.items():
        _line("          " + say(lang, LEFT_OUT[reason], number=number))
    if note.rows is not None and note.base_rows is not None:
        _line(say(lang, "model     {base:,} rows are now {rows:,} ({form}), new ones {init}; written anew: {files}", base=note.base_rows, rows=note.rows,
                  form=say(lang, "tied" if made.tied else "input and output"), init=note.init, files=", ".join(made.files_anew)))
    _print_compression(made.compression, made.measured_on, lang)
    if note.rows is not None:
        _line(say(lang, "train     method.new_tokens: rows in the recipe trains the new rows"))


LEFT_OUT = {
    "unreachable": "left out  {number:,} that the base's own merges would never let come about",
    "cut_by_the_base": "left out  {number:,} that the base cuts before it merges",
    "opens_another_way": "left out  {number:,} that would change how the base's text is cut",
}

MEASURED = {"held_out": "on texts held out", "training": "on texts of the training (too few to hold out)", "corpus": "on the corpus"}


def _print_compression(rows: Sequence[Compression], measured_on: str | None, lang: str) -> None:
    if not rows or measured_on is None:
        return
    extended = rows[0].before is not None
    _line("\n" + say(lang, "characters per token, {where}", where=say(lang, MEASURED[measured_on])))
    head = ["language", "texts", "characters", *(["before", "after", "saved", "bytes/token"] if extended else ["chars/token", "bytes/token"])]
    _line("".join(f"{name:<10}" if i == 0 else f"{name:>13}" for i, name in enumerate(head)).rstrip())
    for row in rows:
        cells = [f"{row.texts:,}", f"{row.characters:,}"]
        if row.before is not None:
            cells += [f"{row.characters / max(1, row.before):.2f}", f"{row.characters / row.tokens:.2f}", f"{row.saved or 0:.1%}",
                      f"{row.bytes / max(1, row.before):.2f} > {row.bytes / row.tokens:.2f}"]
        else:
            cells += [f"{row.characters / row.tokens:.2f}", f"{row.bytes / row.tokens:.2f}"]
        _line(f"{row.language:<10}" + "".join(f"{c:>13}" for c in cells))
