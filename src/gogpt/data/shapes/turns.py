"""Lists of turns: ``{role, content}`` or ``{from, value}``, pairs of question and answer, texts in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gogpt.data.shapes.fields import Note, Row, silent, text_of, train_flag
from gogpt.data.shapes.tools import Json, calls_of
from gogpt.errors import RowError
from gogpt.records import Message

CALL = "call"
"""A turn that is a tool call written as JSON text."""

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model", "bot", "ai", "yayi", "moss"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response", "tool_result", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), CALL),
}
"""Who speaks, as real files spell it (case does not count). A spelling that is not here is an error that names it:
a turn left out would join two others."""


def is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value


def is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and "from" in value and "value" in value and "role" not in value


def list_under(row: Row, keys: Sequence[str]) -> list[Any] | None:
    """The list under the first of ``keys`` that holds one; one that is not empty before one that is."""
    found = [value for k in keys if isinstance(value := row.get(k), list)]
    return next((value for value in found if value), found[0] if found else None)


def role_of(said: Any, where: str) -> str:
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise RowError("unknown_role", f"{where} has the role {said!r}; known: {', '.join(ROLES)}")
    return role


def read_turns(turns: Sequence[Any], note: Note = silent) -> list[Message]:
    """Messages of a list whose items are ``{role, content}`` or ``{from, value}``. Raises RowError."""
    return [_message(turn, f"message {i}", note) for i, turn in enumerate(turns, start=1)]


def _message(turn: Any, where: str, note: Note) -> Message:
    if not is_message(turn) and not is_turn(turn):
        raise RowError("wrong_type", f"{where} is neither {{role, content}} nor {{from, value}}")
    role = role_of(turn["role"] if "role" in turn else turn["from"], where)
    said = _content(turn.get("content") if "role" in turn else turn.get("value"), where)
    if role not in ("assistant", CALL):
        if said.calls or said.reasoning:
            raise RowError("wrong_type", f"{where}: only an answer can hold reasoning or a tool call")
        if any(turn.get(k) in (True, 1) for k in ("train", "loss_weight", "weight")) or said.train:
            note("messages marked for training that are no answers: not trained")
        return Message(role=role, content=said.text, name=_str(turn, "name"), tool_call_id=_str(turn, "tool_call_id"))
    flag = train_flag(turn, where)
    flag = said.train if flag is None else flag
    if role == CALL:
        calls = calls_of(said.text, f"{where}: {turn.get('role', turn.get('from'))}")
        if not calls:
            raise RowError("empty_answer", f"{where}: a tool call that calls nothing")
        return Message(role="assistant", content="", tool_calls=calls, train=flag)
    calls = calls_of(turn.get("tool_calls"), f"{where}: tool_calls")
    if not calls and turn.get("function_call"):  # the API's form before November 2023
        calls = calls_of([turn["function_call"]], f"{where}: function_call")
    return Message(role=role, content=said.text, train=flag, tool_calls=calls + said.calls, name=_str(turn, "name"),
                   reasoning=_str(turn, "reasoning_content") or _str(turn, "reasoning") or said.reasoning)


def _str(turn: Row, key: str) -> str | None:
    value = turn.get(key)
    return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message's content says, taken apart."""

    text: str
    reasoning: str | None = None
    calls: tuple[Json, ...] = ()
    train: bool | None = None


def _content(value: Any, where: str) -> Content:
    if value is None or isinstance(value, str):
        return Content(text=value or "")
    if not isinstance(value, list):
        raise RowError("wrong_type", f"{where}: content is {type(value).__name__}, want text")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    flags: list[bool | None] = []
    for part in value:  # content parts, as the API and LLaMA-Factory write them
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        said = next((part[k] for k in ("value", "text", "reasoning", "thinking", "content", "tool_call") if part.get(k) is not None), None) \
            if isinstance(part, Mapping) else None
        if kind in ("text", "output_text", "input_text") and isinstance(said, str):
            texts.append(said)
        elif kind in ("reasoning", "thinking") and isinstance(said, str):
            thoughts.append(said)
        elif kind in ("tool_call", "tool_calls", "function_call") and said is not None:
            calls += calls_of(said, f"{where}: {kind}")
        else:
            raise RowError("not_text", f"{where}: content of type {kind!r} is not text")
        flags.append(train_flag(part, where))
    if len({f for f in flags if f is not None}) > 1:
        raise RowError("wrong_type", f"{where}: parts of one message, some trained and some not")
    return Content(text="".join(texts), reasoning="\n".join(thoughts) if thoughts else None, calls=tuple(calls),
                   train=next((f for f in flags if f is not None), None))


PAIR_KEYS = (("human", "assistant"), ("input", "output"), ("q", "a"), ("question", "answer"), ("user", "assistant"),
             ("prompt", "response"), ("instruction", "output"), ("query", "response"))
"""Keys of question and answer, where a list holds one object a round."""


def pair_keys(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    return next(((q, a) for q, a in PAIR_KEYS if q in value and a in value), None)


def read_pairs(rounds: Sequence[Any]) -> list[Message]:
    """Messages of a list of rounds, each one object; a round may bring its own system message. Raises RowError."""
    out: list[Message] = []
    for i, item in enumerate(rounds, start=1):
        keys = pair_keys(item)
        if keys is None:
            raise RowError("wrong_type", f"round {i} has no question and answer")
        question, answer = keys
        if system := text_of(item.get("system"), f"round {i}: system"):
            out.append(Message(role="system", content=system))
        asked = item[question]
        if isinstance(asked, list) and all(isinstance(line, str) for line in asked):
            asked = "\n".join(asked)
        out += [Message(role="user", content=text_of(asked, f"round {i}: {question}")),
                Message(role="assistant", content=text_of(item[answer], f"round {i}: {answer}"), train=train_flag(item, f"round {i}"))]
    return out


def read_alternating(texts: Sequence[Any]) -> list[Message]:
    """Messages of texts that the user and the assistant say in turn, the user first."""
    return [Message(role=("user", "assistant")[i % 2], content=text_of(text, f"turn {i + 1}")) for i, text in enumerate(texts)]


def with_system(row_system: list[Message], messages: list[Message]) -> list[Message]:
    """A row's own system message before its turns, unless they begin with the same one."""
    if row_system and messages and messages[0].role == "system" and messages[0].content.strip() == row_system[0].content.strip():
        return messages
    return row_system + messages
