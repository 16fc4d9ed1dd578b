"""What the tests of templates share: random conversations, the oracle, and the fixture that is made from it.

``python tests/templates_cases.py`` writes ``tests/fixtures/templates.json``: rendered strings of every template,
taken from the oracle (../shared), so that a clone with nothing beside it still holds the table to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gogpt.records import Conversation, Message
from gogpt.templates import TEMPLATES, DeclaredTemplate, Rendering
from gogpt.templates.program import Program

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT.parent / "shared" / "oracles" / "templates.json"
FIXTURE = ROOT / "tests" / "fixtures" / "templates.json"

BASES = [t.name for t in TEMPLATES if t.base is None]
NAMES = [t.name for t in TEMPLATES]
IN_FIXTURE = ("two_turns_system", "whitespace", "alpaca_input", "think_two_turns")
"""Conversations of the fixture; the last is rendered by reasoning templates only."""

Document = Mapping[str, Any]
Segments = list[list[Any]]


# -- the oracle ------------------------------------------------------------------------------------


def messages_of(source: Document) -> list[Message]:
    """A conversation of the oracle or of the fixture. Its Alpaca row keeps the input apart."""
    system = [Message(role="system", content=source["system"])] if source["system"] is not None else []
    return system + [Message(role=m["role"], content=m["content"], input=source.get("input") if m["role"] == "user" else None)
                     for m in source["messages"]]


def expected(oracle: Document) -> Iterator[tuple[str, Document, Document]]:
    """Name, what is said about the template, and all its renders: a variant's own, else its base's."""
    for name, base in oracle["templates"].items():
        yield name, base, base["renders"]
        for short, changed in base["variants"].items():
            yield f"{name}/{short}", {**base, **changed}, {**base["renders"], **changed["renders"]}


def segments_of(rendering: Rendering) -> Segments:
    return [[s.text, s.train] for s in rendering.segments]


def joined(segments: Sequence[Sequence[Any]]) -> Segments:
    """Segments with equal neighbours made one."""
    out: Segments = []
    for text, train in segments:
        if out and out[-1][1] == train:
            out[-1][0] += text
        else:
            out.append([text, train])
    return out


def write_fixture() -> None:
    oracle = json.loads(ORACLE.read_text(encoding="utf-8"))
    renders = {name: {key: render[key]["segments"] for key in IN_FIXTURE if key in render} for name, _, render in expected(oracle)}
    marks = {name: {key: base[key] for key in ("bos", "eos", "bos_in_text", "stop")} for name, base in oracle["templates"].items()}
    conversations = {key: oracle["conversations"][key] for key in IN_FIXTURE}
    parts = []
    for key, lines in (("conversations", conversations), ("marks", marks), ("segments", renders)):
        inner = ",\n".join(f"{json.dumps(name)}: {json.dumps(line, ensure_ascii=False)}" for name, line in lines.items())
        parts.append(f'"{key}": {{\n{inner}\n}}')
    text = "{" + ",\n".join(parts) + "}\n"
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_text(text, encoding="utf-8")


# -- random conversations --------------------------------------------------------------------------

# Pieces that go wrong at borders: white space of every kind, marks of the templates, Jinja and format signs, accents, emoji.
PIECES = ["", " ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\u3000", "\x1f", "\0", "a", "Hello", "world.", "你好", "。", "é", "e\u0301", "😀",
          "{x}", "{{ y }}", "{% if %}", "{content}", "{stop}", "{input}", "'", '"', "\\n", "### Response:", "### Human:", "###", "[INST]", "[/INST]",
          "<<SYS>>", "</s>", "<s>", "<|im_end|>", "<|im_start|>", "<|user|>", "<|end|>", "<|return|>", "<think>", "</think>", "<tool_response>",
          "</tool_response>", "user", "assistant", "<", "|im", "42", "0", "%s", "\u200d", "</ s>"]
text = st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | st.text(max_size=12)

# Without what a tiny tokenizer takes for a special token, and without the marks that a row is dropped for.
PLAIN = [p for p in PIECES if not any(mark in p for mark in ("<", ">", "###", "\0"))]
plain = st.lists(st.sampled_from(PLAIN), max_size=5).map("".join)


@st.composite
def conversations(draw: Any, max_turns: int = 20, inputs: bool = False, text: st.SearchStrategy[str] = text) -> Conversation:
    """One to ``max_turns`` questions with their answers, with or without a system message."""
    messages = []
    if draw(st.booleans()):
        messages.append(Message(role="system", content=draw(text)))
    for _ in range(draw(st.integers(1, max_turns))):
        asked = draw(text)
        extra = draw(text) if inputs and draw(st.booleans()) else ""
        messages.append(Message(role="user", content=f"{asked}\n{extra}", input=extra) if extra else Message(role="user", content=asked))
        messages.append(Message(role="assistant", content=draw(text)))
    return Conversation(messages=tuple(messages))


TOOL = {"type": "function", "function": {"name": "weather", "description": "Wetter, 天气", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


@st.composite
def tool_conversations(draw: Any, *, reasoning: bool, text: st.SearchStrategy[str] = text) -> Conversation:
    """Questions, each with some rounds of tool calls and their results before the answer."""
    thought = st.none() | text if reasoning else st.none()
    messages = [Message(role="system", content=draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message(role="user", content=draw(text)))
        for _ in range(draw(st.integers(0, 2))):
            arguments = draw(st.dictionaries(text, text | st.integers() | st.none(), max_size=2))
            calls = tuple({"type": "function", "function": {"name": "weather", "arguments": arguments}} for _ in range(draw(st.integers(1, 2))))
            messages.append(Message(role="assistant", content=draw(text), reasoning=draw(thought), tool_calls=calls))
            messages += [Message(role="tool", content=draw(text)) for _ in calls]
        messages.append(Message(role="assistant", content=draw(text), reasoning=draw(thought)))
    return Conversation(messages=tuple(messages), tools=(TOOL,) if draw(st.booleans()) else ())


def is_program(template: DeclaredTemplate) -> bool:
    return isinstance(template.form, Program)


if __name__ == "__main__":
    write_fixture()
