"""The table of declared templates. To add one, add an entry; the tests then hold it to its oracle, to its
exported chat template, to prefix stability and to a trained stop marker."""

from __future__ import annotations

from gogpt.templates.template import DeclaredTemplate

ALPACA = DeclaredTemplate(
    name="alpaca",
    source="tatsu-lab/stanford_alpaca train.py",
    model="tatsu-lab/alpaca-7b-wdiff",
    notes="One turn and no system message in the source. Here a system message replaces the preamble, and "
    "further turns follow EOS after a blank line. No newline after 'Response:'.",
    eos_is_tokenizers=True,
    bos="<s>",
    bos_in_text=False,
    stop=("</s>",),
    system="{content}\n\n",
    default_system="Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.",
    default_system_with_input="Below is an instruction that describes a task, paired with an input that "
    "provides further context. Write a response that appropriately completes the request.",
    user="### Instruction:\n{content}\n\n",
    user_with_input="### Instruction:\n{content}\n\n### Input:\n{input}\n\n",
    header="### Response:",
    before_user="\n\n",
)

LLAMA2 = DeclaredTemplate(
    name="llama2",
    source="meta-llama/llama llama/generation.py chat_completion",
    model="meta-llama/Llama-2-7b-chat-hf",
    notes="BOS and EOS of every turn belong to the form. System text and first question are joined, then "
    "stripped; answers are stripped, with one space before and after. Without a system message there is no "
    "<<SYS>> block.",
    eos_is_tokenizers=True,
    bos="<s>",
    bos_per_turn=True,
    stop=("</s>",),
    system="<<SYS>>\n{content}\n<</SYS>>\n\n",
    system_in_user=True,
    user="[INST] {content} [/INST]",
    header="",
    before_answer=" ",
    before_stop=" ",
    strip=("user", "assistant"),
)

CHATML = DeclaredTemplate(
    name="chatml",
    source="openai/openai-python chatml.md",
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    notes="No default system message here; models of the Qwen and SmolLM families fill one in, in their own "
    "chat template (template: auto).",
    stop=("<|im_end|>",),
    system="<|im_start|>system\n{content}<|im_end|>\n",
    user="<|im_start|>user\n{content}<|im_end|>\n",
    header="<|im_start|>assistant\n",
    after_stop="\n",
    alternating=False,
)

LLAMA3 = DeclaredTemplate(
    name="llama3",
    source="meta-llama/Meta-Llama-3-8B-Instruct tokenizer_config",
    model="meta-llama/Meta-Llama-3-8B-Instruct",
    notes="All contents are stripped. Turns end with <|eot_id|>, not with the EOS of the configuration.",
    bos="<|begin_of_text|>",
    stop=("<|eot_id|>", "<|end_of_text|>"),
    system="<|start_header_id|>system<|end_header_id|>\n\n{content}<|eot_id|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>",
    header="<|start_header_id|>assistant<|end_header_id|>\n\n",
    strip=("system", "user", "assistant"),
    alternating=False,
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (ALPACA, LLAMA2, CHATML, LLAMA3)
