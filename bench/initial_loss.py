"""What the untrained model's loss looks like when it is healthy, and when it is not: the figures of docs/checks/MOD525.md.

    python bench/initial_loss.py MODEL DATA.json [DATA.json ...] --tokenizer FOLDER ...

DATA: Alpaca rows (instruction, input, output) or OpenAI messages, as a JSON array or lines. Printed for each set, template and damage: the
mean loss over the same answer tokens as trained, alone, and alone in random order; and the entropy of the predictions under the first.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gogpt.records import IGNORE_INDEX, Conversation, Message
from gogpt.templates import pick_template
from gogpt.tokenize import Tokenizer, encode

NUM_ANSWERS, NUM_TOKENS = 6, 64
TEMPLATES = ("auto", "chatml", "alpaca", "llama3", "vicuna")


def conversations(path: Path) -> list[Conversation]:
    """The first turns of a file's rows."""
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]
    out = []
    for row in rows[:60]:
        if "messages" in row:
            said = [(m["role"], m["content"]) for m in row["messages"][:2]]
        else:
            said = [("user", row["instruction"] + ("\n" + row["input"] if row.get("input") else "")), ("assistant", row["output"])]
        out.append(Conversation(messages=tuple(Message(role=role, content=content) for role, content in said)))
    return out


@torch.no_grad()
def losses(model: Any, ids: Sequence[int], start: int) -> tuple[list[float], list[float]]:
    """Cross-entropy of the tokens from ``start + 1`` on, and the entropy of their predictions."""
    logs = model(input_ids=torch.tensor([list(ids)])).logits[0].float().log_softmax(-1)[start:-1]
    wanted = torch.tensor(list(ids))[start + 1 :, None]
    return (-logs.gather(1, wanted)[:, 0]).tolist(), (-(logs.exp() * logs).sum(-1)).tolist()


def measure(model: Any, tokenizer: Tokenizer, template: str, talks: Sequence[Conversation], change: Callable[[int], int] = int) -> str:
    """One line of figures. ``change``: what another tokenizer does to an id."""
    form, draw = pick_template(template, tokenizer), random.Random(0)
    found: dict[str, list[float]] = {"trained": [], "alone": [], "shuffled": [], "entropy": []}
    examples = [encode(form.render(talk)[0], tokenizer)[0] for talk in talks]
    for example in [e for e in examples if e.input_ids.size <= 256][:NUM_ANSWERS]:
        ids = [change(int(i)) for i in example.input_ids]
        start = int((example.labels != IGNORE_INDEX).nonzero()[0][0])
        said = ids[start:-1][:NUM_TOKENS]
        if len(said) < 4:
            continue
        loss, entropy = losses(model, ids[:start] + said, start)
        found["trained"] += loss
        found["entropy"] += entropy
        found["alone"] += losses(model, said, 0)[0]
        found["shuffled"] += losses(model, draw.sample(said, len(said)), 0)[0]
    means = "  ".join(f"{k} {sum(v) / max(1, len(v)):5.2f}" for k, v in found.items())
    return f"{means}  ({len(found['trained'])} tokens)"


def damages(model: Any) -> dict[str, Callable[[Any], None]]:
    """Name -> what is done to a copy of the model."""
    middle = len(model.model.layers) // 3

    def noise(m: Any) -> None:
        for p in m.model.layers[middle].parameters():
            p.normal_(0, 0.5)

    def zero(m: Any) -> None:
        for p in m.model.layers[0].parameters():
            p.zero_()

    def columns(m: Any) -> None:
        weight = m.model.layers[middle // 2].mlp.down_proj.weight
        weight.copy_(weight[:, torch.randperm(weight.shape[1])])

    return {
        "a layer of noise": noise, "the first layer zero": zero, "columns of one matrix in another order": columns,
        "an embedding of noise": lambda m: m.get_input_embeddings().weight.normal_(0, 0.02),
        "rows of the embedding one further": lambda m: m.get_input_embeddings().weight.copy_(m.get_input_embeddings().weight.roll(1, 0)),
    }


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("model", type=Path)
    asked.add_argument("data", type=Path, nargs="+")
    asked.add_argument("--tokenizer", type=Path, nargs="*", default=[])
    given = asked.parse_args()
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    own, size = Tokenizer(given.model), int(model.config.vocab_size)
    sets = {path.stem: conversations(path) for path in given.data}
    order = list(range(size))
    random.Random(1).shuffle(order)
    print(f"ln(vocabulary) {math.log(size):.2f}")
    for name, talks in sets.items():
        for template in TEMPLATES:
            print(f"{name}, {template}: {measure(model, own, template, talks)}", flush=True)
        print(f"{name}, ids in another order: {measure(model, own, 'chatml', talks, order.__getitem__)}", flush=True)
        for folder in given.tokenizer:
            print(f"{name}, {folder.name}: {measure(model, Tokenizer(folder), 'alpaca', talks, lambda i: i % size)}", flush=True)
    for what, damage in damages(model).items():
        hurt = copy.deepcopy(model)
        with torch.no_grad():
            damage(hurt)
        for name, talks in sets.items():
            print(f"{name}, {what}: {measure(hurt, own, 'chatml', talks)}", flush=True)


if __name__ == "__main__":
    main()
