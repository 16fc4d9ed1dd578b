"""Qwen2.5 and Qwen3: ChatML with tools, and with reasoning that is dropped from the history."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.program import SPLIT_THINK, Program

_SYSTEM = r"""
{%- set system = default_system if system is none else system -%}
{%- if tools -%}
{{- '<|im_start|>system\n' ~ ('' if system is none else system ~ '\n\n') -}}
{{- '# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>' -}}
{%- for tool in tools -%}{{- '\n' ~ (tool | tojson) -}}{%- endfor -%}
{{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n' -}}
{%- elif system is not none -%}
{{- '<|im_start|>system\n' ~ system ~ '<|im_end|>\n' -}}
{%- endif -%}
""".strip()

# The last question that a user asked; a tool's result may come in a user's message as well.
_LAST_QUESTION = r"""
{%- set ns = namespace(text='', asked=(turns | length) - 1) -%}
{%- for message in turns -%}
{%- set said = message['content'] or '' -%}
{%- if message['role'] == 'user' and not (said.startswith('<tool_response>') and said.endswith('</tool_response>')) -%}
{%- set ns.asked = loop.index0 -%}
{%- endif -%}
{%- endfor -%}
""".strip()

_CALLS = r"""
{%- for call in message['tool_calls'] or [] -%}
{%- set call = call['function'] or call -%}
{%- set arguments = call['arguments'] if call['arguments'] is string else call['arguments'] | tojson -%}
{%- set ns.text = ns.text ~ ('\n' if said or not loop.first else '') ~ '<tool_call>\n{"name": "' ~ call['name'] ~ '", "arguments": ' ~ arguments ~ '}\n</tool_call>' -%}
{%- endfor -%}
""".strip()

_RESULT = r"""
{{- '<|im_start|>user' if loop.first or turns[loop.index0 - 1]['role'] != 'tool' else '' -}}
{{- '\n<tool_response>\n' ~ (message['content'] or '') ~ '\n</tool_response>' -}}
{{- '<|im_end|>\n' if loop.last or turns[loop.index0 + 1]['role'] != 'tool' else '' -}}
""".strip()

EMPTY_THINK = r"<think>\n\n</think>\n\n"


def _source(*, answer: str, trained: str = "true", opened: str = "''") -> str:
    """The whole form. ``answer``: statements that set ``ns.text``; ``trained``: whether an answer is marked;
    ``opened``: what the prompt writes after the header, where an answer of now also has it."""
    return (
        _SYSTEM + _LAST_QUESTION + "{%- for message in turns -%}{%- if message['role'] == 'user' -%}"
        + r"{{- '<|im_start|>user\n' ~ (message['content'] or '') ~ '<|im_end|>\n' -}}"
        + "{%- elif message['role'] == 'tool' -%}" + _RESULT + "{%- else -%}" + answer + _CALLS
        + r"{{- '<|im_start|>assistant\n' -}}{%- if " + trained + " -%}{{- " + opened + " -}}"
        + "{%- generation -%}{{- ns.text ~ '<|im_end|>' -}}{%- endgeneration -%}{%- else -%}{{- ns.text ~ '<|im_end|>' -}}{%- endif -%}"
        + r"{{- '\n' -}}{%- endif -%}{%- endfor -%}"
        + r"{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' ~ " + opened + " -}}{%- endif -%}"
    )


_PLAIN = "{%- set said = message['content'] or '' -%}{%- set ns.text = said -%}"

# Reasoning stands in the last answer, and in the steps (tool calls) since the last question.
_THINK = SPLIT_THINK + r"""
{%- set ns.text = said -%}
{%- if loop.index0 > ns.asked and (loop.last or thought) -%}
{%- set ns.text = '<think>\n' ~ thought.strip('\n') ~ '\n</think>\n\n' ~ said.lstrip('\n') -%}
{%- endif -%}
""".strip()

_NO_THINK = SPLIT_THINK + r"{%- set ns.text = said.lstrip('\n') if loop.last and loop.index0 > ns.asked else said -%}"

_KEEP_THINK = r"""
{%- set said = message['content'] or '' -%}
{%- if message['reasoning_content'] is string -%}
{%- set ns.text = '<think>\n' ~ message['reasoning_content'].strip('\n') ~ '\n</think>\n\n' ~ said -%}
{%- elif '<think>' in said or '</think>' in said -%}{%- set ns.text = said -%}
{%- else -%}{%- set ns.text = '<think>\n\n</think>\n\n' ~ said -%}
{%- endif -%}
""".strip()

CHATML_WITH_TOOLS = Program(source=_source(answer=_PLAIN), may_rewrite=False, alternating=False, tools=True)

QWEN2_5 = DeclaredTemplate(
    name="qwen2.5",
    family="chatml",
    source="Qwen/Qwen2.5-7B-Instruct tokenizer_config",
    model="Qwen/Qwen2.5-7B-Instruct",
    verified="A",
    notes="Chatml with Qwen2.5's default system text, and its form for tools: <tools>, <tool_call>, <tool_response>. LLaMA-Factory's "
    "'qwen' means this one from 0.9 on and Qwen2's before.",
    stop=("<|im_end|>", "<|endoftext|>"),
    eos="<|im_end|>",
    default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    form=CHATML_WITH_TOOLS,
)

QWEN3 = DeclaredTemplate(
    name="qwen3",
    family="chatml",
    source="Qwen/Qwen3-8B tokenizer_config",
    model="Qwen/Qwen3-8B",
    verified="A",
    notes="Reasoning is dropped from earlier answers, and an answer without reasoning gets an empty think block only while it is the last: "
    "history is rewritten, so that every answer is a rendering of its own. Thinking on, as by default: the think block is generated and "
    "trained. No default system text; tools as in qwen2.5.",
    stop=("<|im_end|>", "<|endoftext|>"),
    eos="<|im_end|>",
    form=Program(source=_source(answer=_THINK, trained="loop.last"), one_per_answer=True, alternating=False, tools=True, reasoning=True),
)

QWEN3_2507 = DeclaredTemplate(
    name="qwen3_2507",
    family="chatml",
    source="Qwen/Qwen3-4B-Instruct-2507 tokenizer_config",
    model="Qwen/Qwen3-4B-Instruct-2507",
    verified="A",
    notes="The Instruct models of July 2025: plain chatml, no default system text, no think blocks, stable history; tools as in qwen2.5.",
    stop=("<|im_end|>", "<|endoftext|>"),
    eos="<|im_end|>",
    form=CHATML_WITH_TOOLS,
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    QWEN2_5,
    QWEN3,
    variant(
        QWEN3, "no_think", "enable_thinking=False: the empty think block is part of the prompt and only the answer is trained. Reasoning "
        "in the data is dropped; the hub template would keep that of the steps since the last question.", verified="A*",
        form=Program(
            source=_source(answer=_NO_THINK, trained="loop.last and loop.index0 > ns.asked", opened=f"'{EMPTY_THINK}'"),
            one_per_answer=True, alternating=False, tools=True, reasoning=True,
        ),
    ),
    variant(
        QWEN3, "llamafactory", "LLaMA-Factory: every turn keeps its think block or gets an empty one, and all are trained in one text; the "
        "history that is served has none.", verified="B",
        form=Program(source=_source(answer=_KEEP_THINK), may_rewrite=False, alternating=False, reasoning=True),
    ),
    variant(
        QWEN3, "llamafactory_no_think", "LLaMA-Factory with thinking off: the empty think block in the prompt of every turn; reasoning in "
        "the data is dropped.", verified="B*",
        form=Program(
            source=_source(answer=SPLIT_THINK + "{%- set ns.text = said -%}", opened=f"'{EMPTY_THINK}'"),
            may_rewrite=False, alternating=False, reasoning=True,
        ),
    ),
    QWEN3_2507,
)
