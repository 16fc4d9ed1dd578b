"""gogpt template list | show | render"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import Format, Lang, out, put_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gogpt.records import Conversation
    from gogpt.templates import DeclaredTemplate, Rendering, Template

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The prompt templates.")

Name = Annotated[str, typer.Argument(help="A template by name, or a .jinja file.")]

GRADES = {
    "A": "the authors' own code or template agrees", "B": "third-party tables agree", "C": "a model card or documentation alone",
}


@app.command("list")
def list_templates(output_format: Format = "text", lang: Lang = "auto") -> int:
    """List the declared templates."""
    from gogpt.templates import TEMPLATES, variants_of

    bases = [t for t in TEMPLATES if t.base is None]
    if output_format == "json":
        put_json([{"name": t.name, "family": t.family, "source": t.source, "model": t.model, "stop": list(t.stop), "verified": t.verified,
                   "variants": [v.name for v in variants_of(t)]} for t in bases])
        return 0
    typer.echo(f"{'name':<24} {'family':<11} variants  verified  stop")
    for t in bases:
        typer.echo(f"{t.name:<24} {t.family:<11} {len(variants_of(t)) or '-':>8}  {t.verified:<8}  {t.stop[0]}")
    return 0


@app.command("show")
def show_template(name: Name, output_format: Format = "text", lang: Lang = "auto") -> int:
    """Show a template: what it is, its stop marker, and a conversation in it, trained text painted."""
    from gogpt.cli.show import paint
    from gogpt.records import Conversation, Message
    from gogpt.templates import DeclaredTemplate, pick_template, variants_of

    t = pick_template(name)
    turns = (Message(role="system", content="SYSTEM"), Message(role="user", content="QUESTION 1"),
             Message(role="assistant", content="ANSWER 1"), Message(role="user", content="QUESTION 2"),
             Message(role="assistant", content="ANSWER 2"))
    example = _document(t, Conversation(messages=turns), name)
    about: dict[str, Any] = {"name": t.name, "stop": list(t.stop)}
    if isinstance(t, DeclaredTemplate):
        about |= {
            "base": t.base, "family": t.family, "source": t.source, "model": t.model, "notes": t.notes, "verified": t.verified,
            "bos": t.bos, "eos": t.eos, "bos_in_text": t.bos_in_text, "eos_is_tokenizers": t.eos_is_tokenizers,
            "default_system": t.default_system, "tools": t.form.tools, "reasoning": t.form.reasoning, "rewrites_history": t.rewrites_history,
            "variants": [{"name": v.name, "verified": v.verified, "notes": v.notes} for v in variants_of(t)],
        }
    if output_format == "json":
        put_json({**about, "jinja": t.jinja(), **{k: v for k, v in example.items() if k in ("segments", "examples")}})
        return 0
    typer.echo(_described(t) if isinstance(t, DeclaredTemplate) else t.name)
    console = out()
    for i, one in enumerate(example.get("examples", [example])):
        if "examples" in example:
            typer.echo(f"\nrendering {i + 1}")
        console.print(paint([(text, train) for text, train in one["segments"]], console))
    return 0


def _described(t: DeclaredTemplate) -> str:
    import textwrap

    from gogpt.templates import variants_of

    def facts(key: str, value: str) -> str:
        return textwrap.fill(value, 80, initial_indent=f"{key:<10}", subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False)

    stop = " ".join(s.replace("\n", "\\n") for s in t.stop)
    lines = [
        t.name,
        facts("family", t.family), facts("source", t.source), facts("model", t.model),
        facts("verified", f"{t.verified}: {GRADES[t.verified[0]]}{' in part' if t.verified.endswith('*') else ''}"),
        facts("stop", stop + (" (EOS is the tokenizer's own)" if t.eos_is_tokenizers and t.eos in t.stop else "")),
        facts("BOS", "written in the text" if t.bos_in_text else "added by the tokenizer, where it has one"),
        facts("system", "a system message is not written" if t.drops_system else
              "(none by default)" if t.default_system is None else repr(t.default_system)),
        facts("tools", "have a form" if t.form.tools else "are refused"),
        facts("reasoning", "has a form" if t.form.reasoning else "is refused (reasoning_content)"),
    ]
    if t.rewrites_history:
        lines.append(facts("history", "is rewritten: an answer can need a rendering of its own"))
    lines += ["", textwrap.fill(t.notes, 80, break_long_words=False, break_on_hyphens=False), ""]
    for v in variants_of(t):
        lines += [f"{v.name} ({v.verified})", textwrap.fill(v.notes, 80, initial_indent="    ", subsequent_indent="    ", break_long_words=False,
                                                            break_on_hyphens=False)]
    return "\n".join([*lines, ""] if t.base is None and variants_of(t) else lines)


@app.command("render")
def render(
    name: Name,
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION.json", help="A conversation, an Alpaca row, or a .jsonl of them.")],
    generation: Annotated[bool, typer.Option("--generation", help="The text that inference would send before the last answer.")] = False,
    segments: Annotated[bool, typer.Option("--segments", help='[["text", trained], ...] as JSON.')] = False,
    model: Annotated[str | None, typer.Option("--model", help="Use this model's BOS and EOS (or its template: auto).", show_default=False)] = None,
    output_format: Format = "text",
    lang: Lang = "auto",
) -> int:
    """Print exactly the training text, and nothing else."""
    from gogpt.modelfiles import find_tokenizer
    from gogpt.templates import pick_template
    from gogpt.tokenize import Tokenizer

    template = pick_template(name, Tokenizer(find_tokenizer(model)) if model else None)
    many = Path(conversation).suffix == ".jsonl"
    for place, found in _read(conversation):
        document = _document(template, found, name, place)
        if many:
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        elif segments:
            sys.stdout.write(json.dumps(document["segments"], ensure_ascii=False) + "\n")
        elif output_format == "json":
            put_json(document)
        else:
            sys.stdout.write(document["generation" if generation else "text"])
    sys.stdout.flush()
    return 0


def _document(template: Template, conversation: Conversation, name: str, place: str | None = None) -> dict[str, Any]:
    """Text, prompt and segments of the whole conversation; ``examples`` where training takes several renderings of it."""
    from gogpt.errors import GogptError, RowError

    try:
        renderings = template.render(conversation)
        whole = _whole(template, conversation, renderings)
        before = _prompt(template, conversation)
    except RowError as problem:
        raise GogptError("TOK423", f"the template cannot render this conversation: {problem.detail or problem.reason}", where=place,
                         got=f"template {name}", fix="pick a template with that form, or change the conversation") from problem
    document: dict[str, Any] = {"text": whole.text, "generation": before, "segments": [[s.text, s.train] for s in whole.segments]}
    if len(renderings) > 1:
        document["examples"] = [_example(r) for r in renderings]
    return document


def _whole(template: Template, conversation: Conversation, renderings: tuple[Rendering, ...]) -> Rendering:
    """The rendering of the whole conversation, also where its last answer is not trained."""
    from dataclasses import replace

    if conversation.is_text:
        return renderings[-1]
    untrained = replace(conversation, messages=tuple(replace(m, train=False) for m in conversation.messages))
    (bare,) = template.render(untrained)
    return renderings[-1] if renderings and renderings[-1].text == bare.text else bare


def _example(rendering: Rendering) -> dict[str, Any]:
    """One of several renderings: it trains one answer, and what is before it is the prompt."""
    at = rendering.answers[-1]
    prompt = "".join(s.text for s in rendering.segments[:at])
    return {"text": rendering.text, "generation": prompt,
            "segments": [[prompt, False], *([s.text, s.train] for s in rendering.segments[at:])]}


def _prompt(template: Template, conversation: Conversation) -> str:
    """What inference would send before the last answer; the whole conversation, when it does not end with one."""
    from dataclasses import replace

    messages = conversation.messages
    if conversation.is_text:
        return ""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=len(messages))
    return template.generation(replace(conversation, messages=messages[:last])).text


WITHOUT_AN_ANSWER = ("no_answer", "empty_answer", "empty_prompt", "no_user")
"""Reasons for which a row has no place in training, but can be rendered."""


def _read(path: str) -> Iterator[tuple[str, Conversation]]:
    from dataclasses import replace

    from gogpt.data.schemas import SCHEMAS, detect
    from gogpt.data.sources import find_files, read_rows
    from gogpt.errors import GogptError, RowError

    for row, origin in read_rows(find_files(path)[0]):
        if isinstance(row, RowError):
            raise GogptError("DAT301", row.detail, where=str(origin), fix="correct the row")
        schema = next((s for s in SCHEMAS if s.claims(row)), None) or detect([row], origin.path, [origin.row])
        try:
            found = schema.to_conversation(row, origin)
        except RowError as problem:
            messages = row.get("messages")
            if not isinstance(messages, list) or problem.reason not in WITHOUT_AN_ANSWER:
                raise GogptError("TOK423", problem.detail or problem.reason, where=str(origin), fix="correct the conversation") from problem
            # The schema reads it with a question and an answer more, which are taken away again.
            more = [*messages, {"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]
            whole = schema.to_conversation({**row, "messages": more}, origin)
            found = replace(whole, messages=whole.messages[: len(messages)])
        yield str(origin), found


@app.command("verify")
def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, a run folder, or a hub id.")],
    output_format: Format = "text",
    lang: Lang = "auto",
) -> int:
    """Hold a model's chat template against the declared ones.

    Names the nearest and the first differing byte; checks that the generation prompt is a prefix of the
    trained text, that its stop token ends generation, and that text and ids agree. Exit code 1 when not.
    """
    from gogpt.checks import CHECKS
    from gogpt.cli.check import document
    from gogpt.cli.console import pick_lang, print_verdict
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.modelfiles import find_tokenizer
    from gogpt.templates.verify import served_facts

    spoken = pick_lang(lang)
    path = Path(model)
    served = served_facts(path / "final" if (path / "final").is_dir() else find_tokenizer(model))
    verdict = judge([c for c in CHECKS if c.needs == ("served",)], Facts(served=served))
    if output_format == "json":
        put_json({**document(model, "model", verdict, spoken), "facts": served})
        return 1 if verdict.refusals else 0
    console = out()
    lines = [
        ("model", served.path),
        ("nearest", f"{served.nearest} ({served.equal} of {served.probes} probe conversations are equal, byte for byte)"),
        ("differs", served.difference or "nowhere"),
        ("refuses", "; ".join(served.refused) or "nothing"),
        ("prefix", f"{served.probes - len(served.not_prefix) - len(served.refused)} of {served.probes} generation prompts are prefixes"),
        ("stop", f"{served.stop_text or '(none)'} = ids {list(served.stop_ids)}; generation ends at {list(served.generation_stops)}"),
    ]
    for name, text in lines:
        console.print(f"{name:<9} {text}", markup=False)
    print_verdict(verdict, spoken, console)
    return 1 if verdict.refusals else 0
