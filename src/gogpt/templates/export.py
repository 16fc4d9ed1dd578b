"""A declared template as a Jinja chat template with generation blocks, byte for byte the same text.

``{% generation %}`` marks the trained answers for transformers (``return_assistant_tokens_mask``); the marks
print nothing. Every statement trims the white space around it, so that only the literals reach the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gogpt.templates.forms import expression, fill, literal, put
from gogpt.templates.turns import Turns

if TYPE_CHECKING:
    from gogpt.templates.declared import DeclaredTemplate


def _set(name: str, code: str) -> str:
    return "{%- set " + name + " = " + code + " -%}"


def _if(condition: str, then: str, otherwise: str = "") -> str:
    if not then and not otherwise:
        return ""
    tail = "{%- else -%}" + otherwise if otherwise else ""
    return "{%- if " + condition + " -%}" + then + tail + "{%- endif -%}"


def _refuse(condition: str, why: str) -> str:
    return _if(condition, "{{- raise_exception(" + literal(why) + ") -}}")


def _guards(t: DeclaredTemplate) -> str:
    """What ``t.check`` refuses is refused where the template is served, too."""
    form, name = t.form, f"The {t.name} template"
    roles = ["user", "assistant", *(["tool"] if form.tools else [])]
    wrong = f"message['role'] not in {roles}"
    if form.alternating:
        wrong = "message['role'] != ['user', 'assistant'][loop.index0 % 2]"
    each = _refuse(wrong, f"{name} wants " + ("user and assistant in turn." if form.alternating else " and ".join(roles) + "."))
    if not form.tools:
        each += _refuse("message['tool_calls']", f"{name} has no form for tools.")
    if not form.reasoning:
        each += _refuse("message['role'] == 'assistant' and message['reasoning_content']",
                        f"{name} has no form for reasoning_content.")
    out = "" if form.tools else _refuse("tools is defined and tools", f"{name} has no form for tools.")
    out += _set("system", "none") + _set("turns", "messages")
    out += _if("messages and messages[0]['role'] == 'system'",
               _set("system", "messages[0]['content'] or ''") + _set("turns", "messages[1:]"))
    return out + "{%- for message in turns -%}" + each + "{%- endfor -%}"


def export_jinja(t: DeclaredTemplate, *, leading_bos: str = "") -> str:
    """The Jinja source for ``t``."""
    out = _guards(t) + put(literal(leading_bos))
    if isinstance(t.form, Turns):
        return out + _turns(t, t.form)
    # The names that the program may use are set here, so that no server's own idea of them comes in between.
    default = "none" if t.default_system is None else literal(t.default_system)
    return out + _set("bos_token", literal(t.bos)) + _set("eos_token", literal(t.eos)) + _set("default_system", default) \
        + t.form.source


def _clean(form: Turns, role: str, code: str) -> str:
    if role in form.strip:
        code = f"({code}) | trim"
    if role in form.drop_trailing_spaces:
        code = f"({code}).rstrip(' ')"
    if role in form.join_blank_lines:
        code = f"({code}) | replace('\\r\\n', '\\n') | replace('\\n\\n', '\\n')"
    return f"({code})"


def _system(t: DeclaredTemplate, form: Turns, texts: Mapping[str, str]) -> str:
    given = _set("ns.block", expression(form.system, texts, {"content": _clean(form, "system", "system")}))
    default = None if t.default_system is None else literal(t.default_system)
    if t.default_system_with_input is not None:
        default = f"({literal(t.default_system_with_input)} if turns and turns[0]['input'] else {default or literal('')})"
    block = form.without_system if form.without_system is not None else form.system if default else None
    without = "" if block is None else _set("ns.block", expression(block, texts, {"content": default or "''"}))
    return _if("system is not none", given, without)


def _turns(t: DeclaredTemplate, form: Turns) -> str:
    texts = t.texts

    def said(text: str) -> str:
        return put(literal(fill(text, texts)))

    out = "{%- set ns = namespace(block='', previous='') -%}"
    if form.system_place != "dropped":
        out += _system(t, form, texts)
    out += said(form.begin)
    if form.system_place == "front":
        out += "{{- ns.block -}}"
    out += said(form.opening)
    out += "{%- for message in turns -%}{%- set content = message['content'] or '' -%}"
    out += _if("ns.previous == 'assistant'", said(form.between))
    out += _if("message['role'] == 'assistant'", said(form.header) + _answer(form, texts) + said(form.after_answer),
               _question(form, texts))
    out += _set("ns.previous", "message['role']") + "{%- endfor -%}"
    prompt = _if("ns.previous == 'assistant'", said(form.between)) + said(form.header)
    return out + (_if("add_generation_prompt", prompt, said(form.end)) if prompt
                  else _if("not add_generation_prompt", said(form.end)))


def _answer(form: Turns, texts: Mapping[str, str]) -> str:
    def written(text: str, trained: bool) -> str:
        code = put(expression(text, texts, {"content": _clean(form, "assistant", "content")}))
        return "{%- generation -%}" + code + "{%- endgeneration -%}" if trained else code

    last = written(form.answer, True)
    history = written(form.answer if form.answer_in_history is None else form.answer_in_history, not form.one_per_answer)
    return last if last == history else _if("loop.last and not add_generation_prompt", last, history)


def _question(form: Turns, texts: Mapping[str, str]) -> str:
    rounds = {"round": "(loop.index0 // 2 + 1)", "round0": "(loop.index0 // 2)"}
    block = "(ns.block if loop.first else '') ~ " if form.system_place == "first question" else ""

    def joined(code: str) -> str:
        if form.strip_with_system:
            return _clean(form, "user", block + code)
        return "(" + block + _clean(form, "user", code) + ")"

    plain = put(expression(form.user, texts, rounds | {"content": joined("content")}))
    if form.user_with_input is None:
        return plain
    instruction = joined("content[:-(message['input'] | length) - 1]")
    values = {"content": instruction, "input": _clean(form, "user", "message['input']")}
    return _if("message['input']", put(expression(form.user_with_input, texts, rounds | values)), plain)
