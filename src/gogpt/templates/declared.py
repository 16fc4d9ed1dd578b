"""A declared template: what a form is called, who uses it, its markers; and its form, one of two kinds.

``Turns`` is format strings, ``Program`` is Jinja source for the few forms that rewrite their history. Both are
rendered here and exported as a Jinja chat template that renders the same bytes elsewhere (transformers, vLLM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from gogpt.errors import RowError
from gogpt.templates.program import Program
from gogpt.templates.template import Rendering, merge_segments, text_rendering, trained_answers
from gogpt.templates.turns import Turns

if TYPE_CHECKING:
    from gogpt.records import Conversation, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTemplate:
    """An entry of the table. A variant is an entry too, named ``base/variant``.

    ``eos_is_tokenizers``: BOS and EOS of the form stand for whatever texts the tokenizer has for them (Alpaca,
    Llama 2); otherwise its markers are literally these texts (``<|im_end|>``).
    """

    name: str
    family: str
    source: str
    """where the form is defined"""
    model: str
    """a model trained with it"""
    notes: str
    """which form this is and who disagrees; of a variant: who uses it and what it changes"""
    verified: str
    """A: the authors' own code or template agrees; B: third-party tables do; C: a model card alone (* in part)"""
    form: Turns | Program
    stop: tuple[str, ...]
    """texts that end an answer; the first is the one trained"""
    eos: str
    bos: str = ""
    bos_in_text: bool = False
    """False: the text has no BOS, and the tokenizer adds its own"""
    eos_is_tokenizers: bool = False
    default_system: str | None = None
    default_system_with_input: str | None = None
    base: str | None = None
    """of a variant: the name of the template that it varies"""

    @property
    def control(self) -> tuple[str, ...]:
        return self.stop

    @property
    def short_name(self) -> str:
        """``alpaca/fastchat`` -> ``fastchat``"""
        return self.name.rpartition("/")[2]

    @property
    def rewrites_history(self) -> bool:
        """Whether a conversation of several answers can need one rendering for each."""
        return self.form.one_per_answer or (isinstance(self.form, Program) and self.form.may_rewrite)

    @property
    def drops_system(self) -> bool:
        """Whether a system message is not written at all, as in the form's source."""
        return isinstance(self.form, Turns) and self.form.system_place == "dropped"

    @property
    def texts(self) -> dict[str, str]:
        """What ``{bos}``, ``{eos}`` and ``{stop}`` stand for."""
        return {"bos": self.bos, "eos": self.eos, "stop": self.stop[0]}

    def bind(self, bos: str | None, eos: str | None) -> DeclaredTemplate:
        """This form with the tokenizer's own BOS and EOS texts where the form says so."""
        if not self.eos_is_tokenizers:
            return self
        end = eos or self.eos
        return replace(self, bos=bos or "", eos=end, stop=tuple(end if s == self.eos else s for s in self.stop))

    def check(self, conversation: Conversation) -> None:
        """Raises RowError where the form has no place for something in the conversation."""
        messages = conversation.messages
        if not self.form.tools and (conversation.tools or any(m.role == "tool" or m.tool_calls for m in messages)):
            raise RowError("tools_not_in_template", f"{self.name} has no form for tools")
        if not self.form.reasoning and any(m.reasoning for m in messages if m.role == "assistant"):
            raise RowError("reasoning_not_in_template", f"{self.name} has no form for reasoning_content")
        if any(m.role == "system" for m in messages[1:]):
            raise RowError("turn_order", "a system message after the first message")
        if not self.form.alternating:
            return
        turns = messages[1:] if messages and messages[0].role == "system" else messages
        for i, message in enumerate(turns):
            if message.role != ("user", "assistant")[i % 2]:
                raise RowError("turn_order", f"{self.name} wants user and assistant in turn; "
                               f"message {i + 1} is {message.role}")

    def render(self, conversation: Conversation, train_on: str = "assistant") -> tuple[Rendering, ...]:
        if conversation.is_text:
            return text_rendering(conversation, self.eos)
        self.check(conversation)
        if isinstance(self.form, Program):
            rendered = self.form.chat(self).render(conversation, train_on)
            return tuple(replace(r, add_bos=not self.bos_in_text) for r in rendered)
        messages = conversation.messages
        trained = trained_answers(messages, train_on)
        if self.form.one_per_answer and train_on != "all" and any(trained):
            return tuple(self._turns(messages[: i + 1], trained[: i + 1]) for i, train in enumerate(trained) if train)
        return (self._turns(messages, trained, everything=train_on == "all"),)

    def _turns(
        self, messages: Sequence[Message], trained: Sequence[bool], *, everything: bool = False, prompt: bool = False
    ) -> Rendering:
        assert isinstance(self.form, Turns)
        pieces = self.form.pieces(self, messages, trained, prompt=prompt)
        if everything:
            pieces = [(text, True, answer) for text, _, answer in pieces]
        return merge_segments(pieces, add_bos=not self.bos_in_text)

    def generation(self, conversation: Conversation) -> Rendering:
        self.check(conversation)
        if isinstance(self.form, Program):
            return replace(self.form.chat(self).generation(conversation), add_bos=not self.bos_in_text)
        messages = conversation.messages
        return self._turns(messages, [False] * len(messages), prompt=True)

    def jinja(self, *, leading_bos: str = "") -> str:
        """The chat template. ``leading_bos`` is written first: for forms whose BOS the tokenizer adds, since
        chat templates are encoded without special tokens (transformers, vLLM)."""
        from gogpt.templates.export import export_jinja

        return export_jinja(self, leading_bos=leading_bos)


_TEMPLATE_FIELDS = frozenset(f.name for f in fields(DeclaredTemplate))


def variant(
    base: DeclaredTemplate, name: str, notes: str, *, verified: str, form: Turns | Program | None = None, **changes: Any
) -> DeclaredTemplate:
    """``base`` with changes to its own fields or to those of its form, as ``base/name``."""
    own = {k: v for k, v in changes.items() if k in _TEMPLATE_FIELDS}
    inner = {k: v for k, v in changes.items() if k not in _TEMPLATE_FIELDS}
    changed = replace(form or base.form, **inner)
    return replace(base, name=f"{base.name}/{name}", base=base.name, notes=notes, verified=verified, form=changed, **own)
