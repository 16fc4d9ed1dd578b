"""Texts for vocabularies: the documents and conversations of any data that GoGPT reads, and what a tokenizer makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gogpt.config import SourceConfig
from gogpt.data.languages import make_identifier
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations
from gogpt.errors import GogptError

HELD_EVERY = 20
"""Of so many texts one is held out of training, to be measured on."""
NUM_HELD = 1000
"""Texts held out at most, and texts seen in training that are kept for measuring."""
FEW = 10
"""With fewer held-out texts the measure is taken on texts of the training."""


@dataclass(slots=True)
class Corpus:
    """The texts of ``paths``, one for each document or conversation (its messages, one a line). ``held`` fills while they are read."""

    paths: Sequence[str]
    schema: str = "auto"
    limit: int | None = None
    ledger: Ledger = field(default_factory=Ledger)
    num_texts: int = 0
    num_chars: int = 0
    held: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def texts(self, progress: Callable[[int], None] | None = None) -> Iterator[str]:
        """Every text in order. Raises GogptError DAT3xx, TOK430 (there is no text)."""
        for path in self.paths:
            source = SourceConfig.model_validate({"path": path, "schema": self.schema, "limit": self.limit})
            for conversation in read_conversations(source, self.ledger):
                text = "\n".join(m.content for m in conversation.messages if m.content.strip())
                if not text:
                    continue
                self.num_texts += 1
                self.num_chars += len(text)
                if progress is not None and self.num_texts % 1000 == 0:
                    progress(self.num_texts)
                yield text
        if not self.num_texts:
            drops = ", ".join(f"{n} {reason}" for reason, n in self.ledger.drops.items())
            raise GogptError("TOK430", "the corpus holds no text", where=", ".join(self.paths)[:200], got=drops or "no row with text",
                             fix="give files with documents or conversations; gogpt data inspect shows what is in them")

    def training_texts(self, progress: Callable[[int], None] | None = None) -> Iterator[str]:
        """The texts but for those held out."""
        for number, text in enumerate(self.texts(progress)):
            if number % HELD_EVERY == HELD_EVERY - 1 and len(self.held) < NUM_HELD:
                self.held.append(text)
                continue
            if len(self.kept) < NUM_HELD:
                self.kept.append(text)
            yield text

    def measured(self) -> tuple[list[str], str]:
        """The texts to measure on after training, and what they are: ``held_out`` or ``training`` (too few were held out)."""
        return (self.held, "held_out") if len(self.held) >= FEW else (self.kept + self.held, "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Texts of one language (ISO 639, or a script) and the tokens that they make: ``tokens`` of the tokenizer, ``before`` of its base."""

    language: str
    texts: int
    characters: int
    bytes: int
    tokens: int
    before: int | None = None
    new: int | None = None
    """of ``tokens``, those that the base does not have"""

    @property
    def saved(self) -> float | None:
        """Share of the base's tokens that are saved."""
        return None if not self.before else 1 - self.tokens / self.before

    def to_dict(self) -> dict[str, object]:
        out: dict[str, object] = {"language": self.language, "texts": self.texts, "characters": self.characters, "bytes": self.bytes,
                                  "tokens": self.tokens, "chars_per_token": self.characters / self.tokens, "bytes_per_token": self.bytes / self.tokens}
        if self.before is not None:
            out |= {"tokens_before": self.before, "chars_per_token_before": self.characters / self.before,
                    "bytes_per_token_before": self.bytes / self.before, "new_tokens": self.new, "saved": self.saved}
        return out


ALL = "all"


def measure(texts: Sequence[str], ids: Callable[[str], Sequence[int]], before: Callable[[str], Sequence[int]] | None = None,
            first_new: int | None = None) -> list[Compression]:
    """Compression by language, the largest first; a last entry over everything."""
    name = make_identifier().name
    rows: dict[str, list[int]] = {}
    for text in texts:
        found = ids(text)
        counts = [1, len(text), len(text.encode("utf-8", "surrogatepass")), len(found), len(before(text)) if before else 0,
                  sum(i >= first_new for i in found) if first_new is not None else 0]
        for key in (name(text), ALL):
            rows[key] = [a + b for a, b in zip(rows.get(key, [0] * 6), counts, strict=True)]
    order = sorted((k for k in rows if k != ALL), key=lambda k: -rows[k][1])
    return [Compression(language=k, texts=rows[k][0], characters=rows[k][1], bytes=rows[k][2], tokens=max(1, rows[k][3]),
                        before=rows[k][4] if before else None, new=rows[k][5] if before else None) for k in [*order, *([ALL] if rows else [])]]
