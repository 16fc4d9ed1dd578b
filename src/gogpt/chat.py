"""A conversation with a model in the terminal: streamed, several turns, stopped by the stop token."""

from __future__ import annotations

from collections.abc import Callable

from gogpt.generate import Sampling, Speaker, generate_ids, prompt_ids
from gogpt.records import Message


class Chat:
    """Holds the turns so far."""

    def __init__(self, speaker: Speaker, *, system: str | None = None, sampling: Sampling | None = None) -> None:
        self.speaker = speaker
        self.sampling = sampling or Sampling(max_new_tokens=512)
        self._system = [Message(role="system", content=system)] if system else []
        self.messages: list[Message] = list(self._system)

    def say(self, text: str, show: Callable[[str], None]) -> str:
        """One user turn; the answer is shown piece by piece, kept, and returned."""
        turn = [*self.messages, Message(role="user", content=text)]
        ids = generate_ids(self.speaker, [prompt_ids(self.speaker, turn)], self.sampling, say=show)[0]
        reply = self.speaker.tokenizer.decode(ids)
        self.messages = [*turn, Message(role="assistant", content=reply)]
        return reply

    def forget(self) -> None:
        """Begin anew, with the same system message."""
        self.messages = list(self._system)
