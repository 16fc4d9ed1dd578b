"""Faults that the step-0 proofs find on the model and the data, before the first step: MOD521 to MOD527.

Most cannot be asked for by a recipe: they are planted by changing one line of the engine, or one tensor of the model. Each is
refused before training with exactly its code, and leaves no run folder. The healthy twins stand in test_planted_healthy.py
(every method, packing on and off, two tokenizers), and beside the faults where they need a twin of their own.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import PROOF_CODES, by_code, document, finished, planted, refusal
from safetensors.torch import load_file, save_file

from conftest import under_a_system_text
from gogpt.checks import CHECKS
from gogpt.facts import Facts, from_json
from gogpt.findings import judge
from gogpt.trainer import GogptTrainer

SHORT = {"max_steps": 2, "warmup": 0}


def disproved(gogpt: Any, made: Path, code: str, *settings: str) -> dict[str, Any]:
    """A fault that a proof refuses, through its whole course: the finding.

    Exit 1 with the code, what is wrong and what to do about it on stderr, no run folder; allowed
    by name it is told all the same, and facts.json gives the verdict again.
    """
    run = made.parent / "run"
    told = gogpt("train", made, *settings, "--format", "json")
    assert told.code == 1, told
    found = {c: f for c, f in by_code(told.json["findings"]).items() if c in PROOF_CODES}
    assert set(found) == {code}, told.out
    finding = found[code]
    assert finding["severity"] == "error"
    assert code in refusal(told.err, code)
    assert finding["message"] in told.err
    assert finding["fix"] in told.err
    assert not run.exists()
    gogpt("train", made, *settings, f"checks.allow=[{code}, RUN603, RUN604]")
    kept = document(run, "findings.json")
    assert code in [f["code"] for f in kept["findings"]]
    facts = from_json(Facts, document(run, "facts.json"))
    assert {f.code for f in judge([c for c in CHECKS if c.code in PROOF_CODES], facts).findings} == {code}
    shutil.rmtree(run)
    return finding


def damaged(tiny: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """A copy of the tiny model whose tensors were changed."""
    shutil.copytree(tiny, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


# -- MOD521: accumulation --------------------------------------------------------------------------


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of micro-batches of the optimizer step that is being computed, last."""
    seen = [1]
    count = GogptTrainer._get_num_items_in_batch

    def counted(self: GogptTrainer, batch_samples: list[Any], device: Any) -> Any:
        seen.append(len(batch_samples))
        return count(self, batch_samples, device)

    monkeypatch.setattr(GogptTrainer, "_get_num_items_in_batch", counted)
    return seen


def replaced_loss(monkeypatch: pytest.MonkeyPatch, of: Callable[[torch.Tensor, int, int], torch.Tensor]) -> None:
    """Another arithmetic in the place of compute_loss: from the summed loss, its trained tokens and those of the whole step."""
    from gogpt.loss import summed_loss

    def changed(self: GogptTrainer, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        inputs.pop("origins", None)
        total, count = summed_loss(model, inputs, self._mask_dtype(model))
        if model.training:
            self.watch.micro_batch(total, count, inputs["tokens"], inputs["computed"], inputs)
        return of(total, count, int(num_items_in_batch))

    monkeypatch.setattr(GogptTrainer, "compute_loss", changed)


@planted("MOD521")
def test_a_mean_of_means(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, batches: list[int]) -> None:
    """Each micro-batch's mean, divided by their number: what transformers did until its issue 34242."""
    replaced_loss(monkeypatch, lambda total, count, whole: total / count / batches[-1])
    evidence = disproved(gogpt, recipe(train=SHORT), "MOD521")["evidence"]
    assert evidence["loss_together"] == pytest.approx(evidence["loss_expected"], rel=1e-5)  # one micro-batch alone is right
    assert evidence["gradient_difference"] > 10 * evidence["tolerance"]


@planted("MOD521")
def test_a_loss_that_ignores_the_divisor(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """k times too large with accumulation k (axolotl-ai-cloud/axolotl#2262: 8 times)."""
    replaced_loss(monkeypatch, lambda total, count, whole: total / count)
    evidence = disproved(gogpt, recipe(train=SHORT), "MOD521")["evidence"]
    assert evidence["loss_apart"] == pytest.approx(evidence["rows"] * evidence["loss_expected"], rel=0.05)


@planted("MOD521")
def test_a_sum_that_nobody_divides(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same together and apart, and yet wrong: the mean computed aside says so."""
    replaced_loss(monkeypatch, lambda total, count, whole: total)
    evidence = disproved(gogpt, recipe(train=SHORT), "MOD521")["evidence"]
    assert evidence["gradient_difference"] < evidence["tolerance"]
    assert evidence["loss_together"] == pytest.approx(evidence["loss_apart"], rel=1e-5)
    assert evidence["loss_together"] > 10 * evidence["loss_expected"]


@planted("MOD521")
def test_a_model_that_scales_its_gradient_by_the_batch(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed loss is right; what flows back is not."""
    replaced_loss(monkeypatch, lambda total, count, whole: (total + (total - total.detach()) * (whole / count - 1)) / whole)
    finding = disproved(gogpt, recipe(train=SHORT), "MOD521")
    assert "although their loss is the same" in finding["message"]


# -- MOD522: packing -------------------------------------------------------------------------------


@planted("MOD522")
@pytest.mark.parametrize("attention", ["auto", "sdpa"])
def test_a_mask_that_is_only_causal(gogpt: Any, recipe: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch, attention: str) -> None:
    from gogpt.attention import DOCUMENTS
    from gogpt.model import forward_inputs

    taken = set()

    def causal(batch: Any, dtype: Any, implementation: Any) -> Any:
        taken.add(implementation)
        inputs = forward_inputs(batch, dtype, implementation)
        mask = inputs.get("attention_mask")
        if mask is not None and mask.dtype == torch.int64:
            inputs["attention_mask"] = torch.full_like(mask, mask.shape[-1])  # all tokens are of one document
        elif mask is not None:
            inputs["attention_mask"] = torch.full_like(mask, torch.finfo(mask.dtype).min).triu(1)
        return inputs

    monkeypatch.setattr("gogpt.loss.forward_inputs", causal)
    made = recipe(model={"path": str(tiny), "attention": attention}, train=SHORT)
    finding = disproved(gogpt, made, "MOD522")
    assert finding["evidence"]["leak"] > 10 * finding["evidence"]["tolerance"]
    assert taken == {DOCUMENTS if attention == "auto" else attention}
    finished(gogpt, made, "data.packing=false")


@planted("MOD522")
def test_positions_that_run_on(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaks, but learned positions are not those that a document has alone."""
    from gogpt.model import forward_inputs

    def running_on(batch: Any, dtype: Any, attention: Any) -> Any:
        inputs = forward_inputs(batch, dtype, attention)
        if "position_ids" in inputs:
            inputs["position_ids"] = inputs["position_ids"] * 3
        return inputs

    monkeypatch.setattr("gogpt.loss.forward_inputs", running_on)
    finding = disproved(gogpt, recipe(train=SHORT), "MOD522")
    assert finding["evidence"]["leak"] == 0.0
    assert "differ from those it has alone" in finding["message"]


@planted("MOD522")
def test_branches_at_the_wrong_positions(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Branches numbered on along the row in place of by their depth: what packed documents show stays right, and their trees do not."""
    from gogpt.batches import collate_forests

    def running_on(forests: Any, pad_id: int) -> Any:
        batch = collate_forests(forests, pad_id)
        batch["position_ids"] = 3 * batch["position_ids"]
        return batch

    monkeypatch.setattr("gogpt.proofs.collate_forests", running_on)
    made = recipe(under_a_system_text(), data={"max_length": 512, "eval": 0.1}, train={"max_steps": 2, "batch_size": 8, "micro_batch_size": 2})
    finding = disproved(gogpt, made, "MOD522")
    assert finding["evidence"]["leak"] <= finding["evidence"]["tolerance"]
    assert "whose common beginning is computed once" in finding["message"]
    ran = gogpt("train", made, "train.shared_prefixes=off", "--overwrite")
    assert ran.code == 0, ran.err


# -- MOD523: gradients -----------------------------------------------------------------------------


def model_after_loading(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Change what add_method returns, behind the back of everything that looked at files."""
    from gogpt.adapters import add_method

    def changed(*args: Any) -> Any:
        model = add_method(*args)
        change(model)
        return model

    monkeypatch.setattr("gogpt.train.add_method", changed)


@planted("MOD523")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_module_whose_output_is_detached(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def detach(model: Any) -> None:
        module = next(m for n, m in model.named_modules() if n.endswith("layers.1.mlp.up_proj"))
        module.register_forward_hook(lambda module, args, out: out.detach())

    model_after_loading(monkeypatch, detach)
    finding = disproved(gogpt, recipe(method={"kind": method}, train=SHORT), "MOD523")
    assert finding["evidence"]["count"] == (2 if method == "lora" else 1)
    assert "layers.1.mlp.up_proj" in finding["evidence"]["names"]


@planted("MOD523")
def test_reentrant_checkpointing_under_lora(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real case of microsoft/LoRA#120: no input requires a gradient, checkpointing cuts the graph, the loss hangs in the air.

    transformers 5 makes the inputs require one, which is taken out here. A recipe cannot ask for that form; the other one is the twin."""
    from transformers import PreTrainedModel

    from gogpt.arguments import training_arguments

    def reentrant(*args: Any, **more: Any) -> Any:
        made = training_arguments(*args, **more)
        made.activation_checkpointing_kwargs = {"use_reentrant": True}
        return made

    made = recipe(train={**SHORT, "gradient_checkpointing": True})
    finished(gogpt, made)
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setattr("gogpt.train.training_arguments", reentrant)
    monkeypatch.setattr(PreTrainedModel, "enable_input_require_grads", lambda self: None)
    ran = gogpt("train", made)
    assert ran.code == 1
    assert "MOD523" in refusal(ran.err, "MOD523")
    assert "the loss has no gradient" in ran.err
    assert not (tmp_path / "run").exists()


@planted("MOD523")
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_a_base_model_with_a_broken_weight(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path, value: float) -> None:
    """What RUN601 would stop in the first step is refused before it."""
    model = damaged(tiny, tmp_path / "model", lambda t: t["model.layers.1.mlp.down_proj.weight"][3, 5].fill_(value))
    ran = gogpt("train", recipe(model=model, train=SHORT))
    assert ran.code == 1
    assert "MOD523" in refusal(ran.err, "MOD523")
    assert not (tmp_path / "run").exists()


@planted("MOD523")
def test_one_gradient_that_is_not_finite(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is fine; in one tensor the gradient is not."""

    def spoil(model: Any) -> None:
        parameter = next(p for n, p in model.named_parameters() if p.requires_grad and "layers.0" in n and "lora_B" in n)
        parameter.register_hook(lambda grad: torch.full_like(grad, math.nan))

    model_after_loading(monkeypatch, spoil)
    ran = gogpt("train", recipe(train=SHORT), "--format", "json")
    found = {f["code"]: f for f in ran.json["findings"] if f["code"] in PROOF_CODES}
    assert ran.code == 1
    assert found["MOD523"]["evidence"]["count"] == 1
    assert found["MOD523"]["evidence"]["loss_finite"] is True
    assert "lora_B" in found["MOD523"]["evidence"]["names"]


@planted("MOD523")
def test_gradients_that_are_all_zero(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gogpt.loss import summed_loss

    def cut_off(model: Any, *args: Any) -> Any:
        loss, count = summed_loss(model, *args)
        return loss.detach() + sum(p.sum() for p in model.parameters() if p.requires_grad) * 0.0, count

    monkeypatch.setattr("gogpt.trainer.summed_loss", cut_off)
    finding = disproved(gogpt, recipe(train=SHORT), "MOD523")
    assert finding["evidence"]["zero"] == finding["evidence"]["tensors"] == 28


@planted("MOD523")
def test_batches_in_which_every_label_is_masked(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gogpt.packing import batch_rows

    def masks_everything(examples: Any, pad_id: int, **more: Any) -> Any:
        batch = batch_rows(examples, pad_id, **more)
        batch.labels[:] = -100
        return batch

    monkeypatch.setattr("gogpt.batches.batch_rows", masks_everything)
    assert "exactly 0" in disproved(gogpt, recipe(train=SHORT, data={"eval": 0}), "MOD523")["message"]


# -- MOD524: a step --------------------------------------------------------------------------------


@planted("MOD524")
def test_an_adapter_that_is_scaled_by_nothing(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def silence(model: Any) -> None:
        for module in model.modules():
            if hasattr(module, "lora_B"):
                for adapter in module.lora_B.values():
                    adapter.register_forward_hook(lambda module, args, out: (out - out.detach()))

    model_after_loading(monkeypatch, silence)  # gradients flow, and nothing is said
    finding = disproved(gogpt, recipe(train=SHORT), "MOD524")
    assert finding["evidence"]["moved"] == 14
    assert finding["evidence"]["effect"] == finding["evidence"]["effect_enlarged"] == 0.0


@planted("MOD524")
def test_an_optimizer_that_holds_other_parameters(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create = GogptTrainer.create_optimizer

    def of_a_copy(self: GogptTrainer, *args: Any) -> Any:
        optimizer = create(self, *args)
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["params"] = [torch.nn.Parameter(p.detach().clone()) for p in group["params"]]
        return optimizer

    monkeypatch.setattr(GogptTrainer, "create_optimizer", of_a_copy)
    assert disproved(gogpt, recipe(train=SHORT), "MOD524")["evidence"]["moved"] == 0


@planted("MOD524")
def test_updates_too_small_for_half_precision(gogpt: Any, recipe: Any, tiny: Path) -> None:
    base = {"model": {"path": str(tiny), "dtype": "bfloat16"}, "method": {"kind": "full"}}
    ran = gogpt("train", recipe(train={**SHORT, "learning_rate": 1e-12}, **base))
    assert ran.code == 1
    assert "MOD524" in refusal(ran.err, "MOD524")
    assert "moves none of" in ran.err
    finished(gogpt, recipe(train={**SHORT, "learning_rate": 1e-3}, **base))


@planted("MOD524")
def test_a_rate_that_ruins_the_model_in_one_step(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """Others go on to the end and save a model of NaN (SILENT_FAILURES, row b)."""
    ran = gogpt("train", recipe(train={"learning_rate": 1e20, **SHORT}, checks={"allow": ["CFG211"]}))
    assert ran.code == 1
    assert "after a single step" in ran.err
    assert not (tmp_path / "run").exists()


# -- MOD525: initial loss --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The tiny model after a short training on text like that of the tests: it has opinions. Read only."""
    from transformers import AutoModelForCausalLM

    from conftest import rows
    from gogpt.tokenize import Tokenizer

    folder = tmp_path_factory.mktemp("taught") / "model"
    shutil.copytree(tiny, folder)
    tokenizer = Tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = [m["content"] for r in rows(64, start=100) for m in r["messages"]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    for step in range(120):
        ids = torch.tensor([tokenizer.ids(" ".join(texts[(step * 5 + i) % len(texts)] for i in range(4)))[:128]])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 2.5
    model.save_pretrained(folder)
    return folder


@planted("MOD525")
@pytest.mark.parametrize("packing", [True, False])
def test_a_model_with_another_models_tokenizer(gogpt: Any, recipe: Any, tmp_path: Path, taught: Path, packing: bool) -> None:
    """The rows of the embedding and of the head stand in another order than the tokenizer's ids."""

    def permute(tensors: dict[str, torch.Tensor]) -> None:
        order = torch.randperm(len(tensors["lm_head.weight"]), generator=torch.Generator().manual_seed(1))
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            tensors[name] = tensors[name][order].contiguous()

    setting = f"data.packing={str(packing).lower()}"
    healthy = recipe(model=str(taught), train=SHORT)
    finished(gogpt, healthy, setting)
    loss = document(tmp_path / "run", "facts.json")["proofs"]["initial_loss"]
    assert loss["alone"] < 4
    assert loss["shuffled"] - loss["alone"] > 2
    shutil.rmtree(tmp_path / "run")
    evidence = disproved(gogpt, recipe(model=damaged(taught, tmp_path / "model", permute), train=SHORT), "MOD525", setting)["evidence"]
    assert evidence["alone"] > math.log(evidence["vocab_size"])


@planted("MOD525")
def test_weights_that_are_noise(gogpt: Any, recipe: Any, tmp_path: Path, taught: Path) -> None:
    def noise(tensors: dict[str, torch.Tensor]) -> None:
        generator = torch.Generator().manual_seed(2)
        for name, tensor in tensors.items():
            if ".layers.1." in name and tensor.ndim == 2:
                tensor.normal_(0, 2.0, generator=generator)

    disproved(gogpt, recipe(model=damaged(taught, tmp_path / "model", noise), train=SHORT), "MOD525")


# -- MOD526: generation ----------------------------------------------------------------------------


@planted("MOD526")
def test_a_generation_config_without_the_stop(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gogpt.model.stop_token_ids", lambda template, tokenizer: [tokenizer.token_of("<s>")])
    finding = disproved(gogpt, recipe(train=SHORT), "MOD526")
    assert finding["evidence"]["stops_trained"] == 0
    assert finding["evidence"]["last_token"] == "<|im_end|>"


@planted("MOD526")
def test_a_base_whose_generation_config_forbids_the_stop(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path) -> None:
    """min_new_tokens of the base goes along into final/: the stop is pushed aside until then."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    kept = {**json.loads((folder / "generation_config.json").read_text(encoding="utf-8")), "min_new_tokens": 64}
    (folder / "generation_config.json").write_text(json.dumps(kept), encoding="utf-8")
    finding = disproved(gogpt, recipe(model=str(folder), train=SHORT), "MOD526")
    assert finding["evidence"]["stops_trained"] == 2
    assert finding["evidence"]["stopped"] == 0


@planted("MOD526")
def test_labels_without_the_stop(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight's counts were right; what comes out of the set is not."""
    from dataclasses import replace

    from gogpt.data.store import ExampleSet

    get = ExampleSet.__getitem__

    def unstopped(self: ExampleSet, i: int) -> Any:
        example = get(self, i)
        labels = example.labels.copy()
        labels[example.input_ids == 2] = -100
        return replace(example, labels=labels)

    monkeypatch.setattr("gogpt.stops.pick_answers", _picking(unstopped))
    finding = disproved(gogpt, recipe(train=SHORT), "MOD526")
    assert finding["evidence"]["stops_trained"] == 0


def _picking(get: Callable[..., Any]) -> Callable[..., Any]:
    from gogpt.data.store import ExampleSet
    from gogpt.stops import pick_answers

    def pick(before: Any, limit: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ExampleSet, "__getitem__", get)
            return pick_answers(before, limit)

    return pick


@planted("MOD526")
def test_a_prompt_that_inference_encodes_otherwise(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second BOS in front: served as text by what adds special tokens again."""
    from gogpt.tokenize import encode_prompt

    monkeypatch.setattr("gogpt.generate.encode_prompt", lambda rendering, tokenizer: [3, *encode_prompt(rendering, tokenizer)])
    finding = disproved(gogpt, recipe(train=SHORT), "MOD526")
    assert finding["evidence"]["prompts_equal"] == 0
    assert "token 0 is [3] in generation" in finding["message"]


# -- MOD527: the trained model ---------------------------------------------------------------------


SAME = [{"messages": [{"role": "user", "content": f"Say it, {word}."}, {"role": "assistant", "content": "Blue, red, green."}]}
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
LEARNED = {"epochs": 30, "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 4, "warmup": 0}


@planted("MOD527")
def test_a_trained_model_that_talks_on(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has learned the stop; the file that it is served with does not know it."""
    from gogpt.train import save_generation_config

    made = recipe(SAME, data={"eval": 0, "packing": False}, method={"kind": "full"}, train=LEARNED)
    assert gogpt("train", made).code == 0
    assert [f["code"] for f in document(tmp_path / "run", "findings.json")["findings"]] == ["CFG211"]  # that rate, on purpose
    assert document(tmp_path / "run", "facts.json")["proofs"]["trained_stop"]["stopped"] == 2
    shutil.rmtree(tmp_path / "run")

    def forgetful(config: Any, template: Any, tokenizer: Any, out: Path) -> None:
        save_generation_config(config, template, tokenizer, out)
        kept = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))
        (out / "generation_config.json").write_text(json.dumps({**kept, "eos_token_id": tokenizer.token_of("<s>")}), encoding="utf-8")

    monkeypatch.setattr("gogpt.train.save_generation_config", forgetful)
    ran = gogpt("train", made)
    assert ran.code == 0
    assert "warning MOD527" in ran.err
    told = by_code(document(tmp_path / "run", "findings.json")["findings"])
    assert {c: f["severity"] for c, f in told.items()} == {"CFG211": "warning", "MOD527": "warning"}
    assert told["MOD527"]["evidence"]["sure"] == 2
    assert "MOD527" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
