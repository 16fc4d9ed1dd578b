"""The table as Markdown: ``python -m gogpt.templates.pages docs/templates.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from gogpt.records import Conversation, Message
from gogpt.templates import TEMPLATES, DeclaredTemplate, variants_of

EXAMPLE = Conversation(messages=(
    Message(role="system", content="SYSTEM"), Message(role="user", content="Q1"), Message(role="assistant", content="A1"),
    Message(role="user", content="Q2"), Message(role="assistant", content="A2"),
))

HEAD = """\
# Prompt templates

`data.template` in a recipe, and `gogpt template show | render`, take a name of this table: {bases} templates, and {variants} variants of them
(`NAME/VARIANT`), which are the forms that other tools write for the same models. The default form is what the model's authors train with or
publish. Take a variant when your model was trained with it, or will be served by a tool that writes it.

In the forms below `⏎` is a newline and ⟦ ⟧ holds what is trained. They show two turns with a system message; a form that rewrites its history is
shown as it asks for the second answer (every answer is a rendering of its own). Dates never are today's: what was trained is what is served.

*Verified* says how far a form was confirmed: **A** by the authors' own code or template, **B** by third-party tables, **C** by a model card or
documentation alone; `*` in part. *EOS* marked "the tokenizer's" means that the form says EOS (and BOS), whichever texts the tokenizer has for
them; other markers are literally these texts and must be tokens of the model.

A template refuses what it has no form for: tools, `reasoning_content`, turns out of order. Such rows are counted and left out of training, by name.
"""


def one_line(t: DeclaredTemplate) -> str:
    """The form of the example conversation on one line, what is trained in ⟦ ⟧."""
    rendering = t.render(EXAMPLE)[-1]
    text = "".join(f"⟦{s.text}⟧" if s.train else s.text for s in rendering.segments)
    return text.replace("\n", "⏎")


def _prose(text: str) -> str:
    """Text in which ``<s>`` is no HTML, and ``|`` no border of a table."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    return ticks + text.replace("\n", "\\n").replace("|", "\\|") + ticks


def _facts(t: DeclaredTemplate) -> list[str]:
    stop = ", ".join(_code(s) for s in t.stop) + (" (EOS: the tokenizer's)" if t.eos_is_tokenizers and t.eos in t.stop else "")
    bos = "in the text" if t.bos_in_text else "added by the tokenizer, where it has one"
    system = "a system message is not written" if t.drops_system else "none" if t.default_system is None else _code(t.default_system)
    more = [name for name, has in (("tools", t.form.tools), ("reasoning", t.form.reasoning)) if has]
    lines = [
        "| | |", "|---|---|", f"| source | {t.source} |", f"| model | {t.model} |", f"| verified | {t.verified} |", f"| stop | {stop} |",
        f"| BOS | {bos} |", f"| default system text | {system} |",
    ]
    if more:
        lines.append(f"| has a form for | {', '.join(more)} |")
    if t.rewrites_history:
        lines.append("| history | is rewritten: an answer can need a rendering of its own |")
    return lines


def template_markdown(t: DeclaredTemplate) -> str:
    """A template with its variants."""
    variants = variants_of(t)
    lines = [f"### {t.name}", "", _prose(t.notes), "", *_facts(t), ""]
    if variants:
        lines += ["| variant | verified | what it is |", "|---|---|---|"]
        lines += [f"| `{v.name}` | {v.verified} | {_prose(v.notes)} |" for v in variants]
        lines.append("")
    width = max(len(v.short_name) for v in (t, *variants)) + 2
    lines += ["```text", *(f"{v.short_name:<{width}}{one_line(v)}" for v in (t, *variants)), "```", ""]
    return "\n".join(lines)


def table_markdown() -> str:
    """All of ``docs/templates.md``."""
    bases = [t for t in TEMPLATES if t.base is None]
    families: dict[str, list[DeclaredTemplate]] = {}
    for t in bases:
        families.setdefault(t.family, []).append(t)
    lines = [HEAD.format(bases=len(bases), variants=len(TEMPLATES) - len(bases)), "| family | templates |", "|---|---|"]
    for family, members in families.items():
        lines.append(f"| [{family}](#family-{family}) | {', '.join(f'`{t.name}`' for t in members)} |")
    parts = ["\n".join(lines) + "\n"]
    for family, members in families.items():
        parts.append("\n".join([f"## Family {family}", "", *(template_markdown(t) for t in members)]))
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/templates.md").write_text(table_markdown(), encoding="utf-8")
