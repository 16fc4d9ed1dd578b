"""Format strings of templates: ``{content}`` and its like, in text that is full of other braces.

One split serves both readers, so that what is rendered here and what is exported as Jinja cannot part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

KEYS = ("content", "input", "bos", "eos", "stop", "round", "round0")
"""``content``, ``input``: the message's text. ``bos``, ``eos``, ``stop``: the template's. ``round``: number of the
question, from 1; ``round0``: from 0."""

_PLACE = re.compile(r"\{(" + "|".join(KEYS) + r")\}")


@lru_cache(maxsize=4096)
def split_form(form: str) -> tuple[str, ...]:
    """Literals and keys in turn, a literal first and last: ``"a{content}b"`` -> ``("a", "content", "b")``."""
    return tuple(_PLACE.split(form))


def fill(form: str, values: Mapping[str, str]) -> str:
    """``form`` with its keys replaced; the values are never looked into. Raises KeyError on a key without one."""
    parts = split_form(form)
    return "".join(values[part] if i % 2 else part for i, part in enumerate(parts))


def literal(text: str) -> str:
    """``text`` as a Jinja string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    for sign, name in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(sign, name)
    return f"'{escaped}'"


def expression(form: str, texts: Mapping[str, str], expressions: Mapping[str, str]) -> str:
    """``form`` as a Jinja concatenation: ``texts`` become part of its literals, ``expressions`` stay code."""
    out: list[str] = []
    held = ""
    for i, part in enumerate(split_form(form)):
        if i % 2 == 0:
            held += part
        elif part in texts:
            held += texts[part]
        else:
            out += [literal(held)] if held else []
            out.append(expressions[part])
            held = ""
    if held or not out:
        out.append(literal(held))
    return " ~ ".join(out)


def put(code: str) -> str:
    """A Jinja statement that prints; nothing for an empty literal."""
    return "" if code == "''" else "{{- " + code + " -}}"
