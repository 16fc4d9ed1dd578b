"""Faults of the tokenizer itself: TOK411 (two files that encode differently), TOK424 (no form serves what was trained)."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import caught, planted, silent, warned

from conftest import CORPUS, make_model, rows
from gogpt.errors import GogptError
from gogpt.model import rehearse_saving, save_tokenizer
from gogpt.templates import pick_template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.compare import tokenizer_facts
from gogpt.tokenize.convert import document_of
from gogpt.tokenize.probes import PROBES

CODE = ["def f(x):\n    if x > 0:\n        return x\n    return None", "for i in range(9):\n    print(i)", "a    b    c        d"] * 8


def make_sentencepiece(folder: Path, *, kind: str = "bpe", pieces: int = 600) -> Path:
    """A tiny SentencePiece model with the settings of Llama 2 (``bpe``) or T5 (``unigram``)."""
    import sentencepiece

    out = io.BytesIO()
    llama = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "split_digits": True,
             "allow_whitespace_only_pieces": True}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in [*CORPUS, *CODE] for line in text.split("\n")]), model_writer=out, model_type=kind,
        vocab_size=pieces if kind == "bpe" else 200, hard_vocab_limit=False, minloglevel=2, character_coverage=0.9995, **(llama if kind == "bpe" else {}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tokenizer.model"
    file.write_bytes(out.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def spm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose folder holds a SentencePiece model alone."""
    folder = tmp_path_factory.mktemp("spm") / "model"
    make_sentencepiece(folder)
    make_model(folder)
    return folder


def beside(folder: Path, spm_model: Path, change: Any = None) -> Path:
    """The same model with a tokenizer.json beside its tokenizer.model: an exact one, or changed by ``change``."""
    shutil.copytree(spm_model, folder)
    document = document_of(Tokenizer(spm_model).backend)
    if change is not None:
        change(document)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def order_by_id(document: dict[str, Any]) -> None:
    """As transformers 5.23 orders the merges of a tokenizer.model that it converts."""
    vocab = document["model"]["vocab"]
    document["model"]["merges"].sort(key=lambda m: -vocab[m[0] + m[1]])


def metaspace(document: dict[str, Any]) -> None:
    """As transformers 5.23 replaces the Prepend step of Llama's tokenizer.json."""
    document["normalizer"] = None
    document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}


def template_of(path: Path) -> dict[str, Any]:
    return {"model": str(path), "data": {"train": "data.jsonl", "max_length": 512, "eval": 0, "template": "llama2"}}


@planted("TOK411")
@pytest.mark.parametrize(("change", "cause", "told"), [(order_by_id, "merge_order", "ordered by score"), (metaspace, "leading_space", "Metaspace")])
def test_a_conversion_that_went_wrong(gogpt: Any, recipe: Any, tmp_path: Path, spm_model: Path, change: Any, cause: str, told: str) -> None:
    model = beside(tmp_path / "both", spm_model, change)
    finding = caught(gogpt, recipe(**template_of(model)), "TOK411")
    evidence = finding["evidence"]
    assert (evidence["file"], evidence["other_file"], evidence["library"]) == ("tokenizer.model", "tokenizer.json", "sentencepiece")
    assert cause in evidence["causes"]
    assert told in finding["message"]
    assert evidence["different"] <= evidence["compared"]
    # The evidence can be derived again: the text that is named, with either file.
    tokenizer = Tokenizer(model)
    assert evidence["ids"] != evidence["other_ids"]
    assert [tokenizer.token(i) for i in evidence["ids"]] == evidence["tokens"]
    # The user's way out: one of the two files is taken away.
    (model / "tokenizer.json").unlink()
    silent(gogpt, recipe(**template_of(model)))


def test_an_exact_conversion_is_silent(gogpt: Any, recipe: Any, tmp_path: Path, spm_model: Path) -> None:
    model = beside(tmp_path / "both", spm_model)
    assert Tokenizer(model).backend.file.name == "tokenizer.json"
    silent(gogpt, recipe(**template_of(model)))


@planted("TOK411")
def test_a_difference_that_only_the_data_shows(gogpt: Any, recipe: Any, tmp_path: Path, spm_model: Path) -> None:
    """No fixed text has this word; the data has, and its merges are gone from the tokenizer.json."""

    def without_a_word(document: dict[str, Any]) -> None:
        document["model"]["merges"] = [m for m in document["model"]["merges"] if m[0] + m[1] != "▁capital"]

    assert not any("capital" in text for text in PROBES)
    model = beside(tmp_path / "both", spm_model, without_a_word)
    silent(gogpt, recipe(**template_of(model)))
    told = rows(8)
    told[3]["messages"][1]["content"] = "It is the capital of France."
    finding = caught(gogpt, recipe(told, **template_of(model)), "TOK411")
    assert "▁capital" in finding["evidence"]["other_tokens"]
    assert finding["evidence"]["different"] == 1


def with_equal_scores(file: Path) -> None:
    pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    model = pb2.ModelProto.FromString(file.read_bytes())
    for piece in model.pieces:
        if piece.type == 1 and len(piece.piece) > 1:
            piece.score = 0.0
    file.write_bytes(model.SerializeToString())


@planted("TOK411")
def test_pieces_of_one_score(gogpt: Any, recipe: Any, tmp_path: Path, spm_model: Path) -> None:
    """As the Chinese pieces of Chinese-Alpaca-2 and GoGPT2: a warning, and no tokenizer.json is written for it."""
    model = tmp_path / "tied"
    shutil.copytree(spm_model, model)
    with_equal_scores(model / "tokenizer.model")
    finding = warned(gogpt, recipe(**template_of(model)), "TOK411")
    assert finding["evidence"]["equal_scores"] > 100
    tokenizer = Tokenizer(model)
    out = tmp_path / "saved"
    out.mkdir()
    assert save_tokenizer(tokenizer, pick_template("llama2", tokenizer), out, ["The capital of France is Paris."]).kind == "SentencePieceBackend"
    assert not (out / "tokenizer.json").exists()
    again = Tokenizer(out)
    assert all(again.ids(t) == tokenizer.ids(t) for t in [*PROBES, "<s>[INST] the capital </s>"])
    assert again.bos_prefix == tokenizer.bos_prefix


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_sentencepiece_model_is_served_as_trained(tmp_path: Path, kind: str) -> None:
    """transformers alone would order the merges by id; what is saved gives the ids that were trained."""
    from transformers import AutoTokenizer

    model, out = tmp_path / "model", tmp_path / "out"
    make_sentencepiece(model, kind=kind)
    out.mkdir()
    tokenizer = Tokenizer(model)
    assert tokenizer.backend.library == "sentencepiece"
    save_tokenizer(tokenizer, pick_template("llama2", tokenizer), out, CORPUS)
    served = AutoTokenizer.from_pretrained(out)
    for text in (*PROBES, *CORPUS, *CODE, "<s>[INST] two  spaces [/INST] yes </s><s>[INST]"):
        assert served.encode(text, add_special_tokens=False) == tokenizer.ids(text)
    rendered = served.apply_chat_template([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], tokenize=False)
    assert rendered == "<s>[INST] hi [/INST] yes </s>"
    assert tokenizer_facts(Tokenizer(out), CORPUS).different == 0


def test_a_tokenizer_that_no_form_serves(tmp_path: Path, spm_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TOK424 before a step is spent: every form that transformers has puts a step of its own in."""
    from transformers import AutoTokenizer

    tokenizer = Tokenizer(spm_model)
    template = pick_template("llama2", tokenizer)
    assert rehearse_saving(tokenizer, template, CORPUS, config=spm_model / "config.json").kind == "PreTrainedTokenizerFast"
    load = AutoTokenizer.from_pretrained

    def other(folder: Any, **more: Any) -> Any:
        served = load(folder, **more)
        encode = served.encode
        served.encode = lambda text, **how: encode(text.strip(), **how)
        return served

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", other)
    with pytest.raises(GogptError) as told:
        rehearse_saving(tokenizer, template, CORPUS)
    assert told.value.code == "TOK424"
    assert told.value.where == str(spm_model)
    assert "' Hello': from token" in str(told.value)
    assert "SentencePieceBackend" in str(told.value)
