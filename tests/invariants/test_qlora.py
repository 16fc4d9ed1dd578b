"""QLoRA: one trajectory however it is cut, and a merged model that is the 4-bit base + adapter."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch

pytest.importorskip("bitsandbytes")

from test_packing import documents, tensors
from test_training import assert_same

from conftest import make_tokenizer, read_metrics, rows
from gogpt.adapters import add_method, quantisation_of_adapter
from gogpt.config import MethodConfig, ModelConfig
from gogpt.four_bit import (
    DTYPES,
    MOST_ERROR,
    bitsandbytes_config,
    dequantise,
    modules_in_4bit,
    weight_error,
)
from gogpt.loss import summed_loss
from gogpt.model import forward_inputs, load_base
from gogpt.modelfiles import Checkpoint
from gogpt.packing import batch_rows, pack
from gogpt.plan import WEIGHT_BYTES
from gogpt.quantisation import Quantisation, quantised_bytes, split_modules, weight_bytes

NF4 = Quantisation(quant_type="nf4", double_quant=True, dtype="float32")


@pytest.fixture
def qlora(recipe, tiny64):
    """As ``recipe``, for qlora on a model that can be quantised."""

    def make(items=None, /, **parts):
        return recipe(items, **{**parts, "model": str(tiny64), "method": {"kind": "qlora", **parts.get("method", {})}})

    return make


@pytest.fixture(scope="module")
def base(tiny64):
    return load_base(ModelConfig(path=str(tiny64)), tiny64, "float32", NF4).eval()


def test_accumulation_1x8_is_8x1(gogpt, qlora, tmp_path):
    path = qlora(rows(64, turns=3), data={"max_length": 256, "eval": 0.0}, train={"batch_size": 8, "epochs": 4, "learning_rate": 1e-4})
    for micro in (1, 8):
        ran = gogpt("train", path, f"train.micro_batch_size={micro}", f"output={tmp_path / f'micro{micro}'}", "-q")
        assert ran.code == 0, ran.err
    # As for lora: float32 sums of a few hundred terms in another order.
    assert_same(tmp_path / "micro1", tmp_path / "micro8", atol=5e-6)


def test_two_processes_are_one(gogpt, qlora, tmp_path):
    """Each holds the base in 4 bits, and both the same one."""
    path = qlora(rows(24, turns=2), data={"eval": 0.0}, train={"batch_size": 4, "epochs": 4, "learning_rate": 1e-3})
    for processes, micro in ((1, 4), (2, 2)):
        ran = gogpt("train", path, f"parallel.processes={processes}", f"train.micro_batch_size={micro}", f"output={tmp_path / str(processes)}", "-q")
        assert ran.code == 0, ran.err
    assert_same(tmp_path / "1", tmp_path / "2", atol=1e-4)


def test_resumed_is_straight(gogpt, qlora, tmp_path, monkeypatch):
    """Interrupted after step 4, with an evaluation at every step and dropout: the same numbers to the last bit."""
    from gogpt.watch import Watch

    path = qlora(rows(40), method={"dropout": 0.2}, train={"epochs": 3, "save_every": 100, "eval_every": 1, "learning_rate": 1e-3})
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
    ran = gogpt("train", "--resume", tmp_path / "broken")
    assert ran.code == 0, ran.err
    assert_same(tmp_path / "straight", tmp_path / "broken", atol=0.0)


def test_an_evaluation_between_two_steps_changes_nothing(gogpt, qlora, tmp_path):
    """bitsandbytes packs its weights anew at the first pass without gradients on CPUs with AVX512-BF16: rounded for good, and
    without a gradient ever after."""
    path = qlora(rows(40), data={"eval": 0.1}, train={"epochs": 2, "learning_rate": 5e-3})
    for every in (1, 1000):
        assert gogpt("train", path, f"train.eval_every={every}", f"output={tmp_path / f'every{every}'}", "-q").code == 0
    assert_same(tmp_path / "every1", tmp_path / "every1000", atol=0.0)


def test_checkpointing_is_not_checkpointing(gogpt, qlora, tmp_path):
    """A frozen base whose inputs need no gradient: what is recomputed must still give every adapter its own."""
    path = qlora(train={"epochs": 2})
    for on in ("true", "false"):
        assert gogpt("train", path, f"train.gradient_checkpointing={on}", f"output={tmp_path / on}", "-q").code == 0
    assert_same(tmp_path / "true", tmp_path / "false", atol=0.0)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_merged_is_4bit_base_plus_adapter(gogpt, qlora, tmp_path, tiny64, kind):
    """The command's proof, done again from outside with transformers and peft alone; and both answer alike."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = qlora(method={"quant_type": kind, "double_quant": kind == "nf4"}, train={"epochs": 3, "learning_rate": 5e-3})
    assert gogpt("train", path, "-q").code == 0
    ran = gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged", "--format", "json")
    assert ran.code == 0, ran.err
    facts = ran.json["facts"]
    assert (ran.json["findings"], facts["trained_base"], facts["merged_base"]) == ([], kind, kind)
    assert facts["probe_loss_after"] == pytest.approx(facts["probe_loss_before"], abs=1e-6)
    saved = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in saved
    quant = quantisation_of_adapter(tmp_path / "run" / "final")
    assert quant == Quantisation(quant_type=kind, double_quant=kind == "nf4", dtype="float32")
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        four = AutoModelForCausalLM.from_pretrained(tiny64, dtype=torch.float32, quantization_config=bitsandbytes_config(quant, "float32"))
        for _, module in modules_in_4bit(four):
            module.support_avx512bf16_for_cpu = False
        plain = four(ids).logits
        adapted = PeftModel.from_pretrained(four, tmp_path / "run" / "final")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    assert float((merged - adapted).abs().max()) < 1e-5
    assert float((merged - plain).abs().max()) > 1e-2
    answers = [gogpt("generate", tmp_path / where, "Question: what follows red?", "--max-new-tokens", "12", "-q").out for where in ("run", "merged")]
    assert answers[0] == answers[1] != ""


def test_packed_logits_are_unpacked_logits(base):
    docs = documents(0, 6)
    bins = pack([d.num_tokens for d in docs], 96)
    batch = batch_rows([[docs[i] for i in b] for b in bins], pad_id=0)
    with torch.no_grad():
        packed = base(**forward_inputs(tensors(batch), torch.float32, base.config._attn_implementation)).logits
        for row, b in enumerate(bins):
            at = 0
            for i in b:
                alone = base(torch.from_numpy(docs[i].input_ids[None].astype(np.int64))).logits[0]
                assert float((packed[row, at : at + docs[i].num_tokens] - alone).abs().max()) < 1e-5
                at += docs[i].num_tokens


def test_written_out_is_in_4bit(tiny64, base):
    """The base in 4 bits, and the same written out in float32: equal logits, and plain modules that say nothing of 4 bits."""
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        before = base(ids).logits
        plain = dequantise(load_base(ModelConfig(path=str(tiny64)), tiny64, "float32", NF4)).eval()
        assert float((plain(ids).logits - before).abs().max()) < 1e-6
    assert not list(modules_in_4bit(plain))
    assert not hasattr(plain.config, "quantization_config")
    assert {p.dtype for p in plain.parameters()} == {torch.float32}


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_planned_bytes_are_the_bytes_held(tiny64, double, dtype):
    method = MethodConfig(kind="qlora", rank=4, double_quant=double)
    quant = Quantisation(quant_type="nf4", double_quant=double, dtype=dtype)
    model = add_method(load_base(ModelConfig(path=str(tiny64)), tiny64, dtype, quant), method, tiny64)
    held = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if "lora_" not in n)
    for _, module in modules_in_4bit(model):
        state = module.weight.quant_state
        parts = [state.absmax, state.code, *([state.state2.absmax, state.state2.code, state.offset] if state.nested else [])]
        held += sum(t.numel() * t.element_size() for t in parts)
    planned, in_4bit = weight_bytes(Checkpoint(tiny64), method, WEIGHT_BYTES[dtype])
    assert planned == held
    assert in_4bit == sum(m.in_features * m.out_features for _, m in modules_in_4bit(model)) > 0


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_four_bits_cost_is_known(kind, double, dtype):
    """Whatever the weights are like, no one of them is off by more than the proof allows; one that is doubled is."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    torch.manual_seed(0)
    for shape in ((64, 64), (512, 128), (300, 640)):
        spread = torch.logspace(-6, 2, shape[0])[:, None]
        for weight in (torch.randn(shape), torch.rand(shape), torch.randn(shape) ** 5, torch.randn(shape) * spread, torch.zeros(shape)):
            module = Linear4bit(shape[1], shape[0], bias=False, compute_dtype=dtype, quant_type=kind, compress_statistics=double)
            module.source_cls, module.support_avx512bf16_for_cpu = torch.nn.Linear, False
            module.weight = Params4bit(weight.clone(), requires_grad=False, quant_type=kind, compress_statistics=double, module=module).to("cpu")
            assert weight_error(module, weight) < 0.18  # measured up to 0.172
            if bool(weight.any()):
                assert weight_error(module, weight * 2) > MOST_ERROR


def test_bits_of_a_weight():
    """The figures of the QLoRA paper for a large matrix: 4.5 bits a weight, 4.127 with double quantisation."""
    shape = (4096, 4096)
    assert 8 * quantised_bytes(shape, double_quant=False) / 4096**2 == pytest.approx(4.5, abs=1e-3)
    assert 8 * quantised_bytes(shape, double_quant=True) / 4096**2 == pytest.approx(4.127, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_trains_and_in_which_dtype(tiny64, dtype):
    """Adapters and norms are float32; embedding and head stay; every adapter gets a finite gradient, nothing else does."""
    model = add_method(load_base(ModelConfig(path=str(tiny64)), tiny64, dtype, Quantisation(quant_type="nf4", double_quant=True, dtype=dtype)),
                       MethodConfig(kind="qlora", rank=4), tiny64)
    trains = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert len(trains) == 2 * 14
    assert {p.dtype for p in trains.values()} == {torch.float32}
    for name, p in model.named_parameters():
        if "norm" in name:
            assert p.dtype == torch.float32
        if "embed_tokens" in name or "lm_head" in name:
            assert p.dtype == DTYPES[dtype]
    with torch.no_grad():
        for name, p in trains.items():
            if "lora_B" in name:
                p.fill_(0.01)
    batch = batch_rows([[d] for d in documents(0, 2)], pad_id=0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        loss, count = summed_loss(model.train(), tensors(batch), DTYPES[dtype])
    (loss / count).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == (name in trains), name
        if p.grad is not None:
            assert bool(torch.isfinite(p.grad).all())
            assert float(p.grad.abs().max()) > 0, name


def test_the_first_loss_is_near_that_of_lora(gogpt, qlora, tmp_path):
    """Before the first update only the 4 bits differ (measured: 6.0184, and 6.0203 without)."""
    path = qlora(train={"max_steps": 1})
    for kind in ("lora", "qlora"):
        assert gogpt("train", path, f"method.kind={kind}", f"output={tmp_path / kind}", "-q").code == 0
    four, full = (read_metrics(tmp_path / kind)[0]["loss"] for kind in ("qlora", "lora"))
    assert four != full
    assert four == pytest.approx(full, abs=0.05)


def test_matrices_that_stand_the_other_way(gogpt, recipe, tmp_path):
    """GPT-2 keeps its matrices as [in, out], and bitsandbytes as [out, in]: quantised, trained, and merged back as they stood."""
    from safetensors.numpy import load_file
    from transformers import GPT2Config, GPT2LMHeadModel

    from gogpt.tokenize import Tokenizer

    folder = tmp_path / "gpt2"
    make_tokenizer(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=Tokenizer(folder).size, n_embd=64, n_layer=2, n_head=4, n_positions=512)
    GPT2LMHeadModel(config).save_pretrained(folder)
    path = recipe(model=str(folder), method={"kind": "qlora"}, train={"learning_rate": 5e-3})
    assert gogpt("train", path, "-q").code == 0
    ran = gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged", "--format", "json")
    assert ran.code == 0, ran.err
    assert ran.json["findings"] == []
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in before.items()}


def test_a_matrix_of_odd_width_stays(gogpt, recipe, tmp_path, tiny):
    """Hidden size 32: only what maps 64 to 32 can be quantised; the rest is plain, trains, is planned and merges."""
    whole, rest = split_modules(Checkpoint(tiny))
    assert {n.rsplit(".", 1)[-1] for n in whole} == {"down_proj"}
    assert len(rest) == 12
    path = recipe(method={"kind": "qlora"}, train={"learning_rate": 5e-3})
    assert gogpt("train", path, "-q").code == 0
    quant = quantisation_of_adapter(tmp_path / "run" / "final")
    assert quant is not None
    assert set(quant.skipped) == set(rest)
    model = load_base(ModelConfig(path=str(tiny)), tiny, "float32", quant)
    assert {n for n, _ in modules_in_4bit(model)} == set(whole)
    assert gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged", "-q").code == 0
