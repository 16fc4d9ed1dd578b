"""The records that data passes through: Conversation -> Segment -> Example -> Batch.

Everything here is frozen, slotted and keyword-only. Only the standard library and numpy are imported, so
that every other module can use these records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = -100
"""Label of a position that is not trained (the value that torch's cross-entropy ignores)."""

TokenArray = npt.NDArray[np.int32]

ROLES = ("system", "user", "assistant", "tool", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a record came from. Printed as ``path:row`` in every message about data; the first row is 1."""

    path: str
    row: int

    def __str__(self) -> str:
        return f"{self.path}:{self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    ``train`` is None when the policy (``assistant`` / ``last`` / ``all``) decides. ``content`` is always the
    whole text; ``input`` names the tail of it that came from an Alpaca ``input`` field, so that a template
    with an input section of its own can set it apart and every other template still shows all of it:
    ``content == instruction + "\\n" + input``.
    """

    role: str
    content: str
    train: bool | None = None
    input: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def instruction(self) -> str:
        """The content without its Alpaca input."""
        return self.content if self.input is None else self.content[: -len(self.input) - 1]

    def to_dict(self) -> dict[str, Any]:
        """As an OpenAI chat message: only the keys that say something."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.input is not None:
            out["input"] = self.input
        if self.reasoning is not None:
            out["reasoning_content"] = self.reasoning
        if self.tool_calls:
            out["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            out["name"] = self.name
        if self.train is not None:
            out["train"] = self.train
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in order. Text for continued pretraining is one message of role ``text``."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin | None = None

    @property
    def is_text(self) -> bool:
        return len(self.messages) == 1 and self.messages[0].role == "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of rendered text. All segments of a rendering, joined, are what inference would see."""

    text: str
    train: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Token ids and labels of one training sequence.

    ``input_ids`` and ``labels`` are int32 ``[T]``. ``labels[i]`` is ``input_ids[i]`` or IGNORE_INDEX:
    unshifted, the loss shifts. ``labels[0]`` is always IGNORE_INDEX, because nothing predicts the first token.
    """

    input_ids: TokenArray
    labels: TokenArray
    origin: Origin

    @property
    def num_tokens(self) -> int:
        return int(self.input_ids.size)

    @property
    def num_trained(self) -> int:
        return int(np.count_nonzero(self.labels != IGNORE_INDEX))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch. All arrays are ``[B, T]``, int64.

    ``document_ids`` numbers the documents packed into a row from 0; padding is -1. ``position_ids`` restart
    at 0 in every document. No token attends across documents: token j is seen by those of ``[j, ends[j])`` alone, of
    padding by none. ``ends`` is None where every row is one document, which causal attention alone keeps from the padding behind it.
    """

    input_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    position_ids: npt.NDArray[np.int64]
    document_ids: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64] | None = None
    origins: tuple[tuple[Origin, ...], ...] = field(default=())


def paint(input_ids: Sequence[int] | TokenArray, trained: Sequence[bool] | npt.NDArray[np.bool_]) -> TokenArray:
    """Labels ``[T]`` that train exactly the positions marked; position 0 is never trained."""
    ids = np.asarray(input_ids, dtype=np.int32)
    labels = np.where(np.asarray(trained, dtype=bool), ids, np.int32(IGNORE_INDEX)).astype(np.int32)
    if labels.size:
        labels[0] = IGNORE_INDEX
    return labels
