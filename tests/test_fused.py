"""Our functions = transformers' modules: logits, losses and gradients, of whole models, packed and not, full and with adapters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gogpt.arguments import optimizer_name
from gogpt.config import RunConfig
from gogpt.fused import Fused, fuse, keep_memory, linear_cross_entropy, plain_head, unfuse
from gogpt.fused.norm import normed_of, rms_norm
from gogpt.fused.rotary import rotary_in_place_of
from gogpt.loss import model_inputs, summed_loss
from gogpt.train import takes_fused
from invariants.test_attention import GPT2, SMALL, rows_of, tensors

PACKED, PLAIN = [[7, 3, 12], [9, 2, 8]], [[20], [20]]
MODELS: dict[str, tuple[str, dict[str, Any], Fused]] = {
    "llama": ("Llama", SMALL, Fused(norms=5, mlps=2, linears=8, rotary=2)),
    "llama with biases": ("Llama", {**SMALL, "attention_bias": True, "mlp_bias": True}, Fused(norms=5, mlps=2, linears=8, rotary=2)),
    "qwen2": ("Qwen2", SMALL, Fused(norms=5, mlps=2, linears=8, rotary=2)),
    "qwen3": ("Qwen3", {**SMALL, "head_dim": 8}, Fused(norms=9, mlps=2, linears=8, rotary=2)),
    "gemma2": ("Gemma2", {**SMALL, "head_dim": 8}, Fused(norms=9, mlps=2, linears=8, rotary=2)),
    "mistral": ("Mistral", {**SMALL, "sliding_window": None}, Fused(norms=5, mlps=2, linears=8, rotary=2)),
    "granite": ("Granite", {**SMALL, "logits_scaling": 3.0}, Fused(norms=5, mlps=2, linears=8, rotary=2)),
    "cohere": ("Cohere", SMALL, Fused(mlps=2, linears=8, kept=(("CohereAttention", 2, "its rotary embedding is not that of halves"),
                                                               ("CohereLayerNorm", 3, "it is no RMS norm")))),
    "phi": ("Phi", {**SMALL, "num_key_value_heads": 4, "attention_dropout": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}, Fused(linears=12, rotary=2)),
    "gpt2": ("GPT2", GPT2, Fused()),
}


def build(name: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    family, changes, _ = MODELS[name]
    model = AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**changes)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape) * 0.2)  # no norm of ones, no bias of zeros
    return model


def adapt(model: Any, **settings_: Any) -> Any:
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": "all-linear", **settings_}))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return adapted.train()


def step(model: Any, sizes: list[list[int]], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    batch = tensors(rows_of(sizes))
    model.zero_grad()
    with torch.no_grad():
        logits = model(**model_inputs(model, batch, dtype)).logits
    loss, _ = summed_loss(model, batch, dtype)
    loss.backward()
    return logits, loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_near(expected: Any, got: Any, within: float = 1e-5) -> None:
    logits, loss, grads = expected
    assert (logits - got[0]).norm() <= within * logits.norm()
    assert abs(loss - got[1]) <= within * abs(loss)
    assert grads.keys() == got[2].keys()
    scale = max(float(g.norm()) for g in grads.values())
    for name, grad in grads.items():  # what cancels (biases of keys) is rounding of what is large
        assert (grad - got[2][name]).norm() <= within * max(float(grad.norm()), 1e-2 * scale), name


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_are_the_same(name: str) -> None:
    model = build(name)
    before = {sizes is PACKED: step(model, sizes) for sizes in (PACKED, PLAIN)}
    names = list(model.state_dict())
    assert fuse(model) == MODELS[name][2]
    assert list(model.state_dict()) == names
    for sizes in (PACKED, PLAIN):
        assert_near(before[sizes is PACKED], step(model, sizes))
    assert fuse(model) == MODELS[name][2] or MODELS[name][2].kept  # once more changes nothing
    unfuse(model)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sizes", [PACKED, PLAIN], ids=["packed", "plain"])
def test_adapters_are_the_same(name: str, sizes: list[list[int]]) -> None:
    model = adapt(build(name))
    before = step(model, sizes)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    done = fuse(model)
    assert done.mlps == MODELS[name][2].mlps
    assert done.norms == MODELS[name][2].norms
    assert name == "gpt2" or done.linears >= 8
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())  # the proof put its numbers back
    assert_near(before, step(model, sizes))


@pytest.mark.parametrize("how", ["full", "lora", "freeze"])
def test_checkpointing_and_accumulation_are_the_same(how: str) -> None:
    model = build("qwen3")
    if how == "lora":
        model = adapt(model)
    elif how == "freeze":
        model.requires_grad_(False)
        model.model.layers[-1].requires_grad_(True)
    model.train()
    before = step(model, PACKED)
    fuse(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_near(before, step(model, PACKED))
    twice = [summed_loss(model, tensors(rows_of(PACKED)), torch.float32)[0] for _ in range(2)]
    for loss in reversed(twice):
        loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert all((found[n] - 3 * g).norm() <= 1e-5 * max(float((3 * g).norm()), 1e-2) for n, g in before[2].items())


@pytest.mark.parametrize("how", ["autocast bfloat16", "autocast float16", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("adapted", [False, True])
def test_low_precision_is_as_close_to_float32(how: str, name: str, adapted: bool) -> None:
    """Rounding differs in order, not in size: our gradients are no further from those of float32 than the modules' own are, by half."""
    exact = adapt(build(name)) if adapted else build(name)
    expected = step(exact, PACKED)
    model = adapt(build(name)) if adapted else build(name)
    kind = torch.bfloat16 if how.endswith("bfloat16") else torch.float16
    if how == "bfloat16":
        model = model.to(kind)
    off = []
    for own in (False, True):
        if own:
            assert fuse(model).mlps == 2
        with torch.autocast("cpu", dtype=kind, enabled=how.startswith("autocast")):
            got = step(model, PACKED, kind)
        assert {t.dtype for t in got[2].values()} == {next(iter(model.parameters())).dtype}
        off.append(sum(float((got[2][n].float() - g).norm() ** 2) for n, g in expected[2].items()) ** 0.5)
    assert off[1] <= 1.5 * off[0]


def saved_bytes(model: Any, run: Any) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run()
    assert out.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def test_half_of_the_activations_are_saved() -> None:
    """In the proportions of Llama (MLP 8/3, three queries a key): of the layers, and less of a step, whose logits are not saved either."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(transformers.LlamaConfig(**{**SMALL, "hidden_size": 96, "intermediate_size": 256, "vocab_size": 300,
                                                                         "num_attention_heads": 6, "num_key_value_heads": 2}))
    ids = torch.randint(0, 300, (1, 64))
    targets = ids[0, 1:]

    def hidden() -> torch.Tensor:
        return model.model(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]

    def theirs() -> torch.Tensor:
        return F.cross_entropy(model.lm_head(hidden()), targets)

    def ours() -> torch.Tensor:
        return linear_cross_entropy(hidden(), model.lm_head.weight, None, torch.arange(63), targets, torch.ones(63))

    before = saved_bytes(model, hidden), saved_bytes(model, theirs)
    fuse(model)
    after = saved_bytes(model, hidden), saved_bytes(model, ours)
    assert after[0] <= 0.53 * before[0]
    assert after[1] <= 0.5 * before[1]


def test_a_frozen_start_saves_nothing() -> None:
    model = build("llama")
    model.requires_grad_(False)
    model.model.norm.requires_grad_(True)
    fuse(model)
    ids = torch.randint(0, 64, (1, 32))
    assert saved_bytes(model, lambda: model.model(input_ids=ids, use_cache=False).last_hidden_state) <= 32 * (32 + 1) * 4  # the last norm's input alone


def test_what_changes_later_takes_the_modules_own_way() -> None:
    """Merged, unmerged, disabled, a second adapter: what the layer is when it runs, not what it was when it was replaced."""
    model = adapt(build("llama"))
    twin = copy.deepcopy(model)
    fuse(model)
    ids = torch.randint(0, 64, (1, 8))

    def both(change: Any) -> None:
        for m in (model, twin):
            torch.manual_seed(2)
            change(m)
        if not all(m.base_model.model.model.layers[0].mlp.gate_proj.merged for m in (model, twin)):  # merged, nothing has a gradient
            assert_near(step(twin, PLAIN), step(model, PLAIN))
        with torch.no_grad():
            assert torch.allclose(model(input_ids=ids).logits, twin(input_ids=ids).logits, atol=1e-5)

    both(lambda m: m.merge_adapter())
    both(lambda m: m.unmerge_adapter())
    both(lambda m: m.add_adapter("second", LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", lora_dropout=0.0)))
    both(lambda m: m.base_model.set_adapter(["default", "second"]))
    both(lambda m: m.base_model.set_adapter("default"))
    with model.disable_adapter(), twin.disable_adapter(), torch.no_grad():
        assert torch.allclose(model(input_ids=ids).logits, twin(input_ids=ids).logits, atol=1e-6)
    merged = model.merge_and_unload()
    assert torch.allclose(merged(input_ids=ids).logits, twin.merge_and_unload()(input_ids=ids).logits, atol=1e-5)


def test_copies_generation_and_files_are_the_same(tmp_path: Any) -> None:
    model = build("llama").eval()
    ids = torch.randint(3, 64, (1, 5))
    said = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
    fuse(model)
    assert torch.equal(said, model.generate(input_ids=ids, max_new_tokens=8, do_sample=False))
    clone = copy.deepcopy(model)
    with torch.no_grad():
        clone.model.norm.weight.mul_(2)
        clone.model.layers[0].mlp.down_proj.weight.zero_()
    other, own = clone(input_ids=ids).logits, model(input_ids=ids).logits
    unfuse(clone)
    assert not torch.allclose(other, own)
    assert torch.allclose(other, clone(input_ids=ids).logits, atol=1e-6)  # a copy computes with its own weights
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(loaded(input_ids=ids).logits, own, atol=1e-6)


def test_what_differs_keeps_its_own_forward() -> None:
    """Modules that look the part and compute something else; adapters with dropout; hooks."""
    model = build("llama")

    class Shifted(type(model.model.norm)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1e-3

    class Twice(type(model.model.layers[0].mlp)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 2

    model.model.norm.__class__ = Shifted
    model.model.layers[0].mlp.__class__ = Twice
    model.model.layers[1].mlp.act_fn = torch.nn.ReLU()
    model.model.layers[1].self_attn.q_proj.register_forward_hook(lambda m, args, out: out * 2)
    done = fuse(model)
    assert (done.norms, done.mlps, done.linears) == (4, 0, 7)
    assert {(kind, why) for kind, _, why in done.kept} == {("Shifted", "it is no RMS norm"), ("Twice", "ours differs"),
                                                           ("LlamaMLP", "its activation is neither SiLU nor GELU")}
    assert "Twice as they are: ours differs" in done.told()
    dropped = fuse(adapt(build("llama"), lora_dropout=0.1))
    assert (dropped.mlps, dropped.norms) == (0, 5)
    assert all("dropout" in why for _, _, why in dropped.kept)


def test_the_random_numbers_of_a_run_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    model = adapt(build("llama"))
    torch.manual_seed(5)
    fuse(model), plain_head(model)
    assert torch.equal(torch.rand(4), expected)


# -- single functions ------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), size=st.integers(1, 40), plus_one=st.booleans(), scale=st.sampled_from([1e-3, 1.0, 100.0]), seed=st.integers(0, 99))
def test_rms_norm_has_the_gradients_of_its_formula(rows: int, size: int, plus_one: bool, scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = (torch.randn(2, rows, size, generator=draw) * scale).requires_grad_()
    weight = torch.randn(size, generator=draw, requires_grad=True)
    g = torch.randn(2, rows, size, generator=draw)
    exact, factor = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    plain = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + 1e-5) * (factor + 1 if plus_one else factor)
    out = rms_norm(x, weight, 1e-5, plus_one)
    assert normed_of(out) is not None
    assert normed_of(out * 1) is None
    expected, got = torch.autograd.grad(plain, (exact, factor), g.double()), torch.autograd.grad(out, (x, weight), g)
    assert torch.allclose(out.double(), plain, rtol=1e-5, atol=1e-6)
    for a, b in zip(expected, got, strict=True):
        # dx is a difference of terms of the size r |g w|, which leave little of themselves where a row is short
        assert (a - b).norm() <= 1e-5 * max(float(a.norm()), float((factor.detach().abs() + 1).max() * g.norm() / scale))


def test_a_norm_changed_in_place_is_no_norm() -> None:
    out = rms_norm(torch.randn(2, 8), torch.ones(8), 1e-5, False)
    assert normed_of(out) is not None
    out.mul_(2)
    assert normed_of(out) is None


def test_rotary_embedding_asked_for_otherwise_is_the_files_own() -> None:
    asked: list[Any] = []
    ours = rotary_in_place_of(lambda *args, **kwargs: asked.append(kwargs) or args[:2])
    q, k, cos = torch.randn(1, 2, 3, 8), torch.randn(1, 1, 3, 8), torch.randn(1, 3, 8)
    ours(q, k, cos, cos)
    assert asked == []
    ours(q, k, cos[..., :4], cos[..., :4])  # of a part of each head
    ours(q, k, cos.double(), cos.double())
    assert len(asked) == 2


# -- the head ---------------------------------------------------------------------------------------------------------------------------------------------


def by_logits(hidden: torch.Tensor, weight: torch.Tensor, bias: Any, at: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, scale: float,
              softcap: float | None) -> torch.Tensor:
    logits = F.linear(hidden, weight, bias) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return (F.cross_entropy(logits[at], targets, reduction="none") * weights).sum()


@settings(max_examples=60, deadline=None)
@given(positions=st.integers(1, 12), entries=st.integers(0, 30), vocab=st.integers(2, 70), chunk=st.integers(1, 12), scale=st.sampled_from([1.0, 0.25, 3.0]),
       softcap=st.sampled_from([None, 2.0, 30.0]), biased=st.booleans(), frozen=st.booleans(), seed=st.integers(0, 999))
def test_linear_cross_entropy_is_cross_entropy(positions: int, entries: int, vocab: int, chunk: int, scale: float, softcap: float | None, biased: bool,
                                               frozen: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 16, generator=draw, requires_grad=True)
    weight = torch.randn(vocab, 16, generator=draw, requires_grad=not frozen)
    bias = torch.randn(vocab, generator=draw, requires_grad=True) if biased else None
    at, targets = (torch.randint(0, n, (entries,), generator=draw) for n in (positions, vocab))
    weights = torch.rand(entries, generator=draw)
    inputs = [t for t in (hidden, weight, bias) if t is not None and t.requires_grad]
    exact = [t if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in (hidden, weight, bias)]
    expected = by_logits(exact[0], exact[1], exact[2], at, targets, weights.double(), scale, softcap)  # type: ignore[arg-type]
    loss = linear_cross_entropy(hidden, weight, bias, at, targets, weights, scale=scale, softcap=softcap, chunk_bytes=chunk * vocab * 4)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - expected.item()) <= 1e-6 * max(1.0, float(weights.sum()) * scale * 20)
    grads = torch.autograd.grad(loss * 0.5, inputs)
    wanted = torch.autograd.grad(expected * 0.5, [t for t in exact if t is not None and t.requires_grad])
    for a, b in zip(wanted, grads, strict=True):
        assert (a - b).norm() <= 3e-6 * max(float(a.norm()), 1e-3 + float(weights.norm()) * scale)
    with torch.no_grad():  # the same chunks, without their gradients: the same bits
        assert torch.equal(linear_cross_entropy(hidden, weight, bias, at, targets, weights, scale=scale, softcap=softcap, chunk_bytes=chunk * vocab * 4), loss.detach())


def test_the_gradients_are_given_once() -> None:
    hidden = torch.randn(3, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, torch.randn(5, 4), None, torch.arange(3), torch.tensor([0, 1, 2]), torch.ones(3))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="earlier backward pass"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_head_in_low_precision(dtype: torch.dtype) -> None:
    """Loss in float32 of logits in the compute dtype; gradients in the dtypes of the weights."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(20, 32, generator=draw, requires_grad=True), torch.randn(50, 32, generator=draw, requires_grad=True)
    at, targets = torch.arange(20), torch.randint(0, 50, (20,), generator=draw)
    with torch.autocast("cpu", dtype=dtype):
        expected = F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")
        loss = linear_cross_entropy(hidden, weight, None, at, targets, torch.ones(20), chunk_bytes=7 * 50 * 4)
    assert abs(loss - expected) <= 1e-5 * expected
    for a, b in zip(torch.autograd.grad(expected, (hidden, weight)), torch.autograd.grad(loss, (hidden, weight)), strict=True):
        assert b.dtype == torch.float32
        assert (a - b).norm() <= 1e-2 * a.norm()


HEADS: dict[str, tuple[str, float, float | None]] = {"llama": ("llama", 1.0, None), "gemma2": ("gemma2", 1.0, 30.0), "granite": ("granite", 1 / 3, None),
                                                      "cohere": ("cohere", 0.0625, None), "phi": ("phi", 1.0, None), "gpt2": ("gpt2", 1.0, None)}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_a_model_is_known(name: str) -> None:
    """And the loss by it is that of the model's own logits."""
    model = build(name)
    head = plain_head(model)
    assert head is not None
    assert (head.scale, head.softcap) == HEADS[name][1:]
    ids = torch.randint(0, 64, (1, 12))
    decoder: Any = model.get_decoder()
    hidden = decoder(input_ids=ids).last_hidden_state[0, :-1]
    own = F.cross_entropy(model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:], reduction="sum")
    loss = linear_cross_entropy(hidden, head.weight, head.bias, torch.arange(11), ids[0, 1:], torch.ones(11), scale=head.scale, softcap=head.softcap)
    assert torch.allclose(own, loss, rtol=1e-6)
    assert plain_head(fuse(model) and model) is not None


def test_a_head_that_is_more_is_not_plain() -> None:
    assert plain_head(adapt(build("llama"))) is not None  # all-linear leaves the head out
    assert plain_head(adapt(build("llama"), target_modules=["lm_head", "q_proj"])) is None
    assert plain_head(adapt(build("llama"), modules_to_save=["lm_head"])) is None
    hooked = build("llama")
    hooked.lm_head.register_forward_hook(lambda m, args, out: out * 2)
    assert plain_head(hooked) is None
    capped = build("gemma2")
    own = type(capped).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = own(self, *args, **kwargs)
        out.logits = out.logits + 1
        return out

    capped.__class__ = type("Shifted", (type(capped),), {"forward": forward})
    assert plain_head(capped) is None
    assert "forward" not in capped.get_decoder().__dict__


# -- where it applies ----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "stage", "compiled", "applies"), [
    ({}, None, False, True), ({"train": {"fused": False}}, None, False, False), ({"parallel": {"engine": "fsdp", "processes": 2}}, None, False, False),
    ({"parallel": {"engine": "deepspeed"}}, 2, False, True), ({"parallel": {"engine": "deepspeed"}}, 3, False, False), ({}, None, True, False),
])
def test_only_whole_models_are_fused(keys: dict[str, Any], stage: int | None, compiled: bool, applies: bool) -> None:
    config = RunConfig.model_validate({"model": "m", "data": {"train": "d"}, "output": "o", **keys})
    args = type("Args", (), {"device": torch.device("cpu"), "torch_compile": compiled,
                             "deepspeed": None if stage is None else {"zero_optimization": {"stage": stage}}})()
    assert takes_fused(config, args) is applies


@pytest.mark.parametrize(("engine", "precision", "name"), [("ddp", "fp32", "adamw_torch_fused"), ("ddp", "bf16", "adamw_torch_fused"),
                                                           ("ddp", "fp16", "adamw_torch"), ("fsdp", "fp32", "adamw_torch"), ("deepspeed", "bf16", "adamw_torch")])
def test_adamw_is_one_pass_where_nothing_stands_between(engine: str, precision: str, name: str) -> None:
    config = RunConfig.model_validate({"model": "m", "data": {"train": "d"}, "output": "o", "parallel": {"engine": engine}})
    assert optimizer_name(config, precision) == name
    assert optimizer_name(config.model_copy(update={"train": config.train.model_copy(update={"optimizer": "sgd"})}), precision) == "sgd"


def test_adamw_in_one_pass_is_adamw_and_goes_on_from_a_saved_state() -> None:
    """Within rounding of the other form; saved and loaded it is itself, bit for bit."""
    draw = torch.Generator().manual_seed(0)
    start, grads = torch.randn(40, 7, generator=draw), torch.randn(6, 40, 7, generator=draw)
    weights, makers = {}, {"one pass": True, "foreach": False, "resumed": True}
    for name, fused_ in makers.items():
        weight = start.clone().requires_grad_()
        optimizer = torch.optim.AdamW([weight], lr=1e-2, weight_decay=0.1, fused=fused_)
        for number, grad in enumerate(grads):
            if name == "resumed" and number == 3:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = torch.optim.AdamW([weight], lr=1e-2, weight_decay=0.1, fused=True)
                optimizer.load_state_dict(state)
            weight.grad = grad.clone()
            optimizer.step()
        weights[name] = weight.detach()
    assert torch.equal(weights["one pass"], weights["resumed"])
    assert torch.allclose(weights["one pass"], weights["foreach"], rtol=1e-5, atol=1e-6)


def test_memory_is_kept_where_glibc_is() -> None:
    import platform

    assert keep_memory() is (platform.libc_ver()[0] == "glibc")
