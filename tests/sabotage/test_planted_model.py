"""Faults of the base model against the recipe: MOD501 to MOD507."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import caught, document, finished, planted, silent, warned

from conftest import make_model, write_jsonl
from gogpt.tokenize import Tokenizer


@pytest.fixture
def model(tmp_path: Path, tiny: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def configure(model: Path, **changes: Any) -> None:
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@planted("MOD501")
def test_tokens_without_an_embedding_row(gogpt: Any, recipe: Any, model: Path) -> None:
    size = Tokenizer(model).size
    make_model(model, rows=size - 3)
    finding = caught(gogpt, recipe(model=str(model)), "MOD501")
    assert finding["evidence"] == {"embedding_rows": size - 3, "tokenizer_size": size, "highest_id": size - 1, "missing": 3,
                                   "vocab_size": size - 3}
    assert finding["where"] == str(model)
    make_model(model, rows=size)
    silent(gogpt, recipe(model=str(model)))
    make_model(model, rows=size + 60)  # padded embeddings are the rule
    silent(gogpt, recipe(model=str(model)))


@planted("MOD502")
def test_one_of_two_targets_misspelt(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(method={"targets": ["q_proj", "v_porj"]}), "MOD502")
    assert finding["evidence"]["targets"] == {"q_proj": 2, "v_porj": 0}
    assert finding["evidence"]["matched"] == 2
    assert "did you mean v_proj?" in finding["fix"]
    silent(gogpt, recipe(method={"targets": ["q_proj", "v_proj"]}))


@planted("MOD502")
@pytest.mark.parametrize("targets", [["c_attn"], r".*\.query_key_value", "q_proj"], ids=str)
def test_targets_that_name_nothing(gogpt: Any, recipe: Any, targets: Any) -> None:
    """A text is a regular expression over whole names, as PEFT has it: ``q_proj`` alone matches none."""
    finding = caught(gogpt, recipe(method={"targets": targets}), "MOD502")
    assert finding["evidence"]["matched"] == 0
    silent(gogpt, recipe(method={"targets": r".*\.(q|v)_proj"}))


@planted("MOD503")
def test_a_window_shorter_than_a_packed_row(gogpt: Any, recipe: Any, model: Path) -> None:
    """A real Mistral, which attends within a window."""
    from transformers import MistralConfig, MistralForCausalLM

    MistralForCausalLM(MistralConfig(
        vocab_size=Tokenizer(model).size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=64)).save_pretrained(model)
    made = recipe(model=str(model), train={"max_steps": 2})
    finding = caught(gogpt, made, "MOD503")
    assert "within a window of 64 tokens, fewer than a row of 256" in finding["message"]
    configure(model, sliding_window=256)
    silent(gogpt, made)
    configure(model, sliding_window=64)
    silent(gogpt, made, "data.packing=false")
    finished(gogpt, made, "data.packing=false")


@planted("MOD503")
@pytest.mark.parametrize(("changes", "reason"), [
    ({"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
    ({"layers_block_type": ["mamba", "attention"]}, "mamba"),
    ({"alibi": True}, "ALiBi"),
], ids=["linear attention", "mamba", "alibi"])
def test_layers_that_carry_state_across_documents(gogpt: Any, recipe: Any, model: Path, changes: dict[str, Any], reason: str) -> None:
    configure(model, **changes)
    finding = caught(gogpt, recipe(model=str(model)), "MOD503")
    assert reason in finding["message"]
    silent(gogpt, recipe(model=str(model)), "data.packing=false")


@planted("MOD504")
def test_examples_longer_than_the_context(gogpt: Any, recipe: Any, tmp_path: Path, model: Path) -> None:
    make_model(model, max_position_embeddings=96)
    made = recipe(model=str(model), train={"max_steps": 1, "warmup": 0})
    finding = warned(gogpt, made, "MOD504", "data.eval=0")
    assert finding["evidence"]["positions"] == 96
    assert finding["evidence"]["max_length"] == 256
    plan = gogpt("plan", made, "data.eval=0", "data.packing=false", "--format", "json").json
    assert finding["evidence"]["longest"] > 96
    assert finding["evidence"]["longest"] <= plan["max_length"]
    # A warning goes into the run, and refuses nothing.
    assert gogpt("train", made, "data.eval=0").code == 0
    assert [f["code"] for f in document(tmp_path / "run", "findings.json")["findings"]] == ["MOD504"]
    silent(gogpt, made, "data.max_length=96", "data.overlong=split")
    make_model(model, max_position_embeddings=200)
    silent(gogpt, made)


@planted("MOD505")
def test_freeze_on_a_model_whose_layers_are_named_otherwise(gogpt: Any, recipe: Any, model: Path) -> None:
    """A real BERT decoder: ``encoder.layer.N``, ``LayerNorm``. The selection of the last layers is empty."""
    from transformers import BertConfig, BertLMHeadModel

    BertLMHeadModel(BertConfig(vocab_size=Tokenizer(model).size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                               intermediate_size=64, is_decoder=True, max_position_embeddings=512)).save_pretrained(model)
    made = recipe(model=str(model), method={"kind": "freeze"})
    finding = caught(gogpt, made, "MOD505")
    assert finding["evidence"]["trainable_parameters"] == 0
    assert finding["evidence"]["num_parameters"] > 40_000
    assert finding["evidence"]["method"] == "freeze"
    silent(gogpt, recipe(model=str(model), method={"kind": "full"}))


@planted("MOD505")
def test_an_empty_list_of_targets(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(method={"targets": []}), "MOD505")
    assert finding["evidence"]["targets"] == {}
    silent(gogpt, recipe(method={"kind": "freeze", "trainable_layers": 1}))


@planted("MOD507")
@pytest.mark.parametrize("method", [{"kind": "lora", "rank": 4}, {"kind": "freeze", "trainable_layers": 1}], ids=lambda m: m["kind"])
def test_new_rows_that_are_not_trained(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path, method: dict[str, Any]) -> None:
    """An extended model: its tokens are in the data, and the method leaves both matrices as they are."""
    chats = [{"messages": [{"role": "user", "content": f"北京的天气 {i}"}, {"role": "assistant", "content": f"上海的大学，北京的首都 {i % 7}。"}]} for i in range(30)]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", chats)
    model = tmp_path / "larger"
    assert gogpt("tokenizer", "extend", tiny, "--corpus", corpus, "--size", 285, "-o", model, "-q").code == 0
    made = recipe(chats, model=str(model), method=method, train={"max_steps": 2, "warmup": 0}, data={"eval": 0})
    finding = caught(gogpt, made, "MOD507")
    note = json.loads((model / "gogpt_extension.json").read_text(encoding="utf-8"))
    assert finding["evidence"]["added_tokens"] == note["num_new_tokens"] > 5
    assert finding["evidence"]["added_seen"] > 100
    healthy = "method.new_tokens=rows" if method["kind"] == "lora" else "method.new_tokens=all"
    silent(gogpt, made, healthy)
    finished(gogpt, made, healthy)
    # No token of theirs in the data: nothing is lost.
    silent(gogpt, recipe(model=str(model), method=method, train={"max_steps": 2, "warmup": 0}, data={"eval": 0}))


def resized(folder: Path, out: Path, *, trained: bool = False) -> Path:
    """The model with four tokens more, as transformers adds them; ``trained``: their rows then moved like any others."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<lookup>", "</lookup>", "<answer>", "</answer>"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    if trained:
        torch.manual_seed(0)
        with torch.no_grad():
            for matrix in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
                matrix[-4:] += 0.01 * torch.randn_like(matrix[-4:])
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@planted("MOD507")
def test_rows_that_resize_token_embeddings_left_at_the_mean(gogpt: Any, recipe: Any, tiny: Path, tmp_path: Path) -> None:
    """No note tells of the new tokens: their rows do (artidoro/qlora#214, huggingface/peft#334)."""
    model = resized(tiny, tmp_path / "resized")
    uses = [{"messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"<lookup>stone {i}</lookup>"}]} for i in range(24)]
    made = recipe(uses, model=str(model), train={"max_steps": 2, "warmup": 0})
    finding = caught(gogpt, made, "MOD507")
    assert finding["evidence"]["first"] == "<lookup>, </lookup>"
    assert finding["evidence"]["tokens"] == 2
    assert finding["evidence"]["seen"] >= 2 * 20
    for healthy in ("method.new_tokens=all", "method.modules_to_save=[embed_tokens,lm_head]"):
        silent(gogpt, made, healthy)
    # No token of theirs in the data, or rows that have been trained (a tenth of the others' spread is enough to tell): nothing is said.
    silent(gogpt, recipe(model=str(model), train={"max_steps": 2, "warmup": 0}))
    silent(gogpt, recipe(uses, model=str(resized(tiny, tmp_path / "trained", trained=True)), train={"max_steps": 2, "warmup": 0}))
