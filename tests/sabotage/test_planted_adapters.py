"""Faults of adapter and model folders: EXP720 to EXP725 and EXP730 to EXP735, through ``gogpt check FOLDER``, beside what a real run saves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import by_code, planted
from safetensors.numpy import load_file, save_file

from conftest import make_model, make_tokenizer, rows, write_jsonl

Tensors = dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The adapter of a real run. Read only."""
    from gogpt.cli import run

    folder = tmp_path_factory.mktemp("trained")
    write_jsonl(folder / "data.jsonl", rows(16))
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps({"model": str(tiny), "data": {"train": "data.jsonl", "max_length": 256}, "method": {"rank": 4, "targets": ["q_proj", "v_proj"]},
                                  "train": {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "warmup": 0}, "output": "run"}), encoding="utf-8")
    assert run(["train", str(recipe), "-q"]) == 0
    return folder / "run" / "final"


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "adapter"))


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def told(gogpt: Any, folder: Path, *words: object) -> tuple[dict[str, str], dict[str, Any]]:
    """code -> severity, and the document; the exit code is theirs."""
    ran = gogpt("check", folder, *words, "-q", "--format", "json")
    assert ran.out, ran.err
    severities = {c: f["severity"] for c, f in by_code(ran.json["findings"]).items()}
    assert ran.code == int("error" in severities.values())
    return severities, ran.json


def change(folder: Path, edit: Callable[[Tensors], Tensors | None], name: str = "adapter_model.safetensors") -> None:
    """The folder's tensors, changed in place or replaced."""
    tensors = {k: v.copy() for k, v in load_file(folder / name).items()}
    save_file(edit(tensors) or tensors, folder / name, metadata={"format": "pt"})


def configure(folder: Path, name: str, **changes: Any) -> None:
    file = folder / name
    data = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**data, **changes}), encoding="utf-8")


# -- adapters --------------------------------------------------------------------------------------


def test_the_adapter_of_a_run(gogpt: Any, trained: Path) -> None:
    found, document = told(gogpt, trained.parent)
    assert found == {}
    assert document["object"]["path"] == str(trained.parent)


def test_a_healthy_adapter(gogpt: Any, adapter: Path, tiny: Path) -> None:
    found, document = told(gogpt, adapter)
    assert found == {}
    assert document["object"]["kind"] == "adapter"
    assert document["not_checked"] == [], "the base stands in the adapter's configuration"
    assert told(gogpt, adapter, "--base", tiny)[0] == {}


@planted("EXP720")
@pytest.mark.parametrize("fault", ["missing", "0 bytes", "cut", "no tensors", "no elements", "pointer"])
def test_an_adapter_without_weights(gogpt: Any, adapter: Path, fault: str) -> None:
    file = adapter / "adapter_model.safetensors"
    if fault == "missing":
        file.unlink()
    elif fault == "0 bytes":
        file.write_bytes(b"")
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "pointer":
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n")
    else:
        save_file({} if fault == "no tensors" else {k: np.zeros((0,), np.float32) for k in load_file(file)}, file)
    found, document = told(gogpt, adapter)
    assert found == {"EXP720": "error"}
    assert {"missing": "missing", "0 bytes": "0 bytes", "cut": "promises", "no tensors": "no tensor", "no elements": "8 of 8", "pointer": "git-lfs"}[fault] in document["findings"][0]["message"]


@planted("EXP721")
def test_an_adapter_that_is_its_base(gogpt: Any, adapter: Path) -> None:
    change(adapter, lambda t: {k: v * 0 if "lora_B" in k else v for k, v in t.items()})
    assert told(gogpt, adapter)[0] == {"EXP721": "error"}


def test_an_adapter_that_is_in_part(gogpt: Any, adapter: Path) -> None:
    change(adapter, lambda t: {k: v * 0 if "layers.0.self_attn.q_proj.lora_B" in k else v for k, v in t.items()})
    found, document = told(gogpt, adapter)
    assert found == {"EXP721": "warning"}
    assert "1 of 4 lora_B" in document["findings"][0]["message"]
    change(adapter, lambda t: {k: v * np.float32("nan") if "layers.1.self_attn.q_proj.lora_A" in k else v for k, v in t.items()})
    assert told(gogpt, adapter)[0] == {"EXP721": "error"}


@planted("EXP722")
def test_an_adapter_of_another_model(gogpt: Any, adapter: Path) -> None:
    (adapter / "gogpt_base.json").unlink()
    change(adapter, lambda t: {k.replace("model.model.layers", "model.model.language_model.layers"): v for k, v in t.items()})
    found, document = told(gogpt, adapter)
    assert found == {"EXP722": "error"}
    assert document["findings"][0]["evidence"]["first"].startswith("model.language_model.layers.0")
    allowed = gogpt("check", adapter, "-q", "--allow", "EXP722", "--format", "json")
    assert (allowed.code, allowed.json["allowed"], allowed.json["findings"]) == (0, ["EXP722"], document["findings"])


def test_an_adapter_of_another_width(gogpt: Any, adapter: Path, tmp_path: Path) -> None:
    (adapter / "gogpt_base.json").unlink()
    make_tokenizer(tmp_path / "wide")
    make_model(tmp_path / "wide", hidden_size=64)
    assert told(gogpt, adapter, "--base", tmp_path / "wide")[0] == {"EXP722": "error"}


@planted("EXP723")
def test_an_adapter_and_another_base(gogpt: Any, adapter: Path, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "other")
    make_model(tmp_path / "other", seed=1)
    assert told(gogpt, adapter, "--base", tmp_path / "other")[0] == {"EXP723": "error"}
    configure(adapter, "adapter_config.json", base_model_name_or_path="./gone")
    found, document = told(gogpt, adapter)
    assert found == {"EXP723": "warning"}
    assert [entry["code"] for entry in document["not_checked"]] == ["EXP722"]
    configure(adapter, "adapter_config.json", base_model_name_or_path="someone/base")
    assert told(gogpt, adapter)[0] == {}, "a hub id is nothing that has to be here"


@planted("EXP724")
def test_an_adapter_and_another_configuration(gogpt: Any, adapter: Path) -> None:
    configure(adapter, "adapter_config.json", target_modules=["q_proj", "v_proj", "o_proj"])
    found, document = told(gogpt, adapter)
    assert found == {"EXP724": "error"}
    assert "targets o_proj" in document["findings"][0]["message"]
    configure(adapter, "adapter_config.json", target_modules=["q_proj", "v_proj"], r=16)
    assert told(gogpt, adapter)[0] == {"EXP724": "error"}
    configure(adapter, "adapter_config.json", rank_pattern={"q_proj": 4})
    assert told(gogpt, adapter)[0] == {}


def test_an_adapter_is_refused_by_merge_too(gogpt: Any, adapter: Path, tiny: Path, tmp_path: Path) -> None:
    """What check says of an adapter that is its base, merge proves."""
    change(adapter, lambda t: {k: v * 0 if "lora_B" in k else v for k, v in t.items()})
    ran = gogpt("merge", adapter, "--base", tiny, "-o", tmp_path / "merged", "--format", "json")
    assert (ran.code, [f["code"] for f in ran.json["findings"]]) == (1, ["EXP702"])


# -- models ----------------------------------------------------------------------------------------


def test_a_healthy_model(gogpt: Any, model: Path) -> None:
    found, document = told(gogpt, model)
    assert (found, document["object"]["kind"], document["not_checked"]) == ({}, "model", [])
    assert {"EXP711", "EXP730", "EXP735"} <= set(document["checked"])


def test_what_merge_writes_is_healthy(gogpt: Any, trained: Path, tiny: Path, tmp_path: Path) -> None:
    assert gogpt("merge", trained, "--base", tiny, "-o", tmp_path / "merged", "-q").code == 0
    assert told(gogpt, tmp_path / "merged")[0] == {}


@planted("EXP725")
def test_no_chat_template(gogpt: Any, model: Path) -> None:
    make_tokenizer(model, chat_template=None)
    found, document = told(gogpt, model)
    assert found == {"EXP725": "warning"}
    assert [e["code"] for e in document["not_checked"]] == ["EXP711", "EXP712", "EXP713"]
    assert gogpt("check", model, "-q", "--fail-on", "warning").code == 1
    assert gogpt("check", model, "-q", "--fail-on", "warning", "--allow", "EXP725").code == 0


@planted("EXP730")
@pytest.mark.parametrize("fault", ["none", "shard", "tensor", "empty", "cut"])
def test_weights_that_are_not_there(gogpt: Any, model: Path, fault: str) -> None:
    file = model / "model.safetensors"
    names = list(load_file(file))
    if fault == "none":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "empty":
        change(model, lambda t: {**t, "lm_head.weight": np.zeros((0,), np.float32)}, file.name)
    else:
        index = {"weight_map": dict.fromkeys(names, "model.safetensors")}
        if fault == "shard":
            index["weight_map"]["lm_head.weight"] = "model-00002.safetensors"
        else:
            change(model, lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"}, file.name)
        (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    found, document = told(gogpt, model)
    assert found == {"EXP730": "error"}, document
    assert {"none": "no weights", "shard": "1 of 2 weight files", "tensor": "model.norm.weight", "empty": "lm_head.weight", "cut": "promises"}[fault] in document["findings"][0]["message"]


@planted("EXP731")
def test_weights_that_are_dead(gogpt: Any, model: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change(model, lambda t: {**t, name: t[name] * 0}, "model.safetensors")
    found, document = told(gogpt, model)
    assert (found, document["findings"][0]["evidence"]["first"]) == ({"EXP731": "warning"}, name)
    broken = load_file(model / "model.safetensors")[name]
    broken[5, 5] = np.inf
    change(model, lambda t: {**t, name: broken}, "model.safetensors")
    assert told(gogpt, model)[0] == {"EXP731": "error"}


@planted("EXP732")
def test_more_ids_than_rows(gogpt: Any, model: Path) -> None:
    make_model(model, rows=400)
    assert told(gogpt, model)[0] == {"EXP732": "error"}
    make_model(model, rows=448)
    assert told(gogpt, model)[0] == {}, "rows to spare are no fault"


@planted("EXP733")
def test_special_ids_of_another_tokenizer(gogpt: Any, model: Path) -> None:
    stop = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    end = next(t["id"] for t in stop if t["content"] == "<|im_end|>")
    configure(model, "config.json", eos_token_id=end)
    configure(model, "generation_config.json", eos_token_id=end)
    assert told(gogpt, model)[0] == {}
    configure(model, "config.json", eos_token_id=0)
    assert told(gogpt, model)[0] == {}, "generation_config.json has it"
    configure(model, "config.json", bos_token_id=128000)
    assert told(gogpt, model)[0] == {"EXP733": "warning"}


@planted("EXP734")
def test_a_head_that_is_not_there(gogpt: Any, model: Path) -> None:
    change(model, lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"}, "model.safetensors")
    assert told(gogpt, model)[0] == {"EXP734": "error"}
    configure(model, "config.json", tie_word_embeddings=True)
    assert told(gogpt, model)[0] == {}
    change(model, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].copy()}, "model.safetensors")
    assert told(gogpt, model)[0] == {}
    change(model, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"] + 1}, "model.safetensors")
    assert told(gogpt, model)[0] == {"EXP734": "warning"}


@planted("EXP735")
def test_tokens_that_were_added(gogpt: Any, model: Path) -> None:
    note = {"base": "x", "base_tokenizer": "0", "base_weights": None, "kind": "bpe", "first_new_id": 400, "num_new_tokens": 20, "rows": 420, "base_rows": 400, "init": "mean"}
    (model / "gogpt_extension.json").write_text(json.dumps({**note, "trained": False}), encoding="utf-8")
    assert told(gogpt, model)[0] == {"EXP735": "warning"}
    (model / "gogpt_extension.json").write_text(json.dumps({**note, "trained": True}), encoding="utf-8")
    assert told(gogpt, model)[0] == {}


def test_a_tokenizer_alone(gogpt: Any, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "t")
    found, document = told(gogpt, tmp_path / "t")
    assert (found, document["object"]["kind"], document["checked"]) == ({}, "tokenizer", ["EXP711", "EXP712", "EXP713"])
