"""The form of templates that rewrite their history: Jinja source, rendered as a tokenizer's own would be.

Which text is trained is found from generation prompts, as in ``chat``; the stop markers are declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from gogpt.templates.chat import ChatTemplate

if TYPE_CHECKING:
    from gogpt.templates.declared import DeclaredTemplate


SPLIT_THINK = r"""
{%- set said = message['content'] or '' -%}{%- set thought = '' -%}
{%- if message['reasoning_content'] is string -%}{%- set thought = message['reasoning_content'] -%}
{%- elif '</think>' in said -%}
{%- set thought = said.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}
{%- set said = said.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
""".strip()
"""Statements that set ``said`` and ``thought`` of a ``message``: its reasoning_content, or a think block in its
content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """``source`` sees ``system`` (the system message's text, or none), ``turns`` (the other messages),
    ``bos_token``, ``eos_token``, ``default_system``, ``tools`` and ``add_generation_prompt``.

    It never asks for today's date: what was trained must be what is served tomorrow.
    """

    source: str
    one_per_answer: bool = False
    """every answer is a rendering of its own, also where the text before it happens to agree"""
    may_rewrite: bool = True
    """False: earlier text stays what it was"""
    alternating: bool = True
    tools: bool = False
    reasoning: bool = False

    def chat(self, t: DeclaredTemplate) -> ChatTemplate:
        """The machinery of chat templates, over the very text that is exported."""
        return _chat(t)


@lru_cache(maxsize=64)
def _chat(t: DeclaredTemplate) -> ChatTemplate:
    return ChatTemplate(t.jinja(), name=t.name, stop=t.stop, eos=t.eos, one_per_answer=t.form.one_per_answer)
