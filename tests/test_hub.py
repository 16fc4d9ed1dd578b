"""The hub's loading code, on what a hub would give: local repositories, read through the same libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import rows, write_jsonl
from gogpt.config import ModelConfig, SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations
from gogpt.data.sources import HubSource, is_hub_id, read_hub
from gogpt.errors import GogptError
from gogpt.modelfiles import find_model


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set repository as on the hub: a file for each split."""
    write_jsonl(tmp_path / "repo" / "train.jsonl", rows(7))
    write_jsonl(tmp_path / "repo" / "test.jsonl", rows(3, start=20))
    return tmp_path / "repo"


def test_rows_are_streamed_in_order_with_their_origin(repository: Path) -> None:
    found = list(read_hub(HubSource(id=str(repository))))
    assert [origin.row for _, origin in found] == list(range(1, 8))
    assert [row["messages"] for row, _ in found] == [r["messages"] for r in rows(7)]
    assert len(list(read_hub(HubSource(id=str(repository), split="test")))) == 3


def test_streaming_reads_no_further_than_asked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[dict[str, Any]] = []
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append(k) or real(*a, **k))
    assert next(iter(read_hub(HubSource(id=str(repository), revision=None))))[1].row == 1
    assert asked[0]["streaming"] is True


def test_a_recipe_s_source_goes_through_the_hub_code(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``owner/name`` that is no local path: schema found on a sample, every row counted."""
    import datasets

    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name, *a, **k: real(str(repository) if name == "someone/chats" else name, *a, **k))
    assert is_hub_id("someone/chats")
    assert is_hub_id("hub:someone/chats")
    assert not is_hub_id(str(repository))
    ledger = Ledger()
    source = SourceConfig.model_validate({"path": "someone/chats", "limit": 5})
    assert len(list(read_conversations(source, ledger))) == 5
    assert ledger.schema == {"someone/chats": "openai"}
    assert ledger.conserves
    assert any("first 5 rows" in note for note in ledger.notes)


def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(GogptError) as problem:
        list(read_hub(HubSource(id="nobody/nothing-of-the-kind")))
    assert problem.value.code == "DAT302"
    with pytest.raises(GogptError) as problem:
        find_model(ModelConfig.model_validate({"path": "nobody/nothing-of-the-kind"}))
    assert problem.value.code == "MOD500"


def test_a_model_comes_through_the_hub_s_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot in the local cache is found offline, as after one download."""
    from huggingface_hub import constants

    commit = "0" * 40
    repo = tmp_path / "models--someone--tiny"
    snapshot = repo / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    snapshot.symlink_to(tiny, target_is_directory=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    import huggingface_hub

    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: real(*a, cache_dir=str(tmp_path), local_files_only=True, **k))
    folder = find_model(ModelConfig.model_validate({"path": "someone/tiny"}))
    assert (folder / "config.json").is_file()
