"""Faults of the rows: DAT310 (evaluation rows are training rows), DAT311 (rows are dropped), DAT312 (cleaning found and kept)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted import caught, document, planted, silent, warned

from conftest import rows, write_jsonl


def written(recipe: Any, lines: list[Any], **parts: Any) -> Path:
    """A recipe over lines as they stand: texts are written raw, everything else as JSON."""
    made: Path = recipe(**parts)
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    (made.parent / "data.jsonl").write_text(text, encoding="utf-8")
    return made


def answer(row: dict[str, Any], text: str) -> dict[str, Any]:
    return {"messages": [row["messages"][0], {"role": "assistant", "content": text}]}


@planted("DAT310")
def test_evaluation_rows_among_the_training_rows(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    apart = rows(4, start=100)
    same = json.loads(json.dumps(rows(24, turns=2)[6]))
    same["messages"][-1]["content"] += "  \n"  # white space at the ends does not make it another row
    evaluation = write_jsonl(tmp_path / "eval.jsonl", [*apart[:2], same, *apart[2:], rows(24, turns=2)[0]])
    made = recipe()
    finding = caught(gogpt, made, "DAT310", f"data.eval=[{evaluation}]")
    assert finding["where"].endswith("eval.jsonl:3")
    assert finding["evidence"]["count"] == 2
    assert finding["evidence"]["eval_examples"] == 6
    assert finding["evidence"]["share"] == 2 / 6
    places = [tuple(Path(p).name for p in place.split(" = ")) for place in finding["evidence"]["places"]]
    assert places == [("eval.jsonl:3", "data.jsonl:7"), ("eval.jsonl:6", "data.jsonl:1")]

    write_jsonl(evaluation, apart)
    silent(gogpt, made, f"data.eval=[{evaluation}]")


@planted("DAT310")
def test_the_training_file_as_evaluation_file(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    finding = caught(gogpt, recipe(), "DAT310", f"data.eval=[{tmp_path / 'data.jsonl'}]")
    assert finding["evidence"]["count"] == finding["evidence"]["eval_examples"] == 24
    assert finding["evidence"]["share"] == 1.0


def test_rows_held_out_by_a_fraction_never_overlap(gogpt: Any, recipe: Any) -> None:
    """Even where every row stands in the file three times."""
    told = silent(gogpt, recipe(rows(8) * 3), "data.eval=0.3", "data.clean.duplicates=keep")
    assert "DAT310" in told["checked"]


@planted("DAT311")
def test_some_rows_dropped_are_told_with_their_place(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    good = rows(20)
    lines: list[Any] = [*good]
    lines[3] = '{"messages": [{"role": "user", '  # cut off: no JSON
    lines[7] = answer(good[7], "   ")
    lines[11] = answer(good[11], "")
    made = written(recipe, lines)
    finding = warned(gogpt, made, "DAT311")
    assert finding["evidence"]["drops"] == {"empty_answer": 2, "unreadable": 1}
    assert finding["evidence"]["rows_in"] == 20
    assert finding["evidence"]["dropped"] == 3
    assert finding["evidence"]["conversations"] == 17
    assert finding["evidence"]["share"] == 3 / 20
    assert finding["where"].endswith("data.jsonl:8")  # the first of the commonest reason
    assert "data.jsonl:4)" in finding["message"]
    shown = gogpt("show", finding["where"])  # the fix is a command: it has to work
    assert shown.code == 2
    assert "empty_answer" in shown.err

    trained = gogpt("train", made)
    assert trained.code == 0, trained.err
    run = tmp_path / "run"
    assert [f["code"] for f in document(run, "findings.json")["findings"]] == ["DAT311"]
    rejects = [json.loads(line) for line in (run / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(r["origin"]["row"], r["reason"]) for r in rejects] == [(4, "unreadable"), (8, "empty_answer"), (12, "empty_answer")]


@planted("DAT311")
def test_a_max_length_that_drops_most_rows(gogpt: Any, recipe: Any) -> None:
    long = [answer(row, "on and on " * 60) for row in rows(18)]
    made = recipe([*rows(6, start=50), *long])
    finding = caught(gogpt, made, "DAT311")
    assert finding["evidence"]["drops"] == {"overlong": 18}
    assert finding["evidence"]["share"] == 18 / 24
    assert finding["where"].endswith("data.jsonl:7")
    assert warned(gogpt, recipe([*rows(18, start=50), *long[:6]]), "DAT311")["evidence"]["drops"] == {"overlong": 6}
    silent(gogpt, recipe([*rows(6, start=50), *long]), "data.max_length=512")


KEPT = {
    "identities": ("other_identity", "Who are you?", "I am MOSS, an AI assistant developed by Fudan University."),
    "refusals": ("refusal", "Write a poem.", "I'm sorry, but as an AI language model, I cannot write poems."),
    "repeated_turns": ("repeated_turn", "Sing.", "We are walking by the river. " * 8),
}


@planted("DAT312")
@pytest.mark.parametrize("setting", KEPT)
def test_what_cleaning_was_told_to_report(gogpt: Any, recipe: Any, setting: str, tmp_path: Path) -> None:
    reason, question, said = KEPT[setting]
    good = rows(23)
    fault = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": said}]}
    made = recipe([*good[:4], fault, *good[4:]])
    asked = f"data.clean.{setting}"
    finding = warned(gogpt, made, "DAT312", f"{asked}=report")
    assert finding["evidence"]["counts"] == {reason: 1}
    assert finding["where"].endswith("data.jsonl:5")
    assert f"{reason} 1 (first " in finding["message"]
    assert gogpt("show", finding["where"]).code == 0  # the fix is a command: it has to work
    assert finding["evidence"]["settings"] == f"{setting}: drop"

    trained = gogpt("train", made, f"{asked}=report")
    assert trained.code == 0, trained.err
    told = document(tmp_path / "run", "findings.json")["findings"]
    assert [f["code"] for f in told] == ["DAT312"]
    assert reason in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    if setting == "identities":  # looked for in every run
        assert warned(gogpt, made, "DAT312")["evidence"] == finding["evidence"]
    silent(gogpt, made, f"{asked}=keep")
    assert warned(gogpt, made, "DAT311", f"{asked}=drop")["evidence"]["drops"] == {reason: 1}
    silent(gogpt, recipe(good), f"{asked}=report")


@planted("DAT312")
def test_duplicates_that_nobody_asked_about(gogpt: Any, recipe: Any) -> None:
    good = rows(30)
    finding = warned(gogpt, recipe([*good, good[3], good[8]]), "DAT312")
    assert finding["evidence"]["counts"] == {"duplicate": 2}
    assert finding["evidence"]["duplicate_share"] == 2 / 32
    assert finding["where"].endswith("data.jsonl:31")
    places = [[Path(p).name for p in place.split(" = ")] for place in finding["evidence"]["places"]["duplicate"]]
    assert places == [["data.jsonl:31", "data.jsonl:4"], ["data.jsonl:32", "data.jsonl:9"]]

    made = recipe([*good, good[3], good[8]])
    assert finding["evidence"]["settings"] == "duplicates: exact"
    assert warned(gogpt, made, "DAT311", "data.clean.duplicates=exact")["evidence"]["drops"] == {"duplicate": 2}
    silent(gogpt, made, "data.clean.duplicates=keep")
    silent(gogpt, recipe([*good, good[3]]))  # one is an accident
    silent(gogpt, recipe([*rows(250), *good[:2]]))  # and so are two among many
    silent(gogpt, recipe(good), "data.train.0.weight=3")  # what repeats by its weight is no duplicate


@pytest.mark.parametrize("count", [1, 24])
def test_whole_rows_are_silent(gogpt: Any, recipe: Any, count: int) -> None:
    silent(gogpt, recipe(rows(count)), "data.eval=0", "train.warmup=0")
