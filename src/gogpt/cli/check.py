"""gogpt check"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gogpt.cli.console import Lang, Quiet, fail, out, pick_lang, print_verdict, put_json
from gogpt.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.cli.objects import Checked
    from gogpt.errors import GogptError
    from gogpt.findings import Verdict

Formats = Annotated[Literal["text", "json", "sarif", "github"],
                    typer.Option("--format", envvar="GOGPT_FORMAT", help="json and sarif: one document on stdout; github: workflow commands.")]


def command(
    words: Annotated[list[str], typer.Argument(metavar="OBJECT... [KEY=VALUE]...", help="Anything; settings override those of a recipe or configuration.",
                                               show_default=False)],
    fix: Annotated[str | None, typer.Option("--fix", metavar="OUT", show_default=False,
                                            help="Write a corrected copy of a DeepSpeed file, and print the patch.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="Of data: the template that it is rendered in.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", help="Of data: the model that it is encoded for.", show_default=False)] = None,
    base: Annotated[str | None, typer.Option("--base", help="Of an adapter: its base model.", show_default=False)] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", metavar="CODE", help="A code that does not count; as often as needed.",
                                                    show_default=False)] = None,
    fail_on: Annotated[Literal["error", "warning"], typer.Option("--fail-on", help="The severity from which the exit code is 1.")] = "error",
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="Pass over objects that are not recognised for sure (for hooks).")] = False,
    output_format: Formats = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Find mistakes in anything: findings, evidence and fixes.

    Recognised by content: a recipe; a configuration or launch script of LLaMA-Factory, Axolotl, ms-swift or TRL; a DeepSpeed
    file; a configuration of accelerate; data; an adapter or a model folder. See docs/check.md. Exit code 1 when a finding is
    an error that is not allowed by name, or, with --fix, when one is left in the copy.
    """
    from gogpt.checks import page_of
    from gogpt.cli.objects import Asked
    from gogpt.errors import GogptError

    spoken = pick_lang(lang)
    objects, assignments = split_words(words)
    for code in allow or ():
        page_of(code)  # a misspelt code would allow nothing
    if fix is not None and len(objects) > 1:
        raise GogptError("CFG204", "--fix writes one copy", where="command line", got=f"{len(objects)} objects", expected="one DeepSpeed file", fix="name one object")
    asked = Asked(assignments=assignments, fix=fix, template=template, model=model, base=base, allow=tuple(allow or ()), skip_unknown=skip_unknown, lang=spoken, quiet=quiet)
    if len(objects) == 1:
        tried = [(objects[0], _check(objects[0], asked))]
    else:
        tried = [(name, _check_or_tell(name, asked)) for name in objects]
    done = [(name, found) for name, found in tried if found is not None]
    _put(done, output_format, spoken, several=len(objects) > 1)
    return max((_exit_code(found, fail_on) for _, found in done), default=0)


_SETTING = re.compile(r"^[A-Za-z_][\w.]*=")


def split_words(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Objects and settings. The first word is an object; a later one with ``=`` is a setting, unless it is the name of a file that exists, and one that
    names nothing at all is a setting that cannot be read."""
    objects, assignments = [words[0]], list[str]()
    for word in words[1:]:
        is_setting = bool(_SETTING.match(word)) or not re.search(r"[./\\]", word) or " " in word
        (assignments if is_setting and not Path(word).exists() else objects).append(word)
    return objects, tuple(assignments)


def _check(name: str, asked: Any) -> Checked | GogptError | None:
    """None: it is skipped."""
    from gogpt.cli.objects import handler_of

    path = Path(name)
    handler = handler_of(path, name, asked)
    return None if handler is None else handler(path, name, asked)


def _check_or_tell(name: str, asked: Any) -> Checked | GogptError | None:
    """One of several objects: what cannot be judged is told, and the others go on."""
    from gogpt.errors import GogptError

    try:
        return _check(name, asked)
    except GogptError as problem:
        fail(problem, asked.lang)
        return problem


def _exit_code(found: Any, fail_on: str) -> int:
    from gogpt.errors import GogptError
    from gogpt.findings import Severity

    if isinstance(found, GogptError):
        return found.exit_code
    verdict: Verdict = found.left or found.verdict
    warned = fail_on == "warning" and any(f.severity is Severity.WARNING and f.code not in verdict.allowed for f in verdict.findings)
    return 1 if verdict.refusals or warned else 0


def _put(done: Sequence[tuple[str, Any]], output_format: str, lang: str, *, several: bool) -> None:
    from gogpt.cli.objects import Checked
    from gogpt.report.formats import github, sarif

    judged = [d for _, d in done if isinstance(d, Checked)]
    if output_format == "json":
        documents = [{**document(d.path, d.kind, d.verdict, lang), **d.extra} if isinstance(d, Checked) else _told(name, d) for name, d in done]
        put_json(documents if several or not documents else documents[0])
    elif output_format == "sarif":
        put_json(sarif([(d.path, d.verdict.findings, d.verdict.allowed) for d in judged], lang))
    elif output_format == "github":
        for d in judged:
            for line in github(d.path, d.verdict.findings, d.verdict.allowed, lang):
                typer.echo(line)
    else:
        for d in judged:
            _print(d, out(), lang, heading=several)


def _print(found: Checked, console: Console, lang: str, *, heading: bool) -> None:
    if heading:
        console.print(f"{found.path} ({found.kind})", style="bold", markup=False)
    found.before(console)
    print_verdict(found.verdict, lang, console)
    reasons: dict[str, list[str]] = {}
    for code, why in found.verdict.not_checked:
        reasons.setdefault(why, []).append(code)
    if found.kind != "recipe":
        for why, codes in reasons.items():
            console.print(say(lang, "not checked {codes}: {why}", codes=" ".join(codes), why=why), markup=False)
    found.after(console)


def _told(name: str, problem: Any) -> dict[str, Any]:
    """The document of an object that could not be judged."""
    keys = ("code", "message", "where", "got", "expected", "fix")
    return {"object": {"path": name, "kind": None}, "problem": {key: getattr(problem, key) for key in keys}}


def document(path: str, kind: str, verdict: Verdict, lang: str) -> dict[str, Any]:
    """The document of ``--format json``."""
    return {
        "object": {"path": path, "kind": kind},
        "findings": [f.to_dict(lang) for f in verdict.findings],
        "checked": list(verdict.checked),
        "not_checked": [{"code": code, "why": why} for code, why in verdict.not_checked],
        "allowed": list(verdict.allowed),
    }
