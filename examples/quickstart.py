"""The main job, start to end: a base model, a data file, a fine-tune, and answers before and after.

Run by ``make quickstart``. Every step prints the command that does the same by hand.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from smollm2 import ensure

from gogpt.cli import run as gogpt
from gogpt.cli.console import hush_engines

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct"
RECIPE = ROOT / "examples" / "identity.yaml"
QUESTIONS = ROOT / "examples" / "identity_questions.jsonl"
RUN = ROOT / "runs" / "identity"
NEEDED = 8


def answers(path: Path, questions: list[dict[str, str]]) -> list[str]:
    from gogpt.engines import quiet_engines
    from gogpt.generate import Sampling, answer, load_speaker
    from gogpt.records import Message

    with quiet_engines():
        speaker = load_speaker(str(path))
        asked = [[Message(role="user", content=q["prompt"])] for q in questions]
        return list(answer(speaker, asked, Sampling(max_new_tokens=48), batch_size=len(asked)))


def shorten(text: str, width: int = 110) -> str:
    """For the table only; the verdict below it reads the whole answer."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[:width].rsplit(" ", 1)[0] + " ..."


def main() -> int:
    os.chdir(ROOT)
    hush_engines()
    console = Console(highlight=False)
    started = time.monotonic()
    questions = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]

    console.rule("1 of 4  base model", align="left")
    ensure(MODEL.relative_to(ROOT))

    console.rule("2 of 4  answers before", align="left")
    console.print("$ gogpt generate models/SmolLM2-135M-Instruct --file examples/identity_questions.jsonl", style="dim")
    before = answers(MODEL, questions)
    console.print(f"{len(before)} questions that are not in the data, answered")

    console.rule("3 of 4  fine-tune", align="left")
    console.print("$ gogpt train examples/identity.yaml --overwrite", style="dim")
    code = gogpt(["train", str(RECIPE.relative_to(ROOT)), "--overwrite"])
    if code:
        return code

    console.rule("4 of 4  answers after", align="left")
    console.print("$ gogpt generate runs/identity --file examples/identity_questions.jsonl", style="dim")
    after = answers(RUN, questions)
    table = Table("question", "before", "after", show_lines=True)
    for q, old, new in zip(questions, before, after, strict=True):
        right = q["expect"].lower() in new.lower()
        table.add_row(q["prompt"], shorten(old), shorten(new), style=None if right else "yellow")
    console.print(table)

    def count(kind: str, texts: list[str]) -> tuple[int, int]:
        chosen = [(q, text) for q, text in zip(questions, texts, strict=True) if q["kind"] == kind]
        return sum(q["expect"].lower() in text.lower() for q, text in chosen), len(chosen)

    named, asked = count("identity", after)
    console.print(f"who are you   {named} of {asked} held-out ways of asking name GoGPT (before: {count('identity', before)[0]})")
    kept, general = count("general", after)
    console.print(f"what it knew  {kept} of {general} general answers hold the expected word (before: {count('general', before)[0]})")
    capital = next("paris" in text.lower() for q, text in zip(questions, after, strict=True) if "capital of France" in q["prompt"])
    console.print(f"took          {time.monotonic() - started:.0f} s")
    console.print("report        runs/identity/report.html   (one file, opens offline)")
    console.print("talk to it    .venv/bin/gogpt chat runs/identity")
    console.print("make it one   .venv/bin/gogpt merge runs/identity -o models/identity")
    if named < NEEDED or not capital:
        console.print(f"This is not what the example should give (at least {NEEDED} of {asked}, and Paris): please open an issue with "
                      "runs/identity/facts.json", style="bold red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
