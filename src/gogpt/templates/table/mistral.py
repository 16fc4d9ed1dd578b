"""Mistral's [INST] forms, which differ by spaces and by where the system text stands."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.program import Program
from gogpt.templates.turns import Turns


def _system_last(space: str) -> Program:
    """The system text goes into the last question, so that with a system text earlier answers are history."""
    source = r"""
{%- set ns = namespace(asked=-1) -%}
{%- for message in turns -%}{%- if message['role'] == 'user' -%}{%- set ns.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{{- bos_token -}}
{%- for message in turns -%}
{%- set said = message['content'] or '' -%}
{%- if message['role'] == 'user' -%}
{{- '[INST]@' ~ (system ~ '\n\n' if system is not none and loop.index0 == ns.asked else '') ~ said ~ '[/INST]' -}}
{%- elif system is none or loop.last -%}
{%- generation -%}{{- '@' ~ said.rstrip(' ') ~ eos_token -}}{%- endgeneration -%}
{%- else -%}{{- '@' ~ said.rstrip(' ') ~ eos_token -}}{%- endif -%}
{%- endfor -%}
""".strip()
    return Program(source=source.replace("@", space))


MISTRAL_V1 = DeclaredTemplate(
    name="mistral_v1",
    family="mistral",
    source="mistral-common tokenizer 'v1'; Mistral-7B-Instruct-v0.1/v0.2, Mixtral-8x7B-Instruct-v0.1",
    model="mistralai/Mixtral-8x7B-Instruct-v0.1",
    verified="A",
    notes="A space before [INST], around the question and before the answer; the first is SentencePiece's own, made visible. The system "
    "text stands before the first question, with a blank line. The hub templates of 2023, LLaMA-Factory and FastChat write other spaces.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=Turns(
        begin="{bos}",
        system="{content}\n\n",
        system_place="first question",
        user=" [INST] {content} [/INST]",
        header="",
        answer=" {content}{stop}",
    ),
)

MISTRAL_V3 = DeclaredTemplate(
    name="mistral_v3",
    family="mistral",
    source="mistral-common tokenizers 'v2' and 'v3'; Mistral-7B-Instruct-v0.3, Mixtral-8x22B",
    model="mistralai/Mistral-7B-Instruct-v0.3",
    verified="A",
    notes="The system text stands before the LAST question, so that a longer dialogue moves it: with a system text every answer is a "
    "rendering of its own. No space before [/INST]; spaces at the end of answers are dropped, newlines stay. The hub template writes "
    "the system text only where a question comes last: with its answer it silently disappears.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=_system_last(" "),
)

MISTRAL_V3_TEKKEN = DeclaredTemplate(
    name="mistral_v3_tekken",
    family="mistral",
    source="mistral-common 'v3' tekken; Mistral-Nemo-Instruct-2407",
    model="mistralai/Mistral-Nemo-Instruct-2407",
    verified="A",
    notes="mistral_v3 without any space: the byte-level tokenizer has no dummy prefix.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=_system_last(""),
)

MISTRAL_V7 = DeclaredTemplate(
    name="mistral_v7",
    family="mistral",
    source="mistral-common 'v7'; Mistral-Large-Instruct-2411",
    model="mistralai/Mistral-Large-Instruct-2411",
    verified="A",
    notes="The system text has a block of its own. Spaces at the end of answers are dropped.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=Turns(
        begin="{bos}",
        system="[SYSTEM_PROMPT] {content}[/SYSTEM_PROMPT]",
        user="[INST] {content}[/INST]",
        header="",
        answer=" {content}{stop}",
        drop_trailing_spaces=("assistant",),
    ),
)

MISTRAL_V7_TEKKEN = DeclaredTemplate(
    name="mistral_v7_tekken",
    family="mistral",
    source="Mistral-Small-24B-Instruct-2501 chat template",
    model="mistralai/Mistral-Small-24B-Instruct-2501",
    verified="B",
    notes="mistral_v7 without spaces, contents as they are. The hub template fills in a long system text with today's date where none is "
    "given; here none.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=Turns(
        begin="{bos}",
        system="[SYSTEM_PROMPT]{content}[/SYSTEM_PROMPT]",
        user="[INST]{content}[/INST]",
        header="",
    ),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    MISTRAL_V1,
    variant(
        MISTRAL_V1, "hf_2023", "Hub template of v0.2 and Mixtral until 2024: no space before [INST] and none before the answer, whose "
        "first token is then another than the trained one. (It refuses a system message.)", verified="A",
        user="[INST] {content} [/INST]", answer="{content}{stop}",
    ),
    variant(
        MISTRAL_V1, "v0.1_hf_2023", "Hub template of v0.1: hf_2023 with a space after every EOS.", verified="A",
        user="[INST] {content} [/INST]", answer="{content}{stop}", after_answer=" ",
    ),
    MISTRAL_V3,
    variant(
        MISTRAL_V3, "system_first", "LLaMA-Factory's 'mistral' (0.9): the system text before the first question, so that history stays as "
        "it was; nothing dropped from answers.", verified="B",
        form=Turns(
            begin="{bos}", system="{content}\n\n", system_place="first question", user="[INST] {content}[/INST]", header="",
            answer=" {content}{stop}",
        ),
    ),
    MISTRAL_V3_TEKKEN,
    variant(
        MISTRAL_V3_TEKKEN, "system_first", "LLaMA-Factory's 'ministral': the system text before the first question; nothing dropped.",
        verified="B",
        form=Turns(begin="{bos}", system="{content}\n\n", system_place="first question", user="[INST]{content}[/INST]", header=""),
    ),
    MISTRAL_V7,
    MISTRAL_V7_TEKKEN,
)
