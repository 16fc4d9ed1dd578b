"""Answers from a run, an adapter or a model, in the rendering that it was trained with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from gogpt.adapters import is_adapter, load_adapter, quantisation_of_adapter
from gogpt.attention import attend_by_document
from gogpt.config import ModelConfig
from gogpt.errors import GogptError, RowError
from gogpt.model import load_base, pick_device, stop_token_ids
from gogpt.modelfiles import find_model
from gogpt.records import Conversation, Message
from gogpt.runfolder import RunFolder
from gogpt.templates import Template, pick_template
from gogpt.tokenize import Tokenizer, encode_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is picked; temperature 0 takes the likeliest."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A model ready to answer."""

    model: Any
    tokenizer: Tokenizer
    template: Template
    stop_ids: tuple[int, ...]
    device: torch.device


def resolve_served(path: str) -> Path:
    """The folder to serve: a run's final/, an adapter, a model folder, or a hub id's snapshot.

    Raises GogptError RUN611 (an unfinished run), MOD500.
    """
    run = RunFolder(Path(path))
    if run.is_run:
        if run.final.is_dir():
            return run.final
        steps = run.checkpoint_steps()
        raise GogptError("RUN611", "the run has no final model", where=path,
                         got=f"a checkpoint at step {steps[-1]}" if steps else "no checkpoint",
                         fix=f"gogpt train --resume {path}")
    folder = Path(path)
    if is_adapter(folder):
        return folder
    return find_model(ModelConfig(path=path), weights=True)


def base_of(adapter: Path, base: str | None = None) -> Path:
    """The base model of an adapter: as asked for, else as adapter_config.json says. Raises GogptError MOD500."""
    if base is None:
        file = adapter / "adapter_config.json"
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            base = settings["base_model_name_or_path"]
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise GogptError("EXP704", f"the adapter's configuration cannot be read: {problem}", where=str(file),
                             fix="take the adapter from the run again") from problem
    if not isinstance(base, str) or not base:
        raise GogptError("MOD500", "the adapter does not name its base model", where=str(adapter), fix="name it with --base")
    return find_model(ModelConfig(path=base), weights=True)


def load_served(folder: Path, device: torch.device, *, base: str | None = None, dtype: str = "auto", attention: str | None = None) -> Any:
    """The model in ``folder``, with its adapter where it is one, on ``device``. ``attention``: as in a recipe's ``model.attention``, for
    computing what training computes; None leaves it to transformers. Raises GogptError MOD500, MOD506, EXP704, ENV111."""
    kind = ("bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32") if dtype == "auto" else dtype
    adapter = is_adapter(folder)
    plain_folder = base_of(folder, base) if adapter else folder
    asked = ModelConfig.model_validate({"path": str(plain_folder), "attention": attention or "auto"})
    plain: Any = load_base(asked, plain_folder, kind, quantisation_of_adapter(folder) if adapter else None)
    if attention is not None:
        attend_by_document(plain, attention, device)
    model: Any = load_adapter(plain, folder, plain_folder) if adapter else plain
    return model.to(device)


def load_speaker(path: str, *, template: str = "auto", base: str | None = None, dtype: str = "auto") -> Speaker:
    """Load a run, adapter or model for answering. Raises GogptError."""
    folder = resolve_served(path)
    tokenizer = Tokenizer(folder)
    chosen = pick_template(template, tokenizer)
    device = pick_device()
    model = load_served(folder, device, base=base, dtype=dtype)
    model.config.use_cache = True
    model.eval()
    return Speaker(model=model, tokenizer=tokenizer, template=chosen,
                   stop_ids=tuple(stop_token_ids(chosen, tokenizer)), device=device)


def prompt_ids(speaker: Speaker, messages: Sequence[Message]) -> list[int]:
    """Ids of the prompt for an answer after ``messages``. Raises GogptError TOK423."""
    try:
        rendering = speaker.template.generation(Conversation(messages=tuple(messages)))
    except RowError as problem:
        raise GogptError("TOK423", f"the template cannot render this conversation: {problem.detail}",
                         got=f"template {speaker.template.name}", fix="begin with a user's message; user and assistant in turn") from problem
    return encode_prompt(rendering, speaker.tokenizer)


class _Stream(BaseStreamer):  # type: ignore[misc]
    """Passes on the text of the tokens generated as soon as it is whole characters."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: Sequence[int], say: Callable[[str], None]) -> None:
        self._tokenizer, self._stop, self._say = tokenizer, set(stop_ids), say
        self._ids: list[int] = []
        self._said = ""
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        self._ids += [i for i in value.flatten().tolist() if i not in self._stop]
        text = self._tokenizer.decode(self._ids)
        if text.startswith(self._said) and not text.endswith("�"):
            self._say(text[len(self._said):])
            self._said = text

    def end(self) -> None:
        text = self._tokenizer.decode(self._ids)
        if text.startswith(self._said):
            self._say(text[len(self._said):])


def generate_ids(
    speaker: Speaker, prompts: Sequence[Sequence[int]], sampling: Sampling, *, say: Callable[[str], None] | None = None
) -> list[list[int]]:
    """New ids for each prompt, without the stop token. One batch, padded on the left."""
    longest = max(len(p) for p in prompts)
    pad = speaker.tokenizer.pad_id if speaker.tokenizer.pad_id is not None else (speaker.stop_ids or (0,))[0]
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt):] = torch.tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt):] = 1
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, do_sample=sampling.temperature > 0, pad_token_id=pad,
        eos_token_id=list(speaker.stop_ids) or None,
        **({"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampling.temperature > 0 else {}),
    )
    torch.manual_seed(sampling.seed)
    streamer = _Stream(speaker.tokenizer, speaker.stop_ids, say) if say else None
    with torch.no_grad():
        out = speaker.model.generate(input_ids=ids.to(speaker.device), attention_mask=mask.to(speaker.device),
                                     generation_config=config, streamer=streamer)
    answers = []
    for row in out[:, longest:].tolist():
        end = next((i for i, token in enumerate(row) if token in speaker.stop_ids), len(row))
        answers.append(row[:end])
    return answers


def answer(
    speaker: Speaker, conversations: Iterable[Sequence[Message]], sampling: Sampling, *, batch_size: int = 8
) -> Iterator[str]:
    """An answer for each conversation, in order. Prompts of like length share a batch."""
    prompts = [prompt_ids(speaker, messages) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, str] = {}
    for at in range(0, len(order), batch_size):
        chosen = order[at : at + batch_size]
        for i, ids in zip(chosen, generate_ids(speaker, [prompts[i] for i in chosen], sampling), strict=True):
            answers[i] = speaker.tokenizer.decode(ids)
    return (answers[i] for i in range(len(prompts)))
