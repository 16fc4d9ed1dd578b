"""Llama 2 and its [INST] forms, Llama 3 and 4, Code Llama 70B."""

from __future__ import annotations

from dataclasses import replace

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.program import Program
from gogpt.templates.turns import Turns

META_DEFAULT_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. Your answers should "
    "not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses are "
    "socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain why "
    "instead of answering something not correct. If you don't know the answer to a question, please don't share false information."
)

LLAMA2 = DeclaredTemplate(
    name="llama2",
    family="llama2",
    source="meta-llama/llama llama/generation.py chat_completion",
    model="meta-llama/Llama-2-7b-chat-hf",
    verified="A",
    notes="BOS and EOS around every turn belong to the form. System text and first question are joined, then stripped; answers are "
    "stripped, with a space before and after, both trained. Without a system message there is no <<SYS>> block (Meta took its default "
    "text back). LLaMA-Factory and Firefly write no spaces.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=Turns(
        system="<<SYS>>\n{content}\n<</SYS>>\n\n",
        system_place="first question",
        strip_with_system=True,
        user="{bos}[INST] {content} [/INST]",
        header="",
        answer=" {content} {stop}",
        strip=("user", "assistant"),
    ),
)

CHINESE_ALPACA2 = DeclaredTemplate(
    name="chinese_alpaca2",
    family="llama2",
    source="ymcui/Chinese-LLaMA-Alpaca-2 scripts/training/build_dataset.py; multi-turn: scripts/inference/gradio_demo.py",
    model="hfl/chinese-alpaca-2-7b",
    verified="A",
    notes="Llama 2's form with a bilingual default system text and no space after [/INST] or before EOS; nothing is stripped. The first "
    "BOS comes from the tokenizer, later ones are text.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    default_system="You are a helpful assistant. 你是一个乐于助人的助手。",
    form=Turns(
        system="<<SYS>>\n{content}\n<</SYS>>\n\n",
        system_place="first question",
        user="[INST] {content} [/INST]",
        header="",
        between="{bos}",
    ),
)

AIROBOROS_V3 = DeclaredTemplate(
    name="airoboros_v3",
    family="llama2",
    source="lm-sys/FastChat airoboros_v3",
    model="jondurbin/airoboros-m-7b-3.1.2",
    verified="B",
    notes="Llama 2's form with a default system text, nothing stripped; FastChat also writes <s> after the last answer.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    default_system="You are a helpful, unbiased, uncensored assistant.",
    form=Turns(
        system="<<SYS>>\n{content}\n<</SYS>>\n\n",
        system_place="first question",
        user="[INST] {content} [/INST]",
        header="",
        answer=" {content} {stop}",
        between="{bos}",
    ),
)

LLAMA3_FORM = Turns(
    begin="{bos}",
    system="<|start_header_id|>system<|end_header_id|>\n\n{content}<|eot_id|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>",
    header="<|start_header_id|>assistant<|end_header_id|>\n\n",
    strip=("system", "user", "assistant"),
    alternating=False,
)

DATED_SYSTEM = (
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n{content}<|eot_id|>"
)

LLAMA3 = DeclaredTemplate(
    name="llama3",
    family="llama3",
    source="meta-llama/Meta-Llama-3-8B-Instruct tokenizer_config",
    model="meta-llama/Meta-Llama-3-8B-Instruct",
    verified="A",
    notes="All contents are stripped (LLaMA-Factory and Firefly strip none). Turns end with <|eot_id|>, not with the EOS of the "
    "configuration.",
    stop=("<|eot_id|>", "<|end_of_text|>"),
    eos="<|eot_id|>",
    bos="<|begin_of_text|>",
    bos_in_text=True,
    form=LLAMA3_FORM,
)

LLAMA3_1 = DeclaredTemplate(
    name="llama3.1",
    family="llama3",
    source="meta-llama/Llama-3.1-8B-Instruct tokenizer_config",
    model="meta-llama/Llama-3.1-8B-Instruct",
    verified="A",
    notes="A system block with a date is always written, also without a system message; the date is the hub template's own fixed one, "
    "26 Jul 2024. Llama 3.3 is the same. LLaMA-Factory trains the plain llama3 form, without the date: it is served otherwise.",
    stop=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    eos="<|eot_id|>",
    bos="<|begin_of_text|>",
    bos_in_text=True,
    form=replace(LLAMA3_FORM, system=DATED_SYSTEM, without_system=DATED_SYSTEM),
)

LLAMA3_2 = DeclaredTemplate(
    name="llama3.2",
    family="llama3",
    source="meta-llama/Llama-3.2-3B-Instruct tokenizer_config",
    model="meta-llama/Llama-3.2-3B-Instruct",
    verified="A",
    notes="As llama3.1. The hub template writes today's date, so that the prompt changes every day; here it is fixed at 26 Jul 2024, as "
    "in llama3.1, in training and in what is exported.",
    stop=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    eos="<|eot_id|>",
    bos="<|begin_of_text|>",
    bos_in_text=True,
    form=replace(LLAMA3_FORM, system=DATED_SYSTEM, without_system=DATED_SYSTEM),
)

LLAMA4 = DeclaredTemplate(
    name="llama4",
    family="llama4",
    source="meta-llama/Llama-4-Scout-17B-16E-Instruct chat template (axolotl copy)",
    model="meta-llama/Llama-4-Scout-17B-16E-Instruct",
    verified="B",
    notes="Llama 3's form with other token names. Only the system text is stripped; LLaMA-Factory strips nothing.",
    stop=("<|eot|>", "<|eom|>"),
    eos="<|eot|>",
    bos="<|begin_of_text|>",
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system="<|header_start|>system<|header_end|>\n\n{content}<|eot|>",
        user="<|header_start|>user<|header_end|>\n\n{content}<|eot|>",
        header="<|header_start|>assistant<|header_end|>\n\n",
        strip=("system",),
        alternating=False,
    ),
)

CODELLAMA_70B = DeclaredTemplate(
    name="codellama_70b",
    family="codellama",
    source="codellama/CodeLlama-70b-Instruct-hf tokenizer_config",
    model="codellama/CodeLlama-70b-Instruct-hf",
    verified="A*",
    notes="The prompt names a destination that the history does not, so that earlier answers are rewritten: one rendering for each "
    "answer. The hub template opens a new prompt after a finished dialogue too; its text is no training text. Other sizes use llama2.",
    stop=("<step>", "</s>"),
    eos="<step>",
    bos="<s>",
    bos_in_text=True,
    form=Program(
        one_per_answer=True,
        source=r"""
{{- bos_token -}}
{%- if system is not none -%}{{- 'Source: system\n\n ' ~ (system | trim) ~ ' <step> ' -}}{%- endif -%}
{%- for message in turns -%}
{%- set said = (message['content'] or '') | trim -%}
{%- if message['role'] == 'user' -%}{{- 'Source: user\n\n ' ~ said ~ ' <step> ' -}}
{%- elif loop.last and not add_generation_prompt -%}
{{- 'Source: assistant\nDestination: user\n\n ' -}}{%- generation -%}{{- said ~ ' <step>' -}}{%- endgeneration -%}
{%- else -%}{{- 'Source: assistant\n\n ' ~ said ~ ' <step> ' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Source: assistant\nDestination: user\n\n ' -}}{%- endif -%}
""".strip(),
    ),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    LLAMA2,
    variant(
        LLAMA2, "no_spaces", "LLaMA-Factory and Firefly: no space between [/INST] and the answer nor before EOS, and nothing stripped; "
        "with SentencePiece the first token of the answer is another.", verified="B",
        answer="{content}{stop}", strip=(), strip_with_system=False,
    ),
    variant(
        LLAMA2, "fastchat", "FastChat: Meta's bytes, but nothing stripped and the first <s> left to the tokenizer. FastChat also writes "
        "<s> after the last answer; that is left out.", verified="B",
        bos_in_text=False, user="[INST] {content} [/INST]", between="{bos}", strip=(), strip_with_system=False,
    ),
    variant(
        LLAMA2, "empty_system", "A system message with an empty text keeps the <<SYS>> block, with an empty line inside. llama2 does the "
        "same; the name is for those who look for it.", verified="C",
    ),
    variant(
        LLAMA2, "meta_default_system", "The default system text that Meta published first and took back; many forks still send it, some "
        "with other spaces inside.", verified="C", default_system=META_DEFAULT_SYSTEM,
    ),
    variant(
        LLAMA2, "gogpt_v1", "What GoGPT's first data set class trained: one BOS, and EOS also after every [/INST], so that a prompt must "
        "end '[/INST] </s>', which no server sends. (It also rewrote the word MOSS in the data and always put in a system text.)",
        verified="A", begin="{bos}", user="[INST] {content} [/INST]", header=" {eos}", answer="{content} {stop}", strip=("user",),
    ),
    CHINESE_ALPACA2,
    variant(
        CHINESE_ALPACA2, "fastchat", "FastChat: a longer default system text, and a space around answers.", verified="B",
        default_system="You are a helpful assistant. 你是一个乐于助人的助手。请你提供专业、有逻辑、内容真实、有价值的详细回复。",
        answer=" {content} {stop}",
    ),
    AIROBOROS_V3,
    LLAMA3,
    variant(LLAMA3, "unstripped", "LLaMA-Factory and Firefly keep white space around contents.", verified="B", strip=()),
    LLAMA3_1,
    variant(
        LLAMA3_1, "no_date_header", "The plain llama3 form, which LLaMA-Factory trains for Llama 3.1 too: no date, no system block "
        "without a system message.", verified="A", form=LLAMA3_FORM,
    ),
    LLAMA3_2,
    LLAMA4,
    CODELLAMA_70B,
)
