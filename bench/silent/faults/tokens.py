"""Faults in what is encoded and trained."""

from __future__ import annotations

from typing import Any

from ..cases import (
    GOGPT,
    LLAMAFACTORY,
    MODELS,
    TRL,
    Case,
    Step,
    gogpt,
    gogpt_files,
    jsonl,
    lf_files,
    llamafactory,
    same,
    trl,
)
from .fault import Fault
from .rows import FEW, NUM_ROWS, answer, changed, chats, long_questions, plain, question, row

CUT_WORDS = (r"\bcut", r"truncat", r"no trained token", r"longer than", r"too long", r"exceed", r"fully masked|all masked|all.*-100")


def _length(tokens: int, *, packing: bool = False) -> dict[str, Any]:
    return {
        "gogpt_": {"data": {"max_length": tokens, "overlong": "truncate", "packing": packing}},
        "trl_": {"max_length": tokens, **({"packing": True} if packing else {})},
        "lf_": {"cutoff_len": tokens, **({"packing": True} if packing else {})},
    }


CUT_ALL = Fault(
    id="cut_all", title="the longest length cuts off every answer", rows="4, 9; Firefly#293, unsloth#2900",
    planted="questions of 120 tokens, a longest length of 64",
    caught="it is said that answers, or rows, are cut", keywords=CUT_WORDS,
    faulty=same(long_questions(), **_length(64)), healthy=same(long_questions(), **_length(256)))

CUT_HALF = Fault(
    id="cut_half", title="the longest length cuts off every second answer", rows="4, 9; LLaMA-Factory#5231, #3945",
    planted="the same in every second row", caught="it is said that answers, or rows, are cut or left out",
    keywords=(*CUT_WORDS, r"rows? (are|is|were) dropped"),
    faulty=same(long_questions(0.5), **_length(64)), healthy=same(long_questions(0.5), **_length(256)))

CUT_PACKED = Fault(
    id="cut_packed", title="the same with packing: every label is masked", rows="4, 10; trl#4632",
    planted="cut_all, with packing", caught="it is said that answers, or rows, are cut, or that nothing is trained", keywords=(*CUT_WORDS, r"loss is exactly"),
    faulty=same(long_questions(), **_length(64, packing=True)), healthy=same(long_questions(), **_length(256, packing=True)))

CUT_CHATS = Fault(
    id="cut_chats", title="the last turns of every chat are cut off", rows="9; LLaMA-Factory#3143",
    planted="chats of five turns, about 200 tokens, a longest length of 96", caught="it is said that answers, turns, or rows, are cut", keywords=CUT_WORDS,
    faulty=same(chats(), **_length(96)), healthy=same(chats(), **_length(448)))


def _ids(masked: bool) -> list[dict[str, Any]]:
    rows = [[1, *range(30 + i, 50 + i), 2] for i in range(NUM_ROWS)]
    return [{"input_ids": ids, "labels": [-100] * len(ids) if masked else [-100] * 11 + ids[11:]} for ids in rows]


SAVE_IDS = """import json
from datasets import Dataset, DatasetDict
rows = [json.loads(line) for line in open("ids.jsonl", encoding="utf-8")]
DatasetDict({"train": Dataset.from_list([{**r, "attention_mask": [1] * len(r["input_ids"])} for r in rows])}).save_to_disk("tokenized")
"""


def _masked(masked: bool) -> dict[str, Case]:
    files = lf_files(plain(), {"tokenized_path": "tokenized"})
    return {
        TRL: trl(_ids(masked), {"assistant_only_loss": None}),
        LLAMAFACTORY: Case(steps=(Step(words=("python", "make.py"), files={"make.py": SAVE_IDS, "ids.jsonl": jsonl(_ids(masked))}),
                                  Step(words=("train", "train.yaml"), files=files))),
    }


MASKED_IDS = Fault(
    id="masked_ids", title="ready token ids whose labels are all masked", rows="4, 12; FastChat#2389, trl PR#6025",
    planted="rows of input_ids and labels, every label -100", caught="it is said that no label is left, or that the loss is exactly 0",
    keywords=(r"masked", r"-100", r"no (trained|label)", r"loss is exactly"),
    faulty=_masked(True), healthy=_masked(False),
    not_here={GOGPT: "takes no labels made elsewhere: it makes them from conversations"})

STOP_OUTSIDE = Fault(
    id="stop_outside", title="the stop token lies outside the trained span", rows="6, 7; trl PR#7230, axolotl#3754",
    planted="a chat template whose generation marks end before <|im_end|>", caught="it is said that the stop token is not trained, or it is trained",
    keywords=(r"end-of-turn token", r"stop token", r"learn to stop"), harm="stops",
    faulty={GOGPT: gogpt(plain(), {}, model="stop_outside"), TRL: trl(plain(), {}, model="stop_outside")},
    healthy={GOGPT: gogpt(plain(), {}), TRL: trl(plain(), {})},
    not_here={LLAMAFACTORY: "does not read generation marks; its own templates train the stop token"})

NO_STOP = Fault(
    id="no_stop", title="a chat template without any stop token", rows="6, 9; axolotl#3754",
    planted="a chat template that ends answers with a line break alone", caught="it is said that no stop token is trained",
    keywords=(r"end-of-turn token", r"stop (token|marker)", r"learn to stop", r"eos.*(not|never|missing)"), harm="stops",
    faulty=same(plain(), model="no_stop", lf_={"template": None}), healthy=same(plain(), lf_={"template": None}))

PAD_IS_EOS = Fault(
    id="pad_is_eos", title="the padding token is the stop token", rows="8; trl#1623, unsloth#416",
    planted="pad_token = eos_token = <|im_end|>", caught="it is said, or the stop token is trained nevertheless",
    keywords=(r"pad\w*( token)? (is|=|equals|and|as).*(eos|stop)", r"(eos|stop)\w*( token)? (is|=|equals|as).*pad"), harm="stops",
    faulty=same(plain(), model="pad_is_eos"), healthy=same(plain()))


def _spelled(r: Any, i: int) -> Any:
    return row(f"{question(i)} <|im_end|>\n<|im_start|>assistant\nEverything. <|im_end|>", answer(i))


SPECIAL_TEXT = Fault(
    id="special_text", title="a user's text spells special tokens", rows="14 (a relative)",
    planted="three of 48 questions hold <|im_end|> and <|im_start|>assistant as text", caught="it is said that text spells special tokens",
    keywords=(r"spell", r"special token.*(text|content|data)", r"(text|content|data).*special token"),
    faulty=same(changed(plain(), FEW, _spelled)), healthy=same(plain()))


def _texts(bos: str) -> list[dict[str, Any]]:
    return [{"text": f"{bos}{question(i)} {answer(i)}"} for i in range(NUM_ROWS)]


def _text_cases(bos: str) -> dict[str, Case]:
    columns = {"columns": {"prompt": "text"}}
    return {
        GOGPT: gogpt(_texts(bos), {"stage": "pretrain", "data": {"max_length": 64, "packing": True}, "train": {"epochs": 1}}, model="two_bos"),
        TRL: trl(_texts(bos), {"assistant_only_loss": None}, model="two_bos"),
        LLAMAFACTORY: llamafactory(_texts(bos), {"stage": "pt", "template": None, "cutoff_len": 64}, model="two_bos", info=columns),
    }


TWO_BOS = Fault(
    id="two_bos", title="BOS twice: rendered texts that begin with it, and a tokenizer that adds it", rows="14; OpenRLHF#393, trl PR#1114",
    planted='rows {"text": "<s>..."} and a tokenizer that puts <s> first', caught="it is said, or BOS stands once",
    keywords=(r"\bBOS\b.*(twice|two|double|already)", r"(twice|two|double).*\bBOS\b", r"spell", r"special token"), harm="double_bos",
    faulty=_text_cases("<s>"), healthy=_text_cases(""))


def _packed(kind: str) -> dict[str, Case]:
    naive = kind == "naive"
    return {
        GOGPT: gogpt(plain(), {"data": {"packing": True, "max_length": 128}, "train": {"batch_size": 1, "micro_batch_size": 1}}, leak=True),
        TRL: trl(plain(), {"packing": True, "packing_strategy": "wrapped" if naive else "bfd", "max_length": 128, "per_device_train_batch_size": 1}, leak=True),
        LLAMAFACTORY: llamafactory(plain(), {"packing": True, "neat_packing": not naive, "cutoff_len": 128, "per_device_train_batch_size": 1}, leak=True),
    }


PACKING_LEAKS = Fault(
    id="packing_leaks", title="packed documents see each other", rows="17; axolotl PR#3796, transformers PR#46634",
    planted="the tool's packing that does not part documents (TRL: wrapped; LLaMA-Factory: packing; GoGPT has one packing alone)",
    caught="it is said, or the documents do not see each other", keywords=(r"contaminat", r"leak", r"(see|attend).*(each other|across)", r"across (documents|samples)"),
    harm="leak", faulty=_packed("naive"), healthy=_packed("parted"))


def _column(name: str) -> dict[str, Case]:
    alpaca = [{"instruction": question(i), "input": "", name: answer(i)} for i in range(NUM_ROWS)]
    pairs = [{"prompt": question(i), "completion" if name == "output" else "completoin": answer(i)} for i in range(NUM_ROWS)]
    return {GOGPT: gogpt(alpaca, {}), TRL: trl(pairs, {"assistant_only_loss": None}), LLAMAFACTORY: llamafactory(alpaca, {}, info={})}


COLUMN = Fault(
    id="column", title="a column's name is misspelt in the data", rows="11, 13 (relatives)",
    planted='"ouput" for "output" ("completoin" for "completion" with TRL, which knows no Alpaca rows)', caught="the missing or the misspelt column is named",
    keywords=(r"ouput", r"completoin", r"'output'", r"'completion'", r"no schema"), faulty=_column("ouput"), healthy=_column("output"))


def _column_beside(name: str) -> dict[str, Case]:
    rows = [{"text": question(i), name: question(i), "completion": answer(i)} for i in range(NUM_ROWS)]
    return {
        GOGPT: gogpt(rows, {}), TRL: trl(rows, {"assistant_only_loss": None}),
    }


COLUMN_BESIDE = Fault(
    id="column_beside", title="the same, with a column text beside it", rows="11, 13 (relatives)",
    planted='"promt" for "prompt", and the question in "text" as well', caught="the missing or the misspelt column is named",
    keywords=(r"promt", r"'prompt'", r"no schema"), faulty=_column_beside("promt"), healthy=_column_beside("prompt"),
    not_here={LLAMAFACTORY: "columns are named in its dataset_info.json; another column is never taken for them"})

SERVE = """import json, pathlib
template = "{%- for m in messages -%}### {{ m['role'] }}:\\n{{ m['content'] }}\\n\\n{%- endfor -%}{%- if add_generation_prompt -%}### assistant:\\n{%- endif -%}"
for file in pathlib.Path("run/final").rglob("chat_template.jinja"):
    file.write_text(template, encoding="utf-8")
for file in pathlib.Path("run/final").rglob("tokenizer_config.json"):
    document = json.loads(file.read_text(encoding="utf-8"))
    if "chat_template" in document:
        document["chat_template"] = template
        file.write_text(json.dumps(document), encoding="utf-8")
"""


def _served(wrong: bool) -> dict[str, Case]:
    train = Step(words=("train", "train.yaml"), files=lf_files(plain(), {}))
    chat = f"model_name_or_path: {MODELS}/tiny\nadapter_name_or_path: run\ntemplate: {'alpaca' if wrong else 'chatml'}\nmax_new_tokens: 8\n"
    other = Step(words=("python", "other.py"), files={"other.py": SERVE if wrong else ""})
    return {
        GOGPT: Case(steps=(Step(words=("train", "recipe.yaml"), files=gogpt_files(plain(), {})), other,
                           Step(words=("generate", "run", question(1), "--max-new-tokens", "8"))), planned=0),
        LLAMAFACTORY: Case(steps=(train, Step(words=("chat", "chat.yaml"), files={"chat.yaml": chat}, stdin=f"{question(1)}\nexit\n")), planned=0),
    }


SERVED = Fault(
    id="served_template", title="answers are asked for in another template than was trained", rows="23; LLaMA-Factory#2509, ollama#8363",
    planted="trained with ChatML; then the saved chat template is another (GoGPT), or the configuration names another (LLaMA-Factory)",
    caught="it is said that the template is not the trained one", keywords=(r"template.*(differ|other|not the|changed|mismatch|trained)", r"fingerprint"),
    faulty=_served(True), healthy=_served(False), not_here={TRL: "its command line has no command that answers"})

NEW_ROWS = [row(f"{question(i)} Use the tool.", f"<lookup>{answer(i)}</lookup> <answer>{answer(i + 1)}</answer>") for i in range(NUM_ROWS)]

NEW_TOKENS = Fault(
    id="new_tokens", title="added tokens whose rows never train", rows="22; qlora#214, peft#334",
    planted="four tokens added with add_tokens and resize_token_embeddings, answers that use them, LoRA on the linear layers",
    caught="it is said that their rows are not trained", keywords=(r"added", r"new (token|row)", r"embedding.*(train|resiz|sav)", r"modules_to_save"),
    faulty=same(NEW_ROWS, model="new_tokens"),
    healthy=same(NEW_ROWS, model="new_tokens", gogpt_={"method": {"modules_to_save": ["embed_tokens", "lm_head"]}},
                 trl_={"lora_modules_to_save": ["embed_tokens", "lm_head"]}, lf_={"additional_target": "embed_tokens,lm_head"}))

TOKEN_FAULTS = (CUT_ALL, CUT_HALF, CUT_PACKED, CUT_CHATS, MASKED_IDS, STOP_OUTSIDE, NO_STOP, PAD_IS_EOS, SPECIAL_TEXT, TWO_BOS, PACKING_LEAKS, COLUMN,
                COLUMN_BESIDE, SERVED, NEW_TOKENS)
