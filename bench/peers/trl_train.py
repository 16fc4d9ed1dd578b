"""TRL: SFTTrainer on ids and labels that are there already, for bench/train.py.

``best`` is one unpadded sequence at a time without checkpointing, and with the head on trained positions alone: TRL 1.16 does so where it has
Triton, on GPUs; its own branch for that is taken here too, by what it asks (``_use_triton`` in trl.trainer.utils, which chooses the positions; its
kernels ask a name of their own and stay those of the CPU).
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from record_train import ALPHA, RANK, Record, callback, examples, resident, versions, whole_batches, words

SETTINGS = ["default", "micro batch 1", "best"]


def main() -> None:
    args = words("TRL's training", SETTINGS)
    os.environ["HF_DATASETS_CACHE"] = str(args.output / "cache")
    import torch
    import trl.trainer.utils
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, set_seed
    from trl import SFTConfig, SFTTrainer

    record = Record(floor=resident())
    record.watch(Trainer)
    rows = examples(args.data)
    batch = whole_batches(len(rows)) if args.setting == "default" else 1
    more = {} if args.setting == "default" else {"gradient_checkpointing": False}
    if args.setting == "best":
        trl.trainer.utils._use_triton = lambda device: True
    set_seed(0)
    config = SFTConfig(
        output_dir=str(args.output / "run"), per_device_train_batch_size=batch, gradient_accumulation_steps=len(rows) // batch,
        max_steps=args.warmup + args.steps, learning_rate=args.learning_rate, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0,
        max_grad_norm=1.0, max_length=None, use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=1, seed=0, disable_tqdm=True, **more)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear") if args.method == "lora" else None
    trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(args.model),
                         peft_config=lora, callbacks=[callback(record, args)])
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    trainer.train()
    record.write(args.record, trainable=trainable, dtypes=sorted({str(p.dtype) for p in trainer.model.parameters()}),
                 checkpointing=bool(trainer.model.is_gradient_checkpointing), optimizer=str(config.optim),
                 threads=torch.get_num_threads(), versions=versions("trl", "torch", "transformers", "peft"))


if __name__ == "__main__":
    main()
