"""Faults of what a model is served with: EXP711 to EXP713, through ``gogpt template verify``."""

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
