"""Prompt templates: the declared table, and tokenizers' own chat templates, behind one interface."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from gogpt.errors import GogptError
from gogpt.templates.chat import ChatTemplate
from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.documents import NAME as NO_TEMPLATE
from gogpt.templates.documents import Documents
from gogpt.templates.table import TEMPLATES
from gogpt.templates.template import TRAIN_ON, Rendering, Template

if TYPE_CHECKING:
    from gogpt.tokenize import Tokenizer

__all__ = ["NO_TEMPLATE", "TEMPLATES", "TRAIN_ON", "ChatTemplate", "DeclaredTemplate", "Rendering", "Template", "declared", "near_names",
           "pick_template", "variant", "variants_of"]

_BY_NAME = {template.name: template for template in TEMPLATES}


def declared(name: str) -> DeclaredTemplate:
    """The declared template of that name, ``NAME`` or ``NAME/VARIANT``. Raises GogptError TOK420."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = near_names(name)
    if len(near) > 1:
        fix = "did you mean " + ", ".join(map(repr, near[:-1])) + f" or {near[-1]!r}?"
    else:
        fix = f"did you mean {near[0]!r}?" if near else "gogpt template list"
    raise GogptError(
        "TOK420", f"no template is named {name!r}",
        expected="auto, a .jinja file, or a name of gogpt template list (with its variants: NAME/VARIANT)", fix=fix,
    )


def variants_of(base: DeclaredTemplate) -> tuple[DeclaredTemplate, ...]:
    """The variants of a template, in the table's order."""
    return tuple(t for t in TEMPLATES if t.base == base.name)


def near_names(name: str, count: int = 3) -> list[str]:
    """Declared names that a mistyped ``name`` may have meant, the likeliest first."""
    said = _plain(name)
    plain = {_plain(known): known for known in _BY_NAME}
    if said in plain:
        return [plain[said]]
    base, _, short = said.partition("/")
    if short and base in plain:
        shorts = {_plain(t.short_name): t.name for t in variants_of(_BY_NAME[plain[base]])}
        if found := difflib.get_close_matches(short, shorts, n=count):
            return [shorts[f] for f in found]
        return [plain[base]]
    found = difflib.get_close_matches(said, [k for k in plain if ("/" in k) == ("/" in said)], n=count, cutoff=0.7)
    if not found:  # half of a name: qwen3_instruct, llamafactory
        found = [k for k in plain if said and (k.startswith(said) or said.startswith(k) or k.endswith("/" + said))][:count]
    return [plain[f] for f in found]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").strip()


def pick_template(name: str, tokenizer: Tokenizer | None = None) -> Template:
    """``auto`` (the tokenizer's own), a ``.jinja`` file, ``none`` (documents of text), or a declared name bound to the
    tokenizer's BOS and EOS. Raises GogptError TOK420 (unknown), TOK422 (auto without a chat template)."""
    if name == "auto" or name.endswith((".jinja", ".jinja2")):
        if name == "auto":
            source = tokenizer.chat_template if tokenizer else None
            if not source:
                raise GogptError(
                    "TOK422", "the tokenizer has no chat template of its own",
                    where=tokenizer.path if tokenizer else None,
                    got="template: auto", expected="a template by name, or a .jinja file",
                    fix="name the template that this model was trained with (gogpt template list); for a base model: template: alpaca, or none to continue text",
                )
        else:
            try:
                source = Path(name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as problem:
                raise GogptError("TOK420", f"the template file cannot be read: {problem}", where=name,
                                 fix="give the path of a Jinja chat template") from problem
        return ChatTemplate(
            source, name=name, tokens=tokenizer.special_names if tokenizer else {},
            stop=tokenizer.stop_texts if tokenizer else (), special=tokenizer.special_texts if tokenizer else (),
            eos=tokenizer.eos_token if tokenizer else None,
        )
    if name == NO_TEMPLATE:
        return Documents(eos=(tokenizer.eos_token if tokenizer else None) or "", chat=(tokenizer.chat_template if tokenizer else None) or "")
    template = declared(name)
    return template.bind(tokenizer.bos_token, tokenizer.eos_token) if tokenizer else template
