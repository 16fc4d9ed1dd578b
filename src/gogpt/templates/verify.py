"""A model's saved chat template against the declared ones, its own tokenizer and its generation config."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.errors import GogptError, RowError
from gogpt.facts import ServedFacts
from gogpt.records import Conversation, Message
from gogpt.templates import TEMPLATES, Template, pick_template
from gogpt.tokenize import Tokenizer


def _talk(*said: str, system: str | None = None) -> Conversation:
    head = (Message(role="system", content=system),) if system is not None else ()
    turns = tuple(Message(role="user" if i % 2 == 0 else "assistant", content=text) for i, text in enumerate(said))
    return Conversation(messages=head + turns)


PROBES: dict[str, Conversation] = {
    "single": _talk("What is the capital of France?", "Paris."),
    "system": _talk("What is the capital of France?", "Paris.", system="You are terse."),
    "two turns": _talk("Name a prime.", "7", "And the next?", "11 is next."),
    "two turns, system": _talk("Name a prime.", "7", "And the next?", "11 is next.", system="Answer in one line."),
    "three turns": _talk("a", "b", "c", "d", "e", "f"),
    "Chinese": _talk("你好，请介绍北京。", "北京是中国的首都。", "有哪些景点？", "故宫、长城。"),
    "white space": _talk("  two spaces, a newline\n", "\n\nblank lines, two spaces  ", "\ttab\n\n", " one space "),
    "signs": _talk("Print {x} and {{ y }} <b>", "print('{x}') # %s", system="Use {braces}."),
}
"""What templates differ in: system message, turns, white space at the ends, signs of template languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A probe in one template: the text, and the prompt of its last answer; or the words of its refusal."""

    text: str = ""
    prompt: str = ""
    refusal: str | None = None
    broken: bool = False
    """the prompt is no prefix of the text"""


def render_probe(template: Template, conversation: Conversation) -> Rendered:
    try:
        text = template.render(conversation)[-1].text
        prompt = template.generation(Conversation(messages=conversation.messages[:-1])).text
    except RowError as problem:
        if problem.reason == "prompt_not_prefix":
            return Rendered(prompt=template.generation(Conversation(messages=conversation.messages[:-1])).text, broken=True)
        return Rendered(refusal=problem.detail or problem.reason)
    return Rendered(text=text, prompt=prompt)


def served_facts(folder: Path) -> ServedFacts:
    """Facts of a model folder. Raises GogptError TOK422 (no chat template), TOK421, TOK410."""
    tokenizer = Tokenizer(folder)
    own = pick_template("auto", tokenizer)
    mine = {name: render_probe(own, probe) for name, probe in PROBES.items()}
    nearest, theirs = _nearest(mine, tokenizer)
    equal = [n for n in PROBES if mine[n].refusal is None and mine[n] == theirs[n]]
    stop = own.stop[0] if own.stop else None
    token = tokenizer.token_of(stop) if stop else None
    first = next((m.text for m in mine.values() if m.text), "")
    bos = tokenizer.bos_token
    return ServedFacts(
        path=str(folder), nearest=nearest, equal=len(equal), probes=len(PROBES), difference=_difference(mine, theirs),
        refused=tuple(f"{n}: {m.refusal}" for n, m in mine.items() if m.refusal is not None),
        not_prefix=tuple(n for n, m in mine.items() if m.broken or (m.refusal is None and not m.text.startswith(m.prompt))),
        stop_text=stop, stop_ids=(token,) if token is not None else tuple(tokenizer.ids(stop)) if stop else (), generation_stops=generation_stops(folder, tokenizer),
        bos_twice=bool(bos and tokenizer.bos_prefix and first.startswith(bos)),
    )


def _nearest(mine: dict[str, Rendered], tokenizer: Tokenizer) -> tuple[str, dict[str, Rendered]]:
    """The declared template with the most equal probes; among those, with the most alike prompts."""
    best: tuple[tuple[int, float], str, dict[str, Rendered]] | None = None
    for declared in TEMPLATES:
        template = pick_template(declared.name, tokenizer)
        theirs = {name: render_probe(template, probe) for name, probe in PROBES.items()}
        equal = sum(mine[n].refusal is None and mine[n] == theirs[n] for n in PROBES)
        alike = sum(difflib.SequenceMatcher(None, mine[n].prompt, theirs[n].prompt, autojunk=False).ratio()
                    for n in ("single", "two turns, system"))
        if best is None or (equal, alike) > best[0]:
            best = ((equal, alike), declared.name, theirs)
    assert best is not None
    return best[1], best[2]


def shared_length(a: str, b: str) -> int:
    """Number of characters that both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _difference(mine: dict[str, Rendered], theirs: dict[str, Rendered]) -> str | None:
    """The first differing byte, with what stands around it on both sides."""
    for name in PROBES:
        a, b = mine[name], theirs[name]
        if a == b or a.refusal is not None:
            continue
        if b.refusal is not None:
            return f"{name}: the nearest template refuses it ({b.refusal})"
        kind, x, y = ("text", a.text, b.text) if a.text != b.text else ("prompt", a.prompt, b.prompt)
        at = shared_length(x, y)
        return (f"{name}, {kind}, byte {len(x[:at].encode())}: here {x[max(0, at - 12): at + 20]!r}, "
                f"there {y[max(0, at - 12): at + 20]!r}")
    return None


def generation_stops(folder: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids that end generation: of generation_config.json, else of config.json."""
    value: Any = tokenizer.generation_config.get("eos_token_id")
    if value is None and (folder / "config.json").is_file():
        try:
            value = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("eos_token_id")
        except (ValueError, AttributeError) as problem:
            raise GogptError("MOD500", f"config.json cannot be read: {problem}", where=str(folder)) from problem
    if value is None:
        value = tokenizer.eos_id  # a tokenizer alone: what servers take then
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(int(v) for v in values if isinstance(v, int))
