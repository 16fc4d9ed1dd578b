"""No template at all: documents of text, each ended by EOS. What continued pretraining trains, and a base model continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gogpt.errors import RowError
from gogpt.templates.template import Rendering, text_rendering

if TYPE_CHECKING:
    from gogpt.records import Conversation

NAME = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """``eos``: the tokenizer's, "" where it has none. ``chat``: the tokenizer's own chat template, which stays with a saved model."""

    eos: str
    chat: str = ""

    @property
    def name(self) -> str:
        return NAME

    @property
    def stop(self) -> tuple[str, ...]:
        return (self.eos,) if self.eos else ()

    @property
    def control(self) -> tuple[str, ...]:
        return ()

    def render(self, conversation: Conversation, train_on: str = "assistant") -> tuple[Rendering, ...]:
        if not conversation.is_text:
            raise RowError("not_text", "a conversation, not a document of text")
        return text_rendering(conversation, self.eos)

    def generation(self, conversation: Conversation) -> Rendering:
        """The text itself, to be continued: of one message, whoever says it."""
        from gogpt.records import Segment

        if len(conversation.messages) != 1:
            raise RowError("not_text", f"{len(conversation.messages)} messages; without a template there is one text to continue")
        return Rendering(segments=(Segment(text=conversation.messages[0].content, train=False),), answers=(), add_bos=True)

    def jinja(self) -> str:
        return self.chat
