"""JSON -> rows: an array of them, one object, or one a line. A broken line costs itself; a broken array, the file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from gogpt.data.decoding import decode
from gogpt.errors import GogptError, RowError
from gogpt.records import Origin

Row = tuple["dict[str, Any] | RowError", Origin]

MAX_DEPTH = 100
"""Levels of a row's objects and lists."""

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def _row(value: Any, text: str) -> dict[str, Any] | RowError:
    """A row as read from the JSON ``text``. A bare list of messages is the conversation that it looks like."""
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_too_deep(value):
        return RowError("unreadable", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list) and (key := _turns_key(value)):
        value = {key: value}
    if isinstance(value, dict):
        if _HALF_CHARACTER.search(text):  # most are pairs that make an emoji; half a pair is no text at all
            try:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError as problem:
                return RowError("unreadable", f"half of a character: the escape \\u{ord(problem.object[problem.start]):04x} without its other half")
        return value
    kind = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
    return RowError("not_an_object", f"the row is {kind}, not an object with named fields")


def _turns_key(value: list[Any]) -> str | None:
    """Under which name a list of two or more turns would stand in an object."""
    if len(value) < 2 or not all(isinstance(turn, dict) for turn in value):
        return None
    if all("role" in turn and ("content" in turn or "tool_calls" in turn) for turn in value):
        return "messages"
    return "conversations" if all("from" in turn and "value" in turn for turn in value) else None


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [x for v in level if isinstance(v, (dict, list)) for x in (v.values() if isinstance(v, dict) else v)]
    return bool(level)


def read_lines(stream: BinaryIO, encoding: str, shown: str) -> Iterator[Row]:
    number = 0
    for raw in stream:
        if not raw.strip():
            continue
        number += 1
        row: dict[str, Any] | RowError
        try:
            text = raw.decode(encoding)
            row = _row(json.loads(text), text)
        except UnicodeDecodeError as problem:
            row = RowError("unreadable", f"not valid {encoding} text at byte {problem.start}")
        except (ValueError, RecursionError) as problem:
            row = RowError("unreadable", f"not valid JSON: {problem}")
        yield row, Origin(path=shown, row=number)
    if not number:
        raise GogptError("DAT304", "the file has no rows", where=shown, got="blank lines", expected="one JSON object a line")


def read_json(stream: BinaryIO, encoding: str, shown: str, *, named_lines: bool) -> Iterator[Row]:
    """An array of rows, one object, or JSON lines. ``named_lines``: the name says lines; its first begins with [."""
    first = stream.readline()
    while first and not first.strip():
        first = stream.readline()
    second = stream.readline()
    while second and not second.strip():
        second = stream.readline()
    if second and (_is_json(first, encoding) or (named_lines and first.strip() != b"[" and _is_json(second, encoding))):
        rest = io.BufferedReader(_Chain(first + second, stream))  # type: ignore[arg-type]
        yield from read_lines(rest, "utf-8" if encoding == "utf-8-sig" and first[:3] != b"\xef\xbb\xbf" else encoding, shown)
        return
    text = decode(first + second + stream.read(), encoding, shown)
    del first, second
    if not text.strip():
        raise GogptError("DAT304", "the file is blank", where=shown, got=f"{len(text)} characters of white space",
                         expected="at least one row")
    if text.lstrip()[:1] == "[":
        if (row := _one_list(text)) is not None:
            yield row, Origin(path=shown, row=1)
            return
        yield from _array(text, shown)
        return
    try:
        row = _row(json.loads(text), text)
    except (ValueError, RecursionError) as problem:
        raise _not_json(problem, shown) from problem
    yield row, Origin(path=shown, row=1)


class _Chain(io.RawIOBase):
    """Bytes already read, then the rest of the stream."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            data, self._head = self._head[: len(buffer)], self._head[len(buffer):]
        else:
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _is_json(line: bytes, encoding: str) -> bool:
    try:
        json.loads(line.decode(encoding))
    except (ValueError, RecursionError):
        return False
    return True


def _not_json(problem: Exception, shown: str, row: int | None = None) -> GogptError:
    line = getattr(problem, "lineno", 1)
    column = getattr(problem, "colno", 1)
    message = getattr(problem, "msg", str(problem))
    at = f" in row {row}" if row else ""
    return GogptError("DAT301", f"not valid JSON{at}: {message} (line {line} column {column})",
                      where=f"{shown}:{row}" if row else f"{shown}:{line}",
                      fix="correct that place; rows after it in an array cannot be told apart. In a .jsonl file a broken row is "
                      "counted and the others stay")


_SPACE = re.compile(r"\s*")


def _one_list(text: str) -> dict[str, Any] | RowError | None:
    """The one row of an array that is a list of turns: messages in a list are a conversation, not rows."""
    try:
        first, _ = json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()[1:].lstrip()))
        if _turns_key([first, first]) is None:
            return None
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _row(value, text) if _turns_key(value) else None


def _array(text: str, shown: str) -> Iterator[Row]:
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        match = _SPACE.match(text, at)
        return match.end() if match else at

    at = skip(skip(0) + 1)
    number = 0
    while text[at : at + 1] != "]" or number == 0:
        if number == 0 and text[at : at + 1] == "]":
            raise GogptError("DAT304", "the file has no rows", where=shown, got="[]", expected="at least one row")
        number += 1
        start = at
        try:
            value, end = decoder.raw_decode(text, start)
            at = skip(end)
            if text[at : at + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        except (ValueError, RecursionError) as problem:
            if not isinstance(problem, json.JSONDecodeError):  # nested too deeply; an integer of thousands of digits
                problem = json.JSONDecodeError(str(problem), text, start)
            raise _not_json(problem, shown, number) from problem
        yield _row(value, text[start:end]), Origin(path=shown, row=number)
        if text[at : at + 1] == ",":
            at = skip(at + 1)
    if text[at + 1:].strip():
        raise _not_json(json.JSONDecodeError("Extra data after the array", text, at + 1), shown)
