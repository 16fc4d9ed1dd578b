"""ChatGLM and GLM: an answer ends where the next role token begins."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.program import SPLIT_THINK, Program
from gogpt.templates.turns import Turns

CHATGLM2 = DeclaredTemplate(
    name="chatglm2",
    family="chatglm",
    source="THUDM/chatglm2-6b tokenization_chatglm.py build_prompt; THUDM/ChatGLM2-6B ptuning/main.py",
    model="THUDM/chatglm2-6b",
    verified="B*",
    notes="Rounds count from 1, the colons are fullwidth. History has no EOS, a blank line parts its rounds: every answer is a rendering "
    "of its own, as in the official fine-tuning. A system message is not written. [gMASK] and sop are special ids that the tokenizer "
    "puts in front. LLaMA-Factory counts from 0.",
    stop=("</s>",),
    eos="</s>",
    bos="[gMASK]sop",
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system_place="dropped",
        user="[Round {round}]\n\n问：{content}\n\n",
        header="答：",
        answer_in_history="{content}",
        one_per_answer=True,
        between="\n\n",
    ),
)

CHATGLM3 = DeclaredTemplate(
    name="chatglm3",
    family="chatglm",
    source="THUDM/chatglm3-6b tokenizer_config chat template and tokenization_chatglm.py; THUDM/ChatGLM3 PROMPT.md",
    model="THUDM/chatglm3-6b",
    verified="A",
    notes="Role token, newline, then a space: SentencePiece's dummy prefix, since newline and content are encoded apart. An answer ends "
    "where the next <|user|> stands, which is trained as its end; EOS once, after the last. FastChat and LLaMA-Factory leave the space "
    "out, and LLaMA-Factory trains EOS where <|user|> stands.",
    stop=("</s>", "<|user|>", "<|observation|>"),
    eos="</s>",
    bos="[gMASK]sop",
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system="<|system|>\n {content}",
        opening="<|user|>",
        user="\n {content}",
        header="<|assistant|>",
        answer="\n {content}{stop}",
        answer_in_history="\n {content}<|user|>",
    ),
)

GLM4 = DeclaredTemplate(
    name="glm4",
    family="chatglm",
    source="THUDM/glm-4-9b-chat tokenizer_config",
    model="THUDM/glm-4-9b-chat",
    verified="A",
    notes="The newline after <|assistant|> is generated, therefore part of the answer. The hub template writes no end at all: in the "
    "history the next <|user|> ends an answer and is trained as such; the last one gets <|endoftext|>, as in the official fine-tuning "
    "and LLaMA-Factory.",
    stop=("<|endoftext|>", "<|user|>", "<|observation|>"),
    eos="<|endoftext|>",
    bos="[gMASK]<sop>",
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system="<|system|>\n{content}",
        opening="<|user|>",
        user="\n{content}",
        header="<|assistant|>",
        answer="\n{content}{stop}",
        answer_in_history="\n{content}<|user|>",
    ),
)

GLM4_5 = DeclaredTemplate(
    name="glm4_5",
    family="chatglm",
    source="zai-org/GLM-4.5 chat_template.jinja",
    model="zai-org/GLM-4.5-Air",
    verified="A",
    notes="Every answer has a think block on one line, in the history an empty one: every answer is a rendering of its own. Answers are "
    "stripped. The template has no end token: the next <|user|> ends an answer and is trained as the stop token.",
    stop=("<|user|>", "<|endoftext|>", "<|observation|>"),
    eos="<|endoftext|>",
    bos="[gMASK]<sop>",
    bos_in_text=True,
    form=Program(
        one_per_answer=True,
        alternating=False,
        reasoning=True,
        source=SPLIT_THINK.join((
            r"""
{%- set ns = namespace(asked=-1) -%}
{%- for message in turns -%}{%- if message['role'] == 'user' -%}{%- set ns.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{{- bos_token ~ ('' if system is none else '<|system|>\n' ~ system) -}}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}{{- '<|user|>\n' ~ (message['content'] or '') -}}
{%- else -%}
{{- '<|assistant|>' -}}
""".strip(),
            r"""
{%- set thought = thought.strip() if loop.index0 > ns.asked else '' -%}
{%- set said = '\n<think>' ~ thought ~ '</think>' ~ ('\n' ~ said.strip() if said.strip() else '') -%}
{%- if loop.last and not add_generation_prompt -%}{%- generation -%}{{- said ~ '<|user|>' -}}{%- endgeneration -%}
{%- else -%}{{- said -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".strip(),
        )),
    ),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    CHATGLM2,
    variant(
        CHATGLM2, "firefly", "Firefly: EOS instead of the blank line after every answer, so that all are trained in one text. (Firefly also "
        "strips contents.)", verified="B*", answer_in_history=None, one_per_answer=False, between="",
    ),
    variant(
        CHATGLM2, "llamafactory", "LLaMA-Factory: rounds from 0, a fault, and nothing between rounds; an earlier answer is trained without "
        "any end.", verified="B*", user="[Round {round0}]\n\n问：{content}\n\n", one_per_answer=False, between="",
    ),
    CHATGLM3,
    variant(
        CHATGLM3, "no_space", "FastChat and LLaMA-Factory: without the space of the dummy prefix. The ids are the same only where newline "
        "and content are encoded apart.", verified="B",
        system="<|system|>\n{content}", user="\n{content}", answer="\n{content}{stop}", answer_in_history="\n{content}<|user|>",
    ),
    variant(
        CHATGLM3, "firefly", "Firefly: no newline after role tokens and EOS after every answer, unlike the official prompt. (Its own "
        "default system text is left out.)", verified="C",
        system="<|system|>{content}", opening="", user="<|user|>{content}", answer="{content}{stop}", answer_in_history=None,
    ),
    GLM4,
    variant(
        GLM4, "user_as_stop", "The last answer ends with <|user|> too, which the released chat models emit first.", verified="C",
        stop=("<|user|>", "<|endoftext|>", "<|observation|>"),
    ),
    GLM4_5,
)
