"""TensorBoard event files: TFRecord frames around protobuf Events, read without TensorBoard.

A frame is the length (uint64), its masked CRC-32C, the data, and the data's masked CRC-32C, little-endian (tensorflow's
record_writer). Of an Event: wall_time 1, step 2, summary 5; of a Summary: value 1; of a Value: tag 1, simple_value 2, tensor 8; of a
TensorProto: dtype 1, tensor_content 4, float_val 5, double_val 6, string_val 8 (tensorboard/compat/proto). Equality with TensorBoard's
own EventAccumulator is tested.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST = 1 << 28
"""Bytes of a frame that are believed; the graph of a large model is below it."""


def _crc_table() -> tuple[int, ...]:
    out = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        out.append(n)
    return tuple(out)


_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(slots=True, kw_only=True)
class EventFile:
    """Scalars by tag as (step, value, wall time), in the file's order, and texts by tag. ``problem``: why the file was not read to its end."""

    scalars: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    problem: str | None = None


class _Broken(ValueError):
    """Bytes that are no protobuf."""


def read_events(path: Path) -> EventFile:
    """The scalars and texts of one file. A record that is cut off or damaged ends it, and is told in ``problem``. Raises OSError."""
    out = EventFile()
    for number, data in enumerate(_frames(path.read_bytes(), out)):
        try:
            _event(data, out)
        except (_Broken, struct.error):
            out.problem = f"record {number + 1} is damaged"
            break
    return out


def _frames(raw: bytes, out: EventFile) -> Iterator[bytes]:
    at, number = 0, 0
    while at < len(raw):
        number += 1
        if len(raw) - at < 12:
            out.problem = f"cut off in record {number}"
            return
        size, crc = struct.unpack_from("<QI", raw, at)
        if masked_crc(raw[at:at + 8]) != crc or size > LONGEST:
            out.problem = f"the length of record {number} is damaged"
            return
        if len(raw) - at < 16 + size:
            out.problem = f"cut off in record {number}"
            return
        yield raw[at + 12:at + 12 + size]
        at += 16 + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Broken
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value): a varint as int, everything else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value: Any
            value, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                size, at = _varint(data, at)
            if size is None or at + size > len(data):
                raise _Broken
            value, at = data[at:at + size], at + size
        yield number, kind, value


def _event(data: bytes, out: EventFile) -> None:
    step, wall, summary = 0, 0.0, b""
    for number, kind, value in _fields(data):
        if number == 1 and kind == 1:
            wall = struct.unpack("<d", value)[0]
        elif number == 2 and kind == 0:
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5 and kind == 2:
            summary = value
    out.started = out.started or wall
    for number, kind, value in _fields(summary):
        if number == 1 and kind == 2:
            _value(value, step, wall, out)


def _value(data: bytes, step: int, wall: float, out: EventFile) -> None:
    tag, simple, tensor = "", None, None
    for number, kind, value in _fields(data):
        if number == 1 and kind == 2:
            tag = value.decode("utf-8", errors="replace")
        elif number == 2 and kind == 5:
            simple = struct.unpack("<f", value)[0]
        elif number == 8 and kind == 2:
            tensor = value
    if simple is None and tensor is not None:
        simple = _tensor(tensor, tag, out)
    if simple is not None and tag:
        out.scalars.setdefault(tag, []).append((step, simple, wall))


def _tensor(data: bytes, tag: str, out: EventFile) -> float | None:
    """A tensor of one float or double; a text goes to ``out.texts``."""
    kind, content, numbers, texts = 0, b"", [], []
    for number, wire, value in _fields(data):
        if number == 1 and wire == 0:
            kind = value
        elif number == 4 and wire == 2:
            content = value
        elif number == 5 and wire in (2, 5):
            numbers += [x[0] for x in struct.iter_unpack("<f", value[: len(value) // 4 * 4])]
        elif number == 6 and wire in (1, 2):
            numbers += [x[0] for x in struct.iter_unpack("<d", value[: len(value) // 8 * 8])]
        elif number == 8 and wire == 2:
            texts.append(value)
    if kind == 7 and texts:
        out.texts[tag] = texts[0].decode("utf-8", errors="replace")
    if content and kind in (1, 2) and not numbers:
        code, size = ("<f", 4) if kind == 1 else ("<d", 8)
        numbers = [x[0] for x in struct.iter_unpack(code, content[: len(content) // size * size])]
    return float(numbers[0]) if len(numbers) == 1 else None


def settings_in(texts: dict[str, str]) -> dict[str, Any]:
    """The TrainingArguments that transformers' TensorBoardCallback writes as a text, and the model's configuration under ``model_config``."""
    out: dict[str, Any] = {}
    for tag, name in (("args", None), ("model_config", "model_config")):
        for text in (texts.get(f"{tag}/text_summary"), texts.get(tag)):
            try:
                found = json.loads(text) if text else None
            except ValueError:
                found = None
            if isinstance(found, dict):
                out |= found if name is None else {name: found}
                break
    return out
