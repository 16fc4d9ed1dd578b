"""From rows to examples: conversations of one row stay together, are counted one by one, and are shown as themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import rows, write_jsonl
from gogpt.data.mix import hold_out


def instances(count: int) -> list[dict[str, Any]]:
    """Rows that hold three conversations each (Unnatural Instructions)."""
    return [{"instruction": f"Say {i}.", "instances": [
        {"instruction_with_input": f"Say {i} in form {j}.", "input": f"form {j}", "constraints": "None.", "output": f"answer {i} {j}"}
        for j in range(3)]} for i in range(count)]


def test_rows_of_several_conversations(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    made = recipe(instances(8), data={"eval": 0.25, "packing": False})
    assert gogpt("train", made, "-q").code == 0
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert ledger["rows_in"] == ledger["conversations"] + sum(ledger["drops"].values()) == 24
    assert ledger["kept"]["train"] + ledger["kept"]["eval"] == 24
    assert ledger["kept"]["eval"] % 3 == 0
    for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        said = sample["messages"][-1]["content"]
        trained = "".join(s["text"] for s in sample["segments"] if s["train"])
        assert trained.startswith(said)
    shown = gogpt("show", f"{tmp_path / 'data.jsonl'}:8", "--format", "json")
    assert shown.json["origin"]["row"] == 8
    assert "expected: 1 to 8" in gogpt("show", f"{tmp_path / 'data.jsonl'}:9").err


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 8)), min_size=2, max_size=40), st.floats(0.01, 0.9), st.integers(0, 99))
def test_neither_rows_nor_equal_messages_are_parted(pairs: list[tuple[int, int]], fraction: float, seed: int) -> None:
    places, keys = (np.asarray(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    train, held = hold_out(places, keys, fraction, seed)
    assert sorted([*train, *held]) == list(range(len(pairs)))
    assert {pairs[i][0] for i in train}.isdisjoint(pairs[i][0] for i in held)
    assert {pairs[i][1] for i in train}.isdisjoint(pairs[i][1] for i in held)
    again = hold_out(places, keys, fraction, seed)
    assert np.array_equal(train, again[0])


def test_equal_rows_stay_on_one_side(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    made = recipe(rows(10) * 2, data={"eval": 0.3, "clean": {"duplicates": "keep"}})
    assert gogpt("check", made).code == 0
    write_jsonl(tmp_path / "eval.jsonl", rows(2))
    ran = gogpt("check", made, f"data.eval=[{tmp_path / 'eval.jsonl'}]", "--format", "json")
    assert [f["code"] for f in ran.json["findings"]] == ["DAT310"]
