"""LLaMA-Factory: JSON lines to ``tokenized_path``, through the same functions as ``llamafactory-cli train``.

``get_dataset`` is what the command calls between loading the tokenizer and loading the model; called by itself, no
model is needed. A run on two rows comes first, so that nothing that is loaded on first use is in the time.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import json
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import IGNORE, NUM_WRITTEN, fresh_caches, report, words, write_ids

if TYPE_CHECKING:
    from datasets import Dataset

SETTINGS: dict[str, dict[str, bool]] = {
    "assistant": {"packing": False, "neat_packing": False},
    "assistant, packed": {"packing": True, "neat_packing": False},
    "assistant, neat packed": {"packing": True, "neat_packing": True},
}

NAME = "bench"

DESCRIPTION: dict[str, Any] = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
             "system_tag": "system"},
}
"""OpenAI messages, as an entry of dataset_info.json."""


def stand_in_for_torchaudio() -> None:
    """LLaMA-Factory imports torchaudio for sound, which has no build that loads beside a torch without CUDA; text needs
    none of it. See environments.py."""
    if importlib.util.find_spec("torchaudio") is None:
        module = types.ModuleType("torchaudio")
        module.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = module


def describe(folder: Path, file: Path) -> None:
    """dataset_info.json of one data set, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    info = {NAME: {"file_name": str(file.resolve()), **DESCRIPTION}}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def counts(data: Dataset) -> Iterator[tuple[int, int]]:
    """(tokens, trained tokens) of batches of what is on the disk. Packed rows are padded to cutoff_len + 1: padding
    stands at the end, where no label is, and starts again at position 0."""
    import numpy as np
    import pyarrow.compute as pc

    for batch in data.with_format("arrow").iter(1000):
        trained = pc.sum(pc.not_equal(pc.list_flatten(batch["labels"]), IGNORE)).as_py() or 0
        tokens = len(pc.list_flatten(batch["input_ids"]))
        if "position_ids" in batch.column_names:
            for row in batch["position_ids"].to_pylist():
                tokens -= int(np.argmax(np.asarray(row[::-1]) != 0))
        yield tokens, trained


def main() -> None:
    args = words("LLaMA-Factory's preparation", list(SETTINGS))
    fresh_caches(args.output)
    stand_in_for_torchaudio()
    from datasets import load_from_disk
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    def prepared(file: Path, where: Path, workers: int | None) -> float:
        """Seconds from the file to the disk."""
        describe(where, file)
        keys = {"stage": "sft", "do_train": True, "model_name_or_path": str(args.tokenizer), "template": "chatml",
                "dataset": NAME, "dataset_dir": str(where), "cutoff_len": args.max_length, "use_cpu": True,
                "preprocessing_num_workers": workers, "tokenized_path": str(where / "tokenized"),
                "output_dir": str(where / "run"), "report_to": "none", **SETTINGS[args.setting]}
        model_args, data_args, training_args, _, _ = get_train_args(keys)
        tokenizer = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data_args)
        start = time.perf_counter()
        get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer)
        return time.perf_counter() - start

    few = args.output / "few.jsonl"
    with args.data.open(encoding="utf-8") as rows:
        few.write_text("".join(itertools.islice(rows, 2)), encoding="utf-8")
    prepared(few, args.output / "few", None)
    seconds = prepared(args.data, args.output / "all", args.workers)

    made = load_from_disk(str(args.output / "all" / "tokenized"))["train"]
    sizes = list(counts(made))
    with args.data.open(encoding="utf-8") as rows:
        num_rows = sum(1 for _ in rows)
    report("LLaMA-Factory", args.setting, conversations=num_rows, tokens=sum(n for n, _ in sizes),
           trained_tokens=sum(n for _, n in sizes), seconds=seconds)
    if args.ids:
        write_ids(args.ids, ((row["input_ids"], row["labels"]) for row in made.take(min(NUM_WRITTEN, len(made)))))


if __name__ == "__main__":
    main()
