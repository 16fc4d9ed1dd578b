"""LLaMA-Factory: ``llamafactory-cli train`` (its ``run_exp``) on a tokenized_path with ids and labels that are there already, for bench/train.py.

For neat packing its own processor of packed sets makes the rows (knapsack, numbered attention mask); only what encodes an example is replaced by the
ids that are given. ``packing`` is its plain packing, in which documents see each other.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from llamafactory_prepare import stand_in_for_torchaudio
from record_train import ALPHA, RANK, Record, callback, examples, resident, versions, whole_batches, words

SETTINGS = ["default", "micro batch 1", "neat packing", "packing"]
CUTOFF = 2048
"""its default; rows of neat packing are not longer"""


def packed(rows: list[dict[str, list[int]]], capacity: int, processor_class: Any, tokenizer: Any, *, neat: bool) -> dict[str, list[Any]]:
    """Rows of ``capacity`` + 1 tokens, padded to that, by its own processor."""
    from types import SimpleNamespace

    class Given(processor_class):  # type: ignore[misc]
        def _encode_data_example(self, prompt: Any, **others: Any) -> Any:
            return list(rows[prompt[0]]["input_ids"]), list(rows[prompt[0]]["labels"])

    args = SimpleNamespace(cutoff_len=capacity, neat_packing=neat, packing=True)
    made = Given(template=None, tokenizer=tokenizer, processor=None, data_args=args)
    count = len(rows)
    return dict(made.preprocess_dataset({"_prompt": [[i] for i in range(count)], "_response": [[0]] * count, **{
        name: [None] * count for name in ("_system", "_tools", "_images", "_videos", "_audios")}}))


def smallest_capacity(lengths: list[int], knapsack: Any) -> int:
    """As few rows as 2,048 tokens allow, and then as little padding: the least capacity that needs no more rows. One less than a multiple of 8,
    to which its collator pads, since its position ids are not padded along."""
    rows = len(knapsack(list(lengths), CUTOFF - 1))
    least = -(-(max(max(lengths), sum(lengths) // rows) + 1) // 8) * 8 - 1
    return next(c for c in range(least, CUTOFF, 8) if len(knapsack(list(lengths), c)) <= rows)


def main() -> None:
    args = words("LLaMA-Factory's training", SETTINGS)
    os.environ["HF_DATASETS_CACHE"] = str(args.output / "cache")
    stand_in_for_torchaudio()
    import torch
    from datasets import Dataset, DatasetDict
    from llamafactory.data.processor import PackedSupervisedDatasetProcessor
    from llamafactory.data.processor.processor_utils import greedy_knapsack
    from llamafactory.train.tuner import run_exp
    from transformers import AutoTokenizer, Trainer

    record = Record(floor=resident())
    record.watch(Trainer)
    rows = examples(args.data)
    if args.setting.endswith("packing"):
        neat = args.setting == "neat packing"
        capacity = smallest_capacity([len(r["input_ids"]) for r in rows], greedy_knapsack)
        data = Dataset.from_dict(packed(rows, capacity, PackedSupervisedDatasetProcessor, AutoTokenizer.from_pretrained(args.model), neat=neat))
        more: dict[str, Any] = {"packing": True, "neat_packing": neat, "cutoff_len": capacity}
    else:
        data = Dataset.from_list([{**r, "attention_mask": [1] * len(r["input_ids"]), "images": None, "videos": None, "audios": None} for r in rows])
        more = {}
    batch = whole_batches(len(data)) if args.setting == "default" else 1
    if args.setting != "default":
        more["disable_gradient_checkpointing"] = True
    tokenized = args.output / "tokenized"
    DatasetDict({"train": data}).save_to_disk(str(tokenized))
    seen: dict[str, Any] = {}

    keep = callback(record, args)
    begin = keep.on_train_begin

    def on_train_begin(targs: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        seen.update(trainable=sum(p.numel() for p in model.parameters() if p.requires_grad), dtypes=sorted({str(p.dtype) for p in model.parameters()}),
                    checkpointing=bool(model.is_gradient_checkpointing), optimizer=str(targs.optim), threads=torch.get_num_threads())
        begin(targs, state, control, model=model, **kwargs)

    keep.on_train_begin = on_train_begin
    if args.method == "lora":
        more |= {"lora_rank": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0, "lora_target": "all"}
    run_exp({
        "stage": "sft", "do_train": True, "model_name_or_path": str(args.model), "template": "chatml", "dataset": "given", "tokenized_path": str(tokenized),
        "finetuning_type": args.method, "output_dir": str(args.output / "run"), "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": len(data) // batch, "max_steps": args.warmup + args.steps, "learning_rate": args.learning_rate,
        "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "use_cpu": True, "bf16": False, "fp16": False,
        "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 0, "disable_tqdm": True, "plot_loss": False, **more,
    }, callbacks=[keep])
    record.write(args.record, versions=versions("llamafactory", "torch", "transformers", "peft"), **seen)


if __name__ == "__main__":
    main()
