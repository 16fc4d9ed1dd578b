"""The Template interface, and the declared form of it: a few format strings that are rendered here and
exported as a Jinja chat template that renders the same bytes elsewhere (transformers, vLLM, llama.cpp)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gogpt.errors import RowError
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
    segment = Segment(text=conversation.messages[0].content + eos, train=True)
    return (Rendering(segments=(segment,), answers=(), add_bos=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTemplate:
    """A form written down as format strings. ``{content}`` and ``{input}`` stand for the message's text.

    ``eos_is_tokenizers``: the form says EOS, whatever text the tokenizer has for it (Alpaca, Llama 2);
    otherwise the marker is literally this text (``<|im_end|>``).
    """

    name: str
    source: str
    """where the form is defined"""
    model: str
    """a model trained with it"""
    notes: str
    user: str
    header: str
    """what opens an answer, after the user's turn"""
    stop: tuple[str, ...]
    bos: str = ""
    bos_per_turn: bool = False
    """BOS opens every user turn, not only the text (Llama 2)"""
    bos_in_text: bool = True
    """False: the text has no BOS, and the tokenizer adds its own"""
    eos_is_tokenizers: bool = False
    system: str = "{content}"
    system_in_user: bool = False
    """the system block is part of the first user turn's content, and stripped with it (Llama 2)"""
    default_system: str | None = None
    default_system_with_input: str | None = None
    user_with_input: str | None = None
    before_user: str = ""
    """between an answer and the next user turn"""
    before_answer: str = ""
    """part of the answer: a space that the model itself writes"""
    before_stop: str = ""
    after_stop: str = ""
    """follows the stop marker; never trained"""
    strip: tuple[str, ...] = ()
    """roles whose content is stripped"""
    alternating: bool = True
    """user and assistant must alternate, the user first"""

    @property
    def control(self) -> tuple[str, ...]:
        return self.stop

    def bind(self, bos: str | None, eos: str | None) -> DeclaredTemplate:
        """This form with the tokenizer's own BOS and EOS texts where the form says so."""
        if not self.eos_is_tokenizers:
            return self
        changes: dict[str, object] = {}
        if eos:
            changes["stop"] = (eos, *self.stop[1:])
        if self.bos_in_text:
            changes["bos"] = bos or ""
        return DeclaredTemplate(**{**{f: getattr(self, f) for f in self.__slots__}, **changes})

    # -- rendering ---------------------------------------------------------------------------------

    def _check(self, messages: Sequence[Message], *, tools: bool) -> None:
        if tools or any(m.role == "tool" or m.tool_calls for m in messages):
            raise RowError("tools_not_in_template", f"{self.name} has no form for tools")
        if any(m.role == "system" for m in messages[1:]):
            raise RowError("turn_order", "a system message after the first message")
        if not self.alternating:
            return
        turns = messages[1:] if messages and messages[0].role == "system" else messages
        for i, message in enumerate(turns):
            if message.role != ("user", "assistant")[i % 2]:
                raise RowError("turn_order", f"{self.name} wants user and assistant in turn; "
                               f"message {i + 1} is {message.role}")

    def _strip(self, role: str, text: str) -> str:
        return text.strip() if role in self.strip else text

    def _pieces(
        self, messages: Sequence[Message], trained: Sequence[bool], *, default_system: bool
    ) -> list[tuple[str, bool, bool]]:
        turns = list(messages)
        system: str | None = None
        if turns and turns[0].role == "system":
            system = self._strip("system", turns[0].content)
            turns, trained = turns[1:], trained[1:]
        elif default_system:
            with_input = bool(turns) and turns[0].input is not None
            system = (with_input and self.default_system_with_input) or self.default_system
        block = "" if system is None else self.system.replace("{content}", system)
        out: list[tuple[str, bool, bool]] = []
        if self.bos_in_text and not self.bos_per_turn:
            out.append((self.bos, False, False))
        if block and not self.system_in_user:
            out.append((block, False, False))
        for i, message in enumerate(turns):
            if message.role == "assistant":
                body = self.before_answer + self._strip("assistant", message.content) + self.before_stop
                out.append((self.header, False, False))
                out.append((body + self.stop[0], trained[i], True))
                out.append((self.after_stop, False, False))
                continue
            if i and turns[i - 1].role == "assistant":
                out.append((self.before_user, False, False))
            if self.bos_per_turn:
                out.append((self.bos, False, False))
            out.append((self._user(message, block if self.system_in_user and i == 0 else ""), False, False))
        return out

    def _user(self, message: Message, prefix: str) -> str:
        if message.input is not None and self.user_with_input is not None:
            before, between, after = re.split(r"\{content\}|\{input\}", self.user_with_input)
            instruction = self._strip("user", prefix + message.instruction)
            return before + instruction + between + self._strip("user", message.input) + after
        return self.user.replace("{content}", self._strip("user", prefix + message.content))

    def render(self, conversation: Conversation, train_on: str = "assistant") -> tuple[Rendering, ...]:
        if conversation.is_text:
            return text_rendering(conversation, self.stop[0])
        self._check(conversation.messages, tools=bool(conversation.tools))
        trained = trained_answers(conversation.messages, train_on)
        pieces = self._pieces(conversation.messages, trained, default_system=True)
        if train_on == "all":
            pieces = [(text, True, answer) for text, _, answer in pieces]
        return (merge_segments(pieces, add_bos=not self.bos_in_text),)

    def generation(self, conversation: Conversation) -> Rendering:
        self._check(conversation.messages, tools=bool(conversation.tools))
        untrained = [False] * len(conversation.messages)
        pieces = self._pieces(conversation.messages, untrained, default_system=True)
        pieces = [(text, False, False) for text, _, _ in pieces] + [(self.header, False, False)]
        return merge_segments(pieces, add_bos=not self.bos_in_text)

    # -- export ------------------------------------------------------------------------------------

    def jinja(self, *, leading_bos: str = "") -> str:
        """The chat template. ``leading_bos`` is written first: for forms whose BOS the tokenizer adds, since
        chat templates are encoded without special tokens (transformers, vLLM)."""
        from gogpt.templates.export import export_jinja

        return export_jinja(self, leading_bos=leading_bos)
