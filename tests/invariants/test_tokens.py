"""Label masks, for every tokenizer family: the prompt's ids are what inference encodes, the trained ids are the answer
and its stop, and no token lies on both sides of a border unnoticed."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conftest import SHARED, make_tokenizer, needs_shared
from gogpt.errors import RowError
from gogpt.records import IGNORE_INDEX, Conversation, Message, Segment
from gogpt.templates import TEMPLATES, Rendering, Template, pick_template
from gogpt.tokenize import Tokenizer, encode, encode_prompt, hide_special

EVERY = sorted(p.parent.name for p in (SHARED / "tokenizers").glob("*/vectors.json")) if SHARED.is_dir() else []
"""The 21 real and tiny tokenizers of ../shared: byte-level BPE, SentencePiece BPE and Unigram, WordPiece, Tekken, tiktoken."""

LOSSY = ("bert", "t5", "wordpiece", "unigram")
"""Tokenizers that do not give a text back (case, spaces and newlines lost)."""

NAMES = [t.name for t in TEMPLATES]

PIECES = ["Hello", " hello", "\n", "\n\n", " ", "  ", "你好", "首都在哪", "。", "😀", "é", "e\u0301", "\u0301", "42", "1234", "x y", "\t", "...",
          "It's", "end.", "½", "\u00a0", "\u3000", "foo", "bar", "[INST]", "<|", "|>", "龘", "    if", "ＡＢ", "👩\u200d👧", "\r\n", "!"]
text = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join).filter(str.strip)


@lru_cache(maxsize=1)  # one at a time: some are large
def loaded(name: str) -> Tokenizer:
    return Tokenizer(SHARED / "tokenizers" / name)


@pytest.fixture(scope="session")
def tiny_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    out = {}
    for name, options in {"byte-level": {}, "dummy-prefix": {"dummy_prefix": True, "bos": True, "eos": "</s>"}}.items():
        folder = tmp_path_factory.mktemp(name)
        make_tokenizer(folder, **options)
        out[name] = Tokenizer(folder)
    return out


# -- the mask --------------------------------------------------------------------------------------


def answers_of(rendering: Rendering, tokenizer: Tokenizer, **more: Any) -> Iterator[tuple[str, str, list[int], list[int], bool]]:
    """Of each trained answer: the text before it, its text, the ids before it, its ids, and whether it was cut.

    What holds for every tokenizer is asserted here: the ids before an answer are those of the prompt alone, with the
    labels all masked that are not an answer's, and every token of the answer trained as itself.
    """
    encoded = encode(rendering, tokenizer, **more)
    prefix = list(tokenizer.bos_prefix) if rendering.add_bos else []
    places, at = [], 0
    for segment in rendering.segments:
        if segment.train:
            places.append((at, at + len(segment.text)))
        at += len(segment.text)
    ends = [(e, end) for e in encoded for end in e.answer_ends]
    assert len(ends) == len(places)
    for e in encoded:
        assert e.input_ids.dtype == e.labels.dtype == np.int32
        trained = np.flatnonzero(e.labels != IGNORE_INDEX)
        assert (e.labels[trained] == e.input_ids[trained]).all()
    covered: dict[int, set[int]] = {id(e): set() for e in encoded}
    for (start, end), (e, last) in zip(places, ends, strict=True):
        ids = e.input_ids.tolist()
        prompt = prefix + (tokenizer.ids(rendering.text[:start]) if not more else encode_prompt(
            Rendering(segments=(Segment(text=rendering.text[:start], train=False),), answers=()), tokenizer, **more))
        assert ids[: len(prompt)] == prompt
        assert (e.labels[max(1, len(prompt)) : last] != IGNORE_INDEX).all()
        covered[id(e)] |= set(range(len(prompt), last))
        yield rendering.text[:start], rendering.text[start:end], prompt, ids[len(prompt) : last], e.cut
    for e in encoded:
        assert set(np.flatnonzero(e.labels != IGNORE_INDEX).tolist()) == covered[id(e)] - {0}


def same_text(got: str, wanted: str, name: str) -> bool:
    """Qwen composes; a literal ``▁`` (DeepSeek's marks as text) is a space to SentencePiece."""
    if "qwen" in name:
        return got == wanted or got == unicodedata.normalize("NFC", wanted)
    return got == wanted or got == wanted.replace("▁", " ")


def check_masks(tokenizer: Tokenizer, template: Template, said: list[str], name: str) -> None:
    messages = tuple(Message(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(said))
    try:
        renderings = template.render(Conversation(messages=messages))
    except RowError:
        assume(False)
    lossy = any(part in name for part in LOSSY)
    number = 0
    for rendering in renderings:
        for before, answer, prompt, ids, _ in answers_of(rendering, tokenizer):
            # Inference sends the prompt; training saw the same ids before this answer.
            generation = template.generation(Conversation(messages=messages[: 2 * number + 1]))
            assert generation.text == before
            assert encode_prompt(generation, tokenizer) == prompt
            number += 1
            stop = next((s for s in template.stop if s and answer.endswith(s)), None)
            if stop is not None:
                assert ids, "the stop is lost"
                own = tokenizer.id_of(stop)
                if own in tokenizer.added_ids:
                    assert ids[-1] == own
                else:  # the marker is no token here: it is trained as text
                    last = tokenizer.backend.token_bytes(ids[-1]).decode("utf-8", errors="replace")
                    assert ids[-1] == tokenizer.backend.unknown or last[-1] in (stop[-1], stop[-1].lower(), "�")
            if lossy:
                continue
            got = tokenizer.decode(prompt + ids)[len(tokenizer.decode(prompt)) :]
            assert same_text(got, answer, name)


conversations = st.lists(text, min_size=2, max_size=6).filter(lambda x: len(x) % 2 == 0)


@pytest.mark.parametrize("name", ["byte-level", "dummy-prefix"])
@settings(deadline=None, max_examples=300)
@given(said=conversations, template=st.sampled_from(NAMES))
def test_masks_of_tiny_tokenizers(tiny_tokenizers: dict[str, Tokenizer], name: str, said: list[str], template: str) -> None:
    check_masks(tiny_tokenizers[name], pick_template(template, tiny_tokenizers[name]), said, name)


@needs_shared
@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=100)
@given(said=conversations, template=st.sampled_from([*NAMES, "alpaca", "llama2", "chatml", "llama3"]))
def test_masks_of_every_family(name: str, said: list[str], template: str) -> None:
    check_masks(loaded(name), pick_template(template, loaded(name)), said, name)


def rendering(prompt: str, answer: str, after: str = "") -> Rendering:
    pieces = [Segment(text=prompt, train=False), Segment(text=answer, train=True), Segment(text=after, train=False)]
    return Rendering(segments=tuple(p for p in pieces if p.text), answers=(1,))


# -- the reference ---------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("name", EVERY)
def test_ids_are_the_reference_ids(name: str) -> None:
    """Every vector of the reference library: special tokens as text, and parsed; spans; decoding; joins."""
    tokenizer = loaded(name)
    document = json.loads((SHARED / "tokenizers" / name / "vectors.json").read_text(encoding="utf-8"))
    parses = document["reference"]["library"] == "tokenizers"
    special = tokenizer.special_pattern
    wrong = []
    for vector in document["vectors"]:
        said = vector["text"]
        as_text = vector.get("ids_specials_as_text", vector["ids"]) if parses else vector["ids"]
        parsed = vector["ids"] if parses else vector.get("ids_specials_parsed")
        if parsed is None and not (special and special.search(said)):
            parsed = vector["ids"]  # sentencepiece parses nothing; without special text it makes no difference
        ids, spans = tokenizer.encode(said)
        good = {
            "as text": tokenizer.plain_ids(said) == as_text, "parsed": parsed is None or tokenizer.ids(said) == parsed,
            "with spans": ids == tokenizer.ids(said), "decoded": tokenizer.decode(vector["ids"]) == vector.get("decoded", said),
            "spans": all(0 <= a <= b <= len(said) for a, b in spans) and spans == sorted(spans),
        }
        wrong += [(vector["name"], what) for what, right in good.items() if not right]
    assert len(document["vectors"]) > 40
    assert wrong == []


@needs_shared
@pytest.mark.parametrize("name", EVERY)
def test_joins(name: str) -> None:
    """39 pairs as they meet at chat borders: what the reference measured of them, and the mask over each."""
    tokenizer = loaded(name)
    document = json.loads((SHARED / "tokenizers" / name / "vectors.json").read_text(encoding="utf-8"))
    lossy = any(part in name for part in LOSSY)
    parses = document["reference"]["library"] == "tokenizers"
    read = tokenizer.ids if parses else tokenizer.plain_ids
    special = tokenizer.special_pattern
    for join in document["joins"]:
        a, b = join["a"], join["b"]
        first, both = read(a), read(a + b)
        assert (first + read(b) == both) == join["equal"]
        assert (both[: len(first)] == first) == join["prefix_kept"]
        ((_, _, prompt, ids, cut),) = answers_of(rendering(a, b), tokenizer)
        parsed = special is not None and special.search(a + b) is not None
        if parsed and not parses:
            continue  # the reference takes as text what a template's text means as a token
        # A token on both sides is noticed, unless what it holds of the prompt is white space that this tokenizer drops.
        if join["straddle"] and not (lossy and a[-1:].isspace()):
            assert cut
        assert cut or prompt + ids == both
        if not lossy and join["decode_of_joined_ids_ok"] is not None:
            assert same_text(tokenizer.decode(prompt + ids), a + b, name) or same_text(unicodedata.normalize("NFC", tokenizer.decode(prompt + ids)), a + b, name)
    for join in document["special_joins"]:
        a, b = join["a"], join["b"]
        assert tokenizer.ids(a) + tokenizer.ids(b) == tokenizer.ids(a + b), "stretches are encoded apart"


NAMES_IDS = {
    "llama2-spm-32k": (1, 2, None), "chinese-alpaca2-spm-55k": (1, 2, 32000), "gogpt2-spm-68k": (1, 2, None), "mistral-v1-spm-32k": (1, 2, None),
    "mistral-v3-spm-32k": (1, 2, None), "mistral-tekken-131k": (1, 2, 11), "baichuan-m1-spm-133k": (1, 2, 0), "t5-unigram-32k": (None, 1, 0),
    "spm-unigram-1k": (1, 2, None), "llama3-bpe-128k": (128000, 128001, None), "qwen3-bpe-151k": (None, 151645, 151643),
    "deepseek-v3-bpe-128k": (0, 1, 1), "gpt2-bpe-50k": (50256, 50256, None), "tiktoken-o200k": (None, 199999, None),
    "smollm2-bpe-49k": (1, 2, 2), "bert-zh-wordpiece-21k": (101, 102, 0), "bert-en-wordpiece-30k": (101, 102, 0),
    "tiny-bpe-bytelevel-400": (None, 2, 3), "tiny-wordpiece-400": (2, 3, 0), "tiny-spm-bpe-bytefallback-600": (1, 2, None),
    "tiny-spm-unigram-250": (None, 1, 0),
}
"""BOS, EOS and PAD, as the table of ../shared/tokenizers/README.md has them."""

BEGINS = {"llama2-spm-32k", "chinese-alpaca2-spm-55k", "gogpt2-spm-68k", "mistral-v1-spm-32k", "mistral-v3-spm-32k", "mistral-tekken-131k",
          "tiny-spm-bpe-bytefallback-600", "bert-zh-wordpiece-21k", "bert-en-wordpiece-30k", "tiny-wordpiece-400"}
"""Those that put BOS before a text themselves."""


@needs_shared
@pytest.mark.parametrize("name", EVERY)
def test_names(name: str) -> None:
    tokenizer = loaded(name)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == NAMES_IDS[name]
    assert tokenizer.bos_prefix == ((tokenizer.bos_id,) if name in BEGINS else ())
    for number, spelt in tokenizer.special_ids.items():
        assert tokenizer.ids(spelt) == [number], spelt
        assert tokenizer.token(number) == spelt
    assert tokenizer.size > max(tokenizer.special_ids)
    words = "Hello 你好 😀 e\u0301\n"
    ids = tokenizer.ids(words)
    if not any(part in name for part in LOSSY):
        assert "".join(tokenizer.pieces(ids)).replace("\u00e9", "e\u0301").removeprefix(" ") == words
        assert len(words) <= tokenizer.max_token_chars * len(ids)


@needs_shared
def test_the_exact_form_is_loaded() -> None:
    """A tokenizer.json where it agrees with the model that it was made from, else that model."""
    reads = {name: (loaded(name).backend.library, loaded(name).backend.file.name) for name in EVERY}
    assert reads["llama2-spm-32k"] == ("tokenizers", "tokenizer.json")
    assert reads["t5-unigram-32k"] == ("sentencepiece", "spiece.model")
    assert reads["gogpt2-spm-68k"] == reads["chinese-alpaca2-spm-55k"] == ("sentencepiece", "tokenizer.model")
    assert reads["mistral-tekken-131k"] == ("tiktoken", "tekken_240718.json")
    assert reads["tiktoken-o200k"] == ("tiktoken", "o200k_base.tiktoken")
    assert reads["gpt2-bpe-50k"] == ("tokenizers", "vocab.json")


# -- borders ---------------------------------------------------------------------------------------


def test_a_token_on_both_sides_of_the_border_is_cut(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    """'Answer: ' + 'Hello': ' Hello' would be one token of both; the ids are cut where generation begins."""
    tokenizer = tiny_tokenizers["byte-level"]
    (e,) = encode(rendering("the capital of ", "France<|im_end|>", "\n"), tokenizer)
    assert e.cut
    prompt = tokenizer.ids("the capital of ")
    assert e.input_ids[: len(prompt)].tolist() == prompt
    assert tokenizer.decode(e.input_ids[e.labels != IGNORE_INDEX].tolist()) == "France<|im_end|>"


def test_no_space_that_nobody_wrote(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    """With a dummy prefix, the answer's first token is the one that generation produces (huggingface/trl#1623)."""
    tokenizer = tiny_tokenizers["dummy-prefix"]
    (e,) = encode(rendering("### Response:\n", "Hello</s>"), tokenizer)
    assert tokenizer.decode(e.input_ids.tolist()) == "### Response:\nHello</s>"


def test_a_cut_answer_after_a_special_token_is_encoded_as_uncut(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    """After a special token a stretch begins, with its dummy prefix; cutting must not train another first token."""
    tokenizer = tiny_tokenizers["dummy-prefix"]
    clean = Rendering(segments=(Segment(text="a<|eot_id|>", train=False), Segment(text="Hello</s>", train=True)), answers=(1,))
    straddled = Rendering(segments=(*clean.segments, Segment(text="the capital of ", train=False), Segment(text="France</s>", train=True)),
                          answers=(1, 3))
    (whole,), (first, _) = encode(clean, tokenizer), encode(straddled, tokenizer)
    assert (whole.cut, first.cut) == (False, True)
    assert first.input_ids.tolist() == whole.input_ids.tolist()


def test_labels_never_train_the_first_token(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tiny_tokenizers["byte-level"]
    (e,) = encode(Rendering(segments=(Segment(text="all of it", train=True),), answers=()), tokenizer)
    assert e.labels[0] == IGNORE_INDEX
    assert (e.labels[1:] == e.input_ids[1:]).all()


def test_trimmed_spans_hide_no_border(tmp_path: Path) -> None:
    """A post-processor with trim_offsets takes the space out of ' France': the token on both sides would not be seen."""
    make_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    raw["post_processor"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    file.write_text(json.dumps(raw), encoding="utf-8")
    tokenizer = Tokenizer(tmp_path)
    (e,) = encode(rendering("Say:", "the capital of ", "France"), tokenizer)
    assert e.cut
    assert tokenizer.decode(e.input_ids[e.labels != IGNORE_INDEX]) == "the capital of "
    assert tokenizer.backend.document()["post_processor"] == raw["post_processor"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("which", ["end", "both"])
def test_special_tokens_that_swallow_white_space(tmp_path: Path, which: str) -> None:
    """As Phi-3's: the newline after <|im_end|> has no token. That is no straddle, and nothing need be cut."""
    make_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    for token in raw["added_tokens"]:
        token["rstrip"] = token["content"] == "<|im_end|>" or which == "both"
    file.write_text(json.dumps(raw), encoding="utf-8")
    tokenizer = Tokenizer(tmp_path)
    chat = (("user", "one "), ("assistant", "  two"), ("user", "\nthree"), ("assistant", "four  "))
    (r,) = pick_template("chatml", tokenizer).render(Conversation(messages=tuple(Message(role=a, content=b) for a, b in chat)))
    found = list(answers_of(r, tokenizer))
    assert [cut for *_, cut in found] == [False, False]
    assert [tokenizer.decode(ids) for _, _, _, ids, _ in found] == ["  two<|im_end|>", "four  <|im_end|>"]
    for start, end in tokenizer.encode(r.text).spans:
        assert r.text[start:end].strip() or "<" not in r.text[start:end]


@pytest.fixture(scope="session")
def metaspaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    source = SHARED / "tokenizers" / "tiny-spm-bpe-bytefallback-600"
    out = {}
    for scheme in ("always", "first"):
        folder = tmp_path_factory.mktemp(scheme)
        shutil.copyfile(source / f"tokenizer.metaspace-{scheme}.json", folder / "tokenizer.json")
        shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")
        out[scheme] = Tokenizer(folder)
    return out


@needs_shared
@pytest.mark.parametrize("scheme", ["always", "first"])
@settings(deadline=None, max_examples=100)
@given(said=conversations, template=st.sampled_from(NAMES))
def test_masks_under_metaspace(metaspaces: dict[str, Tokenizer], scheme: str, said: list[str], template: str) -> None:
    """The forms that transformers makes of a SentencePiece model, taken as a tokenizer.json of their own. They put no second
    space before a text that begins with one, and so do not give such a text back."""
    check_masks(metaspaces[scheme], pick_template(template, metaspaces[scheme]), said, "unigram")


def test_a_cut_answer_under_metaspace_first(tmp_path: Path) -> None:
    """Here no space is put after a special token; a cut answer must not get one either."""
    make_tokenizer(tmp_path, dummy_prefix=True)
    file = tmp_path / "tokenizer.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    raw |= {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}}
    file.write_text(json.dumps(raw), encoding="utf-8")
    tokenizer = Tokenizer(tmp_path)
    segments = [("one<|eot_id|>", False), ("Paris</s>", True), ("the capital of ", False), ("France</s>", True)]
    r = Rendering(segments=tuple(Segment(text=t, train=train) for t, train in segments), answers=(1, 3))
    (first, _) = found = list(answers_of(r, tokenizer))
    assert [cut for *_, cut in found] == [True, True]
    assert first[3] == tokenizer.ids("one<|eot_id|>Paris</s>")[len(tokenizer.ids("one<|eot_id|>")) :]


def test_a_stop_marker_is_the_token_that_generation_makes(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    """A marker that is text: after other text it has no dummy prefix."""
    for tokenizer in tiny_tokenizers.values():
        assert tokenizer.token_of("<|im_end|>") == tokenizer.id_of("<|im_end|>")
        assert tokenizer.token_of("the capital of France") is None
        assert tokenizer.token_of("。") in (tokenizer.ids("a。")[-1], None)
        assert tokenizer.token_of(".") == tokenizer.ids("a.")[-1]
    assert tiny_tokenizers["dummy-prefix"].ids(".") != [tiny_tokenizers["dummy-prefix"].token_of(".")]


def word_piece(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Engine
    from tokenizers import models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "##s", ":", ".", "<", ">", "/", "s", "user", "say"]
    engine = Engine(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    engine.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    engine.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder)


@pytest.mark.parametrize(
    ("prompt", "answer", "after", "trained"),
    [
        ("say: ", "Hello  world.[SEP]", "\n", ["hello", "world", ".", "[SEP]"]),  # spaces belong to no token
        ("say:\n", "\n\n Hello[SEP]", " say", ["hello", "[SEP]"]),
        ("say: ", "xyzzy qwerty[SEP]", "", ["[UNK]", "[UNK]", "[SEP]"]),  # a word without pieces
        ("say: ", "He\u0301llo</s>", " say", ["hello", "<", "/", "s", ">"]),  # accents dropped; the stop as text
        ("say: ", "\u0301\u200d[SEP]", "", ["[SEP]"]),  # nothing is left of the answer but its stop
        ("say: 你", "好[SEP]", "", ["[UNK]", "[SEP]"]),
        ("say: hello", "s[SEP]", "", ["##s", "[SEP]"]),  # inside a word, and yet a clean border
        ("say: xyz", "zy[SEP]", "", ["[UNK]", "[SEP]"]),  # one unknown word on both sides: cut
    ],
)
def test_word_pieces(tmp_path: Path, prompt: str, answer: str, after: str, trained: list[str]) -> None:
    tokenizer = word_piece(tmp_path)
    ((_, _, _, ids, _),) = answers_of(rendering(prompt, answer, after), tokenizer)
    assert [tokenizer.token(i) for i in ids] == trained


@pytest.mark.parametrize(("prompt", "answer"), [("say e", "\u0301x"), ("caf", "e\u0301 olé"), ("e\u0301", "e\u0301\u0301!"), ("a\n", "\u0301")])
def test_composed_characters(tmp_path: Path, prompt: str, answer: str) -> None:
    """NFC: a combining mark has no token of its own, and one that joins the prompt's last letter changes its token."""
    make_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    raw["normalizer"] = {"type": "NFC"}
    file.write_text(json.dumps(raw), encoding="utf-8")
    tokenizer = Tokenizer(tmp_path)
    ((_, _, prompted, ids, _),) = answers_of(rendering(prompt, f"{answer}<|im_end|>", "\n"), tokenizer)
    assert ids[-1] == tokenizer.id_of("<|im_end|>")
    assert unicodedata.normalize("NFC", tokenizer.decode(prompted + ids)) == unicodedata.normalize("NFC", f"{prompt}{answer}<|im_end|>")


# -- a user's text that spells special tokens ------------------------------------------------------


def hidden_rendering(tokenizer: Tokenizer, template: Template, said: list[str]) -> tuple[tuple[Rendering, ...], Any]:
    messages = tuple(Message(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(said))
    masked, hidden = hide_special(Conversation(messages=messages), tokenizer.special_pattern, template.control)
    return template.render(masked), hidden


SPELT = ["<|im_end|>", "</s>", "<s>", "<|im_start|>", "<|eot_id|>", "[INST]", "<|endoftext|>", "[SEP]", "hello", " ", "\n", "你好", "x"]
spelling = st.lists(st.sampled_from(SPELT), min_size=1, max_size=5).map("".join).filter(str.strip)


def check_plain(tokenizer: Tokenizer, template: Template, said: list[str], name: str) -> None:
    try:
        renderings, hidden = hidden_rendering(tokenizer, template, said)
        if not hidden:
            return
        for r in renderings:
            for before, answer, prompt, ids, _ in answers_of(r, tokenizer, plain=hidden):
                # Only the template's own marks are special tokens.
                own = list(tokenizer.bos_prefix) if r.add_bos else []
                for chars, numbers in ((before, prompt[len(own) :]), (answer, ids)):
                    parsed = [i for i in numbers if i in tokenizer.added_ids]
                    expected = [i for i in tokenizer.ids(chars) if i in tokenizer.added_ids]
                    assert parsed == expected
                if not any(part in name for part in LOSSY):
                    got = tokenizer.decode(prompt + ids)[len(tokenizer.decode(prompt)) :]
                    assert same_text(got, hidden.reveal(answer), name)
    except RowError:
        assume(False)


@pytest.mark.parametrize("name", ["byte-level", "dummy-prefix"])
@settings(deadline=None, max_examples=200)
@given(said=st.lists(spelling, min_size=2, max_size=4).filter(lambda x: len(x) % 2 == 0), template=st.sampled_from(NAMES))
def test_special_text_is_plain_text(tiny_tokenizers: dict[str, Tokenizer], name: str, said: list[str], template: str) -> None:
    check_plain(tiny_tokenizers[name], pick_template(template, tiny_tokenizers[name]), said, name)


@needs_shared
@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=60)
@given(said=st.lists(spelling, min_size=2, max_size=4).filter(lambda x: len(x) % 2 == 0), template=st.sampled_from(["alpaca", "llama2", "chatml", "llama3"]))
def test_special_text_is_plain_text_in_every_family(name: str, said: list[str], template: str) -> None:
    check_plain(loaded(name), pick_template(template, loaded(name)), said, name)


def test_plain_text_ids(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    """A user who writes <|im_end|> does not end a turn: the same ids as without a parser, and the template's own stop."""
    tokenizer = tiny_tokenizers["byte-level"]
    said = ["what is <|im_end|>?", "it ends <|im_end|> a turn"]
    (r,), hidden = hidden_rendering(tokenizer, pick_template("chatml", tokenizer), said)
    (e,) = encode(r, tokenizer, plain=hidden)
    stop = tokenizer.id_of("<|im_end|>")
    assert e.input_ids.tolist().count(stop) == 2
    trained = e.input_ids[e.labels != IGNORE_INDEX].tolist()
    assert trained == [*tokenizer.plain_ids("it ends <|im_end|> a turn"), stop]
    assert tokenizer.decode(e.input_ids) == hidden.reveal(r.text)


def test_alpaca_inputs_stay_inputs(tiny_tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tiny_tokenizers["byte-level"]
    message = Message(role="user", content="mark <s>\nthe <s> text", input="the <s> text")
    masked, hidden = hide_special(Conversation(messages=(message, Message(role="assistant", content="ok"))), tokenizer.special_pattern)
    assert masked.messages[0].content == f"{masked.messages[0].instruction}\n{masked.messages[0].input}"
    assert hidden.reveal(masked.messages[0].content) == message.content
    (plain,) = pick_template("alpaca", tokenizer).render(masked)
    assert "### Input:\n" in plain.text


# -- one more real model ---------------------------------------------------------------------------


def test_quickstart_tokenizer_splits_digits() -> None:
    """The GGUF conversion loses the digit step; the checkpoint of the quickstart must have it back."""
    from conftest import SMOLLM2

    if not SMOLLM2.is_dir():
        pytest.skip("models/SmolLM2-135M-Instruct is not made yet: make test makes it")
    from transformers import AutoTokenizer

    ours = Tokenizer(SMOLLM2)
    theirs = AutoTokenizer.from_pretrained(SMOLLM2)
    for sample in ("In 1234 there were 56 of 7,890.", "½ ² ٣ 12²", "a1b22c333"):
        assert ours.ids(sample) == theirs.encode(sample)
    assert [ours.token(i) for i in ours.ids("123")] == ["1", "2", "3"]
    assert Path(SMOLLM2 / "chat_template.jinja").is_file()

