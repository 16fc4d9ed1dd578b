"""gogpt template list | show | render"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import Format, Lang, out, put_json

if TYPE_CHECKING:
    from gogpt.records import Conversation
    from gogpt.templates import Template

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The prompt templates.")

Name = Annotated[str, typer.Argument(help="A template by name, or a .jinja file.")]


@app.command("list")
def list_templates(output_format: Format = "text", lang: Lang = "auto") -> int:
    """List the declared templates."""
    from gogpt.templates import TEMPLATES

    if output_format == "json":
        put_json([{"name": t.name, "source": t.source, "model": t.model, "stop": list(t.stop)} for t in TEMPLATES])
        return 0
    for t in TEMPLATES:
        typer.echo(f"{t.name:<10} stop {t.stop[0]:<14} {t.source}")
    return 0


@app.command("show")
def show_template(name: Name, output_format: Format = "text", lang: Lang = "auto") -> int:
    """Show a template: what it is, its stop marker, and a conversation in it, trained text painted."""
    from gogpt.cli.show import paint
    from gogpt.records import Conversation, Message
    from gogpt.templates import declared

    t = declared(name)
    turns = (Message(role="system", content="SYSTEM"), Message(role="user", content="QUESTION 1"),
             Message(role="assistant", content="ANSWER 1"), Message(role="user", content="QUESTION 2"),
             Message(role="assistant", content="ANSWER 2"))
    rendering = t.render(Conversation(messages=turns))[0]
    if output_format == "json":
        put_json({"name": t.name, "source": t.source, "model": t.model, "notes": t.notes, "stop": list(t.stop),
                  "default_system": t.default_system, "jinja": t.jinja(),
                  "segments": [[s.text, s.train] for s in rendering.segments]})
        return 0
    typer.echo(f"{t.name}\nsource   {t.source}\nmodel    {t.model}\nstop     {' '.join(t.stop)}\n"
               f"system   {t.default_system or '(none by default)'}\n{t.notes}\n")
    console = out()
    console.print(paint([(s.text, s.train) for s in rendering.segments], console))
    return 0


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
    from gogpt.errors import GogptError, RowError
    from gogpt.modelfiles import find_tokenizer
    from gogpt.templates import pick_template
    from gogpt.tokenize import Tokenizer

    template = pick_template(name, Tokenizer(find_tokenizer(model)) if model else None)
    many = Path(conversation).suffix == ".jsonl"
    for place, found in _read(conversation):
        try:
            whole = template.render(found)[-1]
            before = _prompt(template, found)
        except RowError as problem:
            raise GogptError("TOK423", f"the template cannot render this conversation: {problem.detail}", where=place,
                             got=f"template {name}", fix="pick a template with that form, or change the conversation") from problem
        pieces = [[s.text, s.train] for s in whole.segments]
        if many:
            sys.stdout.write(json.dumps({"text": whole.text, "generation": before, "segments": pieces}, ensure_ascii=False) + "\n")
        elif segments:
            sys.stdout.write(json.dumps(pieces, ensure_ascii=False) + "\n")
        elif output_format == "json":
            put_json({"text": whole.text, "generation": before, "segments": pieces})
        else:
            sys.stdout.write(before if generation else whole.text)
    sys.stdout.flush()
    return 0


def _prompt(template: Template, conversation: Conversation) -> str:
    """What inference would send before the last answer; the whole conversation, when it does not end with one."""
    from gogpt.records import Conversation

    messages = conversation.messages
    if conversation.is_text:
        return ""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=len(messages))
    return template.generation(Conversation(messages=messages[:last], tools=conversation.tools)).text


def _read(path: str) -> Any:
    from gogpt.data.schemas import SCHEMAS, detect
    from gogpt.data.sources import find_files, read_rows
    from gogpt.errors import GogptError, RowError
    from gogpt.records import Conversation, Message

    for row, origin in read_rows(find_files(path)[0]):
        if isinstance(row, RowError):
            raise GogptError("DAT301", row.detail, where=str(origin), fix="correct the row")
        schema = next((s for s in SCHEMAS if s.claims(row)), None) or detect([row], origin.path, [origin.row])
        try:
            yield str(origin), schema.to_conversation(row, origin)
        except RowError as problem:
            messages = row.get("messages")
            # A prompt without an answer has no place in training, but can be rendered.
            if isinstance(messages, list) and problem.reason in ("no_answer", "empty_answer", "empty_prompt", "no_user"):
                turns = tuple(Message(role=m["role"], content=_plain(m.get("content"))) for m in messages)
                yield str(origin), Conversation(messages=turns, origin=origin)
                continue
            raise GogptError("TOK423", problem.detail or problem.reason, where=str(origin), fix="correct the conversation") from problem


def _plain(content: Any) -> str:
    """Content as text: content parts are joined."""
    if isinstance(content, list):
        return "".join(str(part.get("text", part.get("value", ""))) if isinstance(part, dict) else str(part) for part in content)
    return content if isinstance(content, str) else ""


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
