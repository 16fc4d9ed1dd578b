"""The ledger: what became of every row. It conserves: ``rows_in = conversations + sum of drops``, always.

A row is what holds one conversation. Where that is not a row of the file, the ledger says so in its notes:

- A row that holds several (the instances of an instruction, the paths of a tree of replies) counts once for each,
  all with the origin of their row.
- Rows that are single messages (OpenAssistant's flat export) are joined first. Each path from a first message to a
  last one counts once, with the origin of the last; a message on no path counts by itself, and is dropped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gogpt.facts import NUM_FIRST
from gogpt.records import Origin


@dataclass(slots=True)
class Ledger:
    """Counts rows while they are read. ``kept`` says which set the conversations went to; ``examples`` how
    many training sequences they made (one conversation can make several); ``notes`` what else was done."""

    rows_in: int = 0
    conversations: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)
    schema: dict[str, str] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)

    def keep(self) -> None:
        """One more row was read and stays."""
        self.rows_in += 1
        self.conversations += 1

    def drop(self, reason: str, origin: Origin, detail: str = "", row: Any = None) -> None:
        """One more row was read and does not stay."""
        self.rows_in += 1
        self._reject(reason, origin, detail, row)

    def lose(self, reason: str, origin: Origin, detail: str = "", row: Any = None) -> None:
        """A conversation kept before is dropped after all (it is too long, say)."""
        self.conversations -= 1
        self._reject(reason, origin, detail, row)

    def _reject(self, reason: str, origin: Origin, detail: str, row: Any) -> None:
        self.drops[reason] += 1
        places = self.first.setdefault(reason, [])
        if len(places) < NUM_FIRST:
            places.append(str(origin))
        self.rejects.append({"origin": {"path": origin.path, "row": origin.row}, "reason": reason,
                             "detail": detail, "data": row})

    def sort(self) -> None:
        """Put what was rejected in the order of its rows (of one file)."""
        self.rejects.sort(key=lambda reject: int(reject["origin"]["row"]))
        self.first = {}
        for reject in self.rejects:
            places = self.first.setdefault(reject["reason"], [])
            if len(places) < NUM_FIRST:
                places.append(f"{reject['origin']['path']}:{reject['origin']['row']}")

    def join(self, rows_in: int, conversations: int, drops: dict[str, int], first: dict[str, list[str]], notes: dict[str, int]) -> None:
        """Add what was counted on rows that come after."""
        self.rows_in += rows_in
        self.conversations += conversations
        self.drops.update(drops)
        for reason, places in first.items():
            self.first[reason] = (self.first.get(reason, []) + places)[:NUM_FIRST]
        for what, count in notes.items():
            self.note(what, count)

    def note(self, what: str, count: int = 1) -> None:
        self.notes[what] = self.notes.get(what, 0) + count

    @property
    def conserves(self) -> bool:
        kept = not self.kept or sum(self.kept.values()) == self.conversations
        return self.rows_in == self.conversations + sum(self.drops.values()) and kept

    def to_dict(self) -> dict[str, Any]:
        """The document ``ledger.json``."""
        return {
            "rows_in": self.rows_in,
            "conversations": self.conversations,
            "drops": dict(self.drops.most_common()),
            "schema": self.schema,
            "first": self.first,
            "kept": self.kept,
            "examples": self.examples,
            "notes": self.notes,
        }
