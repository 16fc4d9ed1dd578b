"""Tools and tool calls, in whichever form they stand, as OpenAI writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gogpt.errors import RowError

Json = Mapping[str, Any]


def call(name: str, arguments: Any, **more: Any) -> Json:
    """One tool call. ``arguments`` is JSON text in OpenAI's form; an object becomes that."""
    text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    return {**more, "type": "function", "function": {"name": name, "arguments": text}}


def tool(name: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> Json:
    """One tool that may be called."""
    return {"type": "function", "function": {"name": name, **more, "parameters": dict(parameters or {})}}


def calls_of(value: Any, where: str) -> tuple[Json, ...]:
    """Tool calls: a list of objects (or JSON text of it), each ``{"function": {"name", "arguments"}}`` or flat."""
    value = from_json(value, where)
    if not value:
        return ()
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, (list, tuple)):
        raise RowError("wrong_type", f"{where}: tool calls are {type(value).__name__}, want a list of objects")
    return tuple(_call(c, where) for c in found)


def _call(value: Any, where: str) -> Json:
    value = from_json(value, where)
    function = from_json(value.get("function", value), where) if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(function, Mapping):
        raise RowError("wrong_type", f"{where}: a tool call is no object")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise RowError("wrong_type", f"{where}: a tool call without the name of a tool")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        try:
            json.loads(arguments or "{}")
        except RecursionError as problem:
            raise RowError("wrong_type", f"{where}: the arguments of a tool call are nested without end") from problem
        except ValueError:
            pass  # text that is no JSON: a chat template may still take it
    identity = value.get("id")
    try:
        return call(name, arguments, **({"id": identity} if isinstance(identity, str) else {}))
    except (TypeError, ValueError, RecursionError) as problem:  # bytes or dates of a Parquet file
        raise RowError("wrong_type", f"{where}: {problem}") from problem


def tools_of(value: Any) -> tuple[Json, ...]:
    """The tools of a row: a list of objects, or JSON text of it. Flat ones get OpenAI's ``{"type", "function"}``."""
    value = from_json(value, "tools")
    if not value:
        return ()
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, (list, tuple)):
        raise RowError("wrong_type", "tools is no list of objects")
    return tuple(_tool(t) for t in found)


def _tool(value: Any) -> Json:
    value = from_json(value, "tools")
    if not isinstance(value, Mapping):
        raise RowError("wrong_type", "tools is no list of objects")
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as problem:
        raise RowError("wrong_type", f"tools: {problem}") from problem
    return {"type": "function", "function": value} if "function" not in value and "name" in value else value


def from_json(value: Any, where: str) -> Any:
    """What JSON text says; anything but text as it is. Raises RowError."""
    if not isinstance(value, str) or not value.strip():
        return value if not isinstance(value, str) else None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as problem:
        raise RowError("wrong_type", f"{where} is text, but not JSON: {problem}") from problem
