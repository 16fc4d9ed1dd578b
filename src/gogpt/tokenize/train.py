"""A vocabulary from texts: SentencePiece BPE or Unigram, or byte-level BPE.

The settings of SentencePiece are those that Llama's own tokenizer.model names in its trainer_spec (byte fallback, digits
one by one, no normalisation, no white space dropped), so that its pieces fit into that model; character coverage is
the library's 0.9995, which the makers of Chinese-LLaMA kept (ymcui/Chinese-LLaMA-Alpaca#713: but for the size of the
vocabulary hardly a parameter was changed).
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gogpt.errors import GogptError

Kind = Literal["bpe", "sentencepiece", "unigram"]

END = "<|endoftext|>"
"""The one special token of a byte-level vocabulary."""

MAX_TOKEN = 48
"""Bytes of a byte-level token: 16 Chinese characters, as many as sentencepiece allows. Nothing else ends a Chinese sentence."""

MAX_SENTENCE = 1 << 14
"""Characters: sentencepiece leaves longer sentences out in silence, so longer lines are cut."""

SMALLEST = {"bpe": 257, "sentencepiece": 260, "unigram": 260}
"""256 bytes, the special tokens, and for SentencePiece one piece more."""

LLAMA_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a vocabulary is trained to. ``steps``: normalizer and pre-tokenizer of a tokenizer.json to take over (byte-level)."""

    kind: Kind
    size: int
    split_digits: bool = True
    coverage: float = 0.9995
    steps: dict[str, Any] | None = None


def train_vocabulary(texts: Iterable[str], recipe: Recipe, out: Path) -> None:
    """Write a tokenizer's files into the folder ``out``: tokenizer.json (bpe) or tokenizer.model, and tokenizer_config.json.

    Raises GogptError TOK431 (a size that cannot be had).
    """
    if recipe.size < SMALLEST[recipe.kind]:
        raise GogptError("TOK431", "the vocabulary is too small", got=f"--size {recipe.size}",
                         expected=f"at least {SMALLEST[recipe.kind]}: one token for each of 256 bytes, and the special tokens", fix="ask for a larger --size")
    if recipe.kind == "bpe":
        _byte_level(texts, recipe, out)
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    else:
        (out / "tokenizer.model").write_bytes(_sentencepiece(texts, recipe))
        config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": recipe.kind == "sentencepiece", **LLAMA_NAMES}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _byte_level(texts: Iterable[str], recipe: Recipe, out: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    engine = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level]) if recipe.split_digits else level
    engine.decoder = decoders.ByteLevel()
    if recipe.steps is not None:
        engine = Tokenizer.from_str(json.dumps({**json.loads(engine.to_str()), **recipe.steps}))
    trainer = trainers.BpeTrainer(vocab_size=recipe.size, special_tokens=[END], show_progress=False, min_frequency=2, max_token_length=MAX_TOKEN,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    engine.train_from_iterator(texts, trainer)
    size = engine.get_vocab_size()
    if size < recipe.size:
        raise _too_large(recipe.size, size)
    engine.save(str(out / "tokenizer.json"))


def sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines, none longer than the trainer takes; sentencepiece reads a NUL as the end of a text."""
    for text in texts:
        for line in text.splitlines():
            line = line.replace("\0", "")
            for at in range(0, len(line), MAX_SENTENCE):
                if part := line[at : at + MAX_SENTENCE].strip():
                    yield part


def _sentencepiece(texts: Iterable[str], recipe: Recipe) -> bytes:
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=sentences(texts), model_writer=written, vocab_size=recipe.size,
            model_type="bpe" if recipe.kind == "sentencepiece" else "unigram", character_coverage=recipe.coverage,
            byte_fallback=True, split_digits=recipe.split_digits, allow_whitespace_only_pieces=True, remove_extra_whitespaces=False,
            normalization_rule_name="identity", add_dummy_prefix=True, unk_surface=" \u2047 ", max_sentence_length=4 * MAX_SENTENCE,
            num_threads=os.cpu_count() or 1, minloglevel=2,
        )
    except RuntimeError as problem:
        raise _refused(problem, recipe) from problem
    return written.getvalue()


def _refused(problem: RuntimeError, recipe: Recipe) -> GogptError:
    """What sentencepiece says of a size that it cannot reach, in words of this command's."""
    text = str(problem)
    if found := re.search(r"<= ?(\d+)", text):
        return _too_large(recipe.size, int(found[1]))
    if "smaller than required_chars" in text or "vocab_size_" in text or "required_chars" in text:
        least = re.search(r"(\d+) vs (\d+)", text)
        return GogptError("TOK431", "the vocabulary is too small for the characters of this corpus", got=f"--size {recipe.size}",
                          expected=f"more than {least[2]}" if least else None, fix="ask for a larger --size, or a lower --coverage")
    return GogptError("TOK431", f"sentencepiece cannot train this: {text.splitlines()[0] if text else 'no reason given'}",
                      got=f"--size {recipe.size}", fix="give more text, or another --size")


def _too_large(asked: int, most: int) -> GogptError:
    return GogptError("TOK431", "the corpus does not give so many tokens", got=f"--size {asked}", expected=f"at most {most} from this corpus",
                      fix=f"--size {most}, or more text")
