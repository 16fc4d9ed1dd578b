"""The command line. Every command is one small file; heavy imports happen inside the command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import typer

from gogpt import __version__
from gogpt.cli import (
    chat,
    check,
    data,
    doctor,
    evaluate,
    explain,
    generate,
    merge,
    migrate,
    plan,
    prepare,
    report,
    schema,
    show,
    template,
    tokenizer,
    train,
)
from gogpt.cli.console import (
    Format,
    Lang,
    Quiet,
    UsageProblem,
    fail,
    fail_usage,
    hush_engines,
    language,
)
from gogpt.errors import GogptError

app = typer.Typer(
    name="gogpt", add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Fine-tune language models without silent failures.",
    context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]},
)

COMMANDS = (train, plan, check, prepare, explain, show, generate, evaluate, chat, merge, report, schema, migrate, doctor)
for module in COMMANDS:
    app.command(name=module.__name__.rsplit(".", 1)[-1])(module.command)
app.add_typer(template.app, name="template")
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"gogpt {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
    local_rank: int = typer.Option(-1, "--local_rank", "--local-rank", hidden=True),  # the deepspeed launcher puts it first
) -> None:
    """Fine-tune language models without silent failures.

    gogpt VERB OBJECT [key=value ...] [--options]

    The options below may stand before the verb or after it.
    """
    # The verbs read their defaults from the environment, which run() puts back as it was.
    os.environ.update({"GOGPT_FORMAT": output_format, "GOGPT_LANG": lang, "GOGPT_QUIET": "1" if quiet else "0"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one message for a user's mistake, never a traceback; exit codes of docs/cli.md."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run the command line in this process and return its exit code."""
    before = {k: v for k, v in os.environ.items() if k.startswith("GOGPT_")}
    try:
        return _run_started(arguments) if "GOGPT_LAUNCHED" in os.environ else _run(arguments)
    finally:
        for name in [k for k in os.environ if k.startswith("GOGPT_")]:
            del os.environ[name]
        os.environ.update(before)


def _run_started(arguments: Sequence[str]) -> int:
    """As one of several processes that ``gogpt train`` started: what ends it is left to that command, which tells the first of all."""
    import contextlib
    import io

    from gogpt.world import note_error, note_start, started_world

    world = started_world(os.environ)
    if world is None:
        return _run(arguments)
    note_start(world)
    told: list[str] = []

    @contextlib.contextmanager
    def kept() -> Iterator[None]:
        with contextlib.redirect_stderr(io.StringIO()) as text:
            yield
        told.append(text.getvalue())

    code = _run(arguments, telling=kept)
    if code:
        note_error(world, code, "".join(told))
    return code


def _run(arguments: Sequence[str], *, telling: Callable[[], AbstractContextManager[None]] = nullcontext) -> int:
    """``telling``: around what is said of an error."""
    hush_engines()
    # bitsandbytes, which peft imports where it is installed, tells every process of a kernel for one family of CPUs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        code = app(list(arguments), prog_name="gogpt", standalone_mode=False)
        return int(code) if isinstance(code, int) else 0
    except GogptError as problem:
        with telling():
            fail(problem, language(arguments))
        return problem.exit_code
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return 130
    except UsageProblem as problem:
        with telling():
            fail_usage(problem)
        return 2
    except typer.Exit as problem:
        return int(problem.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has gone; that is no mistake.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        # A name that is too long, a disk that went away: the machine's answer, whichever call got it.
        from gogpt.runfolder import disk_error

        with telling():
            fail(disk_error(problem, Path(str(problem.filename or "?")[:200])), language(arguments))
        return 2
    except Exception as problem:
        with telling():
            return _bug(problem)


def _bug(problem: Exception) -> int:
    """Something that no user's mistake should reach: say so in a line, and keep the traceback for the report."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="gogpt-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(problem)))
    typer.echo(f"gogpt: unexpected {type(problem).__name__}: {problem}\n  This is a mistake of GoGPT's, or of an engine's that it should "
               f"have caught.\n  Please open an issue with {log.name}", err=True)
    return 70
