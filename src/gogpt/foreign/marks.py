"""What tells the configurations of the tools apart, and what each tool calls the things that all of them have.

Keys and defaults of LLaMA-Factory and TRL are those of the installed packages (``keys.json``, written by bench/foreign_keys.py). Those of
Axolotl and ms-swift are from their documentation: axolotl-ai-cloud/axolotl ``src/axolotl/utils/schemas`` and modelscope/ms-swift
``docs/source_en/Instruction/Command-line-parameters.md``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

TOOL_NAMES = {"llamafactory": "LLaMA-Factory", "axolotl": "Axolotl", "swift": "ms-swift", "trl": "TRL"}

def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


MARKS: Mapping[str, frozenset[str]] = {
    "llamafactory": _keys("""finetuning_type cutoff_len lora_target lora_rank dataset_dir neat_packing template stage adapter_name_or_path export_dir
        additional_target quantization_bit mask_history train_on_prompt val_size max_samples preprocessing_num_workers model_name_or_path dataset"""),
    "axolotl": _keys("""base_model sequence_len micro_batch_size sample_packing pad_to_sequence_len val_set_size num_epochs adapter lora_target_linear
        dataset_prepared_path train_on_inputs lora_r lora_target_modules flash_attention special_tokens lr_scheduler datasets chat_template"""),
    "swift": _keys("""train_type tuner_type sft_type split_dataset_ratio quant_bits quant_method model_author model_name attn_impl loss_scale target_modules
        torch_dtype model dataset val_dataset max_length lora_rank truncation_strategy"""),
    "trl": _keys("""model_name_or_path dataset_name dataset_config dataset_train_split dataset_test_split use_peft lora_r lora_target_modules packing_strategy
        assistant_only_loss completion_only_loss attn_implementation load_in_4bit max_length dataset_text_field eos_token padding_free"""),
}
"""Keys that a tool has, and that not all of the others have."""

OWN: Mapping[str, frozenset[str]] = {tool: keys - frozenset().union(*(k for t, k in MARKS.items() if t != tool)) for tool, keys in MARKS.items()}
"""Keys that no other tool has."""

NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "llamafactory": {
        "model": ("model_name_or_path",), "max_length": ("cutoff_len",), "packing": ("packing", "neat_packing"), "template": ("template",),
        "train": ("dataset",), "eval": ("eval_dataset",), "eval_share": ("val_size",), "targets": ("lora_target",), "rank": ("lora_rank",), "alpha": ("lora_alpha",),
        "dropout": ("lora_dropout",), "saved": ("additional_target",), "method": ("finetuning_type",), "quantised": ("quantization_bit",), "attention": ("flash_attn",),
        "workers": ("preprocessing_num_workers",), "layers": ("freeze_trainable_layers",),
    },
    "axolotl": {
        "model": ("base_model",), "max_length": ("sequence_len",), "packing": ("sample_packing",), "template": ("chat_template",),
        "train": ("datasets",), "eval": ("test_datasets",), "eval_share": ("val_set_size",), "targets": ("lora_target_modules", "lora_target_linear"),
        "rank": ("lora_r",), "alpha": ("lora_alpha",), "dropout": ("lora_dropout",), "saved": ("lora_modules_to_save",), "method": ("adapter",),
        "quantised": ("load_in_4bit", "load_in_8bit"), "attention": ("attn_implementation", "flash_attention", "sdp_attention"), "schedule": ("lr_scheduler",),
        "epochs": ("num_epochs",), "micro_batch_size": ("micro_batch_size",), "resume": ("resume_from_checkpoint",), "workers": ("dataset_processes",),
    },
    "swift": {
        "model": ("model",), "max_length": ("max_length",), "packing": ("packing",), "template": ("template",), "train": ("dataset",), "eval": ("val_dataset",),
        "eval_share": ("split_dataset_ratio",), "targets": ("target_modules",), "rank": ("lora_rank",), "alpha": ("lora_alpha",), "dropout": ("lora_dropout",),
        "saved": ("modules_to_save",), "method": ("train_type", "tuner_type", "sft_type"), "quantised": ("quant_bits",), "attention": ("attn_impl",),
        "workers": ("dataset_num_proc",),
    },
    "trl": {
        "model": ("model_name_or_path",), "max_length": ("max_length",), "packing": ("packing",), "template": ("chat_template_path",), "train": ("dataset_name", "datasets"),
        "eval": ("dataset_test_split",), "eval_share": ("test_split_size",), "targets": ("lora_target_modules",), "rank": ("lora_r",), "alpha": ("lora_alpha",),
        "dropout": ("lora_dropout",), "saved": ("lora_modules_to_save",), "method": ("use_peft",), "quantised": ("load_in_4bit", "load_in_8bit"),
        "attention": ("attn_implementation",), "workers": ("dataset_num_proc",),
    },
}
"""What is asked for -> the keys that ask for it, where they are not those of TrainingArguments (COMMON)."""

COMMON: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("learning_rate",), "schedule": ("lr_scheduler_type",), "micro_batch_size": ("per_device_train_batch_size",),
    "accumulation": ("gradient_accumulation_steps",), "epochs": ("num_train_epochs",), "max_steps": ("max_steps",), "warmup_steps": ("warmup_steps",),
    "warmup_ratio": ("warmup_ratio",), "clipping": ("max_grad_norm",), "seed": ("seed",), "output": ("output_dir",), "deepspeed": ("deepspeed",),
    "ddp_timeout": ("ddp_timeout",), "save_only_model": ("save_only_model",), "resume": ("resume_from_checkpoint",), "weight_decay": ("weight_decay",),
    "checkpointing": ("gradient_checkpointing",), "nan_filter": ("logging_nan_inf_filter",), "report_to": ("report_to",),
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "axolotl": {"lr_scheduler": "cosine", "num_epochs": 1.0, "micro_batch_size": 1, "gradient_accumulation_steps": 1, "sequence_len": 512, "bf16": "auto",
                "val_set_size": 0.0, "max_grad_norm": 1.0, "ddp_timeout": 1800},
    "swift": {"train_type": "lora", "per_device_train_batch_size": 1, "num_train_epochs": 3.0, "lr_scheduler_type": "cosine", "warmup_ratio": 0.05,
              "max_grad_norm": 1.0, "lora_rank": 8, "lora_alpha": 32, "target_modules": "all-linear", "split_dataset_ratio": 0.0, "ddp_timeout": 18_000_000,
              "truncation_strategy": "delete"},
}
"""Where ``keys.json`` has none: the documented ones that are needed."""

AXOLOTL_KEYS = _keys("""
    base_model base_model_config tokenizer_config model_type tokenizer_type trust_remote_code revision_of_model tokenizer_use_fast tokenizer_legacy strict
    resume_from_checkpoint auto_resume_from_checkpoints resize_token_embeddings_to_32x rl trl datasets test_datasets dataset_prepared_path pretraining_dataset
    dataset_processes shuffle_merged_datasets dataset_exact_deduplication dataloader_num_workers remove_unused_columns seed ddp_timeout bf16 fp16 bfloat16 float16 tf32
    gradient_checkpointing gradient_checkpointing_kwargs unfrozen_parameters sequence_len min_sample_len sample_packing eval_sample_packing pad_to_sequence_len
    sample_packing_group_size sample_packing_bin_size sample_packing_sequentially excess_length_strategy flash_attention sdp_attention flex_attention xformers_attention
    eager_attention attn_implementation s2_attention deepspeed fsdp fsdp_config fsdp_version val_set_size special_tokens tokens added_tokens_overrides torch_compile
    max_steps warmup_steps warmup_ratio eval_steps evals_per_epoch eval_strategy save_steps saves_per_epoch save_strategy save_total_limit logging_steps
    early_stopping_patience load_best_model_at_end save_only_model neftune_noise_alpha chat_template chat_template_jinja eot_tokens default_system_message plugins
    load_in_8bit load_in_4bit adapter lora_model_dir lora_r lora_alpha lora_target_modules lora_target_linear lora_modules_to_save lora_dropout peft_use_dora
    peft_use_rslora lora_mlp_kernel lora_qkv_kernel lora_o_kernel merge_lora gradient_accumulation_steps micro_batch_size batch_size eval_batch_size
    auto_find_batch_size train_on_inputs group_by_length learning_rate weight_decay optimizer optim_args lr_scheduler lr_scheduler_kwargs cosine_min_lr_ratio
    adam_epsilon adam_beta1 adam_beta2 max_grad_norm num_epochs output_dir hub_model_id hub_strategy wandb_project wandb_entity wandb_watch wandb_name wandb_log_model
    wandb_run_id wandb_mode use_wandb mlflow_tracking_uri save_safetensors streaming use_tensorboard loss_watchdog_threshold loss_watchdog_patience device_map
    roles_to_train train_on_eos liger_rope liger_rms_norm liger_glu_activation liger_fused_linear_cross_entropy context_parallel_size
    tensor_parallel_size sequence_parallel_degree dp_shard_size hub_revision tokenizer_save_jinja_files embedding_lr embedding_lr_scale quantization qat
    """)
SWIFT_KEYS = _keys("""
    config model model_type model_revision task_type torch_dtype attn_impl new_special_tokens rope_scaling max_model_len device_map dataset val_dataset cached_dataset
    split_dataset_ratio data_seed dataset_num_proc load_from_cache_file dataset_shuffle streaming strict model_name model_author custom_dataset_info template system
    max_length truncation_strategy max_pixels agent_template use_chat_template padding_free padding_side loss_scale sequence_parallel_size response_prefix
    template_backend quant_method quant_bits bnb_4bit_compute_dtype bnb_4bit_quant_type bnb_4bit_use_double_quant tuner_backend train_type tuner_type sft_type adapters
    seed use_hf hub_token custom_register_path ddp_timeout ddp_backend output_dir gradient_checkpointing deepspeed per_device_train_batch_size
    per_device_eval_batch_size gradient_accumulation_steps weight_decay adam_beta1 adam_beta2 learning_rate lr_scheduler_type lr_scheduler_kwargs report_to
    logging_first_step logging_steps num_train_epochs max_steps save_strategy save_steps eval_strategy eval_steps save_total_limit save_only_model
    resume_from_checkpoint warmup_ratio warmup_steps max_grad_norm bf16 fp16 fsdp use_liger_kernel dataloader_num_workers packing packing_length packing_cache
    lora_rank lora_alpha lora_dropout lora_bias lora_dtype use_dora use_rslora target_modules target_regex modules_to_save init_weights freeze_parameters
    trainable_parameters add_version create_checkpoint_symlink merge_lora lazy_tokenize external_plugins loss_type metric optimizer neftune_noise_alpha
    acc_strategy logging_dir predict_with_generate metric_for_best_model greater_is_better max_epochs overwrite_output_dir push_to_hub freeze_vit freeze_aligner freeze_llm
    """)

SINGULAR = {"llamafactory": frozenset({"do_eval", "plot_loss", "overwrite_output_dir", "overwrite_cache", "use_v1", "include_tokens_per_second"}),
            "trl": frozenset({"config", "env"}), "axolotl": frozenset(), "swift": frozenset()}
"""Keys that a tool takes besides: of a launcher, or kept from older releases."""


@cache
def tables() -> dict[str, Any]:
    """The content of ``keys.json``."""
    return dict(json.loads(resources.files("gogpt.foreign").joinpath("keys.json").read_text(encoding="utf-8")))


def release_of(tool: str) -> str:
    return f"{TOOL_NAMES[tool]} {tables()[tool]['versions'][tool]}" if tool in tables() else TOOL_NAMES[tool]


def known_keys(tool: str) -> frozenset[str]:
    if tool in tables():
        return frozenset(tables()[tool]["keys"]) | SINGULAR[tool]
    return AXOLOTL_KEYS if tool == "axolotl" else SWIFT_KEYS


def default_of(tool: str, key: str) -> Any:
    return tables()[tool]["keys"].get(key) if tool in tables() else DEFAULTS[tool].get(key)


def keys_for(tool: str, what: str) -> tuple[str, ...]:
    return NAMES[tool].get(what) or COMMON.get(what, ())


def unknown_keys(tool: str, document: Mapping[str, Any]) -> dict[str, str]:
    """Keys that the tool does not know, each with the nearest that it does. Of Axolotl and ms-swift, whose lists are not whole, only those
    that are near a known one."""
    known = known_keys(tool)
    out = {}
    for key in document:
        if str(key) in known or str(key).startswith("_"):
            continue
        near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.86 if tool in ("axolotl", "swift") else 0.75)
        if near or tool in tables():
            out[str(key)] = near[0] if near else ""
    return out


def tools_of(document: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Tools whose configuration this can be, each with how much says so, the likeliest first: three for a key that only this tool has, one for a
    key that some have."""
    keys = {str(k) for k in document}
    found = {tool: 3 * len(keys & OWN[tool]) + len(keys & MARKS[tool]) for tool in MARKS}
    return sorted(((tool, points) for tool, points in found.items() if points), key=lambda pair: -pair[1])
