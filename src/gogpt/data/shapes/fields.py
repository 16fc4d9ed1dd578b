"""The fields of a row: text or not, metadata or not, said to be empty or not; and the end of every conversion."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

Row = Mapping[str, Any]

Note = Callable[[str], None]
"""Counts something that was done to a row, by name; the counts stand in the ledger."""


def silent(what: str) -> None:
    """A Note that nobody reads."""


NO_INPUT = frozenset({
    "noinput", "no input", "no input.", "no_input", "no-input", "<noinput>", "< noinput >", "<no input>", "[noinput]", "[no input]",
    "(noinput)", "(no input)", "`<noinput>`", "`noinput`", "no input required", "no input required.", "no input needed", "no input needed.",
    "no input necessary", "no input necessary.", "no input provided", "no input provided.", "no input given", "no input is required",
    "no input is required.", "no input is needed", "no input is needed.",
    "无", "无。", "无输入", "无输入。", "没有输入", "没有输入。", "无需输入", "无需输入。", "不需要输入", "不需要输入。",
})
"""What stands in an ``input`` field that has none, as found in real files. Compared whole, in lower case, without
white space at the ends. ``none`` and ``n/a`` are not among them: they are the input of some riddles and tables."""

NO_CONSTRAINT = frozenset({"none", "none.", "no constraints", "no constraints.", "n/a"})
"""The same for ``constraints`` of Unnatural Instructions."""

METADATA = re.compile(
    r"(?:\w*[_-])?(?:ids?|idx|index|uuid|guid|uid|hash|md5|sha\d*|source|src|origin|url|uri|link|lang|language|langdetect|meta|metadata|"
    r"timestamp|time|date|created|updated|title|name|author|category|categories|topics?|types?|kind|tags?|labels?|dataset|subset|split|"
    r"licen[cs]e|domain|subject|department|task|skill|level|difficulty|ability|scores?|quality|model|version|year|length|len|count|size|"
    r"app|warc)[;]?|(?:is|has|num|n)_\w+|__index_level_\d+__", re.IGNORECASE)
"""Names of keys that say something about a row, and are not what it says."""


def is_metadata(key: str, value: Any) -> bool:
    """Whether a key can be left out without losing what the row says. Objects, numbers and null say nothing to train on."""
    return value is None or isinstance(value, (bool, int, float, Mapping)) or METADATA.fullmatch(key) is not None


def only_metadata_but(row: Row, keys: Iterable[str]) -> bool:
    """Whether all that a row says stands under ``keys``."""
    said = set(keys)
    return all(key in said or is_metadata(str(key), value) for key, value in row.items())


def is_plain(value: Any) -> bool:
    """A value of one piece: text, or what a careless writer put for it. Lists and objects have other schemas."""
    return not isinstance(value, (list, tuple, Mapping))


def first_key(row: Row, keys: Sequence[str]) -> str | None:
    """The first of ``keys`` that holds something; else the first that is there at all."""
    return next((k for k in keys if row.get(k) is not None), next((k for k in keys if k in row), None))


def text_of(value: Any, key: str) -> str:
    """A text field: None is empty; anything but text is refused by name."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise RowError("wrong_type", f"{key} is {type(value).__name__}, want text")


def first_text(row: Row, keys: Sequence[str]) -> str:
    """The text under the first of ``keys`` that is not blank; else ""."""
    return next((text for k in keys if (text := text_of(row.get(k), k)).strip()), "")


def input_of(value: Any, key: str, note: Note) -> str:
    """The text of an ``input`` field; "" where it is blank or only says that there is none (noted)."""
    text = text_of(value, key)
    if text.strip().lower() in NO_INPUT:
        note("inputs that only say that there is none (noinput, ...): read as empty")
        return ""
    return text if text.strip() else ""


def user_message(prompt: str, extra: str = "") -> Message:
    """The user's message of an instruction and its input; either may be blank."""
    if extra and prompt.strip():
        return Message(role="user", content=f"{prompt}\n{extra}", input=extra)
    return Message(role="user", content=prompt if prompt.strip() else extra)


def system_messages(row: Row, keys: Sequence[str] = ("system", "system_prompt")) -> list[Message]:
    """One message of role system where the row has a text for it."""
    text = first_text(row, keys)
    return [Message(role="system", content=text)] if text else []


def history_of(value: Any, key: str = "history") -> list[Message]:
    """Earlier turns, pairs of question and answer, before the row's own. A table holds them as JSON text."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as problem:
            raise RowError("wrong_type", f"{key} is text, but not JSON: {problem}") from problem
    if value is None or value == "":
        return []
    if not isinstance(value, (list, tuple)):
        raise RowError("wrong_type", f"{key} is {type(value).__name__}, want a list of [question, answer]")
    out = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RowError("wrong_type", f"{key}: each entry must be [question, answer]")
        out += [Message(role="user", content=text_of(pair[0], key)), Message(role="assistant", content=text_of(pair[1], key))]
    return out


TRAIN_KEYS = ("train", "loss_weight", "weight", "loss")
"""A message's own flag: GoGPT's, LLaMA-Factory's, OpenAI's and OpenHermes', ms-swift's."""


def train_flag(turn: Row, where: str) -> bool | None:
    """Whether a message says that it is trained: true / false or 1 / 0; None (also null) where it says nothing."""
    key = next((k for k in TRAIN_KEYS if turn.get(k) is not None), None)
    if key is None:
        return None
    value = turn[key]
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    raise RowError("wrong_type", f"{where}: {key} is {value!r}, want true or false (or 1, 0)")


def finish(messages: Sequence[Message], origin: Origin, tools: tuple[Mapping[str, Any], ...] = ()) -> Conversation:
    """A conversation that can be trained: a user message, and an answer that says something.

    Turns stay in the order in which they stand, also where two of one role follow each other, or the assistant
    begins: whether that can be rendered is the template's to say. An assistant turn without text (and without a
    tool call) is kept in its place and never trained.
    """
    if not any(m.role == "user" for m in messages):
        raise RowError("no_user", "no message of the user's")
    if not any(m.role == "user" and m.content.strip() for m in messages):
        raise RowError("empty_prompt", "the user's text is blank")
    answers = [m for m in messages if m.role == "assistant"]
    if not answers:
        raise RowError("no_answer", "no message of the assistant's")
    if not any(m.content.strip() or m.tool_calls for m in answers):
        raise RowError("empty_answer", "the assistant's text is blank")
    kept = [
        replace(m, train=False)
        if m.role == "assistant" and not m.content.strip() and not m.tool_calls else m
        for m in messages
    ]
    return Conversation(messages=tuple(kept), tools=tools, origin=origin)
