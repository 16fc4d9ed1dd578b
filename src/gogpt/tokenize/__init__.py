"""The tokenizer of a model folder, exactly as its reference library encodes; renderings to ids and labels."""

from __future__ import annotations

from gogpt.tokenize.encoding import Encoded, encode, encode_prompt
from gogpt.tokenize.plain import Hidden, hide_special
from gogpt.tokenize.tokenizer import Tokenizer

__all__ = ["Encoded", "Hidden", "Tokenizer", "encode", "encode_prompt", "hide_special"]
