"""Which language a text is in: by py3langid (the extra ``lang``) where it is installed, else by its script alone.

Scripts that one language has for itself decide by themselves: Kana is Japanese, Hangul Korean, Han without Kana
Chinese. Only what shares a script (Latin, Cyrillic, Arabic, Devanagari) is asked of the identifier, among
``LANGUAGES``: its other 80 are rarer than its mistakes on short text and code.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass

UNKNOWN = "und"
"""ISO 639's code for a language that cannot be told: too little text, code, numbers."""
MAX_CHARS = 2000
MIN_LETTERS = 12
"""Fewer letters of a shared script tell no language."""
MIN_CONFIDENCE = 0.5

SCRIPTS: dict[str, str] = {
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f", "Kana": "\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d",
    "Hangul": "\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e", "Latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "Cyrillic": "\u0400-\u052f", "Greek": "\u0370-\u03ff\u1f00-\u1fff", "Hebrew": "\u0590-\u05ff\ufb1d-\ufb4f",
    "Arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc", "Devanagari": "\u0900-\u097f", "Bengali": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff", "Telugu": "\u0c00-\u0c7f", "Thai": "\u0e00-\u0e7f", "Georgian": "\u10a0-\u10ff", "Armenian": "\u0530-\u058f",
}
"""Name -> its letters, as a class of a regular expression."""

OWN = {"Han": "zh", "Kana": "ja", "Hangul": "ko", "Greek": "el", "Hebrew": "he", "Bengali": "bn", "Tamil": "ta", "Telugu": "te",
       "Thai": "th", "Georgian": "ka", "Armenian": "hy"}
"""Scripts that stand for one language."""

LANGUAGES = ("af", "ar", "az", "be", "bg", "bs", "ca", "cs", "cy", "da", "de", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "ga", "gl", "hi",
             "hr", "hu", "id", "is", "it", "kk", "ky", "lt", "lv", "mk", "mn", "mr", "ms", "mt", "ne", "nl", "no", "pl", "ps", "pt", "ro", "ru",
             "sk", "sl", "sq", "sr", "sv", "sw", "tl", "tr", "uk", "ur", "uz", "vi", "zxx")
"""What the identifier chooses among; ``zxx`` is its class for what is no language."""

CODES = (UNKNOWN, *sorted({*OWN.values(), *LANGUAGES}))
"""Every code that a text can get; its place is its number in a prepared set."""

_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in SCRIPTS.items()}
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_WEIGHT = {"Han": 3, "Kana": 2, "Hangul": 2}
"""One such letter says as much as several of an alphabet."""
_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<[^<>\n]{1,80}>", re.S)


def prose(text: str) -> str:
    """The beginning of a text without code, addresses and tags."""
    return _NO_PROSE.sub(" ", text[: 4 * MAX_CHARS])[:MAX_CHARS]


def script_of(text: str) -> str:
    """The script that says most of the text (a name of ``SCRIPTS``), or ``und`` where there is no letter."""
    if _BEYOND_ASCII.search(text) is None:
        return "Latin" if _LETTERS["Latin"].search(text) else UNKNOWN
    sizes = {name: len(pattern.findall(text)) * _WEIGHT.get(name, 1) for name, pattern in _LETTERS.items()}
    best = max(sizes, key=lambda name: sizes[name])
    if not sizes[best]:
        return UNKNOWN
    # Japanese writes most of its nouns in Han: a tenth of Kana is no quotation.
    return "Kana" if best == "Han" and 10 * sizes["Kana"] > sizes["Han"] else best


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """``name(text)`` is an ISO 639 code, or a script where only scripts are told; ``method`` says by what."""

    method: str
    name: Callable[[str], str]


def make_identifier() -> Identifier:
    """py3langid's where the extra ``lang`` is installed, else by script."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return Identifier(method="script", name=lambda text: script_of(prose(text)))
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(sorted(set(LANGUAGES) & set(model.labels)))

    def name(text: str) -> str:
        text = prose(text)
        script = script_of(text)
        if script in OWN:
            return OWN[script]
        if script == UNKNOWN or len(_LETTERS[script].findall(text)) < MIN_LETTERS:
            return UNKNOWN
        code, confidence = model.classify(text)
        return str(code) if confidence >= MIN_CONFIDENCE and code != "zxx" else UNKNOWN

    return Identifier(method=f"py3langid {importlib.metadata.version('py3langid')}", name=name)
