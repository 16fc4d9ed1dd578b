"""Forms of 2024 and 2025: Kimi, EXAONE, MiniMax, Seed, Megrez, and the harmony format of gpt-oss."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.program import SPLIT_THINK, Program
from gogpt.templates.turns import Turns

KIMI_K2 = DeclaredTemplate(
    name="kimi_k2",
    family="kimi",
    source="moonshotai/Kimi-K2-Instruct chat template",
    model="moonshotai/Kimi-K2-Instruct",
    verified="A",
    notes="No newline but one: after the system block that is filled in where none is given (a quirk of the template; a given one has "
    "none). The first template had another default text (variant).",
    stop=("<|im_end|>",),
    eos="<|im_end|>",
    bos="[BOS]",
    default_system="You are Kimi, an AI assistant created by Moonshot AI.",
    form=Turns(
        system="<|im_system|>system<|im_middle|>{content}<|im_end|>",
        without_system="<|im_system|>system<|im_middle|>{content}<|im_end|>\n",
        user="<|im_user|>user<|im_middle|>{content}<|im_end|>",
        header="<|im_assistant|>assistant<|im_middle|>",
        alternating=False,
    ),
)

EXAONE = DeclaredTemplate(
    name="exaone",
    family="exaone",
    source="LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct tokenizer_config",
    model="LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct",
    verified="B",
    notes="Without a system message the hub template writes an empty system block; LLaMA-Factory writes none.",
    stop=("[|endofturn|]",),
    eos="[|endofturn|]",
    bos="[BOS]",
    form=Turns(
        system="[|system|]{content}[|endofturn|]\n",
        without_system="[|system|]{content}[|endofturn|]\n",
        user="[|user|]{content}\n",
        header="[|assistant|]",
        after_answer="\n",
        alternating=False,
    ),
)

MINIMAX_M1 = DeclaredTemplate(
    name="minimax_m1",
    family="minimax",
    source="MiniMaxAI/MiniMax-M1-40k chat template",
    model="MiniMaxAI/MiniMax-M1-40k",
    verified="A",
    notes="All contents are stripped; a default system text. LLaMA-Factory's has another default text.",
    stop=("<end_of_sentence>",),
    eos="<end_of_sentence>",
    bos="<begin_of_document>",
    bos_in_text=True,
    default_system="You are a helpful assistant created by Minimax based on MiniMax-M1 model.",
    form=Turns(
        begin="{bos}",
        system="<beginning_of_sentence>system ai_setting=assistant\n{content}<end_of_sentence>\n",
        user="<beginning_of_sentence>user name=user\n{content}<end_of_sentence>\n",
        header="<beginning_of_sentence>ai name=assistant\n",
        after_answer="\n",
        strip=("system", "user", "assistant"),
        alternating=False,
    ),
)

SEED_OSS = DeclaredTemplate(
    name="seed_oss",
    family="seed",
    source="ByteDance-Seed/Seed-OSS-36B-Instruct chat template",
    model="ByteDance-Seed/Seed-OSS-36B-Instruct",
    verified="A",
    notes="Every message stands between <seed:bos> and <seed:eos>; answers alone are stripped. LLaMA-Factory differs.",
    stop=("<seed:eos>",),
    eos="<seed:eos>",
    bos="<seed:bos>",
    bos_in_text=True,
    form=Turns(
        system="{bos}system\n{content}{eos}",
        user="{bos}user\n{content}{eos}",
        header="{bos}assistant\n",
        strip=("assistant",),
        alternating=False,
    ),
)

MEGREZ = DeclaredTemplate(
    name="megrez",
    family="megrez",
    source="Infinigence/Megrez-3B-Instruct tokenizer_config",
    model="Infinigence/Megrez-3B-Instruct",
    verified="A",
    notes="No newline anywhere; a Chinese default system text.",
    stop=("<|turn_end|>",),
    eos="<|turn_end|>",
    default_system="你是Megrez-3B-Instruct，将针对用户的问题给出详细的、积极的回答。",
    form=Turns(
        system="<|role_start|>system<|role_end|>{content}<|turn_end|>",
        user="<|role_start|>user<|role_end|>{content}<|turn_end|>",
        header="<|role_start|>assistant<|role_end|>",
        alternating=False,
    ),
)


def _harmony(after_instructions: str) -> Program:
    source = SPLIT_THINK.join((
        r"""
{{- '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: 2024-07-26\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' -}}
{%- if system -%}{{- '<|start|>developer<|message|># Instructions\n\n' ~ system ~ 'AFTER<|end|>' -}}{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}{{- '<|start|>user<|message|>' ~ (message['content'] or '') ~ '<|end|>' -}}
{%- else -%}
""".strip(),
        r"""
{{- '<|start|>assistant' -}}
{%- if loop.last and not add_generation_prompt -%}
{%- generation -%}
{{- ('<|channel|>analysis<|message|>' ~ thought ~ '<|end|><|start|>assistant') if thought else '' -}}
{{- '<|channel|>final<|message|>' ~ said ~ '<|return|>' -}}
{%- endgeneration -%}
{%- else -%}{{- '<|channel|>final<|message|>' ~ said ~ '<|end|>' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}
""".strip(),
    ))
    return Program(source=source.replace("AFTER", after_instructions), one_per_answer=True, alternating=False, reasoning=True)


GPT_OSS = DeclaredTemplate(
    name="gpt_oss",
    family="harmony",
    source="openai/harmony docs/format.md, src and test-data",
    model="openai/gpt-oss-20b",
    verified="A",
    notes="A system text goes into a developer message under '# Instructions'; the system message is the model's own, with today's date: "
    "here 2024-07-26, always. Reasoning is the analysis channel. <|return|> ends what is trained; in the history it becomes <|end|> and "
    "the analysis is dropped: every answer is a rendering of its own.",
    stop=("<|return|>", "<|call|>"),
    eos="<|return|>",
    bos="<|startoftext|>",
    form=_harmony(""),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    KIMI_K2,
    variant(
        KIMI_K2, "moonlight", "Moonlight: another default system text, and no newline after it.", verified="B",
        default_system="You are a helpful assistant provided by Moonshot-AI.", without_system=None,
    ),
    variant(
        KIMI_K2, "early_default", "The first Kimi-K2 template: another default system text, and no newline after it.", verified="A",
        default_system="You are a helpful assistant", without_system=None,
    ),
    EXAONE,
    variant(EXAONE, "llamafactory", "LLaMA-Factory: no empty system block.", verified="B", without_system=None),
    MINIMAX_M1,
    SEED_OSS,
    MEGREZ,
    GPT_OSS,
    variant(
        GPT_OSS, "hf_jinja", "The hub's chat_template.jinja: a blank line after the instructions, which the harmony library does not write.",
        verified="A", form=_harmony(r"\n\n"),
    ),
)
