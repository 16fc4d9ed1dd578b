"""Prompt templates: the declared table, and tokenizers' own chat templates, behind one interface."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from gogpt.errors import GogptError
from gogpt.templates.chat import ChatTemplate
from gogpt.templates.table import TEMPLATES
from gogpt.templates.template import TRAIN_ON, DeclaredTemplate, Rendering, Template

if TYPE_CHECKING:
    from gogpt.tokenize import Tokenizer

__all__ = ["TEMPLATES", "TRAIN_ON", "ChatTemplate", "DeclaredTemplate", "Rendering", "Template", "declared", "pick_template"]


def declared(name: str) -> DeclaredTemplate:
    """The declared template of that name. Raises GogptError TOK420."""
    for template in TEMPLATES:
        if template.name == name:
            return template
    names = [t.name for t in TEMPLATES]
    near = difflib.get_close_matches(name, names, n=1)
    raise GogptError(
        "TOK420", f"no template is named {name!r}",
        expected="auto, a .jinja file, or one of " + ", ".join(names),
        fix=f"did you mean {near[0]!r}?" if near else "gogpt template list",
    )


def pick_template(name: str, tokenizer: Tokenizer | None = None) -> Template:
    """``auto`` (the tokenizer's own), a ``.jinja`` file, or a declared name bound to the tokenizer's BOS and
    EOS. Raises GogptError TOK420 (unknown), TOK422 (auto without a chat template)."""
    if name == "auto" or name.endswith((".jinja", ".jinja2")):
        if name == "auto":
            source = tokenizer.chat_template if tokenizer else None
            if not source:
                raise GogptError(
                    "TOK422", "the tokenizer has no chat template of its own",
                    where=tokenizer.path if tokenizer else None,
                    got="template: auto", expected="a template by name, or a .jinja file",
                    fix="name the template that this model was trained with: template: "
                    + " | ".join(t.name for t in TEMPLATES),
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
    template = declared(name)
    return template.bind(tokenizer.bos_token, tokenizer.eos_token) if tokenizer else template
