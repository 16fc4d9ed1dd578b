"""What a fault is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..cases import TOOLS, Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One planted fault, its healthy twin, and how what a tool says of it is recognised."""

    id: str
    title: str
    rows: str
    """rows of the register of silent failures, and issues of public trackers"""
    planted: str
    caught: str
    """what a tool has to say, or to do, to have caught it"""
    keywords: tuple[str, ...]
    """regular expressions, case ignored: a line that matches one names the cause, if the healthy twin is not told the same"""
    faulty: Mapping[str, Case]
    healthy: Mapping[str, Case]
    not_here: Mapping[str, str] = field(default_factory=dict)
    """tool -> why it cannot be given this fault"""
    harm: str | None = None
    """name of the measurement (judge.HARMS) that tells whether the fault came about at all; None: it does by being planted"""

    def __post_init__(self) -> None:
        for tool in TOOLS:
            if (tool in self.not_here) == (tool in self.faulty) or (tool in self.faulty) != (tool in self.healthy):
                raise ValueError(f"{self.id}: {tool} needs a faulty and a healthy case, or a reason why it has none")
