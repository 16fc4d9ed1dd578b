"""data.streaming: the rows are those of the prepared set, in an order that depends on nothing but recipe, data and seed."""

from __future__ import annotations

import gc
import gzip
import json
import os
import shutil
import signal
import weakref
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import read_metrics, rows, write_jsonl
from gogpt.config import parse_recipe
from gogpt.data import stream as streams
from gogpt.data.prepare import prepare
from gogpt.data.stream import ExampleStream, RowStream, head, stream_inputs, turns
from gogpt.errors import GogptError
from gogpt.preflight import encoders, open_stream


def config_of(tiny: Path, folder: Path, data: str, **more):
    text = {"model": str(tiny), "output": "run", "train": {"max_steps": 4, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3}, **more}
    return parse_recipe(json.dumps({**text, "data": json.loads(data)}), name="recipe", base=folder)


def stream_of(config, **changes) -> ExampleStream:
    return open_stream(config.model_copy(update=changes), *encoders(config))


def key(example) -> tuple:
    return example.origin.path, example.origin.row, example.input_ids.tobytes(), example.labels.tobytes()


def documents(n: int) -> list[dict]:
    return [{"text": f"Document {i} is about {'the river and the stone ' * (1 + i % 9)}."} for i in range(n)]


@pytest.fixture
def small(monkeypatch):
    """Stretches of a few rows and buffers of a few hundred tokens, so that little data makes many."""
    monkeypatch.setattr(streams, "STRETCH_BYTES", 2000)
    monkeypatch.setattr(streams, "STRETCH_ROWS", 4)
    monkeypatch.setattr(streams, "BUFFER_TOKENS", 1500)
    monkeypatch.setattr(streams, "BUFFER_ROWS", 2)


def one_pass(stream: ExampleStream) -> list:
    """The buffers up to the end of the only source."""
    out = []
    for buffer in stream.buffers():
        out.append(buffer)
        if any("read to its end" in note for note in buffer.ledger.notes):
            return out
    raise AssertionError


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("gz", [False, True])
def test_an_epoch_holds_the_examples_of_the_prepared_set(tiny, tmp_path, small, packing, gz):
    path = write_jsonl(tmp_path / "a.jsonl", [*rows(70, turns=2), {"messages": []}, *rows(50, start=100, turns=3)])
    if gz:
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    data = {"train": f"a.jsonl{'.gz' if gz else ''}", "max_length": 256, "streaming": True, "packing": packing}
    config = config_of(tiny, tmp_path, json.dumps(data))
    buffers = one_pass(stream_of(config))
    assert len(buffers) > 4
    streamed = [e for b in buffers for i in range(len(b.rows)) for e in b.row(i)]
    prepared = prepare(config.data, *encoders(config))
    assert Counter(map(key, streamed)) == Counter(map(key, prepared.train))
    assert [e.origin.row for e in streamed] != sorted(e.origin.row for e in streamed)
    assert all(sum(e.num_tokens for e in b.row(i)) <= 256 for b in buffers for i in range(len(b.rows)))
    assert sum(b.ledger.rows_in for b in buffers) == prepared.ledger.rows_in == 121
    assert sum((b.ledger.drops for b in buffers), Counter()) == prepared.ledger.drops == {"no_user": 1, "overlong": 8}
    assert [r["origin"]["row"] for b in buffers for r in b.rejects if r["reason"] == "no_user"] == [71]


def test_documents_lose_no_token(tiny, tmp_path, small):
    write_jsonl(tmp_path / "a.jsonl", documents(90))
    config = config_of(tiny, tmp_path, json.dumps({"train": "a.jsonl", "max_length": 64, "streaming": True}), stage="pretrain")
    buffers = one_pass(stream_of(config))
    assert len(buffers) > 2
    found = defaultdict(list)
    for b in buffers:
        sizes = [sum(e.num_tokens for e in b.row(i)) for i in range(len(b.rows))]
        assert sum(size != 64 for size in sizes) <= 1  # what remains of the buffer
        for i in range(len(b.examples)):
            found[b.examples[i].origin.row].append((int(b.examples.cuts[i, 0]), b.examples[i].input_ids.tolist()))
        assert sorted(k for r in b.rows for k in r) == list(range(len(b.examples)))
    for example in prepare(config.data, *encoders(config)).train:
        assert [i for _, ids in sorted(found.pop(example.origin.row)) for i in ids] == example.input_ids.tolist()
    assert not found


def test_the_same_rows_again_and_others_with_another_seed(tiny, tmp_path, small):
    write_jsonl(tmp_path / "a.jsonl", rows(60))
    write_jsonl(tmp_path / "b.jsonl", rows(20, start=500))
    config = config_of(tiny, tmp_path, json.dumps({"train": ["a.jsonl", {"path": "b.jsonl", "weight": 0.3}], "max_length": 128, "streaming": True}))

    def some(seed: int) -> list:
        taken = RowStream(stream_of(config, train=config.train.model_copy(update={"seed": seed})))
        try:
            return [[key(e) for e in row] for row in islice(taken, 80)]
        finally:
            taken.close()

    assert some(0) == some(0) != some(1)


def test_weights_are_rates_within_a_stretch(tiny, tmp_path, small):
    for name, start in (("a", 0), ("b", 1000), ("c", 2000)):
        write_jsonl(tmp_path / f"{name}.jsonl", rows(100, start=start))
    weights = {"a": 1.0, "b": 0.25, "c": 2.0}
    config = config_of(tiny, tmp_path, json.dumps({"train": [{"path": f"{n}.jsonl", "weight": w} for n, w in weights.items()], "streaming": True}))
    taken, largest = [0, 0, 0], 0
    for turn in islice(turns(stream_inputs(config.data), config.data.train), 400):
        taken[turn.stretch.source] += turn.stretch.num_rows
        largest = max(largest, turn.stretch.num_rows)
        shares = [n / w for n, w in zip(taken, weights.values(), strict=True)]
        assert max(shares) - min(shares) <= largest / min(weights.values())
    assert taken[2] > 2 * 100  # read again and again
    assert taken[0] / taken[1] == pytest.approx(4, rel=0.1)
    assert taken[2] / taken[0] == pytest.approx(2, rel=0.1)


def test_the_head_takes_no_row_twice(tiny, tmp_path, small):
    write_jsonl(tmp_path / "a.jsonl", rows(5))
    write_jsonl(tmp_path / "b.jsonl", rows(100))
    config = config_of(tiny, tmp_path, json.dumps({"train": ["a.jsonl", "b.jsonl"], "streaming": True}))
    inputs = stream_inputs(config.data)
    some = list(head(turns(inputs, config.data.train), 2, 2000))
    assert sum(s.num_rows for s in some) == 105
    assert sum(s.num_rows for s in head(turns(inputs, config.data.train), 2, 20)) < 40


def test_memory_holds_three_buffers_and_no_more(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "STRETCH_BYTES", 20_000)
    monkeypatch.setattr(streams, "BUFFER_TOKENS", 40_000)
    write_jsonl(tmp_path / "a.jsonl", rows(12_000, turns=2))
    config = config_of(tiny, tmp_path, json.dumps({"train": "a.jsonl", "max_length": 256, "streaming": True}))
    sets, tokens, most, pack = [], [], 0, ExampleStream._pack

    def packed(self, number, filling, told):
        buffer = pack(self, number, filling, told)
        sets.append(weakref.ref(buffer.examples))
        tokens.append(sum(b.input_ids.size for b in buffer.examples.blocks))
        return buffer

    monkeypatch.setattr(ExampleStream, "_pack", packed)
    taken = RowStream(stream_of(config))
    try:
        while not any("read to its end" in note for note in taken.ledger.notes):
            next(taken)
            most = max(most, sum(s() is not None for s in sets))
    finally:
        taken.close()
    assert len(sets) > 20
    assert most <= 3
    assert max(tokens) < 80_000  # a buffer, and at most one stretch more
    del taken
    gc.collect()
    assert not any(s() is not None for s in sets)


def test_a_thread_that_fails_says_what_it_failed_of(tiny, tmp_path, small):
    write_jsonl(tmp_path / "a.jsonl", [*rows(60), {"messages": [{"role": "user", "content": "x " * 3000}, {"role": "assistant", "content": "y"}]}])
    config = config_of(tiny, tmp_path, json.dumps({"train": "a.jsonl", "max_length": 256, "streaming": True, "overlong": "error"}))
    taken = RowStream(stream_of(config))
    with pytest.raises(GogptError, match="too long") as caught:
        list(islice(taken, 1000))
    taken.close()
    assert caught.value.code == "TOK409"
    assert not taken._ahead._thread.is_alive()


def test_no_example_in_any_source_ends_it(tiny, tmp_path, small):
    write_jsonl(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": "x " * 999}, {"role": "assistant", "content": "y"}]}] * 9)
    config = config_of(tiny, tmp_path, json.dumps({"train": "a.jsonl", "max_length": 64, "streaming": True}))
    with pytest.raises(GogptError, match="no training example"):
        next(stream_of(config).buffers())


@pytest.mark.parametrize(("change", "said"), [
    ({"train": {"epochs": 1, "batch_size": 4, "micro_batch_size": 2}}, "train.max_steps"), ({"data": {"eval": 0.1}}, "data.eval: 0.1"),
    ({"data": {"mix": {"temperature": 2}}}, "data.mix.temperature"), ({"data": {"mix": {"languages": {"zh": 1}}}}, "data.mix.languages"),
    ({"data": {"train": {"path": "data.jsonl", "count": 3}}}, "count of a source"), ({"data": {"clean": {"duplicates": "exact"}}}, "duplicates: exact"),
    ({"data": {"clean": {"leakage": "near"}}}, "leakage: near"), ({"data": {"prepared": "sets"}}, "data.prepared"), ({"data": {"workers": 2}}, "data.workers"),
])
def test_what_needs_the_whole_set_is_refused_by_name(gogpt, recipe, change, said):
    healthy = {"data": {"eval": 0.0, "streaming": True}, "train": {"max_steps": 4}}
    parts = {k: {**healthy.get(k, {}), **change.get(k, {})} if k == "data" or k not in change else change[k] for k in {**healthy, **change}}
    ran = gogpt("check", recipe(**parts))
    assert ran.code == 2
    told = next(line for line in ran.err.splitlines() if line.startswith("CFG251 "))
    assert said in told


def test_prepare_refuses_a_stream(gogpt, recipe, tmp_path):
    ran = gogpt("prepare", recipe(data={"eval": 0.0, "streaming": True}, train={"max_steps": 4}))
    assert ran.code == 2
    assert "CFG251" in ran.err
    assert not (tmp_path / "prepared").exists()


def test_a_run_counts_what_it_read_and_writes_its_folder_alone(gogpt, recipe, tmp_path, small):
    """A broken line, an empty chat, and one that spells a special token after the head: each counted, none trained."""
    write_jsonl(tmp_path / "eval.jsonl", rows(4, start=900))
    odd = [{"messages": [{"role": "user", "content": "a <|im_start|> b"}, {"role": "assistant", "content": "y"}]}]
    path = recipe([*rows(30), {"messages": []}, *rows(30, start=100), *odd], data={"eval": ["eval.jsonl"], "streaming": True, "max_length": 128},
                  train={"max_steps": 12, "batch_size": 8})
    data = tmp_path / "data.jsonl"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join([*lines[:20], "{broken\n", *lines[20:]]))
    before = {p.name for p in tmp_path.iterdir()}
    streams.HEAD_ROWS, whole = 30, streams.HEAD_ROWS
    try:
        planned = gogpt("plan", path, "--no-probe")
        ran = gogpt("train", path)
    finally:
        streams.HEAD_ROWS = whole
    assert ran.code == 0, ran.err
    assert planned.out.startswith("streaming judged on the first ")
    assert "streaming judged on the first" in ran.err
    assert {p.name for p in tmp_path.iterdir()} - before == {"run"}
    run = tmp_path / "run"
    ledger = json.loads((run / "ledger.json").read_text())
    assert ledger["rows_in"] == ledger["conversations"] + sum(ledger["drops"].values())
    assert sum(ledger["kept"].values()) == ledger["conversations"]
    assert ledger["kept"]["eval"] == 4
    assert set(ledger["drops"]) == {"unreadable", "no_user", "special_token_in_text"}
    assert all(len(places) == 1 for places in ledger["first"].values())
    rejects = [json.loads(line) for line in (run / "rejects.jsonl").read_text().splitlines()]
    assert {(r["reason"], r["origin"]["row"]) for r in rejects} == {("unreadable", 21), ("no_user", 32), ("special_token_in_text", 63)}
    assert len(rejects) == 3
    facts = json.loads((run / "facts.json").read_text())["data"]
    assert 30 <= facts["sampled_only"] < 60
    plan = json.loads((run / "plan.json").read_text())
    assert plan["epochs"] is None
    assert plan["sampled_rows"] == facts["sampled_only"]
    assert len(read_metrics(run)) == 12
    assert (run / "report.html").exists()


@pytest.mark.parametrize("stage", ["sft", "pretrain"])
def test_resumed_is_straight(gogpt, recipe, tmp_path, monkeypatch, small, stage):
    """Interrupted after step 4 of 9, in the middle of a pass, then resumed: the same numbers and the same ledger."""
    from gogpt.watch import Watch

    data = {"eval": 0.0, "streaming": True, "max_length": 128}
    path = recipe(documents(60) if stage == "pretrain" else rows(70), stage=stage, data=data, method={"dropout": 0.2},
                  train={"max_steps": 9, "save_every": 100, "batch_size": 4, "micro_batch_size": 2})
    assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    real = Watch.after_update

    def interrupt(self, step, **kwargs):
        stats = real(self, step, **kwargs)
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return stats

    monkeypatch.setattr(Watch, "after_update", interrupt)
    assert gogpt("train", path, f"output={tmp_path / 'broken'}").code == 130
    monkeypatch.setattr(Watch, "after_update", real)
    mark = json.loads((tmp_path / "broken" / "checkpoints" / "step-4" / "stream.json").read_text())
    assert mark["rows"] == 16
    assert mark["digest"]
    ran = gogpt("train", "--resume", tmp_path / "broken")
    assert ran.code == 0, ran.err
    one, two = ([{k: v for k, v in line.items() if k not in ("seconds", "memory", "memory_now")} for line in read_metrics(tmp_path / run)]
                for run in ("straight", "broken"))
    assert one == two
    weights = [load_file(next((tmp_path / run / "final").glob("*.safetensors"))) for run in ("straight", "broken")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (tmp_path / "straight" / "ledger.json").read_text() == (tmp_path / "broken" / "ledger.json").read_text()


def test_resume_refuses_other_rows(gogpt, recipe, tmp_path, small):
    """Also where the files look the same: the rows that were trained have a digest."""
    path = recipe(rows(70), data={"eval": 0.0, "streaming": True, "max_length": 128}, train={"max_steps": 6, "save_every": 3})
    assert gogpt("train", path, "-q").code == 0
    status = tmp_path / "run" / "run.json"
    status.write_text(status.read_text().replace('"finished"', '"interrupted"', 1))
    mark = tmp_path / "run" / "checkpoints" / "step-6" / "stream.json"
    shutil.rmtree(mark.parent)
    mark = tmp_path / "run" / "checkpoints" / "step-3" / "stream.json"
    sound = mark.read_text()
    mark.write_text(sound.replace(json.loads(sound)["digest"], "0" * 32))
    ran = gogpt("train", "--resume", tmp_path / "run")
    assert ran.code == 2
    assert "RUN612" in ran.err
    mark.write_text(sound)
    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text().replace("what follows", "what precedes"))
    ran = gogpt("train", "--resume", tmp_path / "run")
    assert ran.code == 2
    assert "RUN612" in ran.err
