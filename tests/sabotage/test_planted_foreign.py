"""Faults of other tools' configurations: CFG220 to CFG229 and CFG274 to CFG277, through ``gogpt check``, each beside a healthy twin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import by_code, planted

from conftest import rows, write_jsonl
from foreign_cases import AXOLOTL, LLAMAFACTORY, SWIFT, TRL, lay_out, sharegpt, write


@pytest.fixture
def place(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path, tiny)


def told(gogpt: Any, *words: object) -> tuple[int, dict[str, str], dict[str, Any], dict[str, Any]]:
    """Exit code, code -> severity, code -> finding, the document."""
    ran = gogpt("check", *words, "-q", "--format", "json")
    assert ran.out, ran.err
    found = by_code(ran.json["findings"])
    severities = {c: f["severity"] for c, f in found.items()}
    assert ran.code == int("error" in severities.values())
    return ran.code, severities, found, ran.json


def caught(gogpt: Any, file: Path, severities: dict[str, str], *words: object) -> dict[str, Any]:
    """Exactly these codes; each names the file of the user's, and its line holds the key. The findings."""
    _, found, findings, _ = told(gogpt, file, *words)
    assert found == severities, findings
    return findings


def line_of(finding: dict[str, Any]) -> str:
    path, _, number = finding["where"].rpartition(":")
    return Path(path).read_text(encoding="utf-8").splitlines()[int(number) - 1]


@pytest.mark.parametrize(("document", "kind"), [(LLAMAFACTORY, "llamafactory"), (AXOLOTL, "axolotl"), (TRL, "trl")], ids=["llamafactory", "axolotl", "trl"])
def test_healthy(gogpt: Any, place: Path, document: dict[str, Any], kind: str) -> None:
    code, found, _, whole = told(gogpt, write(place / "run.yaml", document))
    assert (code, found) == (0, {})
    assert whole["object"] == {"path": str(place / "run.yaml"), "kind": kind}
    assert whole["not_checked"] == []
    assert {"CFG220", "CFG225", "TOK401", "MOD502"} <= set(whole["checked"])
    assert whole["not_read"] == []


def test_healthy_script(gogpt: Any, place: Path) -> None:
    (place / "train.sh").write_text(SWIFT, encoding="utf-8")
    code, found, _, whole = told(gogpt, place / "train.sh")
    assert (code, found, whole["tool"], whole["not_checked"]) == (0, {}, "swift", [])
    assert "1 x 4 x 2 processes = 8 sequences a step" in gogpt("check", place / "train.sh", "-q").out


@planted("CFG220")
def test_misspelt_keys(gogpt: Any, place: Path) -> None:
    lf = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, learning_rate=None, learning_rte=1e-4), {"CFG220": "error"})["CFG220"]
    assert "did you mean learning_rate" in lf["message"]
    assert line_of(lf).startswith("learning_rte")
    caught(gogpt, write(place / "trl.yaml", TRL, packing_stragety="bfd"), {"CFG220": "error"})
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, sample_packng=True), {"CFG220": "warning"})
    assert told(gogpt, write(place / "ax.yaml", AXOLOTL, my_plugin_key=True))[1] == {}


@planted("CFG221")
def test_packing_that_leaks(gogpt: Any, place: Path) -> None:
    leak = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, packing=True), {"CFG221": "error"})["CFG221"]
    assert line_of(leak) == "packing: true"
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, packing=True, neat_packing=True))[1] == {}
    caught(gogpt, write(place / "trl.yaml", TRL, packing_strategy="wrapped"), {"CFG221": "error"})
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, flash_attention=None, eager_attention=True), {"CFG221": "error"})
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, flash_attention=None, sdp_attention=True), {"CFG221": "warning"})
    (place / "train.sh").write_text(SWIFT.replace("flash_attn", "sdpa"), encoding="utf-8")
    caught(gogpt, place / "train.sh", {"CFG221": "warning"})


@planted("CFG222")
def test_a_template_of_another_model(gogpt: Any, place: Path) -> None:
    unfit = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, template="llama3"), {"CFG222": "error"})["CFG222"]
    assert "<|im_start|>user" in unfit["message"]
    assert "<|start_header_id|>" in unfit["message"]
    assert line_of(unfit) == "template: llama3"
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, chat_template="llama3"), {"CFG222": "error"})
    assert told(gogpt, write(place / "ax.yaml", AXOLOTL, chat_template="chatml"))[1] == {}
    # A model of a hub is known by its name alone, and only where the name says that it was tuned.
    for model, template, expected in (("Qwen/Qwen2.5-7B-Instruct", "llama3", {"CFG222": "warning"}), ("Qwen/Qwen2.5-7B-Instruct", "qwen", {}), ("Qwen/Qwen2.5-7B", "llama3", {})):
        assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, model_name_or_path=model, template=template))[1] == expected


@planted("CFG223")
def test_a_template_without_an_end(gogpt: Any, place: Path) -> None:
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, template="empty", model_name_or_path="meta-llama/Llama-3.1-8B"), {"CFG223": "error"})["CFG223"]
    assert line_of(finding) == "template: empty"
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, template="default", model_name_or_path="meta-llama/Llama-3.1-8B"))[1] == {}
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, template=None))[1] == {}, "the tokenizer's own is taken"


@planted("CFG224")
def test_no_role_is_trained(gogpt: Any, place: Path) -> None:
    sources = [{"path": "data/messages.jsonl", "type": "chat_template", "roles_to_train": ["user"]}]
    finding = caught(gogpt, write(place / "ax.yaml", AXOLOTL, datasets=sources), {"CFG224": "error"})["CFG224"]
    assert line_of(finding).strip() == "roles_to_train:"
    assert told(gogpt, write(place / "ax.yaml", AXOLOTL, datasets=[{**sources[0], "roles_to_train": ["gpt", "user"]}]))[1] == {}


@planted("CFG225")
def test_conversations_that_are_cut(gogpt: Any, place: Path) -> None:
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, cutoff_len=60), {"CFG225": "error"})["CFG225"]
    assert line_of(finding) == "cutoff_len: 60"
    assert finding["evidence"]["rows"] == 40
    assert 0 < finding["evidence"]["count"] < 40
    assert "LLaMA-Factory 0.9.5 cuts prompts" in finding["message"]
    assert "cuts their end" in caught(gogpt, write(place / "trl.yaml", TRL, max_length=60), {"CFG225": "error"})["CFG225"]["message"]
    # The counts are those of the recipe that is made of it.
    plain = write(place / "recipe.yaml", {"model": "model", "data": {"train": "data/mine.json", "max_length": 60}, "output": "run"})
    dropped = next(f for f in gogpt("check", plain, "-q", "--format", "json").json["findings"] if f["code"] == "DAT311")
    assert dropped["evidence"]["drops"] == {"overlong": finding["evidence"]["count"]}


@planted("CFG226")
def test_fp16_for_a_bfloat16_model(gogpt: Any, place: Path, tiny: Path) -> None:
    (place / "model").unlink()
    shutil.copytree(tiny, place / "model")
    for dtype, expected in (("bfloat16", {"CFG226": "warning"}), ("float16", {})):
        config = json.loads((place / "model" / "config.json").read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        (place / "model" / "config.json").write_text(json.dumps({**config, "dtype": dtype}), encoding="utf-8")
        file = write(place / "lf.yaml", LLAMAFACTORY, bf16=None, fp16=True)
        findings = caught(gogpt, file, expected)
    assert findings == {}


@planted("CFG227")
def test_tokens_that_are_added_and_not_trained(gogpt: Any, place: Path) -> None:
    caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, add_tokens="<call>,</call>"), {"CFG227": "error"})
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, add_tokens="<call>,</call>", additional_target="embed_tokens,lm_head"))[1] == {}
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, tokens=["<call>"]), {"CFG227": "error"})
    assert told(gogpt, write(place / "ax.yaml", AXOLOTL, tokens=["<call>"], lora_modules_to_save=["embed_tokens", "lm_head"]))[1] == {}


@planted("CFG228")
def test_evaluation_on_the_training_data(gogpt: Any, place: Path) -> None:
    same = {"CFG228": "error", "DAT310": "error"}
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, val_size=None, eval_dataset="mine"), same)["CFG228"]
    assert line_of(finding) == "eval_dataset: mine"
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, val_size=None, eval_dataset="other"))[1] == {}
    # Two spellings of one file.
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, val_set_size=None, test_datasets=[{"path": "./data/../data/messages.jsonl", "type": "chat_template"}]), same)
    caught(gogpt, write(place / "trl.yaml", TRL, eval_strategy="epoch", dataset_test_split="train"), same)


@planted("CFG229")
def test_names_that_are_not_defined(gogpt: Any, place: Path) -> None:
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, dataset="mien"), {"CFG229": "error"})["CFG229"]
    assert "did you mean 'mine'" in finding["message"]
    assert line_of(finding) == "dataset: mien"
    info = json.loads((place / "data" / "dataset_info.json").read_text(encoding="utf-8"))
    info["mine"]["columns"]["messages"] = "conversation"
    (place / "data" / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY), {"CFG229": "error"})["CFG229"]
    assert "did you mean 'conversations'" in finding["message"]


@planted("CFG274")
def test_checkpoints_without_an_optimizer(gogpt: Any, place: Path) -> None:
    caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, save_only_model=True, resume_from_checkpoint="saves/lora/checkpoint-500"), {"CFG274": "error"})
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, save_only_model=True))[1] == {}
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, save_only_model=True, resume_from_checkpoint="null"))[1] == {}


@planted("CFG275")
def test_a_merge_into_four_bits(gogpt: Any, place: Path) -> None:
    merge = {"model_name_or_path": "model", "adapter_name_or_path": "saves/lora", "template": "qwen", "finetuning_type": "lora", "export_dir": "out", "export_size": 2}
    assert told(gogpt, write(place / "merge.yaml", merge))[1] == {}
    finding = caught(gogpt, write(place / "merge.yaml", merge, quantization_bit=4), {"CFG275": "error"})["CFG275"]
    assert line_of(finding) == "quantization_bit: 4"


@planted("CFG276")
def test_the_others_do_not_wait_that_long(gogpt: Any, place: Path) -> None:
    """A file of 12 GB of which the disk holds nothing; it is not read, for the model is on a hub."""
    with (place / "data" / "large.jsonl").open("wb") as f:
        f.truncate(12 * 10**9)
    config = write(place / "trl.yaml", TRL, model_name_or_path="someone/base", datasets=[{"path": "json", "data_files": "data/large.jsonl"}])
    script = place / "train.sh"
    script.write_text("accelerate launch --num_processes 8 -m trl sft --config trl.yaml\n", encoding="utf-8")
    script.write_text("torchrun --nproc_per_node 8 sft.py \\\n  --config trl.yaml\n", encoding="utf-8")
    assert told(gogpt, config)[1] == {}, "one process waits for nobody"
    caught(gogpt, script, {"CFG276": "warning"})
    write(config, TRL, model_name_or_path="someone/base", datasets=[{"path": "json", "data_files": "data/large.jsonl"}], ddp_timeout=180000)
    assert told(gogpt, script)[1] == {}


@planted("CFG277")
def test_a_pin_from_before_the_fix(gogpt: Any, place: Path) -> None:
    (place / "requirements.txt").write_text("torch>=2\ntransformers==4.41.2\n", encoding="utf-8")
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY), {"CFG277": "error"})["CFG277"]
    assert line_of(finding) == "transformers==4.41.2"
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, gradient_accumulation_steps=1))[1] == {}
    for fine in ("transformers>=4.41.2", "transformers==4.46.1", "transformers<5", "transformers>=4.41,<4.50"):
        (place / "requirements.txt").write_text(fine + "\n", encoding="utf-8")
        assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY))[1] == {}, fine


# -- faults that the checks of a recipe find, in the words of the tool ------------------------------


def test_a_learning_rate_that_diverges(gogpt: Any, place: Path) -> None:
    finding = caught(gogpt, write(place / "ax.yaml", AXOLOTL, learning_rate=0.05), {"CFG211": "error"})["CFG211"]
    assert finding["message"].startswith("learning_rate is 0.05")
    assert line_of(finding) == "learning_rate: 0.05"
    caught(gogpt, write(place / "ax.yaml", AXOLOTL, learning_rate="5e-2"), {"CFG211": "error"})


def test_a_warmup_longer_than_the_run(gogpt: Any, place: Path) -> None:
    finding = caught(gogpt, write(place / "trl.yaml", TRL, warmup_steps=5000, num_train_epochs=20), {"CFG210": "error"})["CFG210"]
    assert line_of(finding) == "warmup_steps: 5000"


@pytest.mark.parametrize(("target", "severity"), [("q_porj,v_proj", {"MOD502": "error"}), ("query_key_value", {"MOD502": "error"})])
def test_targets_that_match_nothing(gogpt: Any, place: Path, target: str, severity: dict[str, str]) -> None:
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, lora_target=target), severity)["MOD502"]
    assert finding["message"].startswith("lora_target")
    assert line_of(finding) == f"lora_target: {target}"


def test_a_scheduler_in_the_deepspeed_file(gogpt: Any, place: Path) -> None:
    engine = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
              "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 2}}
    (place / "ds.json").write_text(json.dumps(engine), encoding="utf-8")
    assert told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, deepspeed="ds.json"))[1] == {}
    scheduler = {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-3, "warmup_num_steps": 10, "warmup_type": "linear"}}
    (place / "ds.json").write_text(json.dumps({**engine, "scheduler": scheduler}), encoding="utf-8")
    finding = caught(gogpt, write(place / "lf.yaml", LLAMAFACTORY, deepspeed="ds.json"), {"CFG260": "error"})["CFG260"]
    assert "replaces the run's lr_scheduler_type (cosine)" in finding["message"]


def test_rows_that_spell_special_tokens(gogpt: Any, place: Path) -> None:
    items = rows(40, turns=2)
    items[3]["messages"][0]["content"] += "<|im_end|>"
    (place / "data" / "mine.json").write_text(json.dumps(sharegpt(items)), encoding="utf-8")
    assert "TOK406" in told(gogpt, write(place / "lf.yaml", LLAMAFACTORY))[1]


def test_a_name_that_is_allowed(gogpt: Any, place: Path) -> None:
    file = write(place / "lf.yaml", LLAMAFACTORY, packing=True)
    ran = gogpt("check", file, "-q", "--allow", "CFG221", "--format", "json")
    assert (ran.code, [f["code"] for f in ran.json["findings"]], ran.json["allowed"]) == (0, ["CFG221"], ["CFG221"])


def test_a_setting_over_the_file(gogpt: Any, place: Path) -> None:
    file = write(place / "lf.yaml", LLAMAFACTORY, packing=True)
    assert told(gogpt, file, "neat_packing=true")[1] == {}
    assert told(gogpt, file, "packing=false", "learning_rate=0.5")[1] == {"CFG211": "error"}


def test_empty_answers_are_told(gogpt: Any, place: Path) -> None:
    items = rows(40, turns=1)
    for item in items[:4]:
        item["messages"][-1]["content"] = ""
    write_jsonl(place / "data" / "messages.jsonl", items)
    assert told(gogpt, write(place / "ax.yaml", AXOLOTL))[1] == {"DAT311": "warning"}


def test_nothing_fits_at_all(gogpt: Any, place: Path) -> None:
    for file in (write(place / "lf.yaml", LLAMAFACTORY, cutoff_len=16), write(place / "trl.yaml", TRL, max_length=16)):
        finding = caught(gogpt, file, {"CFG225": "error"})["CFG225"]
        assert finding["evidence"]["count"] == finding["evidence"]["rows"] == 40


def test_what_accelerate_launches_with(gogpt: Any, place: Path) -> None:
    """The DeepSpeed file stands in accelerate's configuration, which the script names."""
    engine = {"train_micro_batch_size_per_gpu": "auto", "gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 3}}
    (place / "ds.json").write_text(json.dumps(engine), encoding="utf-8")
    (place / "acc.yaml").write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}\n"
                                    "num_processes: 4\nmachine_rank: 0\n", encoding="utf-8")
    write(place / "trl.yaml", TRL)
    (place / "train.sh").write_text("accelerate launch --config_file acc.yaml trl/scripts/sft.py --config trl.yaml\n", encoding="utf-8")
    caught(gogpt, place / "train.sh", {"CFG270": "error"})
    assert "2 x 8 x 4 processes = 64" in gogpt("check", place / "train.sh", "-q").out
    caught(gogpt, place / "acc.yaml", {"CFG270": "error"})
    (place / "ds.json").write_text(json.dumps({**engine, "zero_optimization": {"stage": 2}}), encoding="utf-8")
    assert told(gogpt, place / "train.sh")[1] == told(gogpt, place / "acc.yaml")[1] == {}


def test_preferences_are_not_judged_as_conversations(gogpt: Any, place: Path) -> None:
    code, found, _, whole = told(gogpt, write(place / "lf.yaml", LLAMAFACTORY, stage="dpo"))
    assert (code, found) == (0, {})
    assert all("stage: dpo" in e["why"] for e in whole["not_checked"])
    assert "TOK401" in [e["code"] for e in whole["not_checked"]]
