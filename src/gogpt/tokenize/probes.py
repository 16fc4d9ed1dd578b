"""Texts on which two forms of one tokenizer are compared, beside the user's own.

Each is a place where forms of real tokenizers were measured to part: leading and repeated spaces (Metaspace in place
of Prepend, runs of spaces merged first), code, digits, characters without a piece, composed and decomposed accents,
Chinese that equal scores cut otherwise.
"""

from __future__ import annotations

PROBES: tuple[str, ...] = (
    "Hello", " Hello", "  Hello", "Hello ", "Hello   ", "Hello   world", " ", "   ", "\n", "\n\n", "\t", "a\r\nb",
    "\n\n\nSure, here it is:\n\n1. one\n2. two", "def f(x):\n    if x > 0:\n        return x ** 2  # ok\n\treturn None",
    "I'm sure they'll say it's John's.", "THE Quick bRoWn FOX", "1234567890", "3.14159, 2024-01-31, 1,000,000",
    "½ ² ٣ 12²", "https://example.com/a?b=c&d=%20#frag", '{"a": [1, 2, {"b": null}]}', "$\\frac{a}{b} \\leq x_i$",
    "你好，请问今天的天气怎么样？", "請問臺灣的首都在哪裡？", "上的效果，中国的首都在哪里", "你好 世界 ", "请用Python写一个hello world程序，谢谢!",
    "ＡＢＣ　１２３，。！", "龘靐齉爩𠮷野家", "こんにちは、世界。カタカナも。", "안녕하세요 세계", "I love it 😀🎉", "👩‍👩‍👧 family 👍🏽",
    "e\u0301 n\u0303 Å ﬁ", "Café vs Cafe\u0301", "مرحبا بالعالم שלום", "नमस्ते สวัสดี", "a\u200bb\u200dc\ufeffd\u00a0e",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerk", "========                    !!!!!!!!", "“Curly” ‘quotes’ — dash… «x»",
    "### Instruction:\n写一首诗\n\n### Response:\n春眠不觉晓。", "[INST] Hi [/INST] Sure! ",
)
