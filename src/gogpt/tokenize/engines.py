"""Many texts to ids at once, by the fastest library that is proven to give this tokenizer's ids.

The reference is the backend itself. tokie and fastokens (the extra ``fast``) are several times as fast; each is used only
for a tokenizer on which it gave the reference's ids for every probe text, and what is encoded with it is compared again,
a few texts of every block. Measured: tokie 0.1.4 differs on Qwen 3, Llama 3 and DeepSeek V3 (already on a line of spaces,
``"\\n \\n"``), and on SmolLM2 and GPT-2 only where a text holds control or rare characters; fastokens 0.3.5 on none of the
byte-level vocabularies tried. A library that is right on common characters encodes the texts that hold no others
(``Guarded``). The verdict is kept in the cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gogpt.tokenize.fast import BYTES_OF, FastBackend
from gogpt.tokenize.probes import PROBES
from gogpt.tokenize.tokenizer import Tokenizer

Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Ids of all texts one after another, and where each text's begin (``[N + 1]``)."""

NUM_PROBES = 4000
LIBRARIES = ("fastokens", "tokie")
WORTH_LOADING = 4 << 20
"""Bytes of data from which loading another library (up to 1.3 s) saves more than it costs."""
WORTH_PROVING = 16 << 20
"""Bytes from which the proof (a few seconds, once) does."""


class EngineDiffers(Exception):
    """The library gave other ids than the reference for ``text``."""

    def __init__(self, library: str, text: str) -> None:
        super().__init__(library, text)
        self.library, self.text = library, text


class Engine(Protocol):
    """``name``: the library. Added tokens are found in the texts; nothing is put before them."""

    name: str

    def encode(self, texts: Sequence[str]) -> Flat: ...


def _flat(lists: Sequence[Sequence[int]]) -> Flat:
    ends = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
    return np.fromiter((i for x in lists for i in x), dtype=np.int32, count=int(ends[-1])), ends


class Reference:
    """The tokenizer's own backend."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.name = tokenizer.backend.library

    def encode(self, texts: Sequence[str]) -> Flat:
        backend = self._tokenizer.backend
        if isinstance(backend, FastBackend):
            return _flat([e.ids for e in backend.engine.encode_batch_fast(list(texts), add_special_tokens=False)])
        return _flat([backend.ids(text) for text in texts])


class Tokie:
    name = "tokie"

    def __init__(self, tokenizer: Tokenizer, cached: Path) -> None:
        import tokie

        binary = cached.with_name(f"{cached.name}-{version_of('tokie')}.tkz")
        if not binary.exists():  # its own form loads in 15 to 70 ms, tokenizer.json in 120 to 660
            source = cached.with_name(f"{cached.name}-{os.getpid()}.json")
            source.write_text(document_of(tokenizer), encoding="utf-8")
            made = binary.with_name(f"{binary.name}.{os.getpid()}")
            try:
                tokie.Tokenizer.from_json(str(source)).save(str(made))
                made.replace(binary)
            finally:
                source.unlink(missing_ok=True)
                made.unlink(missing_ok=True)
        self._engine: Any = tokie.Tokenizer.from_file(str(binary))

    def encode(self, texts: Sequence[str]) -> Flat:
        ids, sizes = self._engine.encode_batch_flat(list(texts), False)
        return ids.view(np.int32), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


UNCOMMON = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u024f\u0370-\u0373\u0386-\u03ff\u0400-\u0481\u048a-\u04ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2100-\u214f\u2190-\u22ff\u2500-\u27bf"
    "\u3000-\u3006\u3008-\u301f\u3041-\u3096\u30a1-\u30fe\u4e00-\u9fff\uac00-\ud7a3\uff01-\uffee\U0001f300-\U0001faff]")
"""A character that is not common: of rarer scripts, control and format characters, combining marks, enclosed letters."""


class Guarded:
    """A library that is proven on texts of common characters alone. The rest goes to the reference, and once it is a lot of
    text, to the engine that ``others`` makes.

    Text in ASCII is looked at through its ids: a control character is one byte, and every byte is in some token.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, others: Callable[[], Engine]) -> None:
        self.name, self._engine, self._make = engine.name, engine, others
        self._reference, self._chars = Reference(tokenizer), 0
        self._control = _control_tokens(tokenizer)

    @cached_property
    def _others(self) -> Engine:
        return self._make()

    def _rest(self, texts: Sequence[str]) -> Flat:
        self._chars += sum(map(len, texts))
        return (self._others if self._chars > WORTH_LOADING else self._reference).encode(texts)

    def encode(self, texts: Sequence[str]) -> Flat:
        ids, ends = self._engine.encode(texts)
        odd = {int(i) for i in np.searchsorted(ends, np.flatnonzero(self._control[ids]), side="right") - 1}
        odd.update(i for i, text in enumerate(texts) if not text.isascii() and UNCOMMON.search(text))
        if not odd:
            return ids, ends
        places = sorted(odd)
        again, again_ends = self._rest([texts[i] for i in places])
        sizes = np.diff(ends)
        sizes[places] = np.diff(again_ends)
        pieces, at = [], 0
        for n, i in enumerate(places):
            pieces += [ids[ends[at]:ends[i]], again[again_ends[n]:again_ends[n + 1]]]
            at = i + 1
        return np.concatenate([*pieces, ids[ends[at]:]]), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _control_tokens(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which ids stand for text with a control character in it. Kept in the cache: looking at every token takes as long as
    encoding a thousand conversations."""
    file = cache_folder() / "tokenizers" / f"{identity_of(tokenizer)[:24]}-control.npy"
    with contextlib.suppress(OSError, ValueError):
        return np.asarray(np.load(file))
    backend = tokenizer.backend
    assert isinstance(backend, FastBackend)
    out = np.zeros(tokenizer.size + 1, dtype=bool)
    controls = [b for b in (*range(32), 127) if b not in b"\t\n\r"]
    letters = {b: letter for letter, b in BYTES_OF.items()}
    signs = "".join(letters[b] for b in controls) if backend.byte_level else "".join(map(chr, controls))
    pattern = re.compile(f"[{re.escape(signs)}]|<0x(?:{'|'.join(f'{b:02X}' for b in controls)})>")
    for token, i in backend.engine.get_vocab(with_added_tokens=True).items():
        if pattern.search(token):
            out[i] = True
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        made = file.with_name(f"{file.name}.{os.getpid()}.npy")
        np.save(made, out)
        made.replace(file)
    return out


class Fastokens:
    name = "fastokens"

    def __init__(self, document: str) -> None:
        import fastokens

        self._engine = fastokens.Tokenizer.from_json_str(document)

    def encode(self, texts: Sequence[str]) -> Flat:
        ids, ends = self._engine.encode_batch_flat(list(texts))
        return np.frombuffer(ids, dtype="<i4").astype(np.int32, copy=False), np.frombuffer(ends, dtype="<u8").astype(np.int64) \
            if isinstance(ends, bytes) else np.asarray(ends, dtype=np.int64)


@lru_cache
def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cache_folder() -> Path:
    """``$GOGPT_CACHE``, or ``gogpt`` in the user's cache folder."""
    if said := os.environ.get("GOGPT_CACHE"):
        return Path(said)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gogpt"


def document_of(tokenizer: Tokenizer) -> str:
    """The tokenizer.json that says all that a fast backend does."""
    backend = tokenizer.backend
    assert isinstance(backend, FastBackend)
    return json.dumps(backend.document(), ensure_ascii=False, sort_keys=True)


def open_engine(name: str, tokenizer: Tokenizer) -> Engine:
    """The engine of that name. Raises whatever the library raises for a tokenizer that it does not know."""
    if name not in LIBRARIES:
        return Reference(tokenizer)
    if name == "fastokens":
        return Fastokens(document_of(tokenizer))

    def others() -> Engine:
        proven = verdicts(tokenizer, prove=False).get("fastokens", {}).get("equal")
        return open_engine("fastokens" if proven else "", tokenizer)

    return Guarded(_tokie(tokenizer), tokenizer, others)


def _tokie(tokenizer: Tokenizer) -> Tokie:
    folder = cache_folder() / "tokenizers"
    folder.mkdir(parents=True, exist_ok=True)
    return Tokie(tokenizer, folder / identity_of(tokenizer)[:24])


# -- the proof -------------------------------------------------------------------------------------

_RANGES = ((0x20, 0x7E), (0x20, 0x7E), (0x0, 0x1F), (0x7F, 0x24F), (0x250, 0x36F), (0x370, 0x5FF), (0x600, 0x8FF), (0x900, 0x1CFF),
           (0x2000, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0x4E00, 0x9FFF), (0xA000, 0xD7A3), (0xE000, 0xFFFD), (0x10000, 0x1FAFF),
           (0x1F300, 0x1FAFF), (0x20000, 0x2FA1F), (0xE0000, 0xE01EF))
_WORDS = ("the", "Hello", "don't", "I'LL", "we've", "O'Neil", "3.14", "def f(x):", "http://a.b/c?d=1", "北京", "，", "。", "ﬁ", "é", "e\u0301", "👨\u200d👩\u200d👧",
          "_", "--", "\ufeff", "\u200b", "ſ", "'ſ", "İ", "\u0601", "½", "²", "۱۲", "１２", "\xa0", "\u3000", "\x85", "\u2028")
_SPACES = (" ", "  ", "    ", "\n", "\n\n", "\t", "\r\n", "   \n  ", " \t ", "\n \n")


def probe_texts(tokenizer: Tokenizer, count: int = NUM_PROBES, *, common: bool = False) -> list[str]:
    """Fixed texts of every kind: characters of all scripts beside each other, digits, spaces, the tokenizer's own tokens
    in random order, and its added tokens in the middle of text. ``common``: of common characters alone."""
    pick = random.Random(20230)
    added = [a.text for a in tokenizer.backend.added.values() if a.text]
    size = tokenizer.size

    def piece() -> str:
        kind = pick.random()
        if kind < 0.35:
            low, high = pick.choice(_RANGES)
            return "".join(chr(pick.randint(low, high)) for _ in range(pick.randint(1, 3)))
        if kind < 0.5:
            return pick.choice(_SPACES)
        if kind < 0.65:
            return pick.choice(_WORDS)
        if kind < 0.75:
            return str(pick.randint(0, 10 ** pick.randint(1, 12)))
        if kind < 0.78 and added:
            return pick.choice(added)
        return tokenizer.decode([pick.randrange(size) for _ in range(pick.randint(1, 4))])

    texts = ["".join(piece() for _ in range(pick.randint(1, 24))) for _ in range(count)]
    if common:
        texts = [UNCOMMON.sub("", text) for text in texts]
    return [*PROBES, *(t.encode("utf-8", "ignore").decode() for t in texts)]


def _prove(tokenizer: Tokenizer, file: Path) -> None:
    """Write which libraries give the reference's ids, and how fast each is. Runs in a process of its own: the libraries
    start threads, and a process with threads cannot be forked safely."""
    everything = probe_texts(tokenizer)
    out: dict[str, Any] = {}
    for name in LIBRARIES:
        if version_of(name) is None:
            continue
        texts = everything if name == "fastokens" else [*everything, *probe_texts(tokenizer, common=True)]
        ids, ends = Reference(tokenizer).encode(texts)
        try:
            engine = open_engine(name, tokenizer)
            mine, mine_ends = engine.encode(texts)
            plain = [text for text in texts if not UNCOMMON.search(text)]
            began = time.perf_counter()
            engine.encode(plain)
            seconds = time.perf_counter() - began
        except BaseException as problem:  # a Rust panic is a BaseException
            out[name] = {"version": version_of(name), "equal": False, "why": str(problem)[:200]}
            continue
        if np.array_equal(ends, mine_ends) and np.array_equal(ids, mine):
            out[name] = {"version": version_of(name), "equal": True, "seconds": seconds / max(1, sum(map(len, plain)))}
        else:
            first = next(i for i in range(len(texts)) if not np.array_equal(ids[ends[i]:ends[i + 1]], mine[mine_ends[i]:mine_ends[i + 1]]))
            out[name] = {"version": version_of(name), "equal": False, "why": f"other ids for {texts[first]!r}"[:400]}
    _write(file, out)


def _write(file: Path, data: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    made = file.with_name(f"{file.name}.{os.getpid()}")
    made.write_text(json.dumps(data, indent=1), encoding="utf-8")
    made.replace(file)


def identity_of(tokenizer: Tokenizer) -> str:
    """SHA-256 of all that decides a backend's ids: its file or files, and what was added to them."""
    out = hashlib.sha256(repr(sorted(tokenizer.backend.added.items())).encode())
    out.update(repr((tokenizer.backend.bos_prefix, version_of(tokenizer.backend.library))).encode())
    file = tokenizer.backend.file
    for path in (file, *([file.with_name("merges.txt")] if file.name == "vocab.json" else [])):
        out.update(path.read_bytes())
    return out.hexdigest()


def _record(tokenizer: Tokenizer) -> Path:
    digest = hashlib.sha256(f"{identity_of(tokenizer)} {NUM_PROBES}".encode()).hexdigest()[:24]
    return cache_folder() / "engines" / f"{digest}.json"


def verdicts(tokenizer: Tokenizer, *, prove: bool = True) -> dict[str, Any]:
    """Per library: ``equal``, ``seconds``, ``why``. From the cache, or proven now; {} where neither is possible."""
    installed = {name: found for name in LIBRARIES if (found := version_of(name))}
    if not isinstance(tokenizer.backend, FastBackend) or not installed:
        return {}
    file = _record(tokenizer)
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if {name: known[name]["version"] for name in known} == installed:
            return dict(known)
    if not prove:
        return {}
    with contextlib.suppress(OSError):
        worker = multiprocessing.get_context("spawn" if os.name == "nt" else None).Process(target=_prove, args=(tokenizer, file), daemon=True)
        worker.start()
        worker.join()
        return dict(json.loads(file.read_text(encoding="utf-8")))
    return {}


def pick_engine(tokenizer: Tokenizer, num_bytes: int) -> tuple[str, list[str]]:
    """Name of the engine for so much data, and what the user should be told about the others."""
    if num_bytes < WORTH_LOADING:
        return tokenizer.backend.library, []
    known = verdicts(tokenizer, prove=num_bytes >= WORTH_PROVING)
    good = sorted((v["seconds"], name) for name, v in known.items() if v["equal"])
    told = [f"{name} is not used: {v['why']}" for name, v in known.items() if not v["equal"]]
    return (good[0][1] if good else tokenizer.backend.library), told


def distrust(tokenizer: Tokenizer, problem: EngineDiffers) -> None:
    """Record that a library differs after all, on a text of the user's."""
    known = verdicts(tokenizer, prove=False)
    known[problem.library] = {"version": version_of(problem.library), "equal": False, "why": f"other ids for {problem.text!r}"[:400]}
    _write(_record(tokenizer), known)


def audit(engine: Engine, reference: Engine, texts: Sequence[str], flat: Flat) -> None:
    """Compare what ``engine`` gave for ``texts`` with the reference. Raises EngineDiffers."""
    ids, ends = flat
    theirs, their_ends = reference.encode(texts)
    for i, text in enumerate(texts):
        if not np.array_equal(ids[ends[i]:ends[i + 1]], theirs[their_ends[i]:their_ends[i + 1]]):
            raise EngineDiffers(engine.name, text)
