"""TRL: JSON lines to the data set that SFTTrainer trains on, as Arrow on the disk.

TRL prepares while a trainer is made. A tiny random model is given to it, and a trainer on two rows is made first, so
that neither the model nor anything that is loaded on first use is in the time. ``Dataset.map`` writes its results to
the cache, so what is prepared is on the disk by then; nothing is saved a second time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import IGNORE, NUM_WRITTEN, fresh_caches, report, words, write_ids

if TYPE_CHECKING:
    from datasets import Dataset

SETTINGS: dict[str, dict[str, bool]] = {
    "assistant": {"packing": False, "assistant_only_loss": True},
    "assistant, packed": {"packing": True, "assistant_only_loss": True},
    "all": {"packing": False, "assistant_only_loss": False},
    "all, packed": {"packing": True, "assistant_only_loss": False},
}


def tiny_model(num_tokens: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(vocab_size=num_tokens, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                        num_attention_heads=1, num_key_value_heads=1))


def load(file: Path) -> Dataset:
    from datasets import load_dataset

    return load_dataset("json", data_files=str(file), split="train")


def flat(data: Dataset) -> Iterator[tuple[int, int]]:
    """(tokens, trained tokens) of batches of what is on the disk."""
    import pyarrow.compute as pc

    for batch in data.with_format("arrow").iter(1000):
        labels = pc.list_flatten(batch["labels"])
        yield len(labels), pc.sum(pc.not_equal(labels, IGNORE)).as_py() or 0


def main() -> None:
    args = words("TRL's preparation", list(SETTINGS))
    fresh_caches(args.output)
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    tokenizer.chat_template = (Path(__file__).parent / "chatml.jinja").read_text(encoding="utf-8").rstrip("\n")
    model = tiny_model(len(tokenizer))

    def prepared(data: Dataset, workers: int | None) -> Dataset:
        config = SFTConfig(output_dir=str(args.output / "run"), max_length=args.max_length, dataset_num_proc=workers,
                           use_cpu=True, bf16=False, report_to="none", **SETTINGS[args.setting])
        return SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer).train_dataset

    few = args.output / "few.jsonl"
    with args.data.open(encoding="utf-8") as rows:
        few.write_text("".join(itertools.islice(rows, 2)), encoding="utf-8")
    prepared(load(few), None)

    start = time.perf_counter()
    read = load(args.data)
    made = prepared(read, args.workers)
    seconds = time.perf_counter() - start

    assert made.cache_files, "not on the disk: datasets kept it in memory"
    counts = list(flat(made))
    report("TRL", args.setting, conversations=len(read), tokens=sum(n for n, _ in counts),
           trained_tokens=sum(n for _, n in counts), seconds=seconds)
    if args.ids:
        write_ids(args.ids, ((row["input_ids"], row["labels"]) for row in made.take(min(NUM_WRITTEN, len(made)))))


if __name__ == "__main__":
    main()
