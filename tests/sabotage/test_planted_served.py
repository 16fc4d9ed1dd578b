"""Faults of what a model is served with: EXP711 to EXP714, through ``gogpt template verify``, ``generate`` and ``check``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import planted

from conftest import CHAT_TEMPLATE, make_tokenizer


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def verify(gogpt: Any, model: Path) -> tuple[int, list[str], dict[str, Any]]:
    ran = gogpt("template", "verify", model, "--format", "json")
    return ran.code, [f["code"] for f in ran.json["findings"]], ran.json["facts"]


def test_healthy(gogpt: Any, model: Path) -> None:
    code, codes, facts = verify(gogpt, model)
    assert (code, codes) == (0, [])
    assert (facts["nearest"], facts["equal"], facts["difference"]) == ("chatml", facts["probes"], None)
    assert "8 of 8 generation prompts are prefixes" in gogpt("template", "verify", model).out


def test_what_a_run_saves_is_healthy(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    for name in ("llama3", "alpaca"):
        run = tmp_path / name
        assert gogpt("train", recipe(train={"max_steps": 1, "warmup": 0}), f"data.template={name}", f"output={run}", "-q").code == 0
        code, codes, facts = verify(gogpt, run)
        assert (code, codes) == (0, [])
        assert (facts["nearest"], facts["difference"]) == (name, None)


@planted("EXP711")
def test_generation_waits_for_another_token(gogpt: Any, model: Path) -> None:
    """Llama 3's own: turns end with one token, the configuration names another."""
    config = model / "generation_config.json"
    config.write_text(json.dumps({"eos_token_id": 0}), encoding="utf-8")
    code, codes, facts = verify(gogpt, model)
    assert (code, codes) == (1, ["EXP711"])
    config.write_text(json.dumps({"eos_token_id": [0, *facts["stop_ids"]]}), encoding="utf-8")
    assert verify(gogpt, model)[:2] == (0, [])


@planted("EXP712")
def test_a_generation_prompt_that_training_never_saw(gogpt: Any, model: Path) -> None:
    """A space after the header, only where an answer is asked for."""
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = CHAT_TEMPLATE.replace("assistant\\n' -}}{%- endif", "assistant\\n ' -}}{%- endif")
    assert settings["chat_template"] != CHAT_TEMPLATE
    (model / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    code, codes, facts = verify(gogpt, model)
    assert (code, codes) == (1, ["EXP712"])
    # Every answer of the probes that does not begin with a space itself.
    assert "single" in facts["not_prefix"]
    assert facts["difference"] is not None


@planted("EXP713")
def test_bos_twice_for_who_encodes_the_text(gogpt: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    make_tokenizer(folder, bos=True, chat_template="{{- bos_token -}}" + CHAT_TEMPLATE)
    code, codes, _ = verify(gogpt, folder)
    assert (code, codes) == (0, ["EXP713"])
    make_tokenizer(folder, bos=True, chat_template=CHAT_TEMPLATE)
    assert verify(gogpt, folder)[:2] == (0, [])


def test_a_byte_that_differs_is_shown(gogpt: Any, model: Path) -> None:
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = CHAT_TEMPLATE.replace("<|im_start|>", "<|im_start|> ")
    (model / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ran = gogpt("template", "verify", model)
    assert "nearest   chatml (0 of 8" in ran.out
    assert "byte 12: here '<|im_start|> user" in ran.out


def test_no_chat_template_is_told(gogpt: Any, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "t", chat_template=None)
    ran = gogpt("template", "verify", tmp_path / "t")
    assert ran.code == 2
    assert ran.err.startswith("TOK422")


OTHER = ("{%- for m in messages -%}### {{ m['role'] }}:\n{{ m['content'] }}\n\n{%- endfor -%}{%- if add_generation_prompt -%}### assistant:\n{%- endif -%}")
"""A template of another family."""


@planted("EXP714")
def test_a_template_that_was_changed_after_training(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """LLaMA-Factory#2509: good where it was trained, worse where another template asks."""
    run = tmp_path / "run"
    assert gogpt("train", recipe(train={"max_steps": 2, "warmup": 0}), "-q").code == 0

    def told(*words: object) -> tuple[int, str]:
        ran = gogpt(*words, "-q")
        return ran.code, ran.err

    for place in (run, run / "final"):
        assert told("generate", place, "Which way?", "--max-new-tokens", "2") == (0, "")
        checked = gogpt("check", place, "--format", "json").json
        assert checked["findings"] == []
        assert "EXP714" in checked["checked"]
    code, err = told("generate", run, "Which way?", "--max-new-tokens", "2", "--template", "alpaca")
    assert code == 0
    assert "warning EXP714" in err

    (run / "final" / "chat_template.jinja").write_text(OTHER, encoding="utf-8")
    settings = json.loads((run / "final" / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (run / "final" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for place in (run, run / "final"):
        code, err = told("generate", place, "Which way?", "--max-new-tokens", "2")
        assert code == 0
        assert "the chat template here is not the trained one" in " ".join(err.split())
        findings = gogpt("check", place, "--format", "json").json["findings"]
        assert [(f["code"], f["severity"]) for f in findings] == [("EXP714", "warning")]
        assert findings[0]["evidence"]["different"] == findings[0]["evidence"]["samples"] > 3
        assert "### user" in findings[0]["evidence"]["difference"]
    # What was trained is still known by its name.
    assert told("generate", run, "Which way?", "--max-new-tokens", "2", "--template", "chatml") == (0, "")


@pytest.mark.parametrize("settings", [
    ["data.template=llama3"], ["data.template=alpaca"], ["data.template=qwen3"], ["data.overlong=truncate", "data.max_length=72"], ["data.train_on=all"],
    ["data.packing=false", "data.train_on=last"],
], ids=lambda s: s[0])
def test_what_a_run_is_asked_with_is_what_it_was_trained_with(gogpt: Any, recipe: Any, tmp_path: Path, settings: list[str]) -> None:
    run = tmp_path / "run"
    trained = gogpt("train", recipe(train={"max_steps": 1, "warmup": 0}), *settings, "checks.proofs=[]", "checks.allow=[TOK403, TOK405, DAT311]", "-q")
    assert trained.code == 0, trained.err
    assert [f["code"] for f in gogpt("check", run, "--format", "json").json["findings"]] == []
