"""Whether the template that a configuration names is that of its model: the text around a question is compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError, RowError
from gogpt.foreign.marks import tables
from gogpt.records import Conversation, Message
from gogpt.templates import pick_template
from gogpt.tokenize import Tokenizer

QUESTION = "QUESTION"
BEFORE, AFTER = 40, 64
"""Characters around it that are shown."""

SAME: Mapping[str, Mapping[str, str]] = {
    "axolotl": {"chatml": "chatml", "llama3": "llama3", "qwen_25": "qwen", "qwen3": "qwen3", "gemma": "gemma", "gemma3": "gemma3", "phi_3": "phi", "alpaca": "alpaca",
                "deepseek_v2": "deepseek"},
    "swift": {"chatml": "chatml", "llama3": "llama3", "llama3_2": "llama3", "qwen": "qwen", "qwen2_5": "qwen", "qwen3": "qwen3", "gemma": "gemma", "gemma3_text": "gemma3"},
}
"""Names of other tools for forms that LLaMA-Factory's table has."""

TUNED = re.compile(r"instruct|chat|-it\b|-it-|assistant|_it\b")
"""A model by whose name it was trained on a template of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``own``: the tokenizer has a chat template; ``unknown``: the tool has no template of that name."""

    of_model: str | None = None
    fits: bool | None = None
    own: bool | None = None
    unknown: bool = False
    seen: str = ""
    written: str = ""


def fit_of(tool: str, document: Mapping[str, Any], model: str | None, folder: Path | None) -> Fit:
    forms, models = tables()["llamafactory"]["templates"], tables()["llamafactory"]["models"]
    name = document.get({"axolotl": "chat_template"}.get(tool, "template"))
    known = isinstance(name, str) and tool != "trl"
    of_model = models.get(Path(model).name.lower()) if model and tool == "llamafactory" else None
    own_text = _own_text(folder) if folder is not None else None
    own = None if folder is None else bool(own_text)
    if not known:
        return Fit(of_model=of_model, own=own)
    if str(name).startswith("tokenizer_default"):  # Axolotl's name for the tokenizer's own
        return Fit(of_model=of_model, own=own, fits=True if own else None)
    form = forms.get(name if tool == "llamafactory" else SAME[tool].get(str(name), ""))
    if form is None:
        return Fit(of_model=of_model, own=own, unknown=tool == "llamafactory")
    around = str(form["user"])
    if own_text:
        return Fit(of_model=of_model, own=own, fits=_bare(around.replace("{{content}}", QUESTION)) in _bare(own_text), seen=_end(own_text), written=_end(around.replace("{{content}}", QUESTION)))
    if of_model is not None and model and TUNED.search(Path(model).name.lower()):
        theirs = str(forms[of_model]["user"]) if of_model in forms else around
        return Fit(of_model=of_model, own=own, fits=_bare(theirs) == _bare(around), seen=_end(theirs.replace("{{content}}", QUESTION)),
                   written=_end(around.replace("{{content}}", QUESTION)))
    return Fit(of_model=of_model, own=own)


def _bare(text: str) -> str:
    """Without white space: a space more or less is a variant, not another template."""
    return re.sub(r"\s+", "", text)


def _end(text: str) -> str:
    """What stands around the question; dots where it goes on."""
    at = text.rfind(QUESTION)
    start, end = max(0, at - BEFORE), at + len(QUESTION) + AFTER
    return ("..." if start else "") + text[start:end] + ("..." if end < len(text) else "")


def _own_text(folder: Path) -> str | None:
    """The tokenizer's own text of a question, up to where the answer begins; None where it has no template, or that fails."""
    try:
        template = pick_template("auto", Tokenizer(folder))
        return template.generation(Conversation(messages=(Message(role="user", content=QUESTION),))).text
    except (GogptError, RowError):
        return None
