"""The form that most templates have: format strings around the system text, the questions and the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gogpt.templates.forms import fill

if TYPE_CHECKING:
    from gogpt.records import Message
    from gogpt.templates.declared import DeclaredTemplate

Piece = tuple[str, bool, bool]
"""Text, whether it is trained, whether it is an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Format strings over ``{content}``, ``{bos}``, ``{eos}``, ``{stop}`` (see ``forms.KEYS``).

    The text is ``begin``, the system block, ``opening``, then for every turn ``user`` or ``header`` + answer +
    ``after_answer``, with ``between`` after an answer that another turn follows, and ``end``.
    """

    user: str
    header: str
    """what opens an answer; the last of what inference sends"""
    answer: str = "{content}{stop}"
    """what the model says and is trained on, its end marker included"""
    answer_in_history: str | None = None
    """an answer that another turn follows, where it ends otherwise"""
    one_per_answer: bool = False
    """answers in the history are not what was generated: every answer is a rendering of its own"""
    begin: str = ""
    system: str = "{content}"
    without_system: str | None = None
    """the block of a conversation without a system message, where it is not ``system`` with the default text"""
    system_place: Literal["front", "first question", "dropped"] = "front"
    opening: str = ""
    """between the system block and the first turn"""
    user_with_input: str | None = None
    between: str = ""
    after_answer: str = ""
    """follows the end marker; never trained"""
    end: str = ""
    """closes a finished dialogue; never trained"""
    strip: tuple[str, ...] = ()
    """roles whose content is stripped"""
    strip_with_system: bool = False
    """the first question is stripped together with the system block before it (Llama 2)"""
    drop_trailing_spaces: tuple[str, ...] = ()
    """roles whose content loses spaces (not newlines) at its end (mistral-common)"""
    join_blank_lines: tuple[str, ...] = ()
    """roles in whose content a blank line becomes a newline (Falcon)"""
    alternating: bool = True
    """user and assistant must alternate, the user first"""
    tools: bool = False
    reasoning: bool = False

    def clean(self, role: str, text: str) -> str:
        """A message's content as the form writes it."""
        if role in self.strip:
            text = text.strip()
        if role in self.drop_trailing_spaces:
            text = text.rstrip(" ")
        if role in self.join_blank_lines:
            text = text.replace("\r\n", "\n").replace("\n\n", "\n")
        return text

    def system_block(self, t: DeclaredTemplate, system: str | None, with_input: bool) -> str:
        """The system block; ``system``: the message's text, or None without one."""
        if self.system_place == "dropped":
            return ""
        if system is not None:
            return fill(self.system, t.texts | {"content": self.clean("system", system)})
        default = t.default_system_with_input if with_input else None
        default = t.default_system if default is None else default
        if self.without_system is not None:
            return fill(self.without_system, t.texts | {"content": default or ""})
        return "" if default is None else fill(self.system, t.texts | {"content": default})

    def pieces(
        self, t: DeclaredTemplate, messages: Sequence[Message], trained: Sequence[bool], *, prompt: bool
    ) -> list[Piece]:
        """The text of ``messages``; ``prompt``: up to where an answer after the last of them would begin.

        An answer in the history that a rendering of its own trains stays a piece of its own."""
        turns, system = list(messages), None
        if turns and turns[0].role == "system":
            system, turns, trained = turns[0].content, turns[1:], trained[1:]
        block = self.system_block(t, system, bool(turns and turns[0].input))
        texts = t.texts
        front = block if self.system_place == "front" else ""
        out: list[Piece] = [(fill(self.begin, texts) + front + fill(self.opening, texts), False, False)]
        header = fill(self.header, texts)
        for i, message in enumerate(turns):
            if i and turns[i - 1].role == "assistant":
                out.append((fill(self.between, texts), False, False))
            if message.role == "assistant":
                last = i == len(turns) - 1 and not prompt
                form = self.answer if last or self.answer_in_history is None else self.answer_in_history
                said = fill(form, texts | {"content": self.clean("assistant", message.content)})
                train = trained[i] and (last or not self.one_per_answer)
                out += [(header, False, False), (said, train, trained[i]),
                        (fill(self.after_answer, texts), False, False)]
            else:
                rounds = {"round": str(i // 2 + 1), "round0": str(i // 2)}
                inside = block if i == 0 and self.system_place == "first question" else ""
                out.append((self._asked(message, inside, texts | rounds), False, False))
        if not prompt:
            out.append((fill(self.end, texts), False, False))
        else:
            between = fill(self.between, texts) if turns and turns[-1].role == "assistant" else ""
            out.append((between + header, False, False))
        return out

    def _asked(self, message: Message, block: str, texts: Mapping[str, str]) -> str:
        def joined(content: str) -> str:
            return self.clean("user", block + content) if self.strip_with_system else block + self.clean("user", content)

        if message.input and self.user_with_input is not None:
            values = {"content": joined(message.instruction), "input": self.clean("user", message.input)}
            return fill(self.user_with_input, {**texts, **values})
        return fill(self.user, {**texts, "content": joined(message.content)})
