"""A declared template as a Jinja chat template with generation blocks, byte for byte the same text.

``{% generation %}`` marks the trained answers for transformers (``return_assistant_tokens_mask``); the marks
print nothing. Every statement trims the white space around it, so that only the literals reach the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gogpt.templates.template import DeclaredTemplate


def literal(text: str) -> str:
    """``text`` as a Jinja string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    return f"'{escaped}'"


def _concat(form: str, **values: str) -> str:
    """A format string as a Jinja concatenation: 'a{content}b' -> ``'a' ~ content ~ 'b'``."""
    parts: list[str] = []
    rest = form
    while rest:
        found = min(((rest.find("{" + k + "}"), k) for k in values if "{" + k + "}" in rest), default=None)
        if found is None:
            parts.append(literal(rest))
            break
        at, key = found
        if at:
            parts.append(literal(rest[:at]))
        parts.append(values[key])
        rest = rest[at + len(key) + 2:]
    return " ~ ".join(parts) if parts else "''"


def _fill(form: str, *values: str) -> str:
    """``form`` with each ``@@`` replaced by the next value (Jinja is full of braces and per cents)."""
    parts = form.split("@@")
    return parts[0] + "".join(value + part for value, part in zip(values, parts[1:], strict=True))


def _put(expression: str) -> str:
    return "" if expression == "''" else "{{- " + expression + " -}}"


def export_jinja(t: DeclaredTemplate, *, leading_bos: str = "") -> str:
    """The Jinja source for ``t``. It refuses what ``t.render`` refuses (turn order, tools)."""

    def trim(role: str, expression: str) -> str:
        return f"({expression}) | trim" if role in t.strip else expression

    out = [_fill("{%- if tools is defined and tools -%}{{- raise_exception(@@) -}}{%- endif -%}",
                 literal(f"The {t.name} template has no form for tools."))]
    out.append("{%- set ns = namespace(system=none, block='', previous='') -%}{%- set turns = messages -%}")
    out.append("{%- if messages and messages[0]['role'] == 'system' -%}")
    out.append(_fill("{%- set ns.system = @@ -%}{%- set turns = messages[1:] -%}",
                     trim("system", "messages[0]['content'] or ''")))
    if t.default_system is not None:
        out.append("{%- else -%}")
        default = literal(t.default_system)
        if t.default_system_with_input:
            with_input = literal(t.default_system_with_input)
            default = f"{with_input} if turns and turns[0]['input'] else {default}"
        out.append(_fill("{%- set ns.system = @@ -%}", default))
    out.append("{%- endif -%}")
    out.append(_fill("{%- if ns.system is not none -%}{%- set ns.block = @@ -%}{%- endif -%}",
                     _concat(t.system, content="ns.system")))
    out.append(_put(literal(leading_bos or ("" if t.bos_per_turn or not t.bos_in_text else t.bos))))
    if not t.system_in_user:
        out.append("{{- ns.block -}}")
    out.append("{%- for message in turns -%}")
    wrong = "message['role'] not in ['user', 'assistant']"
    if t.alternating:
        wrong = "message['role'] != ['user', 'assistant'][loop.index0 % 2]"
    out.append(_fill("{%- if @@ -%}{{- raise_exception(@@) -}}{%- endif -%}", wrong,
                     literal(f"The {t.name} template wants user and assistant in turn.")))
    out.append("{%- set content = message['content'] or '' -%}")
    out.append("{%- if message['role'] == 'assistant' -%}")
    out.append(_put(literal(t.header)))
    answer = _concat(t.before_answer + "{content}" + t.before_stop + t.stop[0],
                     content="(" + trim("assistant", "content") + ")")
    out.append("{%- generation -%}" + _put(answer) + "{%- endgeneration -%}")
    out.append(_put(literal(t.after_stop)))
    out.append("{%- else -%}")
    if t.before_user:
        out.append(_fill("{%- if ns.previous == 'assistant' -%}@@{%- endif -%}", _put(literal(t.before_user))))
    if t.bos_per_turn:
        out.append(_put(literal(t.bos)))
    prefix = ""
    if t.system_in_user:
        prefix = "ns.block ~ "
        out.append("{%- if not loop.first -%}{%- set ns.block = '' -%}{%- endif -%}")
    plain = _put(_concat(t.user, content="(" + trim("user", prefix + "content") + ")"))
    if t.user_with_input is not None:
        instruction = prefix + "content[:-(message['input'] | length) - 1]"
        split = _put(_concat(t.user_with_input, content="(" + trim("user", instruction) + ")",
                             input="(" + trim("user", "message['input']") + ")"))
        plain = _fill("{%- if message['input'] -%}@@{%- else -%}@@{%- endif -%}", split, plain)
    out.append(plain)
    out.append("{%- endif -%}{%- set ns.previous = message['role'] -%}{%- endfor -%}")
    out.append(_fill("{%- if add_generation_prompt -%}@@{%- endif -%}", _put(literal(t.header))))
    return "".join(out)
