"""gogpt chat"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gogpt.cli.console import Lang, Quiet, err
from gogpt.cli.generate import tell_asked


def command(
    model: Annotated[str, typer.Argument(metavar="RUN-or-MODEL", help="A run folder, an adapter, a model folder or a hub id.")],
    system: Annotated[str | None, typer.Option("--system", help="A system message.", show_default=False)] = None,
    template: Annotated[str, typer.Option("--template", help="auto: the one saved with the model.")] = "auto",
    base: Annotated[str | None, typer.Option("--base", help="The adapter's base model.", show_default=False)] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Nucleus sampling; with a temperature.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the sampling.")] = 0,
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Talk with a model.

    Answers are streamed and stop at the model's stop token; turns are remembered.
    /new begins anew, /quit (or Ctrl-D) ends. Lines can be piped in.
    """
    from gogpt.chat import Chat
    from gogpt.engines import quiet_engines
    from gogpt.generate import Sampling, load_speaker

    console = err()
    terminal = sys.stdin.isatty()
    with quiet_engines():
        if not quiet:
            console.print("loading the model ...", markup=False)
        talk = Chat(load_speaker(model, template=template, base=base), system=system,
                    sampling=Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed))
        tell_asked(model, talk.speaker, lang)
        if terminal and not quiet:
            console.print(f"template {talk.speaker.template.name}; /new begins anew, /quit ends", style="dim", markup=False)
        while True:
            try:
                line = input("> " if terminal else "")
            except EOFError:
                return 0
            if line.strip() in ("/quit", "/exit"):
                return 0
            if line.strip() == "/new":
                talk.forget()
                continue
            if not line.strip():
                continue
            try:
                talk.say(line, lambda piece: typer.echo(piece, nl=False))
            except KeyboardInterrupt:
                if not terminal:
                    raise
            typer.echo()
