"""Facts to JSON and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

NUM_FIRST = 5
"""How many places are kept for each kind of event."""


T = TypeVar("T")


def to_json(value: Any) -> Any:
    """A dataclass (or a container of them) as JSON data. Floats that JSON lacks become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def from_json(kind: type[T], data: Any) -> T:
    """The inverse of to_json: ``from_json(type(x), to_json(x)) == x``."""
    return typing.cast(T, _convert(kind, data))


def _convert(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        if data is None:
            return None
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
        return _convert(kind, data)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{k: _convert(hints[k], v) for k, v in data.items() if k in hints})
    if origin is tuple:
        return tuple(_convert(typing.get_args(kind)[0], v) for v in data)
    if origin is Mapping or origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {k: _convert(typing.get_args(kind)[1], v) for k, v in data.items()}
    if kind is float and isinstance(data, (int, str)):
        return float(data)
    return data
