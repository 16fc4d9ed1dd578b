"""A vocabulary trained, a model extended with it, its new rows trained beside LoRA, saved, resumed, served, merged and proven."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import make_model, make_tokenizer, read_metrics, write_jsonl
from gogpt.extension import read_extension
from gogpt.tokenize import Tokenizer

NOUNS = ["北京", "上海", "天气", "今天", "中国", "首都", "大学", "学习", "模型", "语言"]
CHATS = [{"messages": [{"role": "user", "content": f"{NOUNS[i % 10]}的{NOUNS[(i * 3 + 1) % 10]}，question {i}"},
                       {"role": "assistant", "content": f"{NOUNS[(i * 7 + 2) % 10]}和{NOUNS[(i + 5) % 10]}。"}]} for i in range(40)]
TRAIN = {"max_steps": 3, "learning_rate": 5e-3, "batch_size": 4, "micro_batch_size": 2, "warmup": 0}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SentencePiece-like bases, with an output head of their own and tied, each extended with a trained vocabulary."""
    from gogpt.cli import run

    room = tmp_path_factory.mktemp("grown")
    corpus = write_jsonl(room / "corpus.jsonl", CHATS)
    assert run(["tokenizer", "train", str(corpus), "-o", str(room / "new"), "--kind", "sentencepiece", "--size", "330", "-q"]) == 0
    out = {}
    for name, tied in (("untied", False), ("tied", True)):
        make_tokenizer(room / name, dummy_prefix=True, bos=True, chat_template=None, eos="</s>", pad=None)
        make_model(room / name, tie_word_embeddings=tied, rows=Tokenizer(room / name).size + 7)
        out[name] = room / f"{name}-zh"
        assert run(["tokenizer", "extend", str(room / name), "--with", str(room / "new"), "-o", str(out[name]), "-q"]) == 0
    return out


def parts(model: Path, **method: Any) -> dict[str, Any]:
    return {"model": str(model), "data": {"template": "alpaca", "eval": 0}, "method": method, "train": TRAIN}


@pytest.mark.parametrize("form", ["untied", "tied"])
@pytest.mark.parametrize("new_tokens", ["rows", "all"])
@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_trained_saved_served_merged(gogpt, recipe, tmp_path, grown, form, new_tokens, kind):
    if kind == "qlora":
        pytest.importorskip("bitsandbytes")
    model = grown[form]
    note = read_extension(model)
    assert note is not None
    path = recipe(CHATS, **parts(model, new_tokens=new_tokens, kind=kind))
    planned = gogpt("plan", path, "--no-probe", "--format", "json").json["trainable_parameters"]
    ran = gogpt("train", path)
    assert ran.code == 0, ran.err
    run = tmp_path / "run"
    adapter = load_file(run / "final" / "adapter_model.safetensors")
    copies = 2 if new_tokens == "all" and form == "tied" and any("lm_head" in k for k in adapter) else 1
    matrix = int(np.prod(load_file(model / "model.safetensors")["model.embed_tokens.weight"].shape))
    assert sum(v.size for v in adapter.values()) - (copies - 1) * matrix == planned
    before = load_file(model / "model.safetensors")
    told = read_extension(run / "final")
    assert told is not None
    assert told.trained

    merged = gogpt("merge", run, "-o", tmp_path / "merged", "--format", "json")
    assert merged.code == 0, merged.err
    assert merged.json["findings"] == []
    after = load_file(tmp_path / "merged" / "model.safetensors")
    for name in ["model.embed_tokens.weight", *(["lm_head.weight"] if form == "untied" else [])]:
        moved = (after[name] != before[name]).any(axis=1)
        if new_tokens == "rows":
            assert moved[note.ids].any()
            assert not np.delete(moved, note.ids).any()  # the base's rows and the padding are as they were
        else:
            assert moved[: note.first_new_id].any()
    assert ("lm_head.weight" in after) == (form == "untied")
    assert read_extension(tmp_path / "merged") == told

    answers = [gogpt("generate", where, "北京的天气", "--max-new-tokens", "8", "-q").out for where in (run, tmp_path / "merged")]
    assert answers[0] == answers[1]
    # A second fine-tune on the merged model may leave the rows, which have been trained.
    assert gogpt("check", recipe(CHATS, **parts(tmp_path / "merged"))).code == 0


def test_every_trainable_parameter_is_in_the_plan(gogpt, recipe, grown):
    from gogpt.adapters import add_method
    from gogpt.config import load_recipe
    from gogpt.model import load_base
    from gogpt.modelfiles import Checkpoint, count_trainable

    for form, folder in grown.items():
        for method in ({"new_tokens": "rows"}, {"new_tokens": "all"}, {"kind": "freeze", "new_tokens": "all"}, {"kind": "full", "new_tokens": "rows"}):
            config = load_recipe(recipe(CHATS, **parts(folder, **method)))
            model = add_method(load_base(config.model, folder, "float32"), config.method, folder)
            trainable = sum(p.numel() for p in {id(p): p for p in model.parameters() if p.requires_grad}.values())
            assert trainable == count_trainable(Checkpoint(folder), config.method), (form, method)


@pytest.mark.parametrize("form", ["untied", "tied"])
@pytest.mark.parametrize("new_tokens", ["rows", "all"])
def test_resumed_is_straight(gogpt, recipe, tmp_path, grown, form, new_tokens, monkeypatch):
    from gogpt.watch import Watch

    path = recipe(CHATS, **{**parts(grown[form], new_tokens=new_tokens), "train": {**TRAIN, "max_steps": 4, "save_every": 100}})
    assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    real = Watch.after_update

    def interrupt(self, step, **kwargs):
        stats = real(self, step, **kwargs)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return stats

    monkeypatch.setattr(Watch, "after_update", interrupt)
    assert gogpt("train", path, f"output={tmp_path / 'broken'}").code == 130
    monkeypatch.setattr(Watch, "after_update", real)
    ran = gogpt("train", "--resume", tmp_path / "broken")
    assert ran.code == 0, ran.err
    assert [m["loss"] for m in read_metrics(tmp_path / "broken")] == [m["loss"] for m in read_metrics(tmp_path / "straight")]
    ours, theirs = (load_file(tmp_path / where / "final" / "adapter_model.safetensors") for where in ("straight", "broken"))
    assert ours.keys() == theirs.keys()
    assert all((ours[k] == theirs[k]).all() for k in ours)


def test_full_trains_every_row_and_says_so(gogpt, recipe, tmp_path, grown):
    ran = gogpt("train", recipe(CHATS, **parts(grown["tied"], kind="full", new_tokens="rows")))
    assert ran.code == 0, ran.err
    assert "trains every row already" in ran.err
    told = read_extension(tmp_path / "run" / "final")
    assert told is not None
    assert told.trained


def test_freeze_trains_whole_matrices_or_refuses(gogpt, recipe, tmp_path, grown):
    path = recipe(CHATS, **parts(grown["untied"], kind="freeze", trainable_layers=1, new_tokens="rows"))
    ran = gogpt("check", path)
    assert ran.code == 2
    assert "CFG232" in ran.err
    assert gogpt("train", path, "method.new_tokens=all", "-q").code == 0
    before, after = load_file(grown["untied"] / "model.safetensors"), load_file(tmp_path / "run" / "final" / "model.safetensors")
    assert (before["lm_head.weight"] != after["lm_head.weight"]).any()
    assert (before["model.layers.0.mlp.up_proj.weight"] == after["model.layers.0.mlp.up_proj.weight"]).all()


@pytest.mark.parametrize(("change", "says"), [
    (lambda f: (f / "gogpt_extension.json").unlink(), "no gogpt_extension.json"),
    (lambda f: (f / "gogpt_extension.json").write_text("{"), "cannot be read"),
    (lambda f: (f / "gogpt_extension.json").write_text('{"a": 1}'), "cannot be read"),
], ids=["none", "no JSON", "another document"])
def test_rows_of_a_model_that_does_not_say_which(gogpt, recipe, tmp_path, grown, change, says):
    model = Path(shutil.copytree(grown["tied"], tmp_path / "model"))
    change(model)
    ran = gogpt("train", recipe(CHATS, **parts(model, new_tokens="rows")))
    assert ran.code == 2
    assert ran.err.count("CFG232") == 2  # the message, and gogpt explain
    assert says in ran.err
    assert not (tmp_path / "run").exists()


def test_rows_and_whole_matrices_at_once(gogpt, recipe, grown):
    ran = gogpt("check", recipe(CHATS, **parts(grown["tied"], new_tokens="rows", modules_to_save=["embed_tokens"])))
    assert ran.code == 2
    assert "CFG232" in ran.err
    facts = gogpt("check", recipe(CHATS, **parts(grown["tied"], modules_to_save=["embed_tokens"])), "--format", "json")
    assert facts.code == 0, facts.out  # that trains them, too
    assert json.loads(facts.out)["findings"] == []
