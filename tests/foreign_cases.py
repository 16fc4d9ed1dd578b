"""Healthy configurations of four tools in a folder with a model and data, for faults to be planted in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from conftest import rows, write_jsonl


def sharegpt(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {"user": "human", "assistant": "gpt"}
    return [{"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in item["messages"]]} for item in items]


def lay_out(folder: Path, model: Path, *, count: int = 40) -> Path:
    """data/ with dataset_info.json (names mine, other, hub), messages.jsonl, held.jsonl; model: a link to the model."""
    data = folder / "data"
    write_jsonl(data / "mine.json", [])
    (data / "mine.json").write_text(json.dumps(sharegpt(rows(count, turns=2))), encoding="utf-8")
    (data / "other.json").write_text(json.dumps(sharegpt(rows(8, start=900))), encoding="utf-8")
    entry = {"formatting": "sharegpt", "columns": {"messages": "conversations"}}
    (data / "dataset_info.json").write_text(json.dumps({
        "mine": {"file_name": "mine.json", **entry}, "other": {"file_name": "other.json", **entry}, "hub": {"hf_hub_url": "someone/somewhere"},
    }), encoding="utf-8")
    write_jsonl(data / "messages.jsonl", rows(count, turns=2))
    write_jsonl(data / "held.jsonl", rows(8, start=900))
    (folder / "model").symlink_to(model)
    return folder


LLAMAFACTORY: dict[str, Any] = {
    "model_name_or_path": "model", "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 8, "lora_target": "all", "dataset": "mine",
    "dataset_dir": "data", "template": "qwen", "cutoff_len": 512, "overwrite_cache": True, "preprocessing_num_workers": 16, "output_dir": "saves/lora",
    "logging_steps": 10, "save_steps": 500, "plot_loss": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1.0e-4,
    "num_train_epochs": 3.0, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "bf16": True, "ddp_timeout": 180000000, "val_size": 0.1, "eval_steps": 500,
    "eval_strategy": "steps", "per_device_eval_batch_size": 1, "report_to": "none", "resume_from_checkpoint": None,
}
AXOLOTL: dict[str, Any] = {
    "base_model": "model", "datasets": [{"path": "data/messages.jsonl", "type": "chat_template", "roles_to_train": ["assistant"], "train_on_eos": "turn"}],
    "chat_template": "tokenizer_default", "dataset_prepared_path": None, "val_set_size": 0.1, "output_dir": "./out", "adapter": "lora", "lora_r": 16,
    "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_linear": True, "sequence_len": 512, "sample_packing": True, "pad_to_sequence_len": True,
    "flash_attention": True, "gradient_accumulation_steps": 4, "micro_batch_size": 2, "num_epochs": 1, "optimizer": "adamw_torch_fused", "lr_scheduler": "cosine",
    "learning_rate": 0.0002, "bf16": "auto", "tf32": False, "gradient_checkpointing": True, "logging_steps": 1, "warmup_ratio": 0.1, "evals_per_epoch": 2,
    "saves_per_epoch": 1, "weight_decay": 0.0, "special_tokens": None,
}
TRL: dict[str, Any] = {
    "model_name_or_path": "model", "dataset_name": "data", "datasets": [{"path": "json", "data_files": "data/messages.jsonl"}], "learning_rate": 2.0e-4,
    "num_train_epochs": 1, "packing": True, "packing_strategy": "bfd", "max_length": 512, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8,
    "use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": "all-linear", "assistant_only_loss": True, "bf16": True, "output_dir": "out",
    "eval_strategy": "no", "logging_steps": 5,
}
del TRL["dataset_name"]
SWIFT = """#!/bin/bash
# LoRA on two devices
export CUDA_VISIBLE_DEVICES=0,1
MODEL=model
NPROC_PER_NODE=2 \\
swift sft \\
    --model "$MODEL" \\
    --train_type lora \\
    --dataset 'data/messages.jsonl#30' \\
    --split_dataset_ratio 0.1 \\
    --torch_dtype bfloat16 \\
    --attn_impl flash_attn --packing true \\
    --num_train_epochs 1 --learning_rate 1e-4 \\
    --per_device_train_batch_size 1 --gradient_accumulation_steps 4 \\
    --lora_rank 8 --lora_alpha 32 --target_modules all-linear \\
    --max_length 512 --warmup_ratio 0.05 \\
    --output_dir output
"""


def write(path: Path, document: dict[str, Any], **changes: Any) -> Path:
    """The document with other values; None takes a key out."""
    whole = {k: v for k, v in {**document, **changes}.items() if v is not None}
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path
