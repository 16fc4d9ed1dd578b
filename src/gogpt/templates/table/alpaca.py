"""Alpaca and the forms with '### Instruction:' and '### Response:' headers."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate, variant
from gogpt.templates.turns import Turns

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
PREAMBLE_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request."
)
INSTRUCTION = "### Instruction:\n{content}\n\n"
INSTRUCTION_WITH_INPUT = "### Instruction:\n{content}\n\n### Input:\n{input}\n\n"

ALPACA = DeclaredTemplate(
    name="alpaca",
    family="alpaca",
    source="tatsu-lab/stanford_alpaca train.py",
    model="tatsu-lab/alpaca-7b-wdiff",
    verified="A",
    notes="Stanford's training form: no newline after 'Response:', EOS right after the answer, and another preamble when the row has "
    "an input. The source knows one turn and no system message; here a system message replaces the preamble and further turns follow "
    "EOS after a blank line. LLaMA-Factory, FastChat, axolotl and most model cards write another form: see the variants.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    default_system=PREAMBLE,
    default_system_with_input=PREAMBLE_WITH_INPUT,
    form=Turns(
        system="{content}\n\n",
        user=INSTRUCTION,
        user_with_input=INSTRUCTION_WITH_INPUT,
        header="### Response:",
        between="\n\n",
    ),
)

CHINESE_ALPACA = DeclaredTemplate(
    name="chinese_alpaca",
    family="alpaca",
    source="ymcui/Chinese-LLaMA-Alpaca scripts/training/build_dataset.py",
    model="hfl/chinese-alpaca-lora-7b",
    verified="A",
    notes="A space after 'Response:'. The input is joined to the instruction by a newline; there is no '### Input:'. The source knows "
    "one turn; the joint between turns is Alpaca's.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    default_system=PREAMBLE,
    form=Turns(system="{content}\n\n", user=INSTRUCTION, header="### Response: ", between="\n\n"),
)

LINLY = DeclaredTemplate(
    name="linly",
    family="linly",
    source="Linly-AI/Chinese-LLaMA-2-7B-hf model card (CVI-SZU/Linly)",
    model="Linly-AI/Chinese-LLaMA-2-7B-hf",
    verified="C",
    notes="One line: no newline and no space after the first colon, two spaces before '### Response:', the question stripped. One turn "
    "and no system message in the source: a system message is not written, and turns are joined by a newline (ours).",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=Turns(
        system_place="dropped",
        user="### Instruction:{content}  ",
        header="### Response:",
        between="\n",
        strip=("user",),
    ),
)

NOUS_HERMES = DeclaredTemplate(
    name="nous_hermes",
    family="alpaca",
    source="NousResearch/Nous-Hermes-13b, Nous-Hermes-Llama2-13b model cards",
    model="NousResearch/Nous-Hermes-Llama2-13b",
    verified="C",
    notes="Alpaca's headers without its preamble, and a newline after 'Response:'. A system message goes first, with a blank line "
    "(ours). Nous-Hermes-2 and later are chatml.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=Turns(
        system="{content}\n\n",
        user=INSTRUCTION,
        user_with_input=INSTRUCTION_WITH_INPUT,
        header="### Response:\n",
        between="\n\n",
    ),
)

WIZARDLM = DeclaredTemplate(
    name="wizardlm",
    family="wizardlm",
    source="nlpxucan/WizardLM WizardLM/src/train_freeform.py",
    model="WizardLM/WizardLM-7B-V1.0",
    verified="A",
    notes="V1.0 (7B): the bare instruction, a blank line, '### Response:'. One turn and no system message in the source; a system "
    "message goes first with a blank line (ours). V1.1 and later are wizardlm_vicuna.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=Turns(system="{content}\n\n", user="{content}\n\n", header="### Response:", between="\n\n"),
)

WIZARDCODER = DeclaredTemplate(
    name="wizardcoder",
    family="alpaca",
    source="nlpxucan/WizardLM README.md, WizardCoder/src",
    model="WizardLM/WizardCoder-15B-V1.0",
    verified="A",
    notes="Alpaca without its input section; WizardMath uses it too. WizardCoder-15B comes from StarCoder, whose EOS is <|endoftext|>: "
    "the EOS is the tokenizer's own.",
    stop=("</s>", "<|endoftext|>"),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    default_system=PREAMBLE,
    form=Turns(system="{content}\n\n", user=INSTRUCTION, header="### Response:", between="\n\n"),
)

TIGERBOT = DeclaredTemplate(
    name="tigerbot",
    family="tigerbot",
    source="TigerResearch/TigerBot infer.py",
    model="TigerResearch/tigerbot-70b-chat-v2",
    verified="A",
    notes="The text begins with a blank line; no preamble, and a system message is not written. EOS after every answer.",
    stop=("</s>",),
    eos="</s>",
    bos="<s>",
    eos_is_tokenizers=True,
    form=Turns(system_place="dropped", user="\n\n" + INSTRUCTION, header="### Response:\n"),
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    ALPACA,
    variant(
        ALPACA, "llamafactory", "LLaMA-Factory: a newline after 'Response:', a blank line after every EOS (0.9 trains it, here it is not "
        "trained), no '### Input:', and no blank line after a given system message: it must bring its own.", verified="B",
        default_system=PREAMBLE + "\n\n", default_system_with_input=None, system="{content}", user_with_input=None,
        header="### Response:\n", between="", after_answer="\n\n",
    ),
    variant(
        ALPACA, "fastchat", "FastChat: a space, not a newline, after each colon; EOS, then the next '### Instruction:' at once; no "
        "'### Input:'.", verified="B",
        default_system_with_input=None, user="### Instruction: {content}\n\n", user_with_input=None, answer=" {content}{stop}", between="",
    ),
    variant(
        ALPACA, "response_newline", "axolotl's alpaca prompter and most model cards: a newline after 'Response:', all else as Stanford's.",
        verified="C", header="### Response:\n",
    ),
    variant(
        ALPACA, "qlora", "artidoro/qlora: a space after 'Response:' in the prompt. Its collator writes BOS as text; here the tokenizer "
        "adds it.", verified="A", header="### Response: ",
    ),
    CHINESE_ALPACA,
    variant(
        CHINESE_ALPACA, "inference", "What the repository's inference scripts and GoGPT v1 send: blank lines after the colons, which the "
        "model never saw in training.", verified="C", user="### Instruction:\n\n{content}\n\n", header="### Response:\n\n",
    ),
    LINLY,
    variant(
        LINLY, "chatflow", "shibing624/MedicalGPT's 'linly', the older ChatFlow dialogue: 'User:' and 'Bot:' lines, nothing stripped.",
        verified="C", user="User: {content}\n", header="Bot: ", between="", after_answer="\n", strip=(),
    ),
    NOUS_HERMES,
    variant(
        NOUS_HERMES, "with_preamble", "Quantised re-releases put Alpaca's preamble in front: alpaca/response_newline by another name.",
        verified="C", default_system=PREAMBLE, default_system_with_input=PREAMBLE_WITH_INPUT,
    ),
    WIZARDLM,
    variant(
        WIZARDLM, "inference", "The repository's inference_wizardlm.py adds a newline after 'Response:'.", verified="C",
        header="### Response:\n",
    ),
    WIZARDCODER,
    TIGERBOT,
    variant(
        TIGERBOT, "fastchat", "FastChat: Vicuna's default system text first, and a blank line where the EOS should be, so that no stop "
        "token is trained.", verified="B",
        default_system="A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
        "polite answers to the user's questions.",
        system="{content}\n\n", system_place="front", user=INSTRUCTION, answer="{content}\n\n",
    ),
)
