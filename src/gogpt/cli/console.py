"""What every command shares: options, language, messages to stderr, results to stdout."""

from __future__ import annotations

import contextlib
import json
import locale
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gogpt.cli.words import say
from gogpt.errors import GogptError

if TYPE_CHECKING:
    from rich.console import Console

    from gogpt.config import RunConfig
    from gogpt.findings import Finding, Verdict

Format = Annotated[Literal["text", "json"], typer.Option("--format", envvar="GOGPT_FORMAT", help="json: one document on stdout.")]
Lang = Annotated[Literal["auto", "en", "zh"], typer.Option("--lang", envvar="GOGPT_LANG", help="auto: by the locale.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", envvar="GOGPT_QUIET", help="Nothing on stderr but errors.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False,
                                                       help="Settings that override the recipe's.")]

LABELS = {
    "en": {"got": "got", "expected": "expected", "fix": "fix", "see": "see", "error": "error", "warning": "warning",
           "info": "info"},
    "zh": {"got": "实际", "expected": "应为", "fix": "修正", "see": "详见", "error": "错误", "warning": "警告", "info": "提示"},
}


def pick_lang(lang: str) -> str:
    """``--lang``, else the locale's language, else English."""
    if lang in ("en", "zh"):
        return lang
    names = [os.environ.get(k, "") for k in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")]
    with contextlib.suppress(ValueError):
        names.append(locale.getlocale()[0] or "")
    return "zh" if any(n.lower().startswith("zh") for n in names if n) else "en"


def language(arguments: Sequence[str]) -> str:
    """The language of a command line that did not get far enough to parse its options."""
    for i, word in enumerate(arguments):
        if word == "--lang" and i + 1 < len(arguments):
            return pick_lang(arguments[i + 1])
        if word.startswith("--lang="):
            return pick_lang(word.partition("=")[2])
    return pick_lang(os.environ.get("GOGPT_LANG", ""))


def check_passed_keys(config: RunConfig) -> None:
    """The keys of ``train.trainer`` against the installed transformers, which is imported only if there are any."""
    if config.train.trainer:
        from gogpt.arguments import check_trainer_keys

        check_trainer_keys(config)


def err() -> Console:
    """stderr: progress, notes, errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def hush_engines() -> None:
    """DeepSpeed tells its warnings on stdout, where results belong, and others tell what is so on purpose; errors stay."""
    import logging

    for name in ("bitsandbytes", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(_is_error)  # its level is set anew when it is imported


def _is_error(record: Any) -> bool:
    return int(record.levelno) >= 40


def console_of(speaks: bool) -> Console:
    """stderr, or nothing: of several processes one speaks."""
    from rich.console import Console

    return err() if speaks else Console(quiet=True)


def out() -> Console:
    """stdout: results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def put_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    from gogpt.facts import to_json

    sys.stdout.write(json.dumps(to_json(document), ensure_ascii=False, default=str) + "\n")


def fail(problem: GogptError, lang: str) -> None:
    """A GogptError on stderr, in the user's language as far as its page goes."""
    from rich.text import Text

    from gogpt.checks import page_of

    labels = LABELS[lang]
    head = Text()
    head.append(problem.code, style="bold red")
    head.append(f" {problem.where}: " if problem.where else ": ", style="bold")
    message = problem.message
    if lang == "zh":
        with contextlib.suppress(GogptError):
            message = f"{page_of(problem.code).title.zh}（{problem.message}）"
    head.append(message)
    console = err()
    console.print(head)
    for key in ("got", "expected", "fix"):
        if (value := getattr(problem, key)) is not None:
            console.print(Text(f"  {labels[key] + ':':<10}", style="dim") + Text(str(value)))
    console.print(Text(f"  {labels['see'] + ':':<10}gogpt explain {problem.code}", style="dim"))


# typer carries a click of its own in newer releases: its exceptions are found through typer.
UsageProblem: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def fail_usage(problem: Any) -> None:
    """A command line that cannot be understood."""
    context = getattr(problem, "ctx", None)
    name = context.command_path if context else "gogpt"
    typer.echo(f"{name}: {problem.format_message()}\n  see:      {name} --help", err=True)


STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold blue"}


def print_findings(findings: Iterable[Finding], lang: str, console: Console, *, allowed: Sequence[str] = ()) -> None:
    """Findings as text: severity, code, place, message, fix."""
    from rich.text import Text

    labels = LABELS[lang]
    for finding in findings:
        severity = finding.severity.value
        line = Text()
        line.append(labels[severity], style=STYLES[severity])
        line.append(f" {finding.code}", style="bold")
        if finding.code in allowed:
            line.append(" (allowed)" if lang == "en" else "（已允许）", style="magenta")
        line.append(f" {finding.where}: " if finding.where else ": ")
        line.append(finding.message.format(lang, finding.evidence))
        console.print(line)
        console.print(Text(f"  {labels['fix']}: ", style="dim") + Text(finding.fix.format(lang, finding.evidence)))


def print_verdict(verdict: Verdict, lang: str, console: Console) -> None:
    """The findings, and how many checks ran."""
    print_findings(verdict.findings, lang, console, allowed=verdict.allowed)
    print_counts(verdict, lang, console)


def print_counts(verdict: Verdict, lang: str, console: Console) -> None:
    """How many checks ran, and how many findings there are."""
    checks, found = len(verdict.checked), len(verdict.findings)
    text = "{checks} checks, nothing found" if not found else "{checks} checks, 1 finding" if found == 1 else "{checks} checks, {findings} findings"
    console.print(say(lang, text, checks=checks, findings=found))


def short_number(value: float) -> str:
    """1234567 -> 1.23 M"""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """3725 -> 1 h 2 min"""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def size(value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
