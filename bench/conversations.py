"""Conversations to measure with: N of them as OpenAI messages, one JSON line each, the same for the same seed and installation.

    python bench/conversations.py 20000 out.jsonl

English is what the docstrings of the standard library and of GoGPT's own dependencies say, each sentence once. When
they are used up, paragraphs are respliced: a walk through the text that goes on, every few words, from another place
where the last word stands too. Chinese is such a walk, over characters, through this repository's Chinese texts.
Word for word this is ordinary text, so a tokenizer sees ordinary words; what is told is the share of sentences that
stood before, because a tokenizer that remembers whole segments would profit from them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import inspect
import json
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = ("torch", "transformers", "sympy", "pandas", "numpy", "networkx", "pyarrow", "huggingface_hub", "peft", "datasets",
            "pydantic", "accelerate", "rich", "jinja2", "yaml", "typer", "psutil", "fsspec", "requests", "tqdm")
"""Packages that GoGPT brings along; one that is missing is left out, and the file differs by it."""

NUM_MESSAGES = (2, 4, 4, 6, 6, 8)
"""How many messages a conversation has, each as likely."""
SHARE_CHINESE = 0.25
SHARE_SYSTEM = 0.1
"""Conversations with a system message."""

Message = dict[str, str]

_DOCSTRING = re.compile(r'"""(.*?)"""', re.S)
_SPECIAL = re.compile(r"<\|?[A-Za-z_/][^<>\n]{0,40}>|\[/?[A-Z_]{2,}\]|<<|</?s>")
"""What some model's special token could be: a row with one would be refused or dropped, by one peer and not by another."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_WRAPPED = re.compile(r"(?<=\S)\n(?=[A-Za-z\"'(`])")
"""A line break that only keeps the line short; lists, tables and indented lines keep theirs."""
_HAN = re.compile(r"[\u4e00-\u9fff]")
_UNITS = re.compile(r"[A-Za-z0-9_.\-]+|.")
"""Characters; names and figures in Chinese text stay whole."""
_ENGLISH = re.compile(r"[A-Za-z]")
SKIPPED_FOLDERS = frozenset({"tests", "test", "testing", "_vendor", "vendor", "idle_test", "site-packages", "node_modules"})
MIN_REPEATED = 8
"""Characters from which a sentence counts as one when repeats are counted."""


# -- texts -----------------------------------------------------------------------------------------


def english_folders() -> list[Path]:
    """The standard library, then the packages that are here."""
    found = [Path(sysconfig.get_path("stdlib"))]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            found.append(Path(next(iter(spec.submodule_search_locations))))
    return found


def source_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*.py")):
        if not SKIPPED_FOLDERS.intersection(file.relative_to(folder).parts[:-1]):
            yield file


def sentences(text: str) -> list[str]:
    return [s for part in _SENTENCE.split(text) if (s := part.strip())]


def usable(paragraph: str) -> bool:
    """Prose or code of ordinary length, mostly letters, without anything that looks like a special token."""
    return (40 <= len(paragraph) <= 1500 and paragraph.isprintable() == ("\n" not in paragraph and "\t" not in paragraph)
            and not _SPECIAL.search(paragraph) and 2 * len(_ENGLISH.findall(paragraph)) > len(paragraph))


def english(folders: Iterable[Path]) -> list[list[str]]:
    """Paragraphs of each docstring in order; one in which a sentence stood before is left out (licences, copied docs)."""
    seen: set[str] = set()
    out: list[list[str]] = []
    for folder in folders:
        for file in source_files(folder):
            for found in _DOCSTRING.findall(file.read_text(encoding="utf-8", errors="ignore")):
                kept = []
                for part in re.split(r"\n\s*\n", inspect.cleandoc(found)):
                    paragraph = _WRAPPED.sub(" ", part)
                    said = [s for s in sentences(paragraph) if len(s) >= MIN_REPEATED]
                    if usable(paragraph) and seen.isdisjoint(said):
                        seen.update(said)
                        kept.append(paragraph.strip())
                if kept:
                    out.append(kept)
    return out


def chinese(root: Path = ROOT) -> str:
    """The repository's Chinese texts, one after another: the README, and every message and page in two languages."""
    lines = [x for x in (root / "README.zh-CN.md").read_text(encoding="utf-8").splitlines() if len(_HAN.findall(x)) > 5]
    for file in sorted((root / "src").rglob("*.py")):
        lines += re.findall(r'"([^"\n]*[\u4e00-\u9fff]{4}[^"\n]*)"', file.read_text(encoding="utf-8"))
    return "".join(re.sub(r"[{}|`*#\\\[\]<>]|https?://\S+", "", line).strip() for line in dict.fromkeys(lines))


class Chain:
    """A first-order Markov chain over ``units`` that keeps to its place for a run of units, ``run`` on average."""

    def __init__(self, units: Sequence[str], run: float) -> None:
        self._units, self._run = units, run
        self._places: dict[str, list[int]] = {}
        for i, unit in enumerate(units):
            self._places.setdefault(unit, []).append(i)

    def walk(self, pick: random.Random, length: int) -> str:
        out: list[str] = []
        at = pick.randrange(len(self._units))
        while len(out) < length:
            some = self._units[at : at + 1 + int(pick.expovariate(1 / self._run))]
            out += some or self._units[:1]
            at = pick.choice(self._places[out[-1]]) + 1
        return "".join(out[:length])


# -- conversations ---------------------------------------------------------------------------------


@dataclass(slots=True)
class English:
    """Docstrings in a shuffled order, each once; then their words in new orders, without end."""

    docstrings: list[list[str]]
    seed: int
    next: int = 0
    _paragraphs: list[str] = field(default_factory=list)
    _chain: Chain | None = None

    def __post_init__(self) -> None:
        pick = random.Random(f"{self.seed}: order")
        order = list(range(len(self.docstrings)))
        pick.shuffle(order)
        self._paragraphs = [p for i in order for p in self.docstrings[i]]

    @property
    def used_up(self) -> bool:
        return self.next >= len(self._paragraphs)

    def paragraph(self, pick: random.Random) -> str:
        self.next += 1
        if self.next <= len(self._paragraphs):
            return self._paragraphs[self.next - 1]
        if self._chain is None:
            # A million words give every walk enough places to go on from; all of them would be a gigabyte of lists.
            # Lines are joined: a walk that keeps to the breaks makes short lines, which repeat.
            units = [word + " " for p in self._paragraphs for word in p.split()]
            self._chain = Chain(units[:1_000_000], run=3)
        size = len(self._paragraphs[pick.randrange(len(self._paragraphs))].split())
        return self._chain.walk(pick, size).strip()

    def rounds(self, pick: random.Random, count: int) -> Iterator[tuple[str, str]]:
        for _ in range(count):
            parts = sentences(self.paragraph(pick))
            question = parts[0][:400]
            answer = "\n".join(parts[1:])
            wanted = pick.lognormvariate(5.35, 0.6)
            while len(answer) < wanted:
                answer = f"{answer}\n\n{self.paragraph(pick)}".strip()
            yield question, answer

    def system(self, pick: random.Random) -> str:
        return sentences(self.paragraph(pick))[0]


@dataclass(slots=True)
class Chinese:
    chain: Chain

    def text(self, pick: random.Random, length: float) -> str:
        return self.chain.walk(pick, max(4, int(length))).strip(" ，。、；：？！,.;:（）()") or "好的"

    def rounds(self, pick: random.Random, count: int) -> Iterator[tuple[str, str]]:
        for _ in range(count):
            question = self.text(pick, pick.uniform(6, 22)) + "？"
            yield question, self.text(pick, pick.lognormvariate(3.7, 0.6)) + "。"

    def system(self, pick: random.Random) -> str:
        return self.text(pick, 20) + "。"


def generate(count: int, *, seed: int = 0, docstrings: list[list[str]], source: str) -> Iterator[list[Message]]:
    """``count`` conversations; fewer are the beginning of more."""
    languages: dict[bool, English | Chinese] = {False: English(docstrings, seed), True: Chinese(Chain(_UNITS.findall(source), run=2))}
    for number in range(count):
        pick = random.Random(f"{seed}: {number}")
        language = languages[pick.random() < SHARE_CHINESE]
        messages: list[Message] = []
        if pick.random() < SHARE_SYSTEM:
            messages.append({"role": "system", "content": language.system(pick)})
        for question, answer in language.rounds(pick, pick.choice(NUM_MESSAGES) // 2):
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield messages


# -- files -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a file of conversations holds. ``sha256`` is of its bytes."""

    conversations: int
    chinese: int
    messages: int
    characters: int
    bytes: int
    sentences: int
    repeated: int
    """sentences that stood before in the same file"""
    sha256: str

    @property
    def share_repeated(self) -> float:
        return self.repeated / self.sentences if self.sentences else 0.0


@dataclass(slots=True)
class Tellings:
    """Sentences seen, as 8-byte digests: a million conversations have some ten million of them."""

    seen: set[bytes] = field(default_factory=set)
    count: int = 0

    def add(self, text: str) -> None:
        for sentence in sentences(text):
            if len(sentence) >= MIN_REPEATED:
                self.count += 1
                self.seen.add(hashlib.blake2b(sentence.encode(), digest_size=8).digest())


def write(conversations: Iterable[list[Message]], file: Path) -> Written:
    """Write whole or not at all, and count."""
    told = Tellings()
    digest = hashlib.sha256()
    totals = {"conversations": 0, "chinese": 0, "messages": 0, "characters": 0, "bytes": 0}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as out:
        for messages in conversations:
            line = (json.dumps({"messages": messages}, ensure_ascii=False) + "\n").encode()
            out.write(line)
            digest.update(line)
            texts = [m["content"] for m in messages]
            for text in texts:
                told.add(text)
            totals["conversations"] += 1
            totals["chinese"] += bool(_HAN.search(texts[-1]))
            totals["messages"] += len(messages)
            totals["characters"] += sum(map(len, texts))
            totals["bytes"] += len(line)
    partial.replace(file)
    return Written(**totals, sentences=told.count, repeated=told.count - len(told.seen), sha256=digest.hexdigest())


def make(count: int, file: Path, *, seed: int = 0) -> Written:
    """The file of so many conversations; made once, and told what it holds in FILE.json."""
    facts = file.with_name(file.name + ".json")
    if file.exists() and facts.exists():
        known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        return Written(**known)
    written = write(generate(count, seed=seed, docstrings=english(english_folders()), source=chinese()), file)
    facts.write_text(json.dumps(asdict(written), indent=1) + "\n", encoding="utf-8")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Write conversations to measure with")
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    written = make(args.count, args.file, seed=args.seed)
    print(json.dumps({**asdict(written), "share_repeated": round(written.share_repeated, 4)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
