"""Whether a run's model is asked in the rendering that it was trained with: the prompts of the run's samples, rendered and encoded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gogpt.errors import GogptError, RowError
from gogpt.facts import AskedFacts
from gogpt.records import IGNORE_INDEX, Conversation, Message
from gogpt.runfolder import RunFolder
from gogpt.templates import Template
from gogpt.tokenize import Tokenizer, encode_prompt

NUM_AROUND = 6
"""Tokens before the first that differs, and behind it, that are shown."""


def run_of(path: Path) -> RunFolder | None:
    """The run that ``path`` is or lies in: RUN, RUN/final, RUN/checkpoints/step-N."""
    return next((run for place in (path, path.parent, path.parent.parent) if (run := RunFolder(place)).is_run and run.samples.is_file()), None)


def asked_facts(path: Path, template: Template, tokenizer: Tokenizer) -> AskedFacts | None:
    """Prompts of the answers of ``samples.jsonl``, as ``template`` and ``tokenizer`` make them now, against the ids that were trained.

    None where nothing can be said: no run, a stage or setting in which an example has no prompt of its own, or nothing readable there.
    """
    run = run_of(path)
    if run is None:
        return None
    try:
        recipe = yaml.safe_load(run.recipe.read_text(encoding="utf-8"))
        samples = [json.loads(line) for line in run.samples.read_text(encoding="utf-8").splitlines() if line.strip()]
        data = recipe["data"]
        if recipe.get("stage") == "pretrain" or data.get("train_on") == "all" or data.get("overlong") == "split":
            return None
        found = [d for s in samples if (d := _difference(s, int(data.get("max_length", 0)), template, tokenizer)) is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None  # a damaged run folder is told by who reads it as such
    if not found:
        return None
    return AskedFacts(path=str(path), template=template.name, samples=len(found), equal=sum(not d for d in found), difference=next((d for d in found if d), ""))


def _message(said: dict[str, Any]) -> Message:
    return Message(role=said["role"], content=said["content"], input=said.get("input"), reasoning=said.get("reasoning_content"),
                   tool_calls=tuple(said.get("tool_calls", ())), tool_call_id=said.get("tool_call_id"), name=said.get("name"), train=said.get("train"))


def _difference(sample: dict[str, Any], max_length: int, template: Template, tokenizer: Tokenizer) -> str | None:
    """Where the prompt differs from the trained one, "" where it does not; None for a sample that was cut, or has no prompt."""
    ids, labels = sample["input_ids"], sample["labels"]
    messages = tuple(_message(m) for m in sample["messages"])
    start = next((i for i, label in enumerate(labels) if label != IGNORE_INDEX), 0)
    pattern = tokenizer.special_pattern
    tools = tuple(sample.get("tools", ()))
    unknown_tools = not tools and any(m.tool_calls or m.role == "tool" for m in messages)
    if not start or len(ids) >= max_length or unknown_tools or any(pattern and pattern.search(m.content) for m in messages):
        return None
    trained, nearest = ids[:start], (-1, "")
    for k in (k for k, m in enumerate(messages) if m.role == "assistant"):
        try:
            asked = encode_prompt(template.generation(Conversation(messages=messages[:k], tools=tools)), tokenizer)
        except (GogptError, RowError) as problem:
            nearest = max(nearest, (0, f"the template cannot render the conversation: {problem}"))
            continue
        if asked == trained:
            return ""
        same = next((i for i, (a, b) in enumerate(zip(asked, trained, strict=False)) if a != b), min(len(asked), len(trained)))
        around = slice(max(0, same - NUM_AROUND), same + NUM_AROUND)
        nearest = max(nearest, (same, f"token {same}: asked {tokenizer.decode(asked[around])!r}, trained {tokenizer.decode(trained[around])!r}"))
    return nearest[1] or None
