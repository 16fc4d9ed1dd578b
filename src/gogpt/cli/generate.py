"""gogpt generate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gogpt.cli.console import Format, Lang, Quiet, err, put_json

if TYPE_CHECKING:
    from gogpt.generate import Speaker
    from gogpt.records import Message


def command(
    model: Annotated[str, typer.Argument(metavar="RUN-or-MODEL", help="A run folder, an adapter, a model folder or a hub id.")],
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="The user's message.", show_default=False)] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Prompts: one a line (.txt), or .jsonl with prompt or messages.", show_default=False)] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system message.", show_default=False)] = None,
    template: Annotated[str, typer.Option("--template", help="auto: the one saved with the model.")] = "auto",
    base: Annotated[str | None, typer.Option("--base", help="The adapter's base model.", show_default=False)] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Nucleus sampling; with a temperature.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the sampling.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Prompts answered at once.")] = 8,
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Answer one prompt, or a file of prompts.

    Answers go to stdout in order. A .jsonl file of prompts gives one JSON object a line; --format json
    one document: an object for a PROMPT, a list for a file.
    """
    conversations = _conversations(prompt, file, system)
    from gogpt.engines import quiet_engines
    from gogpt.generate import Sampling, answer, load_speaker

    with quiet_engines():
        if not quiet:
            err().print("loading the model ...", markup=False)
        speaker = load_speaker(model, template=template, base=base)
        tell_asked(model, speaker, lang)
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
        answers = list(answer(speaker, conversations, sampling, batch_size=batch_size))
    documents = [{"messages": [m.to_dict() for m in c], "answer": a} for c, a in zip(conversations, answers, strict=True)]
    if output_format == "json":
        put_json(documents[0] if file is None else documents)
    elif file is not None and Path(file).suffix in (".jsonl", ".json"):
        for document in documents:
            typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        for text in answers:
            typer.echo(text)
    return 0


def tell_asked(model: str, speaker: Speaker, lang: str) -> None:
    """Say on stderr where a run's model is asked otherwise than it was trained (EXP714)."""
    from gogpt.checks import check_named
    from gogpt.cli.console import pick_lang, print_findings
    from gogpt.facts import Facts
    from gogpt.findings import judge
    from gogpt.served import asked_facts

    facts = Facts(asked=asked_facts(Path(model), speaker.template, speaker.tokenizer))
    print_findings(judge([check_named("EXP714")], facts).findings, pick_lang(lang), err())


def _message(message: dict[str, Any], where: str) -> Message:
    from gogpt.errors import GogptError
    from gogpt.records import Message

    role, content = message["role"], message.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise GogptError("DAT306", "a message that cannot be asked", where=where, got=f"role {role!r}, content {type(content).__name__}",
                         expected="role system, user or assistant; content text")
    return Message(role=role, content=content)


def _conversations(prompt: str | None, file: str | None, system: str | None) -> list[list[Message]]:
    from gogpt.errors import GogptError, RowError
    from gogpt.records import Message

    head = [Message(role="system", content=system)] if system else []
    if (prompt is None) == (file is None):
        raise typer.BadParameter("give one PROMPT, or --file")
    if prompt is not None:
        return [[*head, Message(role="user", content=prompt)]]
    assert file is not None
    path = Path(file)
    out: list[list[Message]] = []
    if path.suffix in (".jsonl", ".json"):
        from gogpt.data.sources import find_files, read_rows

        for row, origin in read_rows(find_files(file)[0]):
            if isinstance(row, RowError):
                raise GogptError("DAT303", row.detail, where=str(origin), fix="correct the row")
            if isinstance(row.get("prompt"), str):
                out.append([*head, Message(role="user", content=row["prompt"])])
                continue
            messages = row.get("messages")
            if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
                raise GogptError("DAT306", "no prompt in the row", where=str(origin), got="the keys " + ", ".join(row),
                                 expected='"prompt": text, or "messages": [{role, content}]')
            own = [_message(m, str(origin)) for m in messages]
            while own and own[-1].role == "assistant":
                own.pop()
            if not own:
                raise GogptError("DAT306", "no message to answer", where=str(origin), expected="messages that end with the user's")
            out.append([*(head if not own or own[0].role != "system" else []), *own])
        return out
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise GogptError("DAT303", f"the file of prompts cannot be read: {problem}", where=file) from problem
    out = [[*head, Message(role="user", content=line)] for line in lines if line.strip()]
    if not out:
        raise GogptError("DAT304", "the file holds no prompt", where=file, expected="one prompt a line")
    return out
