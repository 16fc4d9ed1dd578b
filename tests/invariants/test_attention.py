"""Attention by document = the explicit mask = every document alone. In logits and in gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from gogpt import attention as attention_path
from gogpt.adapters import add_method
from gogpt.attention import DOCUMENTS, attend_by_document, document_attention, explicit_mask, why_explicit
from gogpt.batches import tensors_of
from gogpt.config import MethodConfig
from gogpt.loss import summed_loss
from gogpt.model import forward_inputs
from gogpt.packing import batch_rows
from gogpt.records import Example, Origin, paint

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
TAKE_IT: dict[str, dict[str, Any]] = {
    "Llama": SMALL, "Mistral": {**SMALL, "sliding_window": None}, "Qwen2": SMALL, "Qwen3": {**SMALL, "head_dim": 8}, "Gemma": {**SMALL, "head_dim": 16},
    "Phi3": SMALL, "Granite": {**SMALL, "logits_scaling": 3.0, "attention_multiplier": 0.2}, "Olmo2": SMALL, "GPT2": GPT2,
    "GPTNeoX": {**SMALL, "hidden_dropout": 0.0}, "Cohere": SMALL, "SmolLM3": SMALL,
}
FALL_BACK: list[tuple[str, dict[str, Any], str]] = [
    ("Gemma2", {**SMALL, "head_dim": 8}, "its attention is eager"),
    ("Llama", {**SMALL, "attn_logit_softcapping": 50.0}, "attn_logit_softcapping is set"),
    ("Gemma3Text", {**SMALL, "head_dim": 8}, "it attends within a window"),
    ("Mistral", {**SMALL, "sliding_window": 16}, "it attends within a window"),
    ("Llama4Text", {**SMALL, "intermediate_size_mlp": 48, "num_local_experts": 2, "head_dim": 8}, "attention_chunk_size is set"),
    ("GptOss", {**SMALL, "num_local_experts": 2, "head_dim": 8}, "its attention is eager"),
    ("Bloom", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "its attention is eager"),
    ("FalconH1", {**SMALL, "head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8}, "its attention does not go through transformers' interface"),
    ("Lfm2", {**SMALL, "layer_types": ["conv", "full_attention"]}, "it has layers of type conv"),
    ("Mamba", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 4}, "its attention is eager"),
    ("Llama", {**SMALL, "mamba_d_state": 4}, "mamba_d_state: its layers carry a state"),
    ("Qwen3Next", {**SMALL, "head_dim": 8, "num_experts": 2, "layer_types": ["linear_attention", "full_attention"]},
     "its attention does not go through transformers' interface"),
]


def build(name: str, changes: dict[str, Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**changes))


def rows_of(sizes: list[list[int]], seed: int = 0, vocab: int = 64) -> list[list[Example]]:
    rng = np.random.default_rng(seed)
    rows = []
    for row in sizes:
        ids = [rng.integers(3, vocab, n).tolist() for n in row]
        rows.append([Example(input_ids=np.asarray(i, dtype=np.int32), labels=paint(i, [k >= len(i) // 2 for k in range(len(i))]),
                             origin=Origin(path="x", row=1)) for i in ids])
    return rows


def tensors(rows: list[list[Example]]) -> dict[str, torch.Tensor]:
    batch = batch_rows(rows, pad_id=0)
    return tensors_of(batch)


def gradients(model: Any, batches: list[dict[str, torch.Tensor]]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss, _ = summed_loss(model, batch, torch.float32)
        loss.backward()
        total += float(loss.detach())
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(one: tuple[float, dict[str, torch.Tensor]], two: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    assert one[1]
    assert one[1].keys() == two[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, two[1][name], atol=2e-5, rtol=1e-4, msg=name)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Length of every call of torch's attention, and whether it had a mask."""
    calls: list[tuple[int, bool]] = []
    kernel, plain = attention_path._flash, torch.nn.functional.scaled_dot_product_attention

    def flash(query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append((query.shape[2], False))
        return kernel(query, *args, **kwargs)

    def attention(query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append((query.shape[2], kwargs.get("attn_mask") is not None))
        return plain(query, *args, **kwargs)

    attention_path._groups_heads()
    monkeypatch.setattr(attention_path, "_flash", flash)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    return calls


def test_only_documents_are_computed_and_nothing_has_a_mask(counted):
    """The products are the sum of the documents' squares; padding is in none of them."""
    model = build("Llama", SMALL)
    attend_by_document(model, "auto", torch.device("cpu"))
    model(**forward_inputs(tensors(rows_of([[5, 1, 9], [4, 3]])), torch.float32, DOCUMENTS))
    assert counted == [(n, False) for n in (5, 1, 9, 4, 3)] * 2


@pytest.mark.parametrize("name", TAKE_IT)
def test_by_document_is_the_explicit_mask(name):
    """The architectures that take it: logits of all real tokens, loss and every gradient."""
    model = build(name, TAKE_IT[name]).eval()
    assert why_explicit(model) is None
    batch = tensors(rows_of([[7, 1, 12], [9], [2, 3, 4, 5]]))
    real = batch["document_ids"] >= 0
    explicit = gradients(model, [batch])
    with torch.no_grad():
        logits = model(**forward_inputs(batch, torch.float32, "sdpa")).logits
    attend_by_document(model, "auto", torch.device("cpu"))
    assert model.config._attn_implementation == DOCUMENTS
    assert_same(explicit, gradients(model, [batch]))
    with torch.no_grad():
        now = model(**forward_inputs(batch, torch.float32, DOCUMENTS)).logits
    torch.testing.assert_close(now[real], logits[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "changes", "why"), FALL_BACK, ids=lambda x: x if isinstance(x, str) else "")
def test_others_keep_the_explicit_mask(name, changes, why):
    model = build(name, changes)
    before = model.config._attn_implementation
    assert why_explicit(model) == why
    attend_by_document(model, "auto", torch.device("cpu"))
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(("asked", "device"), [("sdpa", "cpu"), ("eager", "cpu"), ("auto", "mps")])
def test_what_is_asked_for_by_name_stays(asked, device):
    model = build("Llama", SMALL)
    if asked == "eager":
        model.set_attn_implementation("eager")
    before = model.config._attn_implementation
    attend_by_document(model, asked, torch.device(device))
    assert model.config._attn_implementation == before


@pytest.fixture(scope="module")
def llama() -> Any:
    model = build("Llama", SMALL).eval()
    attend_by_document(model, "auto", torch.device("cpu"))
    return model


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=6), min_size=1, max_size=3), st.integers(0, 1000))
def test_packed_is_unpacked_for_any_layout(llama, sizes, seed):
    """One document a row or many, of length 1 or more, with padding or without."""
    rows = rows_of(sizes, seed)
    together = tensors(rows)
    alone = [tensors([[e]]) for row in rows for e in row]
    with torch.no_grad():
        packed = llama(**forward_inputs(together, torch.float32, DOCUMENTS)).logits[together["document_ids"] >= 0]
        apart = torch.cat([llama(**forward_inputs(one, torch.float32, DOCUMENTS)).logits[0] for one in alone])
    torch.testing.assert_close(packed, apart, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 6), st.sampled_from([1, 2, 4]), st.floats(0.1, 2.0))
def test_the_function_alone(sizes, padding, groups, scaling):
    """Against the softmax written out, for any number of key heads, any scale, and padding behind."""
    length = sum(sizes) + padding
    torch.manual_seed(length)
    query, key, value = (torch.randn(1, heads, length, 8) for heads in (4, groups, groups))
    documents = torch.tensor([[d for d, n in enumerate(sizes) for _ in range(n)] + [-1] * padding])
    borders = np.cumsum(sizes).tolist()
    ends = torch.tensor([[borders[d] for d, n in enumerate(sizes) for _ in range(n)] + list(range(sum(sizes), length))])
    module = torch.nn.Identity()
    module.num_key_value_groups = 4 // groups
    out, _ = document_attention(module, query, key, value, ends[:, None, None, :], scaling=scaling)
    wide = [x.repeat_interleave(4 // groups, dim=1) for x in (key, value)]
    scores = query @ wide[0].transpose(2, 3) * scaling + explicit_mask(ends, torch.float32)
    expected = (scores.softmax(-1) @ wide[1]).transpose(1, 2)
    torch.testing.assert_close(out[documents >= 0], expected[documents >= 0], atol=1e-5, rtol=1e-5)
    assert not out[documents < 0].any()


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.integers(0, 30), st.sampled_from([1, 2, 4]))
def test_flex_attention_sees_the_same(sizes, padding, groups):
    """What a GPU runs, forward and as torch writes it out on a CPU: against the stretches, a common beginning in front. Its kernels are tried where there is a GPU."""
    length = 20 + sum(sizes) + padding
    torch.manual_seed(length)
    query, key, value = (torch.randn(1, heads, length, 16) for heads in (4, groups, groups))
    ends = [20 + sum(sizes)] * 20
    for n in sizes:
        ends += [len(ends) + n] * n
    held = torch.tensor([ends + list(range(len(ends), length))])
    with torch.no_grad():
        ours = attention_path.flex(query, key, value, held[:, None, None, :], 0.3)
        module = torch.nn.Identity()
        module.num_key_value_groups = 4 // groups
        expected, _ = document_attention(module, query, key, value, held[:, None, None, :], scaling=0.3)
    torch.testing.assert_close(ours.transpose(1, 2), expected, atol=1e-5, rtol=1e-5)


def test_flex_attention_is_not_trusted_unseen():
    """Where its trial fails, as on a CPU, where torch has no backward pass of it, the reason is told and transformers' own choice stays."""
    why = attention_path.why_not_flex(torch.device("cpu"))
    assert why is not None
    assert "backward" in why


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_packed_are_unpacked(kind, checkpointing, tmp_path):
    """Full and LoRA, with activations kept and computed again."""
    model: Any = build("Llama", SMALL)
    attend_by_document(model, "auto", torch.device("cpu"))
    if kind == "lora":
        model.save_pretrained(tmp_path)
        model = add_method(model, MethodConfig(kind="lora", rank=4, dropout=0.0), tmp_path)
        for name, p in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.1)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    rows = rows_of([[7, 1, 12], [9], [2, 3, 4, 5]])
    assert_same(gradients(model, [tensors(rows)]), gradients(model, [tensors([[e]]) for row in rows for e in row]))


def test_dropout_goes_to_each_document(counted):
    """Attention's own dropout is torch's, as under a mask: it draws numbers, and leaves a model in evaluation alone."""
    model = build("Llama", {**SMALL, "attention_dropout": 0.5})
    attend_by_document(model, "auto", torch.device("cpu"))
    inputs = forward_inputs(tensors(rows_of([[9, 6]])), torch.float32, DOCUMENTS)
    with torch.no_grad():
        assert not torch.equal(model.train()(**inputs).logits, model(**inputs).logits)
        assert torch.equal(model.eval()(**inputs).logits, model(**inputs).logits)


def test_generation_is_that_of_sdpa(llama):
    """A cache, a batch padded on the left: what is not packed has sdpa's masks."""
    ids = torch.randint(3, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    plain = build("Llama", SMALL).eval()
    asked: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(llama.generate(**asked), plain.generate(**asked))


def test_its_name_is_not_saved(llama, tmp_path):
    """Who loads the trained model need not have GoGPT."""
    llama.save_pretrained(tmp_path)
    assert not any("gogpt" in file.read_text() for file in tmp_path.glob("*.json"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
