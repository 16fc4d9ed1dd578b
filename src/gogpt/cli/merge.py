"""gogpt merge"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gogpt.cli.console import Format, Lang, Quiet, err, pick_lang, print_findings, put_json
from gogpt.cli.words import say


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or an adapter's folder.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The new model folder.")],
    base: Annotated[str | None, typer.Option("--base", help="The base model, if not the one that the adapter names.", show_default=False)] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option("--dtype", help="Of the merged weights.")] = "float32",
    into: Annotated[Literal["trained", "original"], typer.Option("--into", help="Of QLoRA: the 4-bit base that was trained, written out, or the original one.")] = "trained",
    output_format: Format = "text",
    lang: Lang = "auto",
    quiet: Quiet = False,
) -> int:
    """Merge an adapter into its base, and prove it.

    Proven: the logits of the merged model, loaded back from disk, are those of base + adapter, and not
    those of the base. Exit code 1, and nothing written, when the proof fails. A 4-bit base of QLoRA is made
    again as it was trained, and its weights are written out.
    """
    from gogpt.cli.check import document
    from gogpt.engines import quiet_engines
    from gogpt.export import merge

    spoken = pick_lang(lang)
    console = err()
    with quiet_engines():
        result = merge(run, Path(output), base=base, dtype=dtype, original=into == "original",
                       stage=lambda name: None if quiet else console.print(f"{say(spoken, name)} ...", markup=False))
    facts, refused = result.facts, result.verdict.refusals
    if output_format == "json":
        put_json({**document(run, "run", result.verdict, spoken), "facts": facts, "output": None if refused else str(result.folder)})
    else:
        print_findings(result.verdict.findings, spoken, console)
        if not quiet:
            console.print(f"largest difference of logits over {facts.probe_tokens} tokens: merged against base + adapter {facts.max_difference:.2e}, "
                          f"loaded back {facts.reloaded_difference:.2e} (allowed {facts.tolerance:.2e}); base + adapter against base {facts.effect:.3g}; loss on them {facts.probe_loss_before:.4f} before, "
                          f"{facts.probe_loss_after:.4f} after", markup=False)
            console.print("refused: nothing was written" if refused else f"proven    {result.folder}\ntalk      gogpt chat {result.folder}", markup=False)
    return 1 if refused else 0
