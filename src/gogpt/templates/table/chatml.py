"""ChatML: <|im_start|>role, content, <|im_end|>."""

from __future__ import annotations

from dataclasses import replace

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.turns import Turns

CHATML_FORM = Turns(
    system="<|im_start|>system\n{content}<|im_end|>\n",
    user="<|im_start|>user\n{content}<|im_end|>\n",
    header="<|im_start|>assistant\n",
    after_answer="\n",
    alternating=False,
)

INTERNLM_IDENTITY = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n- InternLM (书生·浦语) is a conversational language model that is "
    "developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n- InternLM (书生·浦语) can "
    "understand and communicate fluently in the language chosen by the user such as English and 中文."
)

CHATML = DeclaredTemplate(
    name="chatml",
    family="chatml",
    source="teknium/OpenHermes-2.5-Mistral-7B tokenizer_config (via ggml-org/llama.cpp tests)",
    model="teknium/OpenHermes-2.5-Mistral-7B",
    verified="A",
    notes="No default system text. The newline after <|im_end|> is not trained: LLaMA-Factory and the first Qwen recipe train it. "
    "FastChat's entries carry system texts of their own; the Qwen and SmolLM families have templates of their own here.",
    stop=("<|im_end|>",),
    eos="<|im_end|>",
    bos="<s>",
    form=CHATML_FORM,
)

QWEN = DeclaredTemplate(
    name="qwen",
    family="chatml",
    source="QwenLM/Qwen finetune.py, qwen_generation_utils.py (Qwen-*-Chat); Qwen1.5/Qwen2 tokenizer_config",
    model="Qwen/Qwen2-7B-Instruct",
    verified="A",
    notes="Qwen, Qwen1.5 and Qwen2: chatml with a default system text; no BOS. Qwen's own fine-tuning also trains the marks and newlines "
    "of every message, the user's included. LLaMA-Factory's 'qwen' took Qwen2.5's text with 0.9.",
    stop=("<|im_end|>", "<|endoftext|>"),
    eos="<|im_end|>",
    default_system="You are a helpful assistant.",
    form=CHATML_FORM,
)

YI = DeclaredTemplate(
    name="yi",
    family="chatml",
    source="01-ai/Yi-34B-Chat tokenizer_config",
    model="01-ai/Yi-1.5-9B-Chat",
    verified="A",
    notes="Yi-34B-Chat: chatml without a default system text. Yi-1.5's hub template writes the system text bare (variant).",
    stop=("<|im_end|>",),
    eos="<|im_end|>",
    bos="<|startoftext|>",
    form=CHATML_FORM,
)

INTERNLM2 = DeclaredTemplate(
    name="internlm2",
    family="chatml",
    source="internlm/internlm2-chat-7b tokenizer_config; InternLM/InternLM chat/chat_format.md",
    model="internlm/internlm2_5-7b-chat",
    verified="A*",
    notes="Chatml after one BOS, no default system text. model.chat() adds a long identity; the first hub template also writes EOS after "
    "a finished dialogue (variants).",
    stop=("<|im_end|>", "</s>"),
    eos="</s>",
    bos="<s>",
    bos_in_text=True,
    eos_is_tokenizers=True,
    form=replace(CHATML_FORM, begin="{bos}"),
)

SMOLLM2 = DeclaredTemplate(
    name="smollm2",
    family="chatml",
    source="HuggingFaceTB/SmolLM2-1.7B-Instruct tokenizer_config",
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    verified="A",
    notes="Chatml with a default system text that has no full stop at its end; LLaMA-Factory's has one, which is another text.",
    stop=("<|im_end|>",),
    eos="<|im_end|>",
    bos="<|im_start|>",
    default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    form=CHATML_FORM,
)

ORCA2 = DeclaredTemplate(
    name="orca2",
    family="chatml",
    source="microsoft/Orca-2-7b model card",
    model="microsoft/Orca-2-7b",
    verified="B*",
    notes="Chatml. The card and FastChat give a long system text; it is not filled in here.",
    stop=("<|im_end|>", "</s>"),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=CHATML_FORM,
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    CHATML,
    variant(
        CHATML, "default_system", "Hub models that fill in this system text when none is given (Qwen, Qwen1.5, Qwen2).", verified="C",
        default_system="You are a helpful assistant.",
    ),
    variant(
        CHATML, "no_final_newline", "Templates that write the newline between turns only, none after the last (first release of Qwen1.5, "
        "some of ollama's).", verified="C", after_answer="", between="\n",
    ),
    QWEN,
    variant(
        QWEN, "qwen1.5_first_release", "The first Qwen1.5 chat template: the default text has no full stop, and the last message gets no "
        "<|im_end|>, so that its stop token is not trained.", verified="A",
        default_system="You are a helpful assistant", answer="{content}", answer_in_history="{content}{stop}", after_answer="", between="\n",
    ),
    YI,
    variant(
        YI, "yi1.5_bare_system", "Yi-1.5's hub template: the system text stands bare in front, without a block.", verified="A",
        system="{content}",
    ),
    INTERNLM2,
    variant(
        INTERNLM2, "hub_jinja", "The first hub template: EOS after the last newline of a finished dialogue.", verified="A", end="{eos}",
    ),
    variant(
        INTERNLM2, "meta_instruction", "The default system text of model.chat(), LLaMA-Factory's 'intern2' and Firefly (which writes no "
        "BOS).", verified="B", default_system=INTERNLM_IDENTITY,
    ),
    SMOLLM2,
    variant(
        SMOLLM2, "llamafactory", "LLaMA-Factory: a full stop at the end of the default system text.", verified="B",
        default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
    ),
    ORCA2,
)
