"""The Template interface: how a conversation becomes text, and which of the text is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gogpt.records import Conversation, Message, Segment

TRAIN_ON = ("assistant", "last", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """The text of one training sequence in segments. Joined, they are what inference would see.

    ``answers`` are the indices of the segments that are trained answers. An answer's segment begins exactly
    where the generation prompt ends and runs to the end of the stop marker.
    """

    segments: tuple[Segment, ...]
    answers: tuple[int, ...]
    add_bos: bool = False
    """the tokenizer puts its BOS (if it has one) before this text"""

    @property
    def text(self) -> str:
        return "".join(s.text for s in self.segments)


class Template(Protocol):
    """How a conversation becomes text.

    ``stop``: texts that end an answer; the first is the one trained.
    """

    @property
    def name(self) -> str: ...
    @property
    def stop(self) -> tuple[str, ...]: ...
    @property
    def control(self) -> tuple[str, ...]:
        """Marker texts of the form itself, which a user's text must not spell."""
        ...

    def render(self, conversation: Conversation, train_on: str = "assistant") -> tuple[Rendering, ...]:
        """One rendering, or one per answer where the form rewrites history. Raises RowError."""
        ...

    def generation(self, conversation: Conversation) -> Rendering:
        """What inference would send for an answer after the last message. Raises RowError."""
        ...

    def jinja(self) -> str:
        """A Jinja chat template that renders the same bytes."""
        ...


def trained_answers(messages: Sequence[Message], train_on: str) -> list[bool]:
    """Which messages are trained: the message's own flag, else the policy. Only assistants answer."""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    out = []
    for i, message in enumerate(messages):
        by_policy = message.role == "assistant" and (train_on != "last" or i == last)
        out.append(message.role == "assistant" and (by_policy if message.train is None else message.train))
    return out


def merge_segments(pieces: Sequence[tuple[str, bool, bool]], *, add_bos: bool = False) -> Rendering:
    """``(text, trained, is answer)`` pieces as a Rendering: empty texts go, untrained neighbours join."""
    from gogpt.records import Segment  # numpy comes with it: the table can be listed without

    segments: list[Segment] = []
    answers: list[int] = []
    answer_before = True
    for text, train, answer in pieces:
        if not text:
            continue
        if segments and not answer and not answer_before and segments[-1].train == train:
            segments[-1] = Segment(text=segments[-1].text + text, train=train)
        else:
            segments.append(Segment(text=text, train=train))
        if answer and train:
            answers.append(len(segments) - 1)
        answer_before = answer
    return Rendering(segments=tuple(segments), answers=tuple(answers), add_bos=add_bos)


def text_rendering(conversation: Conversation, eos: str) -> tuple[Rendering, ...]:
    """Plain text for continued pretraining: all of it is trained, and EOS ends the document."""
    from gogpt.records import Segment

    segment = Segment(text=conversation.messages[0].content + eos, train=True)
    return (Rendering(segments=(segment,), answers=(), add_bos=True),)
