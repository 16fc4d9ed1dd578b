"""Forms with special role tokens of single makers: Google, Microsoft, Hugging Face, AI2, BigCode, IBM, Cohere and others."""

from __future__ import annotations

from dataclasses import replace

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.turns import Turns

GEMMA_FORM = Turns(
    begin="{bos}",
    system="{content}\n\n",
    system_place="first question",
    user="<start_of_turn>user\n{content}<end_of_turn>\n",
    header="<start_of_turn>model\n",
    after_answer="\n",
    strip=("user", "assistant"),
)

GEMMA = DeclaredTemplate(
    name="gemma",
    family="gemma",
    source="google/gemma-7b-it, google/gemma-2-*-it tokenizer_config",
    model="google/gemma-2-2b-it",
    verified="A",
    notes="Gemma and Gemma 2. The role is 'model'; contents are stripped. The hub template refuses a system message; here it goes where "
    "gemma3 puts it. LLaMA-Factory strips nothing (its older versions also write <eos>); Firefly trains <eos> instead of <end_of_turn>.",
    stop=("<end_of_turn>", "<eos>"),
    eos="<eos>",
    bos="<bos>",
    bos_in_text=True,
    form=GEMMA_FORM,
)

GEMMA3 = DeclaredTemplate(
    name="gemma3",
    family="gemma",
    source="google/gemma-3-4b-it chat_template.json",
    model="google/gemma-3-4b-it",
    verified="A",
    notes="Gemma's form; a system text stands before the first question with a blank line, and it alone is not stripped. LLaMA-Factory "
    "strips nothing.",
    stop=("<end_of_turn>", "<eos>"),
    eos="<eos>",
    bos="<bos>",
    bos_in_text=True,
    form=GEMMA_FORM,
)

PHI3 = DeclaredTemplate(
    name="phi3",
    family="phi",
    source="microsoft/Phi-3-mini-4k-instruct, Phi-3.5-mini-instruct tokenizer_config",
    model="microsoft/Phi-3.5-mini-instruct",
    verified="A",
    notes="Newer hub templates write EOS after a finished dialogue, early ones BOS and no system text (variants); phi-3-small has another "
    "BOS.",
    stop=("<|end|>", "<|endoftext|>"),
    eos="<|endoftext|>",
    bos="<s>",
    form=Turns(
        system="<|system|>\n{content}<|end|>\n",
        user="<|user|>\n{content}<|end|>\n",
        header="<|assistant|>\n",
        after_answer="\n",
        alternating=False,
    ),
)

PHI4 = DeclaredTemplate(
    name="phi4",
    family="phi",
    source="microsoft/phi-4 tokenizer_config",
    model="microsoft/phi-4",
    verified="A",
    notes="Like chatml, with <|im_sep|> and no newline at all.",
    stop=("<|im_end|>",),
    eos="<|im_end|>",
    bos="<|endoftext|>",
    form=Turns(
        system="<|im_start|>system<|im_sep|>{content}<|im_end|>",
        user="<|im_start|>user<|im_sep|>{content}<|im_end|>",
        header="<|im_start|>assistant<|im_sep|>",
        alternating=False,
    ),
)

PHI4_MINI = DeclaredTemplate(
    name="phi4_mini",
    family="phi",
    source="microsoft/Phi-4-mini-instruct tokenizer_config",
    model="microsoft/Phi-4-mini-instruct",
    verified="A",
    notes="phi3 without newlines. The hub template writes <|endoftext|> after a finished dialogue; LLaMA-Factory does not.",
    stop=("<|end|>", "<|endoftext|>"),
    eos="<|endoftext|>",
    bos="<|endoftext|>",
    form=Turns(
        system="<|system|>{content}<|end|>",
        user="<|user|>{content}<|end|>",
        header="<|assistant|>",
        end="{eos}",
        alternating=False,
    ),
)

ZEPHYR = DeclaredTemplate(
    name="zephyr",
    family="zephyr",
    source="HuggingFaceH4/zephyr-7b-beta tokenizer_config; huggingface/alignment-handbook",
    model="HuggingFaceH4/zephyr-7b-beta",
    verified="A",
    notes="EOS ends every message; no BOS. Without a system message there is no system block, as in the hub template; the authors' training "
    "code put in an empty one (variant). TinyLlama-Chat is the same.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=Turns(
        system="<|system|>\n{content}{eos}\n",
        user="<|user|>\n{content}{eos}\n",
        header="<|assistant|>\n",
        after_answer="\n",
        alternating=False,
    ),
)

TULU_FORM = Turns(
    system="<|system|>\n{content}\n",
    user="<|user|>\n{content}\n",
    header="<|assistant|>\n",
    between="\n",
    alternating=False,
)

TULU = DeclaredTemplate(
    name="tulu",
    family="tulu",
    source="allenai/open-instruct open_instruct/dataset_transformation.py (tulu)",
    model="allenai/tulu-2-7b",
    verified="A",
    notes="Turns end with a newline, answers with EOS and a newline, but nothing follows the last EOS. FastChat's 'tulu' has no EOS.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=TULU_FORM,
)

OLMO = DeclaredTemplate(
    name="olmo",
    family="tulu",
    source="allenai/OLMo-7B-Instruct, OLMo-2-1124-7B-Instruct tokenizer_config",
    model="allenai/OLMo-2-1124-7B-Instruct",
    verified="A",
    notes="Tulu's form after a BOS; BOS and EOS are both <|endoftext|>. LLaMA-Factory leaves out newlines and the system tag.",
    stop=("<|endoftext|>",),
    eos="<|endoftext|>",
    bos="<|endoftext|>",
    bos_in_text=True,
    form=replace(TULU_FORM, begin="{bos}"),
)

STARCHAT = DeclaredTemplate(
    name="starchat",
    family="starchat",
    source="bigcode-project/starcoder chat/dialogues.py (HuggingFaceH4/starchat-alpha, -beta)",
    model="HuggingFaceH4/starchat-beta",
    verified="A",
    notes="An empty system block is part of the form. The prompt stops before the newline after <|assistant|>: it belongs to the answer. "
    "LLaMA-Factory and FastChat differ in both.",
    stop=("<|end|>",),
    eos="<|endoftext|>",
    form=Turns(
        system="<|system|>\n{content}<|end|>\n",
        without_system="<|system|>\n{content}<|end|>\n",
        user="<|user|>\n{content}<|end|>\n",
        header="<|assistant|>",
        answer="\n{content}{stop}",
        after_answer="\n",
        alternating=False,
    ),
)

OPENCHAT = DeclaredTemplate(
    name="openchat",
    family="openchat",
    source="openchat/openchat-3.5-0106 tokenizer_config; imoneoi/openchat",
    model="openchat/openchat-3.5-0106",
    verified="A",
    notes="The hub template gives a system message the role 'GPT4 Correct System'; the authors' server writes it bare. The space after "
    "'Assistant:' is part of the answer. FastChat and LLaMA-Factory differ in both.",
    stop=("<|end_of_turn|>",),
    eos="<|end_of_turn|>",
    bos="<s>",
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system="GPT4 Correct System: {content}<|end_of_turn|>",
        user="GPT4 Correct User: {content}<|end_of_turn|>",
        header="GPT4 Correct Assistant:",
        answer=" {content}{stop}",
        alternating=False,
    ),
)

FALCON = DeclaredTemplate(
    name="falcon",
    family="falcon",
    source="tiiuae/falcon-7b-instruct tokenizer_config",
    model="tiiuae/falcon-7b-instruct",
    verified="B*",
    notes="The text begins with a blank line. Contents are stripped, and in questions and answers a blank line becomes a newline. The hub "
    "template writes no EOS; <|endoftext|> is trained here. FastChat and LLaMA-Factory differ.",
    stop=("<|endoftext|>", "\nUser"),
    eos="<|endoftext|>",
    form=Turns(
        user="\n\nUser: {content}",
        header="\n\nAssistant:",
        answer=" {content}{stop}",
        strip=("system", "user", "assistant"),
        join_blank_lines=("user", "assistant"),
    ),
)

GRANITE3 = DeclaredTemplate(
    name="granite3",
    family="granite",
    source="ibm-granite/granite-3.0-8b-instruct tokenizer_config",
    model="ibm-granite/granite-3.0-8b-instruct",
    verified="A",
    notes="Granite 3.0. From 3.1 on the hub template fills in a system text with today's date where none is given; here none.",
    stop=("<|end_of_text|>",),
    eos="<|end_of_text|>",
    bos="<|end_of_text|>",
    form=Turns(
        system="<|start_of_role|>system<|end_of_role|>{content}<|end_of_text|>\n",
        user="<|start_of_role|>user<|end_of_role|>{content}<|end_of_text|>\n",
        header="<|start_of_role|>assistant<|end_of_role|>",
        after_answer="\n",
        alternating=False,
    ),
)

COMMAND_R = DeclaredTemplate(
    name="command_r",
    family="cohere",
    source="CohereForAI/c4ai-command-r-v01, c4ai-command-r-plus tokenizer_config",
    model="CohereForAI/c4ai-command-r-v01",
    verified="A",
    notes="Questions and answers are stripped, the system text is not. LLaMA-Factory strips nothing.",
    stop=("<|END_OF_TURN_TOKEN|>",),
    eos="<|END_OF_TURN_TOKEN|>",
    bos="<BOS_TOKEN>",
    bos_in_text=True,
    form=Turns(
        begin="{bos}",
        system="<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{content}<|END_OF_TURN_TOKEN|>",
        user="<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{content}<|END_OF_TURN_TOKEN|>",
        header="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        strip=("user", "assistant"),
    ),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    GEMMA,
    variant(GEMMA, "unstripped", "LLaMA-Factory: nothing is stripped.", verified="B", strip=()),
    GEMMA3,
    PHI3,
    variant(
        PHI3, "final_eos", "Hub templates of Phi-3-mini (July 2024) and Phi-3.5: EOS after a finished dialogue.", verified="A", end="{eos}",
    ),
    variant(
        PHI3, "early_with_bos", "Hub templates of the first releases: BOS in the text; a system message is dropped in silence.",
        verified="A", bos_in_text=True, begin="{bos}", system_place="dropped",
    ),
    PHI4,
    PHI4_MINI,
    variant(PHI4_MINI, "no_final_eos", "LLaMA-Factory: nothing after the last <|end|>.", verified="B", end=""),
    ZEPHYR,
    variant(
        ZEPHYR, "empty_system", "alignment-handbook's training code: an empty system block where no system message is given.",
        verified="C", without_system="<|system|>\n{content}{eos}\n",
    ),
    variant(
        ZEPHYR, "llamafactory", "LLaMA-Factory: no newline after EOS, and a default system text.", verified="B",
        default_system="You are Zephyr, a helpful assistant.",
        system="<|system|>\n{content}{eos}", user="<|user|>\n{content}{eos}", after_answer="",
    ),
    TULU,
    OLMO,
    variant(
        OLMO, "llamafactory", "LLaMA-Factory: no newline after the question or between turns, and the system text bare after BOS.",
        verified="B", system="{content}", user="<|user|>\n{content}", between="",
    ),
    STARCHAT,
    variant(
        STARCHAT, "llamafactory", "LLaMA-Factory: no empty system block, and the answer follows <|assistant|> at once.", verified="B",
        without_system=None, answer="{content}{stop}",
    ),
    variant(
        STARCHAT, "fastchat", "FastChat: '<system>' instead of the special token, and the newline after <|assistant|> in the prompt.",
        verified="B", system="<system>\n{content}<|end|>\n", without_system="<system>\n{content}<|end|>\n", header="<|assistant|>\n",
        answer="{content}{stop}",
    ),
    OPENCHAT,
    variant(
        OPENCHAT, "fastchat", "FastChat: the system text bare before <|end_of_turn|>; no BOS in the text.", verified="B",
        bos_in_text=False, begin="", system="{content}<|end_of_turn|>",
    ),
    variant(
        OPENCHAT, "llamafactory", "LLaMA-Factory: no space after 'Assistant:', and the system text bare.", verified="B",
        system="{content}", answer="{content}{stop}",
    ),
    FALCON,
    variant(
        FALCON, "falcon_180b", "Falcon-180B-chat (FastChat's falcon-chat): the role is 'Falcon', lines end with a newline, and no EOS is "
        "trained.", verified="B", system="System: {content}\n", user="User: {content}\n", header="Falcon:", answer=" {content}\n",
        strip=(), join_blank_lines=(),
    ),
    GRANITE3,
    COMMAND_R,
)
