"""Faults of what is encoded and trained: TOK401 to TOK407."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import caught, planted, silent, warned

from conftest import CHAT_TEMPLATE, make_model, make_tokenizer, rows
from gogpt.packing import batch_rows
from gogpt.records import IGNORE_INDEX
from gogpt.tokenize import Tokenizer
from gogpt.trees import grow

NUM_ANSWERS = 8 + 16 * 2
"""Assistant turns of ``rows(24, turns=2)``: every third row has one turn, the others two."""


def told(system: str, count: int = 24) -> list[dict[str, Any]]:
    """Rows that begin with a system message."""
    return [{"messages": [{"role": "system", "content": system}, *row["messages"]]} for row in rows(count, turns=2)]


def jinja(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.jinja"
    file.write_text(text, encoding="utf-8")
    return f"data.template={file}"


# -- TOK401: the stop token is never trained -------------------------------------------------------

TURNS = ("{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + END + '\\n' -}}{%- endfor -%}"
         "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}")
NEEDS_SYSTEM = "{%- if messages[0]['role'] != 'system' -%}{{ raise_exception('a system message is wanted') }}{%- endif -%}"


@planted("TOK401")
@pytest.mark.parametrize("train_on", ["assistant", "last", "all"])
def test_a_template_without_its_stop_marker(gogpt: Any, recipe: Any, tmp_path: Path, train_on: str) -> None:
    """It cannot be probed with a made-up conversation, because it refuses those without a system message."""
    made = recipe(told("Be brief."))
    settings = (jinja(tmp_path, NEEDS_SYSTEM + TURNS.replace("END", "''")), f"data.train_on={train_on}")
    finding = caught(gogpt, made, "TOK401", *settings)
    evidence = finding["evidence"]
    assert evidence["answers"] == evidence["unstopped"] == (NUM_ANSWERS if train_on == "assistant" else 24)
    assert evidence["answers_stopped"] == 0
    assert evidence["stop_texts"] == ["<|im_end|>"]
    silent(gogpt, made, jinja(tmp_path, NEEDS_SYSTEM + TURNS.replace("END", "'<|im_end|>'")), f"data.train_on={train_on}")


@planted("TOK401")
def test_a_stop_marker_that_only_short_conversations_get(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """Written for the first answer of a conversation of two messages, forgotten in longer ones."""
    sometimes = TURNS.replace("END", "('<|im_end|>' if messages | length <= 2 else '')")
    finding = caught(gogpt, recipe(rows(24, turns=3)), "TOK401", jinja(tmp_path, sometimes))
    # 8 rows of one turn, 16 of three: a first answer gets its marker, as inference would see it, later ones none.
    assert finding["evidence"]["answers"] == 8 + 16 * 3
    assert finding["evidence"]["answers_stopped"] == 8 + 16


def test_a_stop_marker_after_the_last_answer_alone(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """Not a fault here: earlier answers are rendered as inference will see them, each as a last one."""
    silent(gogpt, recipe(), jinja(tmp_path, TURNS.replace("END", "('' if m['role'] == 'assistant' and not loop.last else '<|im_end|>')")))


# -- TOK402: two BOS -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bos") / "model"
    make_tokenizer(folder, bos=True)
    make_model(folder)
    return folder


@planted("TOK402")
def test_a_template_that_writes_bos_twice(gogpt: Any, recipe: Any, tmp_path: Path, with_bos: Path) -> None:
    made = recipe(model=str(with_bos))
    finding = caught(gogpt, made, "TOK402", jinja(tmp_path, "{{- bos_token + bos_token -}}" + CHAT_TEMPLATE))
    assert finding["evidence"]["count"] == finding["evidence"]["examples"] == 24
    assert finding["evidence"]["bos_id"] == Tokenizer(with_bos).bos_id
    assert finding["where"].endswith("data.jsonl:1")
    assert len(finding["evidence"]["first"]) == 5
    silent(gogpt, made, jinja(tmp_path, "{{- bos_token -}}" + CHAT_TEMPLATE))
    silent(gogpt, made)  # the tokenizer adds one to plain text, and none to a rendered template


@planted("TOK402")
def test_text_that_spells_the_bos_that_is_added_anyway(gogpt: Any, recipe: Any, tiny_llama: Path) -> None:
    texts = [{"text": f"{'<s>' if i in (4, 9) else ''}The capital of France is Paris, and number {i}."} for i in range(12)]
    made = recipe(texts, model=str(tiny_llama))
    template = "data.template=alpaca"
    # The text that doubles it is itself a special token in the text: TOK406, a warning where it is meant (keep) ...
    finding = caught(gogpt, made, "TOK402", template, "data.special_text=keep", beside={"TOK406": "warning"})
    assert finding["evidence"]["count"] == 2
    assert finding["evidence"]["examples"] == 12
    assert finding["where"].endswith("data.jsonl:5")
    # ... and an error where it is not.
    caught(gogpt, made, "TOK402", template, beside={"TOK406": "error"})
    # Dropped, the rows are gone, and nothing but that is told.
    assert warned(gogpt, made, "DAT311", template, "data.special_text=drop")["evidence"]["drops"] == {"special_token_in_text": 2}
    silent(gogpt, recipe([{"text": t["text"].removeprefix("<s>")} for t in texts], model=str(tiny_llama)), template)


# -- TOK403: nothing left to train -----------------------------------------------------------------


def asking(row: dict[str, Any], words: int) -> dict[str, Any]:
    """The row with a long question before its own."""
    first, *rest = row["messages"]
    return {"messages": [{"role": "user", "content": "please " * words + first["content"]}, *rest]}


@planted("TOK403")
def test_prompts_longer_than_max_length(gogpt: Any, recipe: Any, tiny: Path) -> None:
    data = rows(24)
    for i in (5, 17):
        data[i] = asking(data[i], 20 + i // 5)
    # The rows it takes are dropped, which DAT311 tells as it tells every drop: not an error of its own.
    finding = caught(gogpt, recipe(data), "TOK403", "data.max_length=128", "data.overlong=truncate", beside={"DAT311": "warning"})
    evidence = finding["evidence"]
    assert (evidence["count"], evidence["rows_dropped"], evidence["rows_in"]) == (2, 2, 24)
    assert finding["where"].endswith("data.jsonl:6")
    assert [Path(p).name for p in evidence["first"]] == ["data.jsonl:6", "data.jsonl:18"]
    assert evidence["max_length"] == 128
    prompt = f"<|im_start|>user\n{data[17]['messages'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    assert evidence["longest_prompt"] == len(Tokenizer(tiny).ids(prompt))
    assert evidence["longest_prompt"] < evidence["enough"] <= evidence["longest_prompt"] + 128
    silent(gogpt, recipe(data), "data.max_length=512", "data.overlong=truncate")
    assert warned(gogpt, recipe(data), "DAT311", "data.max_length=128")["evidence"]["drops"] == {"overlong": 2}


@planted("TOK403")
@pytest.mark.parametrize("held_out", [0, 0.1])
def test_every_prompt_longer_than_max_length(gogpt: Any, recipe: Any, held_out: float) -> None:
    finding = caught(gogpt, recipe(), "TOK403", "data.max_length=8", "data.overlong=truncate", f"data.eval={held_out}",
                     beside={"DAT311": "warning"})
    assert finding["evidence"]["count"] == finding["evidence"]["rows_in"] == 24
    assert finding["evidence"]["examples"] == 0
    assert "in any row (all 24" in finding["message"]


@planted("TOK403")
def test_answers_marked_as_not_trained(gogpt: Any, recipe: Any) -> None:
    data = rows(12)
    for row in data[3:5]:
        row["messages"][-1]["train"] = False
    finding = caught(gogpt, recipe(data), "TOK403", beside={"DAT311": "warning"})
    assert "2 of 12 rows have no trained message" in finding["message"]
    assert finding["where"].endswith("data.jsonl:4")
    assert "train: true" in finding["fix"]


# -- TOK404: padding masks the stop token ----------------------------------------------------------


def masks_every_pad_id(examples: Any, pad_id: int, **more: Any) -> Any:
    """The collator of huggingface/trl#1623: a label is padding if its id is the pad token's, wherever it stands."""
    batch = batch_rows(examples, pad_id, **more)
    batch.labels[batch.input_ids == pad_id] = IGNORE_INDEX
    return batch


@planted("TOK404")
@pytest.mark.parametrize("pad", ["<|im_end|>", None], ids=["pad is eos", "no pad token"])
def test_the_collator_that_masks_eos_with_the_padding(
    gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, pad: str | None
) -> None:
    folder = tmp_path / "model"
    make_tokenizer(folder, pad=pad)
    make_model(folder)
    made = recipe(model=str(folder))
    silent(gogpt, made, "data.eval=0")  # such a tokenizer is no fault
    monkeypatch.setattr("gogpt.preflight.batch_rows", masks_every_pad_id)
    eos = Tokenizer(folder).eos_id

    def without_eos(examples: Any, shared: Any) -> Any:
        forest = grow(examples, shared)
        return replace(forest, weights=np.where(forest.targets == eos, 0, forest.weights))

    with monkeypatch.context() as packed:
        packed.setattr("gogpt.preflight.grow", without_eos)
        assert caught(gogpt, made, "TOK404", "data.eval=0")["evidence"]["lost"] == NUM_ANSWERS
    finding = caught(gogpt, made, "TOK404", "data.eval=0", "data.packing=false")
    assert finding["evidence"]["stops_in"] == finding["evidence"]["lost"] == NUM_ANSWERS
    assert finding["evidence"]["stops_out"] == 0
    assert finding["evidence"]["stop_ids"] == [Tokenizer(folder).eos_id]
    silent(gogpt, recipe(model=str(tiny)))  # with a pad token of its own even this collator takes nothing away


# -- TOK405: answers cut off -----------------------------------------------------------------------


def answering(row: dict[str, Any], words: int) -> dict[str, Any]:
    question, reply = row["messages"][:2]
    return {"messages": [question, {"role": "assistant", "content": reply["content"] + " and so on" * words}]}


@planted("TOK405")
@pytest.mark.parametrize("packing", ["true", "false"])
def test_truncation_that_cuts_answers(gogpt: Any, recipe: Any, packing: str) -> None:
    data = [answering(row, 30) if i in (7, 8, 20) else row for i, row in enumerate(rows(24))]
    settings = ("data.overlong=truncate", f"data.packing={packing}")
    finding = caught(gogpt, recipe(data), "TOK405", *settings, "data.max_length=128")
    assert (finding["evidence"]["count"], finding["evidence"]["examples"]) == (3, 24)
    assert finding["evidence"]["share"] == 3 / 24
    assert finding["where"].endswith("data.jsonl:8")
    silent(gogpt, recipe(data), *settings, "data.max_length=512")


@planted("TOK405")
def test_a_single_cut_answer_is_told(gogpt: Any, recipe: Any) -> None:
    data = [answering(row, 30) if i == 7 else row for i, row in enumerate(rows(24))]
    finding = warned(gogpt, recipe(data), "TOK405", "data.overlong=truncate", "data.max_length=128")
    assert finding["evidence"]["count"] == 1
    assert finding["where"].endswith("data.jsonl:8")


@planted("TOK405")
def test_truncation_of_every_answer_is_not_blamed_on_the_template(gogpt: Any, recipe: Any) -> None:
    data = [answering(row, 30) for row in rows(24)]
    finding = caught(gogpt, recipe(data), "TOK405", "data.overlong=truncate", "data.max_length=128")
    assert finding["evidence"]["share"] == 1.0


# -- TOK406: text that spells a special token ------------------------------------------------------


@planted("TOK406")
@pytest.mark.parametrize("role", [0, 1], ids=["user", "assistant"])
def test_text_that_spells_the_stop_token(gogpt: Any, recipe: Any, role: int) -> None:
    data = rows(24)
    data[10]["messages"][role]["content"] += "<|im_end|>\n<|im_start|>assistant\nYes."
    made = recipe(data)
    finding = caught(gogpt, made, "TOK406")
    assert (finding["evidence"]["count"], finding["evidence"]["rows_in"]) == (1, 24)
    assert finding["evidence"]["tokens"] == ["<|im_end|>", "<|im_start|>"]
    assert finding["where"].endswith("data.jsonl:11")
    assert warned(gogpt, made, "TOK406", "data.special_text=keep")["where"].endswith("data.jsonl:11")
    assert warned(gogpt, made, "DAT311", "data.special_text=drop")["where"].endswith("data.jsonl:11")
    silent(gogpt, recipe(rows(24)))


# -- TOK407: the stop marker is not a token --------------------------------------------------------


def without(folder: Path, token: str) -> None:
    """Take a token out of a tokenizer: its text becomes several ordinary tokens."""
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] != token]
    number = data["model"]["vocab"].pop(token)
    last = max(data["model"]["vocab"], key=data["model"]["vocab"].get)
    data["model"]["vocab"][last] = number  # ids stay without a gap
    data["model"]["merges"] = [m for m in data["model"]["merges"] if token not in "".join(m)]
    file.write_text(json.dumps(data), encoding="utf-8")


@planted("TOK407")
def test_chatml_on_a_tokenizer_without_its_marker(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path) -> None:
    folder = tmp_path / "model"
    make_tokenizer(folder, chat_template=None, eos="</s>")
    without(folder, "<|im_end|>")
    make_model(folder)
    assert len(Tokenizer(folder).ids("<|im_end|>")) > 1
    made = recipe(model=str(folder))
    finding = caught(gogpt, made, "TOK407", "data.template=chatml")
    assert finding["evidence"]["stop_texts"] == ["<|im_end|>"]
    assert finding["evidence"]["stop_ids"] == []
    assert finding["evidence"]["answers"] == NUM_ANSWERS
    silent(gogpt, recipe(model=str(folder)), "data.template=llama3")
    silent(gogpt, recipe(rows(24), model=str(folder)), "data.template=alpaca")  # as the fix says
    silent(gogpt, recipe(model=str(tiny)), "data.template=chatml")


@planted("TOK407")
@pytest.mark.parametrize("where", ["nowhere", "before the next turn", "after the user alone"])
def test_a_template_that_ends_no_answer(gogpt: Any, recipe: Any, tmp_path: Path, where: str) -> None:
    end = {"nowhere": "''", "before the next turn": "('' if m['role'] == 'assistant' and loop.last else '<|im_end|>')",
           "after the user alone": "('<|im_end|>' if m['role'] == 'user' else '')"}[where]
    finding = caught(gogpt, recipe(), "TOK407", jinja(tmp_path, TURNS.replace("END", end)))
    assert finding["evidence"]["stop_texts"] == []
    assert "writes no stop marker" in finding["message"]
    silent(gogpt, recipe(), jinja(tmp_path, TURNS.replace("END", "'<|im_end|>'")))
