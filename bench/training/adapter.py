"""The adapter that a GoGPT run with seed 0 starts from, and what its process holds after its imports. In GoGPT's environment.

    python bench/training/adapter.py floor                      resident bytes after the imports of ``gogpt train``, before a model is loaded
    python bench/training/adapter.py MODEL OUT.safetensors      the first LoRA matrices, by their names in the base model

B is zero everywhere, but the trajectory depends on A, which is drawn. So that all contenders walk one trajectory, peers get GoGPT's A.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import psutil


def floor() -> None:
    import gogpt.train

    assert gogpt.train.train
    print(json.dumps({"floor": psutil.Process().memory_info().rss}))


def first(model: str, out: str) -> None:
    from operations import LORA_ALPHA, LORA_RANK
    from safetensors.torch import save_file
    from transformers import set_seed

    from gogpt.adapters import add_method
    from gogpt.config import MethodConfig, ModelConfig
    from gogpt.model import load_base

    set_seed(0)
    random.seed(0)
    base = load_base(ModelConfig(path=model), Path(model), "float32")
    adapted = add_method(base, MethodConfig(kind="lora", rank=LORA_RANK, alpha=LORA_ALPHA), Path(model))
    save_file({n.split("base_model.model.", 1)[-1].replace(".default", ""): p.detach().contiguous() for n, p in adapted.named_parameters() if "lora_A" in n}, out)


if __name__ == "__main__":
    if sys.argv[1] == "floor":
        floor()
    else:
        first(sys.argv[1], sys.argv[2])
