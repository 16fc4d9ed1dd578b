"""The loss of the trained positions = the loss of all logits, whole and in chunks: values and gradients."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM

from gogpt import loss as loss_path
from gogpt.adapters import add_method
from gogpt.config import MethodConfig
from gogpt.loss import decoder_of, model_inputs, summed_loss
from gogpt.records import IGNORE_INDEX
from invariants.test_attention import GPT2, SMALL, assert_same, rows_of, tensors

SIZES = [[7, 1, 12], [9], [2, 3, 4, 5]]
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "untied": ("Llama", {**SMALL, "tie_word_embeddings": False}), "tied": ("Llama", {**SMALL, "tie_word_embeddings": True}),
    "capped": ("Gemma2", {**SMALL, "head_dim": 8, "final_logit_softcapping": 0.5}), "scaled down": ("Granite", {**SMALL, "logits_scaling": 3.0}),
    "scaled up": ("Cohere", {**SMALL, "logit_scale": 4.0}), "GPT-2": ("GPT2", GPT2), "GPT-NeoX": ("GPTNeoX", {**SMALL, "hidden_dropout": 0.0}),
    "Qwen3": ("Qwen3", {**SMALL, "head_dim": 8}), "mixture": ("Mixtral", {**SMALL, "num_local_experts": 2, "sliding_window": None}),
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    family, changes = MODELS[name]
    return AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**changes))


def plainly(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """All logits, then the cross-entropy of all of them."""
    logits = model(**model_inputs(model, batch, torch.float32)).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


def backward(model: Any, loss: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """How many positions each run of the model's head was given."""

    def counted(model: Any) -> list[int]:
        calls: list[int] = []
        loss_path.base_of(model).get_output_embeddings().register_forward_hook(lambda m, args, out: calls.append(args[0].shape[:-1].numel()))
        return calls

    return counted


@pytest.mark.parametrize("chunk", [1 << 28, 64 * 4 * 5])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_all_logits(name, chunk, heads, monkeypatch):
    """Whole, and in chunks of at most 5 positions: tied, capped and scaled heads."""
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", chunk)
    model = build(name).train()
    batch = tensors(rows_of(SIZES))
    expected = backward(model, plainly(model, batch))
    calls = heads(model)
    loss, count = summed_loss(model, batch, torch.float32)
    assert count == int((batch["labels"][:, 1:] != IGNORE_INDEX).sum()) == 23
    assert_same(expected, backward(model, loss))
    if chunk == 1 << 28:
        assert calls == [count]
    else:  # one to no use, then each chunk forward and, last first, again
        assert calls == [1, 5, 5, 5, 4, 4, 4, 4, 5, 5, 5]
    assert "forward" not in vars(decoder_of(model))


@pytest.mark.parametrize("chunk", [1 << 28, 64 * 4 * 5])
@pytest.mark.parametrize(("targets", "saved"), [("all-linear", []), (["q_proj", "lm_head"], []), (["q_proj"], ["lm_head"])])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_also_on_the_head(targets, saved, checkpointing, chunk, heads, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", chunk)
    base = build("untied")
    base.save_pretrained(tmp_path)
    model: Any = add_method(base, MethodConfig(kind="lora", rank=4, dropout=0.0, targets=targets, modules_to_save=saved), tmp_path).train()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batch = tensors(rows_of(SIZES))
    expected = backward(model, plainly(model, batch))
    assert any("lm_head" in name for name in expected[1]) == (targets != "all-linear")
    calls = heads(model)
    loss, count = summed_loss(model, batch, torch.float32)
    assert_same(expected, backward(model, loss))
    assert max(calls) == (count if chunk == 1 << 28 else 5)


def test_a_chunk_is_one_position_at_least(heads, monkeypatch):
    """One row of logits above the limit: chunks of one, none of them empty."""
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", 100)
    model, batch = build("untied"), tensors(rows_of([[5, 4]]))
    expected = backward(model, plainly(model, batch))
    calls = heads(model)
    assert_same(expected, backward(model, summed_loss(model, batch, torch.float32)[0]))
    assert set(calls) == {1}


def test_a_decoder_that_is_not_the_models_own_is_left_alone(monkeypatch):
    """A model that names as its decoder what its forward pass does not run has its loss from all its logits."""
    model = build("untied")
    monkeypatch.setattr(model, "get_decoder", lambda: torch.nn.Linear(2, 2))
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", 64 * 4 * 5)
    batch = tensors(rows_of(SIZES))
    assert_same(backward(model, plainly(model, batch)), backward(model, summed_loss(model, batch, torch.float32)[0]))


def test_a_model_that_counts_its_logits_is_given_all_positions(monkeypatch):
    """A forward pass that makes of its logits as many as there are tokens does not lend itself to chosen positions."""
    model, batch = build("untied"), tensors(rows_of(SIZES))
    expected = backward(model, plainly(model, batch))
    own = model.forward

    @functools.wraps(own)
    def forward(*args: Any, logits_to_keep: Any = 0, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        missing = kwargs["input_ids"].shape[1] - out.logits.shape[1]
        out.logits = F.pad(out.logits, (0, 0, 0, max(0, missing)))[:, : kwargs["input_ids"].shape[1]]
        return out if isinstance(logits_to_keep, int) else type(out)(logits=out.logits[:, logits_to_keep])

    monkeypatch.setattr(model, "forward", forward)
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", 64 * 4 * 5)
    assert_same(expected, backward(model, summed_loss(model, batch, torch.float32)[0]))


def test_what_stands_in_for_the_decoder_goes_away_again(monkeypatch):
    """Also where a library had put a forward pass of its own on the module."""
    model, batch = build("untied"), tensors(rows_of(SIZES))
    expected = backward(model, plainly(model, batch))
    decoder: Any = decoder_of(model)
    own, calls = decoder.forward, []
    decoder.forward = lambda *args, **kwargs: (calls.append(1), own(*args, **kwargs))[1]
    replaced = decoder.forward
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", 64 * 4 * 5)
    assert_same(expected, backward(model, summed_loss(model, batch, torch.float32)[0]))
    assert decoder.forward is replaced
    assert calls == [1]


def test_evaluation_keeps_no_graph_and_the_same_loss(monkeypatch):
    model = build("untied").eval()
    batch = tensors(rows_of(SIZES))
    with torch.no_grad():
        whole = summed_loss(model, batch, torch.float32)[0]
        monkeypatch.setattr(loss_path, "CHUNK_BYTES", 64 * 4 * 5)
        chunked = summed_loss(model, batch, torch.float32)[0]
    assert not chunked.requires_grad
    torch.testing.assert_close(chunked, whole)


def test_without_a_trained_token_the_loss_is_0_and_has_a_gradient():
    model = build("untied")
    batch = tensors(rows_of([[4, 5]]))
    batch["labels"][:] = IGNORE_INDEX
    loss, count = summed_loss(model, batch, torch.float32)
    value, gradients = backward(model, loss)
    assert (value, count) == (0.0, 0)
    assert not any(bool(g.any()) for g in gradients.values())


def test_under_autocast_chunks_are_computed_again_as_they_were(monkeypatch):
    """The backward pass runs outside autocast; what is computed again in it must not."""
    batch, found = tensors(rows_of(SIZES)), []
    for chunk in (1 << 28, 64 * 4 * 5):
        monkeypatch.setattr(loss_path, "CHUNK_BYTES", chunk)
        model = build("untied")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = summed_loss(model, batch, torch.bfloat16)
        found.append(backward(model, loss))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-3)
    for name, gradient in found[0][1].items():
        assert float((gradient - found[1][1][name]).norm()) <= 0.02 * float(gradient.norm()) + 1e-6, name


def test_inside_ddp_the_wrapper_sees_one_whole_pass(tmp_path, heads, monkeypatch):
    """Its gradients are synchronised in the hooks of its own forward pass: no chunk passes it by."""
    monkeypatch.setattr(loss_path, "CHUNK_BYTES", 64 * 4 * 5)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = build("untied")
        batch = tensors(rows_of(SIZES))
        expected = backward(model, plainly(model, batch))
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        assert decoder_of(wrapped) is None
        calls = heads(model)
        loss, _ = summed_loss(wrapped, batch, torch.float32)
        assert_same(expected, backward(model, loss))
        columns = int((batch["labels"][:, 1:] != IGNORE_INDEX).any(dim=0).sum())
        assert calls == [3 * columns]
    finally:
        torch.distributed.destroy_process_group()


class _Saved:
    """Bytes that a forward pass keeps for the backward pass."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self.num_bytes += tensor.numel() * tensor.element_size()
        return tensor


def test_chunks_keep_no_logits_for_the_backward_pass(monkeypatch):
    """What is kept beyond the decoder's own no longer grows with K x V; of a head that is one product nothing of that size is ever kept."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(transformers.LlamaConfig(**{**SMALL, "vocab_size": 4096}))
    batch = tensors(rows_of([[100]]))
    kept = {}
    one_product = _Saved()
    with torch.autograd.graph.saved_tensors_hooks(one_product.pack, lambda tensor: tensor):
        summed_loss(model, batch, torch.float32)
    monkeypatch.setattr(loss_path, "head_of", lambda model: None)
    for chunk in (1 << 28, 4096 * 4 * 10):
        monkeypatch.setattr(loss_path, "CHUNK_BYTES", chunk)
        saved = _Saved()
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            summed_loss(model, batch, torch.float32)
        kept[chunk] = saved.num_bytes
    logits = 50 * 4096 * 4
    assert kept[1 << 28] - kept[4096 * 4 * 10] > 0.9 * logits
    assert kept[1 << 28] - one_product.num_bytes > 0.9 * logits
