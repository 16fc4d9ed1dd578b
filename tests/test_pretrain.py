"""Stage pretrain: every token of every document is in exactly one row, and the loss is that of the text as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_jsonl
from gogpt.config import DataConfig, parse_recipe
from gogpt.data.prepare import prepare
from gogpt.packing import batch_rows, cut_documents
from gogpt.plan import document_rows
from gogpt.preflight import refuse_misplaced
from gogpt.records import IGNORE_INDEX
from gogpt.templates import NO_TEMPLATE, pick_template
from gogpt.tokenize import Tokenizer

BOOK = "The cat sat on the mat and the dog ran far away. It was night before they came back, and then it was day. "


def documents(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"Part {n}. " + BOOK * (1 + n % 4)} for n in range(start, start + count)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=12), st.integers(2, 30))
def test_documents_are_cut_into_full_rows(lengths: list[int], capacity: int) -> None:
    sizes = np.asarray(lengths, dtype=np.int64)
    document, cuts, bins = cut_documents(sizes, capacity)
    stream = [(d, i) for d, n in enumerate(lengths) for i in range(n)]
    assert [(d, i) for d, (a, b) in zip(document.tolist(), cuts.tolist(), strict=True) for i in range(a, b)] == stream
    rows = [sum(int(cuts[p, 1] - cuts[p, 0]) for p in row) for row in bins]
    assert [p for row in bins for p in row] == list(range(len(document)))
    assert all(n == capacity for n in rows[:-1])
    assert not rows or 0 < rows[-1] <= capacity
    assert all((cuts[:, 1] > cuts[:, 0]).tolist())


def made(tmp_path: Path, tokenizer: Tokenizer, items: list[dict[str, Any]], **more: Any) -> Any:
    write_jsonl(tmp_path / "a.jsonl", items)
    return prepare(DataConfig.model_validate({"train": str(tmp_path / "a.jsonl"), **more}), tokenizer, pick_template(NO_TEMPLATE, tokenizer))


def recipe_of(**more: Any) -> Any:
    data = {"train": "a.jsonl", "max_length": 32, **more}
    return parse_recipe(json.dumps({"stage": "pretrain", "model": "m", "data": data, "output": "run"}), name="r.yaml", base=Path())


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("which", ["tiny", "tiny_llama"])
def test_every_token_is_accounted_for(across: bool, which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Rows hold the documents' tokens in turn; what is not trained is what nothing in the row predicts."""
    tokenizer = Tokenizer(request.getfixturevalue(which))
    items = documents(9)
    train = made(tmp_path, tokenizer, items).train
    for item, example in zip(items, train, strict=True):
        assert example.input_ids.tolist() == [*tokenizer.bos_prefix, *tokenizer.ids(item["text"]), tokenizer.eos_id]
    pieces, bins = document_rows(recipe_of(across_documents=across), train, seed=3)
    batch = batch_rows([[pieces[i] for i in row] for row in bins], 0, across=across)
    real = batch.document_ids >= 0
    assert int(real.sum()) == train.num_tokens == pieces.num_tokens
    assert sorted(batch.input_ids[real].tolist()) == sorted(t for e in train for t in e.input_ids.tolist())
    trained = batch.labels[:, 1:] != IGNORE_INDEX
    assert np.array_equal(batch.labels[:, 1:][trained], batch.input_ids[:, 1:][trained])
    assert (batch.labels[:, 0] == IGNORE_INDEX).all()
    if across:
        assert int(trained.sum()) == train.num_tokens - len(bins) == pieces.num_trained + len(pieces) - len(bins)
        assert (batch.document_ids[real] == 0).all()
        assert (np.diff(batch.position_ids, axis=1)[real[:, 1:]] == 1).all()
    else:
        assert int(trained.sum()) == train.num_tokens - len(pieces) == pieces.num_trained
        for i in range(len(pieces)):
            assert pieces[i].num_trained == pieces.trained[i]


def test_the_order_is_drawn_by_the_seed(tiny: Path, tmp_path: Path) -> None:
    train = made(tmp_path, Tokenizer(tiny), documents(12)).train

    def first(seed: int | None) -> list[int]:
        pieces, _ = document_rows(recipe_of(), train, seed=seed)
        return [e.origin.row for e in pieces]

    assert first(1) == first(1) != first(2)
    assert list(dict.fromkeys(first(None))) == list(range(1, 13))
    assert set(first(1)) == set(range(1, 13))


@pytest.mark.parametrize("across", [False, True])
def test_the_loss_is_that_of_the_text(across: bool, tiny: Path, tmp_path: Path) -> None:
    """One stream: transformers' own causal loss over each row. Apart: over each piece alone."""
    import torch
    from transformers import AutoModelForCausalLM

    from gogpt.batches import collate
    from gogpt.loss import summed_loss

    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    train = made(tmp_path, Tokenizer(tiny), documents(5)).train
    pieces, bins = document_rows(recipe_of(across_documents=across), train, seed=0)
    batch = collate(pieces, 0, across=across)(list(bins))
    batch.pop("origins")
    total, count = summed_loss(model, batch, torch.float32)
    streams = [np.concatenate([pieces[i].input_ids for i in row]) for row in bins] if across else [e.input_ids for e in pieces]
    wanted, tokens = 0.0, 0
    with torch.no_grad():
        for ids in streams:
            if len(ids) < 2:
                continue
            row = torch.tensor(ids[None].astype(np.int64))
            wanted += float(model(input_ids=row, labels=row).loss) * (len(ids) - 1)
            tokens += len(ids) - 1
    assert count == tokens
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("across", [False, True])
def test_two_sources_train_are_saved_and_go_on_speaking(across: bool, gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """The whole way: two sources, one of them a text file, a run of some steps, its folder, its continuation of a text."""
    write_jsonl(tmp_path / "a.jsonl", documents(8))
    (tmp_path / "book.txt").write_text(BOOK * 20)
    made = recipe(stage="pretrain", data={"train": [str(tmp_path / "a.jsonl"), {"path": str(tmp_path / "book.txt"), "weight": 2}], "max_length": 64, "eval": 0,
                                          "across_documents": across},
                  train={"max_steps": 3, "batch_size": 2, "micro_batch_size": 1})
    ran = gogpt("train", made)
    assert ran.code == 0, ran.err
    run = tmp_path / "run"
    plan = json.loads((run / "plan.json").read_text())
    assert (plan["stage"], plan["across_documents"]) == ("pretrain", across)
    prepared = gogpt("prepare", made, "--format", "json").json
    rows = -(-prepared["tokens"] // 64)
    assert (plan["tokens"], plan["rows"]) == (prepared["tokens"], rows)
    if across:
        assert plan["trained_tokens"] == prepared["tokens"] - rows
    assert [row["used"] for row in prepared["mix"]] == [8, 2]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert all(line["tokens"] == 128 for line in lines)
    spoken = gogpt("generate", run, "The cat", "--template", "none", "--max-new-tokens", "5", "-q")
    assert spoken.code == 0, spoken.err
    merged = gogpt("merge", run, "-o", tmp_path / "merged", "-q") if (run / "final" / "adapter_config.json").exists() else None
    assert merged is None or merged.code == 0


def test_conversations_are_counted_out(tiny: Path, tmp_path: Path) -> None:
    found = made(tmp_path, Tokenizer(tiny), documents(4))
    assert found.ledger.drops == {}
    write_jsonl(tmp_path / "b.jsonl", [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}] * 3)
    tokenizer = Tokenizer(tiny)
    mixed = prepare(DataConfig.model_validate({"train": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]}), tokenizer, pick_template(NO_TEMPLATE, tokenizer))
    assert mixed.ledger.drops == {"not_text": 3}
    assert len(mixed.train) == 4


def test_a_set_of_documents_serves_every_length(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """Documents are kept whole: another max_length cuts the same set."""
    write_jsonl(tmp_path / "a.jsonl", documents(8))
    made = recipe(stage="pretrain", data={"train": str(tmp_path / "a.jsonl"), "max_length": 64})
    first = gogpt("prepare", made, "--format", "json").json
    again = gogpt("prepare", made, "data.max_length=32", "data.across_documents=true", "--format", "json").json
    assert first["folder"] == again["folder"]
    assert again["made"] is False


@pytest.mark.parametrize(("setting", "stage"), [("data.train_on=all", "pretrain"), ("data.overlong=split", "pretrain"), ("data.template=alpaca", "pretrain"),
                                                ("data.packing=false", "pretrain"), ("data.across_documents=true", "sft")])
def test_what_says_nothing_in_a_stage_is_refused(setting: str, stage: str, gogpt: Any, recipe: Any) -> None:
    ran = gogpt("plan", recipe(stage=stage), setting, "--no-probe")
    assert ran.code == 2
    assert "CFG250" in ran.err
    assert setting.partition("=")[0] in ran.err


def test_a_healthy_recipe_passes() -> None:
    refuse_misplaced(recipe_of(across_documents=True))


def test_a_tokenizer_without_eos_is_refused(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path) -> None:
    import shutil

    shutil.copytree(tiny, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    config["eos_token"] = None
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(config))
    write_jsonl(tmp_path / "a.jsonl", documents(4))
    ran = gogpt("check", recipe(stage="pretrain", model=str(tmp_path / "model"), data={"train": str(tmp_path / "a.jsonl")}))
    assert (ran.code, "TOK425" in ran.err) == (2, True), ran.err


def test_without_a_template_one_text_is_continued(tiny: Path) -> None:
    from gogpt.errors import RowError
    from gogpt.records import Conversation, Message

    tokenizer = Tokenizer(tiny)
    template = pick_template(NO_TEMPLATE, tokenizer)
    asked = Conversation(messages=(Message(role="user", content="Once"),))
    assert template.generation(asked).text == "Once"
    with pytest.raises(RowError):
        template.generation(Conversation(messages=(*asked.messages, *asked.messages)))
    with pytest.raises(RowError):
        template.render(asked)
