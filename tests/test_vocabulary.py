"""gogpt tokenizer train and extend: the base's ids and text as they were, new rows the means of their pieces, on real files."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, Ran, make_model, make_tokenizer, needs_shared, write_jsonl
from gogpt.embeddings import Shard, as_floats, as_stored
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.extend import Extension, candidates, extend, extended_document, extended_model, kind_of
from gogpt.tokenize.fast import FastBackend
from gogpt.tokenize.merging import by_pairs, by_scores, merge_symbols
from gogpt.tokenize.spm import SentencePieceBackend, open_sentencepiece
from gogpt.tokenize.train import Recipe, sentences, train_vocabulary

WORDS = ["北京", "上海", "天气", "今天", "你好", "中国", "首都", "大学", "学习", "模型", "语言", "数据", "训练", "问题", "回答", "简单", "介绍", "历史", "文化", "经济"]
CHINESE = ["".join(WORDS[(i * k + k) % len(WORDS)] + ("，" if k % 3 == 0 else "的") for k in range(2, 9)) + "。" for i in range(60)]
"""Made up here: nouns in turn."""


def chinese_file(folder: Path) -> Path:
    return write_jsonl(folder / "zh.jsonl", [{"text": t} for t in CHINESE])


def trained(folder: Path, kind: Any, size: int, **more: Any) -> Tokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    train_vocabulary(CHINESE, Recipe(kind=kind, size=size, **more), folder)
    return Tokenizer(folder)


def exact(tokenizer: Tokenizer) -> Any:
    return next((b for b in (tokenizer.backend, tokenizer.other) if isinstance(b, SentencePieceBackend)), tokenizer.backend)


class Pair:
    """A base, a new vocabulary, and the base with it, opened from what would be saved."""

    def __init__(self, base: Any, size: int, new: Any, folder: Path) -> None:
        self.base, self.size = base, size
        self.extension: Extension = extend(base, size, new)
        if isinstance(base, SentencePieceBackend):
            file = folder / "tokenizer.model"
            file.write_bytes(extended_model(base, base.file.read_bytes(), self.extension))
            self.made: Any = open_sentencepiece(file, base.added, add_bos=False)
        else:
            file = folder / "tokenizer.json"
            file.write_text(json.dumps(extended_document(base.document(), base.added, self.extension), ensure_ascii=False), encoding="utf-8")
            self.made = FastBackend.from_file(file)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """byte-level; SentencePiece-like in a tokenizer.json; a SentencePiece model. Bases know English and a few characters."""
    room = tmp_path_factory.mktemp("pairs")
    make_tokenizer(room / "level")
    make_tokenizer(room / "prefix", dummy_prefix=True, bos=True, chat_template=None, eos="</s>", pad=None)
    (room / "spm").mkdir()
    english = [f"The quick brown fox number {i} jumps over the lazy dog; what is the capital of France?" for i in range(80)] + ["中国，北京。"] * 20
    train_vocabulary(english, Recipe(kind="sentencepiece", size=380, coverage=1.0), room / "spm")
    out = {}
    for name, kind, size in (("level", "bpe", 420), ("prefix", "sentencepiece", 330), ("spm", "sentencepiece", 330)):
        base = Tokenizer(room / name)
        new = trained(room / f"{name}-new", kind, size, split_digits=False)
        (room / f"{name}-out").mkdir()
        out[name] = Pair(exact(base), base.size, exact(new), room / f"{name}-out")
    return out


KINDS = ("level", "prefix", "spm")

words = st.lists(st.sampled_from([*WORDS, "京", "的", "。", " ", "  ", "\n", "The", " fox", "capital", "42", "2023", "é", "😀", "龘", "x", "中", "国"]),
                 max_size=12).map("".join)


@pytest.mark.parametrize("name", KINDS)
class TestExtended:
    def test_ids_of_the_base_stay(self, pairs: dict[str, Pair], name: str) -> None:
        pair = pairs[name]
        assert len(pair.extension.tokens) > 40
        assert [pair.made.token(i) for i in range(pair.size)] == [pair.base.token(i) for i in range(pair.size)]
        assert dict(pair.made.added) == dict(pair.base.added)
        assert [pair.made.token(t.id) for t in pair.extension.tokens] == [t.text for t in pair.extension.tokens]
        assert [t.id for t in pair.extension.tokens] == list(range(pair.size, pair.size + len(pair.extension.tokens)))
        assert pair.made.size == pair.extension.size

    def test_every_new_token_comes_about(self, pairs: dict[str, Pair], name: str) -> None:
        pair = pairs[name]
        for token in pair.extension.tokens:
            spelt = pair.made.token_bytes(token.id).decode("utf-8", errors="replace")
            if "�" in spelt or not spelt.strip():
                continue
            found = pair.made.continuation(spelt, "a")
            assert found == [token.id], (token, [pair.made.token(i) for i in found])

    def test_pieces_are_what_the_base_gives(self, pairs: dict[str, Pair], name: str) -> None:
        """Also without the space that SentencePiece puts before a text."""
        pair = pairs[name]
        compared = 0
        for token in pair.extension.tokens:
            spelt = pair.made.token_bytes(token.id).decode("utf-8", errors="replace")
            assert b"".join(pair.base.token_bytes(i) for i in token.pieces) == pair.made.token_bytes(token.id)
            if "�" not in spelt and spelt.strip() and not spelt.startswith(" "):
                assert tuple(pair.base.continuation(spelt, "a")) == token.pieces
                compared += 1
        assert compared > 30

    @given(text=words)
    @settings(max_examples=150, deadline=None)
    def test_text_merges_as_before_and_then_on(self, pairs: dict[str, Pair], name: str, text: str) -> None:
        pair = pairs[name]
        before, after = pair.base.stretch(text).ids, pair.made.stretch(text).ids
        pieces = {t.id: t.pieces for t in pair.extension.tokens}
        assert [i for n in after for i in pieces.get(n, (n,))] == before
        assert len(after) <= len(before)
        assert pair.made.decode(after) == pair.base.decode(before)

    @given(text=words.filter(lambda t: not t.startswith(" ")))
    @settings(max_examples=100, deadline=None)
    def test_decoding_gives_the_text_back(self, pairs: dict[str, Pair], name: str, text: str) -> None:
        made = pairs[name].made
        assert made.decode(made.stretch(text).ids) == text


def test_new_scores_are_below_and_all_different(pairs: dict[str, Pair]) -> None:
    """Equal scores cannot be written in a tokenizer.json: Chinese-LLaMA's are all 0."""
    pair = pairs["spm"]
    scores = [s for _, s, kind in pair.made.spec.pieces if kind == 1]
    old, new = scores[: -len(pair.extension.tokens)], scores[-len(pair.extension.tokens):]
    assert max(new) < min(old)
    assert all(b < a for a, b in itertools.pairwise(new))


def test_model_and_conversion_agree(pairs: dict[str, Pair]) -> None:
    from gogpt.tokenize.convert import document_of

    pair = pairs["spm"]
    fast = FastBackend(pair.made.file, json.dumps(document_of(pair.made)))
    for text in [*CHINESE, "  北京 The  fox 中国", "\n\n你好 42"]:
        assert fast.stretch(text).ids == pair.made.stretch(text).ids


def test_special_tokens_beyond_the_vocabulary_keep_their_ids(tmp_path: Path) -> None:
    """Qwen's: a tokenizer.json gives an added token that has no place in the vocabulary the first id after it."""
    make_tokenizer(tmp_path / "base")
    base = Tokenizer(tmp_path / "base").backend
    document = json.loads(json.dumps(base.document()))
    document["added_tokens"].append({**document["added_tokens"][0], "id": base.size, "content": "<|late|>"})
    late = FastBackend(base.file, json.dumps(document))
    assert late.id_of("<|late|>") == base.size
    new = trained(tmp_path / "new", "bpe", 400)
    pair = Pair(late, late.size, new.backend, tmp_path)
    assert pair.extension.first_id == base.size + 1
    assert pair.made.ids("a<|late|>北京")[1] == base.size
    assert pair.made.added[base.size].special


def test_added_tokens_beyond_the_pieces_keep_their_ids(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    """Vicuna's <pad> is no piece of the model: the new pieces begin after it."""
    from gogpt.tokenize.backend import Added

    old = pairs["spm"].base
    size = len(old.spec.pieces)
    base = open_sentencepiece(old.file, {size + 1: Added(text="<pad>")}, add_bos=False)
    pair = Pair(base, size + 2, trained(tmp_path / "new", "sentencepiece", 330).backend, tmp_path)
    assert pair.extension.first_id == size + 2
    assert pair.made.ids("你好<pad>")[-1] == size + 1
    assert pair.made.token(size + 2) == pair.extension.tokens[0].text


# -- merging and numbers ---------------------------------------------------------------------------


def test_merging_is_that_of_the_libraries(pairs: dict[str, Pair]) -> None:
    spm, level = pairs["spm"].base, pairs["level"].base
    scores = {p: s for p, s, kind in spm.spec.pieces if kind == 1}
    for word in ("▁quick", "▁capital", "▁Francejumps"):
        parts = merge_symbols(word, by_scores(scores))
        assert [spm.id_of(p) for p in parts] == spm.stretch(word[1:]).ids
    from gogpt.tokenize.merging import merges_of, ranks_of

    rank = by_pairs(ranks_of(merges_of(level.document()["model"])))
    for word in ("quick", "capital", "instruction", "answers"):
        assert [level.id_of(p) for p in merge_symbols(word, rank)] == level.stretch(word).ids


@given(value=st.floats(min_value=-1e30, max_value=1e30, allow_nan=False), nudge=st.integers(-2, 2))
@settings(max_examples=300, deadline=None)
def test_bfloat16_is_rounded_once(value: float, nudge: int) -> None:
    """Also beside the middle of two neighbours, where rounding to float32 first would fall on the wrong side."""
    middle = np.float32(value).view(np.uint32) & np.uint32(0xFFFF0000) | np.uint32(0x8000)
    for x in (value, float(np.float64(middle.view(np.float32)) * (1 + nudge * 2.0**-50))):
        stored = as_stored(np.array([x]), "BF16")
        got = as_floats(stored, "BF16")[0]
        near = [as_floats(np.array([int(stored[0]) + d], dtype=np.uint16), "BF16")[0] for d in (-1, 0, 1) if 0 <= int(stored[0]) + d < 0xFFFF]
        assert abs(Fraction(got) - Fraction(x)) <= min(abs(Fraction(n) - Fraction(x)) for n in near if np.isfinite(n))


def test_bfloat16_agrees_with_torch() -> None:
    import torch

    values = np.random.default_rng(0).normal(size=4096)
    ours = as_stored(values.astype(np.float32).astype(np.float64), "BF16")
    theirs = torch.tensor(values.astype(np.float32)).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert (ours == theirs).all()


# -- through the command line ----------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return chinese_file(tmp_path)


@pytest.mark.parametrize(("kind", "size"), [("bpe", 400), ("sentencepiece", 330), ("unigram", 330)])
def test_train(gogpt: Callable[..., Ran], corpus: Path, tmp_path: Path, kind: str, size: int) -> None:
    from transformers import AutoTokenizer

    from test_docs import documented

    ran = gogpt("tokenizer", "train", corpus, "-o", tmp_path / "new", "--size", size, "--kind", kind, "--format", "json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == documented("vocabulary")
    assert (ran.json["size"], ran.json["texts"]) == (size, 60)
    assert {c["language"] for c in ran.json["compression"]} == {"zh", "all"}
    ours, theirs = Tokenizer(tmp_path / "new"), AutoTokenizer.from_pretrained(tmp_path / "new")
    for text in [*CHINESE[:10], " Hello 123\n", "你好 😀"]:
        assert theirs.encode(text, add_special_tokens=False) == ours.ids(text)
        assert ours.decode(ours.ids(text)) == text
    assert kind_of(exact(ours)) == {"bpe": "byte-level"}.get(kind, kind)
    assert gogpt("tokenizer", "train", corpus, "-o", tmp_path / "new").code == 2  # it exists


def test_digits(tmp_path: Path) -> None:
    texts = [f"year 2023 and 2024, {i}" for i in range(50)]
    for keep, found in ((True, True), (False, False)):
        folder = tmp_path / str(keep)
        folder.mkdir()
        train_vocabulary(texts, Recipe(kind="bpe", size=262, split_digits=not keep), folder)
        assert any("20" in t for t in candidates(Tokenizer(folder).backend)) is found


def test_long_lines_are_cut_not_lost() -> None:
    assert sum(map(len, sentences(["x" * 40_000, "a\0b\n\n c "]))) == 40_000 + 3


def extended(gogpt: Callable[..., Ran], base: Path, corpus: Path, out: Path, *more: object, size: int = 400) -> dict[str, Any]:
    ran = gogpt("tokenizer", "extend", base, "--corpus", corpus, "--size", size, "-o", out, *more, "--format", "json")
    assert ran.code == 0, ran.err
    return dict(ran.json)


def rows_of(folder: Path, name: str) -> Any:
    shard = next(s for s in map(Shard, sorted(folder.glob("*.safetensors"))) if name in s.tensors)
    return as_floats(np.array(shard.matrix(name)), shard.tensors[name].dtype)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_the_means_of_their_pieces(gogpt: Callable[..., Ran], corpus: Path, tmp_path: Path, tied: bool, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from gogpt.extension import read_extension
    from test_docs import documented

    base = tmp_path / "base"
    make_tokenizer(base)
    size = Tokenizer(base).size
    make_model(base, rows=size + 20, tie_word_embeddings=tied)  # padded
    if dtype == "bfloat16":
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    made = extended(gogpt, base, corpus, tmp_path / "big", "--pad-to-multiple", 64)
    assert set(made) == documented("extended")
    assert set(made["compression"][0]) == documented("compression")
    assert set(json.loads((tmp_path / "big" / "gogpt_extension.json").read_text())) == documented("extension")
    assert (made["first_new_id"], made["base_rows"], made["tied"]) == (size, size + 20, tied)
    assert made["rows"] % 64 == 0
    assert made["rows"] >= size + made["new_tokens"]
    assert json.loads((tmp_path / "big" / "config.json").read_text())["vocab_size"] == made["rows"]
    old, new = Tokenizer(base), Tokenizer(tmp_path / "big")
    assert new.chat_template == old.chat_template
    for name in ["model.embed_tokens.weight"] + ([] if tied else ["lm_head.weight"]):
        was, now = rows_of(base, name), rows_of(tmp_path / "big", name)
        assert (now[:size] == was[:size]).all()
        checked = 0
        for number in range(size, size + made["new_tokens"]):
            spelt = new.backend.token_bytes(number).decode("utf-8", errors="replace")
            if "�" in spelt:
                continue
            mean = was[old.ids(spelt)].mean(axis=0)
            expected = as_floats(as_stored(mean, "BF16" if dtype == "bfloat16" else "F32"), "BF16" if dtype == "bfloat16" else "F32")
            assert (now[number] == expected).all()
            checked += 1
        assert checked > 30
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "big", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert model.get_input_embeddings().weight.shape[0] == made["rows"]
    note = read_extension(tmp_path / "big")
    assert note is not None
    assert not note.trained


def test_padding_rows_are_used_first(gogpt: Callable[..., Ran], corpus: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    make_tokenizer(base)
    make_model(base, rows=Tokenizer(base).size + 4000)
    made = extended(gogpt, base, corpus, tmp_path / "big")
    assert made["rows"] == made["base_rows"]
    was, now = (rows_of(f, "lm_head.weight") for f in (base, tmp_path / "big"))
    assert (was[made["size"]:] == now[made["size"]:]).all()


def test_a_head_with_a_bias(gogpt: Callable[..., Ran], corpus: Path, tmp_path: Path, recipe: Any) -> None:
    """GPT-J's and Phi's. Its single rows cannot be trained through PEFT, which leaves the bias out; all of it can."""
    from safetensors.numpy import load_file, save_file
    from transformers import AutoModelForCausalLM, PhiConfig, PhiForCausalLM

    base = tmp_path / "base"
    make_tokenizer(base)
    PhiForCausalLM(PhiConfig(vocab_size=Tokenizer(base).size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                             max_position_embeddings=512)).save_pretrained(base)
    weights = load_file(base / "model.safetensors")
    weights["lm_head.bias"] = np.arange(len(weights["lm_head.bias"]), dtype=np.float32)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    made = extended(gogpt, base, corpus, tmp_path / "big")
    assert rows_of(tmp_path / "big", "lm_head.bias").shape == (made["rows"], 1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "big")
    assert model.lm_head.bias[made["first_new_id"]:].detach().numpy().max() < made["base_rows"]
    path = recipe(model=str(tmp_path / "big"), method={"new_tokens": "rows"})
    ran = gogpt("check", path)
    assert ran.code == 2
    assert "CFG232" in ran.err
    assert "bias" in ran.err


def test_shards_without_embeddings_are_linked(gogpt: Callable[..., Ran], corpus: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    make_tokenizer(base)
    make_model(base)
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    (base / "model.safetensors").unlink()
    for file in (tmp_path / "sharded").glob("*"):
        shutil.copyfile(file, base / file.name)
    made = extended(gogpt, base, corpus, tmp_path / "big")
    files = sorted(p.name for p in base.glob("*.safetensors"))
    assert len(files) > 3
    assert len(made["files_rewritten"]) == 2
    for name in files:
        assert ((base / name).stat().st_ino == (tmp_path / "big" / name).stat().st_ino) == (name not in made["files_rewritten"])
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path / "big", output_loading_info=True)
    assert not info["missing_keys"]


@needs_shared
def test_llama(gogpt: Callable[..., Ran], tmp_path: Path, corpus: Path) -> None:
    """A real one with both of its files, which still agree; Chinese-LLaMA's first 32,000 ids are the same."""
    base = SHARED / "tokenizers" / "llama2-spm-32k"
    made = extended(gogpt, base, corpus, tmp_path / "big", size=330)
    assert made["first_new_id"] == 32000
    assert made["rows"] is None
    ours, old = Tokenizer(tmp_path / "big"), Tokenizer(base)
    assert ours.other is not None
    assert [ours.token(i) for i in range(32000)] == [old.token(i) for i in range(32000)]
    for text in [*CHINESE, "  北京 and  中国\n", "Hello   world"]:
        assert ours.backend.stretch(text).ids == ours.other.stretch(text).ids


@lru_cache
def english_only() -> list[dict[str, str]]:
    return [{"text": "The quick brown fox jumps over the lazy dog."}] * 30


BAD = [
    (["tokenizer", "train", "{no}", "-o", "{out}"], "DAT300", "no such"),
    (["tokenizer", "train", "{zh}", "-o", "{out}", "--size", "200"], "TOK431", "256 bytes"),
    (["tokenizer", "train", "{zh}", "-o", "{out}", "--size", "50000"], "TOK431", "at most"),
    (["tokenizer", "train", "{zh}", "-o", "{out}", "--size", "50000", "--kind", "sentencepiece"], "TOK431", "at most"),
    (["tokenizer", "train", "{zh}", "-o", "{out}", "--size", "50000", "--kind", "unigram"], "TOK431", "at most"),
    (["tokenizer", "train", "{zh}", "-o", "{out}", "--size", "262", "--kind", "sentencepiece", "--coverage", "1"], "TOK431", "larger --size"),
    (["tokenizer", "train", "{prompts}", "-o", "{out}"], "TOK430", "no_answer"),
    (["tokenizer", "extend", "{no}", "--with", "{spm}", "-o", "{out}"], "MOD500", "no such"),
    (["tokenizer", "extend", "{base}", "--with", "{no}", "-o", "{out}"], "MOD500", "no such tokenizer"),
    (["tokenizer", "extend", "{base}", "--with", "{spm}", "-o", "{out}"], "TOK432", "SentencePiece"),
    (["tokenizer", "extend", "{base}", "--with", "{base}", "-o", "{out}"], "TOK433", "adds nothing"),
    (["tokenizer", "extend", "{uni}", "--with", "{uni}", "-o", "{out}"], "TOK432", "Unigram"),
    (["tokenizer", "extend", "{base}", "--with", "{zh}", "-o", "{out}"], "TOK410", "cannot be read"),
    (["tokenizer", "extend", "{base}", "--corpus", "{prompts}", "-o", "{out}"], "TOK430", "no text"),
    (["tokenizer", "extend", "{base}", "--with", "{level}", "-o", "{spm}"], "RUN610", "exists"),
    (["tokenizer", "extend", "{torn}", "--with", "{level}", "-o", "{out}"], "MOD500", "safetensors"),
    (["tokenizer", "extend", "{bin}", "--with", "{level}", "-o", "{out}"], "MOD508", "safetensors"),
    (["tokenizer", "extend", "{ints}", "--with", "{level}", "-o", "{out}"], "MOD508", "I32"),
    (["tokenizer", "extend", "{small}", "--with", "{level}", "-o", "{out}"], "MOD508", "fewer rows"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from safetensors.numpy import load_file, save_file

    room = tmp_path_factory.mktemp("bad")
    found = {name: room / name for name in ("no", "base", "spm", "uni", "level", "torn", "bin", "ints", "small")}
    found |= {"zh": chinese_file(room), "prompts": write_jsonl(room / "prompts.jsonl", [{"instruction": "Name a colour."}] * 3)}
    make_tokenizer(found["base"])
    make_model(found["base"])
    trained(found["spm"], "sentencepiece", 330)
    trained(found["uni"], "unigram", 330)
    trained(found["level"], "bpe", 400)
    for name in ("torn", "bin", "ints", "small"):
        shutil.copytree(found["base"], found[name])
    (found["torn"] / "model.safetensors").write_bytes(struct.pack("<Q", 10**6) + b"{}")
    (found["bin"] / "model.safetensors").rename(found["bin"] / "pytorch_model.bin")
    weights = load_file(found["ints"] / "model.safetensors")
    save_file({k: v.astype(np.int32) for k, v in weights.items()}, found["ints"] / "model.safetensors")
    make_model(found["small"], rows=Tokenizer(found["small"]).size - 5)
    return found


@pytest.mark.parametrize(("words_", "code", "says"), BAD, ids=lambda x: "-".join(x[1:]) if isinstance(x, list) else str(x))
def test_bad_input(gogpt: Callable[..., Ran], places: dict[str, Path], tmp_path: Path, words_: list[str], code: str, says: str) -> None:
    from gogpt.checks import page_of

    out = tmp_path / "out"
    ran = gogpt(*(w.format(**places, out=out) for w in words_))
    assert ran.code == 2, ran
    assert ran.out == ""
    told = [line for line in ran.err.splitlines() if line.startswith(code)]
    assert len(told) == 1, ran.err
    assert says in ran.err
    assert page_of(code)
    assert list(tmp_path.iterdir()) == []  # nothing left behind


def test_neither_with_nor_corpus(gogpt: Callable[..., Ran], tiny: Path, tmp_path: Path) -> None:
    ran = gogpt("tokenizer", "extend", tiny, "-o", tmp_path / "out")
    assert ran.code == 2
    assert "--corpus" in ran.err


def test_texts_in_both_languages(gogpt: Callable[..., Ran], tiny: Path, corpus: Path, tmp_path: Path) -> None:
    chinese = gogpt("--lang", "zh", "tokenizer", "extend", tiny, "--corpus", corpus, "--size", 400, "-o", tmp_path / "a")
    assert chinese.code == 0
    assert "新增" in chinese.out
    english = gogpt("tokenizer", "extend", tiny, "--corpus", corpus, "--size", 400, "-o", tmp_path / "b")
    assert "new tokens, ids" in english.out
    assert "zh" in english.out
    assert "method.new_tokens: rows" in english.out


@needs_shared
@pytest.mark.parametrize(("name", "kind"), [("llama2-spm-32k", "sentencepiece"), ("chinese-alpaca2-spm-55k", "sentencepiece"),
                                            ("mistral-v3-spm-32k", "sentencepiece"), ("qwen3-bpe-151k", "bpe"), ("deepseek-v3-bpe-128k", "bpe")])
def test_real_bases_merge_as_before_and_then_on(tmp_path: Path, name: str, kind: str) -> None:
    """Also one whose own pieces have equal scores, and ones whose special tokens lie beyond the vocabulary."""
    from gogpt.tokenize.probes import PROBES

    base = Tokenizer(SHARED / "tokenizers" / name)
    new = trained(tmp_path / "new", kind, 420 if kind == "bpe" else 330, split_digits=False)
    pair = Pair(exact(base), base.size, exact(new), tmp_path)
    pieces = {t.id: t.pieces for t in pair.extension.tokens}
    assert pair.extension.first_id == base.size
    for text in (*CHINESE, *PROBES):
        after = pair.made.stretch(text).ids
        assert [i for n in after for i in pieces.get(n, (n,))] == pair.base.stretch(text).ids
    for number, added in base.backend.added.items():
        assert pair.made.added[number].text == added.text
        assert pair.made.added[number].special == added.special
