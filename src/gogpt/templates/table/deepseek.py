"""DeepSeek: the LLM and V2 chat form, Coder, V3, and R1, which drops reasoning from the history."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.program import SPLIT_THINK, Program
from gogpt.templates.turns import Turns

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"


def _r1(*, prompt: str, opens: str) -> Program:
    """``prompt``: what the prompt writes after <｜Assistant｜>; ``opens``: what the answer begins with."""
    header = "{{- '<｜Assistant｜>" + prompt + "' -}}"
    source = (
        r"""
{{- bos_token ~ ('' if system is none else system) -}}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}{{- '<｜User｜>' ~ (message['content'] or '') -}}
{%- elif loop.last and not add_generation_prompt -%}
""".strip()
        + SPLIT_THINK + header + "{%- generation -%}{{- '" + opens
        + r"""
' ~ thought ~ '\n</think>\n\n' ~ said ~ eos_token -}}{%- endgeneration -%}
{%- else -%}{{- '<｜Assistant｜>' ~ (message['content'] or '').split('</think>')[-1] ~ eos_token -}}{%- endif -%}
{%- endfor -%}
""".strip()
        + "{%- if add_generation_prompt -%}" + header + "{%- endif -%}"
    )
    return Program(source=source, one_per_answer=True, alternating=False, reasoning=True)


DEEPSEEK = DeclaredTemplate(
    name="deepseek",
    family="deepseek",
    source="deepseek-ai/deepseek-llm-7b-chat tokenizer_config",
    model="deepseek-ai/deepseek-llm-7b-chat",
    verified="A",
    notes="DeepSeek-LLM, MoE and V2 chat. The space after 'Assistant:' is part of the answer; LLaMA-Factory and Firefly have it "
    "otherwise. FastChat's entry keeps BOS as its system text, so that a given system message takes it away.",
    stop=(EOS,),
    eos=EOS,
    bos=BOS,
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system="{content}\n\n",
        user="User: {content}\n\n",
        header="Assistant:",
        answer=" {content}{stop}",
        alternating=False,
    ),
)

DEEPSEEK_V3 = DeclaredTemplate(
    name="deepseek_v3",
    family="deepseek",
    source="deepseek-ai/DeepSeek-V3 tokenizer_config",
    model="deepseek-ai/DeepSeek-V3",
    verified="A",
    notes="The bars in the token names are fullwidth and the blanks are U+2581. The system text stands bare between BOS and the first "
    "<｜User｜>.",
    stop=(EOS,),
    eos=EOS,
    bos=BOS,
    bos_in_text=True,
    form=Turns(begin="{bos}", user="<｜User｜>{content}", header="<｜Assistant｜>", alternating=False),
)

DEEPSEEK_CODER = DeclaredTemplate(
    name="deepseek_coder",
    family="deepseek",
    source="deepseek-ai/deepseek-coder-33b-instruct tokenizer_config",
    model="deepseek-ai/deepseek-coder-6.7b-instruct",
    verified="A",
    notes="An answer ends with a newline and <|EOT|>. A given system text stands bare, without a newline of its own; the default text has "
    "no full stop and writes 'Deepseek'. LLaMA-Factory and FastChat write 'DeepSeek' and a full stop, and move the newline after "
    "'Response:' into the answer.",
    stop=("<|EOT|>",),
    eos="<|EOT|>",
    bos=BOS,
    bos_in_text=True,
    default_system="You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, and you only "
    "answer questions related to computer science. For politically sensitive questions, security and privacy issues, and other "
    "non-computer science questions, you will refuse to answer\n",
    form=Turns(
        begin="{bos}",
        user="### Instruction:\n{content}\n",
        header="### Response:\n",
        answer="{content}\n{stop}",
        after_answer="\n",
        alternating=False,
    ),
)

DEEPSEEK_R1 = DeclaredTemplate(
    name="deepseek_r1",
    family="deepseek",
    source="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B tokenizer_config (2025-02 and later)",
    model="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    verified="A*",
    notes="The prompt opens the think block, so that what is trained begins inside it; an answer without reasoning is trained as newline, "
    "</think>, blank line, answer. History drops everything up to </think> (not the newlines after it): every answer is a rendering of "
    "its own. The hub template drops the reasoning of the last answer as well; its text of a finished dialogue is no training text.",
    stop=(EOS,),
    eos=EOS,
    bos=BOS,
    bos_in_text=True,
    form=_r1(prompt=r"<think>\n", opens=""),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    DEEPSEEK,
    variant(DEEPSEEK, "llamafactory", "LLaMA-Factory: no space after 'Assistant:'.", verified="B", answer="{content}{stop}"),
    variant(
        DEEPSEEK, "firefly", "Firefly: the space after 'Assistant:' is in the prompt, no BOS, contents stripped, a system message is not "
        "written.", verified="B", bos_in_text=False, begin="", system_place="dropped", header="Assistant: ", answer="{content}{stop}",
        strip=("user", "assistant"),
    ),
    DEEPSEEK_V3,
    DEEPSEEK_CODER,
    DEEPSEEK_R1,
    variant(
        DEEPSEEK_R1, "first_release", "The template of January 2025: the prompt ends at <｜Assistant｜>, and the opening tag is generated.",
        verified="A*", form=_r1(prompt="", opens=r"<think>\n"),
    ),
)
