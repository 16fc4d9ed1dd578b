"""Bytes -> text: decompression, what is no text at all, and the encoding."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import Any, BinaryIO

from gogpt.errors import GogptError

HEAD = 1 << 16
"""Bytes at the beginning of a text that tell its encoding."""


GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def is_packed(magic: bytes) -> bool:
    """Whether a file that begins so is one that ``open_bytes`` decompresses."""
    return magic.startswith((GZIP, ZSTANDARD))


def open_bytes(path: Path, magic: bytes) -> io.BufferedReader:
    """The file's bytes, decompressed where its first ones (``magic``) say gzip or Zstandard."""
    if magic.startswith(GZIP):
        return io.BufferedReader(gzip.open(path, "rb"), HEAD)  # type: ignore[arg-type]
    if magic.startswith(ZSTANDARD):
        return io.BufferedReader(_Zst(path.open("rb")), HEAD)
    return io.BufferedReader(path.open("rb", buffering=0), HEAD)


class _Zst(io.RawIOBase):
    """Zstandard frames, decompressed. The library's own reader takes a file that ends within a frame for whole."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame: Any = None
        self._compressed = self._plain = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        import zstandard

        while not self._plain:
            data = self._compressed or self._raw.read(HEAD)
            if not data:
                if self._frame is not None:
                    raise EOFError("Compressed file ended before the end of a frame was reached")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                self._plain = self._frame.decompress(data)
            except zstandard.ZstdError as problem:
                raise OSError(str(problem)) from problem
            self._compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._plain))
        buffer[:size], self._plain = self._plain[:size], self._plain[size:]
        return size


BINARY = (
    (rb"PK\x03\x04", "a zip archive"), (rb"BZh\d1AY&SY", "a bzip2 archive"), (rb"\xfd7zXZ\x00", "an xz archive"),
    (rb"7z\xbc\xaf", "a 7-Zip archive"), (rb"Rar!\x1a", "a RAR archive"), (rb"\x89PNG\r\n", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"), (rb"%PDF-", "a PDF document"), (rb"\x80[\x02-\x05]", "a Python pickle"),
    (rb"GGUF[\x01-\x09]\x00", "a GGUF model"), (rb"SQLite format 3\x00", "an SQLite database"),
)


def encoding_of(head: bytes, shown: str) -> str:
    """utf-8, utf-8-sig, utf-16 or gb18030. Raises GogptError DAT305 for what is no text."""
    if head[:3] == b"\xef\xbb\xbf":
        return "utf-8-sig"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    found = next((kind for pattern, kind in BINARY if re.match(pattern, head)), None)
    if found is not None or b"\0" in head:
        raise GogptError("DAT305", "binary data, not text", where=shown,
                         got=found or f"a NUL byte at offset {head.index(0)}",
                         expected="JSON, JSON lines, CSV, Parquet, Arrow or plain text, also .gz and .zst",
                         fix="unpack or convert the file; pickles, models and images are no data")
    # One broken line must not turn a whole file of UTF-8 into Chinese nonsense: the lines vote.
    lines = head.split(b"\n")
    wide = [(line, i == len(lines) - 1) for i, line in enumerate(lines) if not line.isascii()]
    odd = [(line, last) for line, last in wide if not _is_text(line, "utf-8", last)]
    if (2 * len(odd) > len(wide) and all(_is_text(line, "gb18030", last) for line, last in odd)
            and _looks_chinese(b"\n".join(line for line, _ in odd))):
        return "gb18030"
    return "utf-8"


def _is_text(line: bytes, encoding: str, last: bool) -> bool:
    for cut in range(4 if last else 1):  # the sample may end inside a character
        try:
            line[: len(line) - cut].decode(encoding)
            return True
        except UnicodeDecodeError:
            continue
    return False


def _looks_chinese(data: bytes) -> bool:
    """Whether most bytes above ASCII are pairs of GB 2312; in Latin-1 they stand alone among letters."""
    pairs = len(re.findall(rb"[\xa1-\xf7][\xa1-\xfe]", data))
    return 4 * pairs > sum(byte >= 0x80 for byte in data)


def decode(data: bytes, encoding: str, shown: str) -> str:
    """A whole file's text. Raises GogptError DAT305 with the line of the first byte that does not fit."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise GogptError("DAT305", f"not valid {encoding} text", where=f"{shown}:{line}",
                         got=f"byte {data[problem.start]:#04x} at offset {problem.start}",
                         fix="save the file as UTF-8") from problem
