"""The benchmark's own arithmetic and data: nothing is timed here, and no peer is needed."""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from gogpt.config import SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations

sys.path.insert(0, str(ROOT / "bench"))

import conversations
import equality
import table

COUNT = 300


@pytest.fixture(scope="module")
def docstrings() -> list[list[str]]:
    """A corner of the standard library: enough for the first conversations, and used up by the last ones."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    return conversations.english([stdlib / name for name in ("json", "email", "logging", "asyncio")])


def generate(count: int, docstrings: list[list[str]], seed: int = 0) -> list[list[dict[str, str]]]:
    return list(conversations.generate(count, seed=seed, docstrings=docstrings, source=conversations.chinese()))


# -- conversations ---------------------------------------------------------------------------------


def test_same_seed_same_conversations(docstrings: list[list[str]]) -> None:
    made = generate(COUNT, docstrings)
    assert generate(COUNT, docstrings) == made
    assert generate(20, docstrings) == made[:20], "fewer are the beginning of more"
    assert generate(COUNT, docstrings, seed=1) != made


def test_conversations_are_read_without_a_drop(docstrings: list[list[str]], tmp_path: Path) -> None:
    file = tmp_path / "made.jsonl"
    made = generate(COUNT, docstrings)
    written = conversations.write(made, file)
    ledger = Ledger()
    read = list(read_conversations(SourceConfig(path=str(file)), ledger))
    assert [[{"role": m.role, "content": m.content} for m in c.messages] for c in read] == made
    assert not ledger.drops
    assert ledger.conversations == written.conversations == COUNT
    assert set(ledger.schema.values()) == {"openai"}


def test_conversations_are_what_they_are_said_to_be(docstrings: list[list[str]], tmp_path: Path) -> None:
    made = generate(COUNT, docstrings)
    for messages in made:
        roles = [m["role"] for m in messages if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 2 <= len(roles) <= 8
        assert all(m["content"].strip() for m in messages)
        assert not any(conversations._SPECIAL.search(m["content"]) for m in messages)
    written = conversations.write(made, tmp_path / "made.jsonl")
    assert 0.15 < written.chinese / COUNT < 0.35
    assert written.bytes == (tmp_path / "made.jsonl").stat().st_size


def test_repeats_are_counted(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": "This sentence is said. And this one too."}
    written = conversations.write([[turn], [turn]], tmp_path / "made.jsonl")
    assert (written.sentences, written.repeated) == (4, 2)
    assert written.share_repeated == 0.5


def test_a_file_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "english", lambda _: [["One paragraph that is long enough. It has two sentences."]])
    first = conversations.make(5, tmp_path / "made.jsonl")
    monkeypatch.setattr(conversations, "generate", lambda *_, **__: pytest.fail("made again"))
    assert conversations.make(5, tmp_path / "made.jsonl") == first


# -- table -----------------------------------------------------------------------------------------


def run(who: str, setting: str, seconds: float, **given: Any) -> table.Run:
    return table.Run(**{"who": who, "setting": setting, "conversations": 100, "tokens": 1000, "trained_tokens": 600, "seconds": seconds,
                        "process_seconds": seconds + 1, "peak_rss_mb": 10 * seconds, "tree_rss_mb": 20 * seconds, **given})


def test_medians() -> None:
    row = table.row_of([run("TRL", "all", s) for s in (5.0, 1.0, 2.0)])
    assert (row.seconds, row.seconds_min, row.seconds_max, row.process_seconds, row.runs) == (2.0, 1.0, 5.0, 3.0, 3)
    assert (row.peak_rss_mb, row.tree_rss_mb) == (50.0, 100.0), "memory is the highest, not the median"
    assert (row.tokens_per_second, row.conversations_per_second) == (500.0, 50.0)


def test_repeats_must_make_the_same() -> None:
    with pytest.raises(ValueError, match="differ"):
        table.row_of([run("TRL", "all", 1.0), run("TRL", "all", 1.0, tokens=1001)])


def test_ratios_are_over_the_fastest() -> None:
    rows = table.rows_of([
        run("GoGPT", "assistant", 1.0), run("TRL", "all", 4.0), run("TRL", "all, packed", 8.0), run("LLaMA-Factory", "assistant", 5.0),
        run("ceiling", "wrong", 0.1, compared=10, equal=9), run("ceiling", "exact", 0.5, compared=10, equal=10)])
    found = table.ratios(rows)
    assert found.peer is not None
    assert (found.peer.who, found.peer.setting, found.over_peer) == ("TRL", "all", 4.0)
    assert found.ceiling is not None
    assert (found.ceiling.setting, found.over_ceiling) == ("exact", 0.5), "a library that is not exact is no ceiling"


def test_ratios_without_peers() -> None:
    found = table.ratios(table.rows_of([run("GoGPT", "assistant", 1.0)]))
    assert (found.over_peer, found.over_ceiling) == (None, None)
    assert table.ratio_lines(found) == []


def test_table_is_markdown() -> None:
    lines = table.table(table.rows_of([run("GoGPT", "assistant", 1.0), run("TRL", "all", 4.0, trained_tokens=None)])).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert len(set(map(len, lines))) == 1


@pytest.mark.parametrize(("value", "text"), [(13_300_000, "13.3 M"), (285_000, "285 k"), (41.2, "41.2")])
def test_rate(value: float, text: str) -> None:
    assert table.rate(value) == text


# -- equality --------------------------------------------------------------------------------------


def test_what_gogpt_wrote_is_held_against_a_peer(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    batch = pa.RecordBatch.from_pydict({"row": [2, 1], "input_ids": [[7, 8], [1, 2, 3]], "trained": [[0, 2], [1, 3]]})
    with pa.OSFile(str(tmp_path / "0.arrow"), "wb") as out, pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    peer = tmp_path / "ids.jsonl"
    peer.write_text("\n".join(map(json.dumps, [{"ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"ids": [7, 8], "labels": [-100, 8]},
                                               {"ids": [9], "labels": [9]}])), encoding="utf-8")
    found = equality.compare("TRL", equality.read_gogpt(tmp_path), equality.read_peer(peer))
    assert (found.compared, found.same_ids, found.same_trained, found.first) == (3, 2, 1, 3)


def test_a_folder_without_a_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        equality.read_gogpt(tmp_path)
