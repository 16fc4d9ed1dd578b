"""Whether generation ends where the trained answers end: before training by force, after training freely."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from gogpt.errors import GogptError, RowError
from gogpt.facts import StopProof, TrainedStopProof
from gogpt.generate import Speaker, prompt_ids
from gogpt.model import save_generation_config
from gogpt.preflight import Preflight
from gogpt.probing import NotProven, Probe
from gogpt.records import IGNORE_INDEX, Conversation, Example
from gogpt.templates.documents import Documents
from gogpt.trainer import GogptTrainer

NUM_ANSWERS = 2
NUM_FORCED = 4
"""Last tokens of an answer that generate() is made to say."""
TOLD_BEFORE = ("TOK401", "TOK404", "TOK407")
"""Findings of the preflight that say already that the stop is not learned."""
MAX_NEW = 48
"""Tokens of a free generation after training: about 3 s for two of them at once with 135 million parameters on two cores."""
MAX_PARAMETERS = 2 * 10**9
"""Of a model on the CPU; above it the free generations are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A trained answer: the ids ``[start, end)`` of its example, the first that is trained there."""

    example: Example
    conversation: Conversation
    start: int
    end: int

    @property
    def prompt(self) -> list[int]:
        return [int(i) for i in self.example.input_ids[: self.start]]

    @property
    def said(self) -> list[int]:
        return [int(i) for i in self.example.input_ids[self.start : self.end]]


def generation(probe: Probe) -> StopProof:
    """For a few answers: inference's prompt is training's; the last trained token ends generation; generate() ends there."""
    before, tokenizer = probe.before, probe.before.tokenizer
    told = sorted({f.code for f in before.verdict.findings} & set(TOLD_BEFORE))
    if told:
        raise NotProven(f"{', '.join(told)} says already that the stop is not learned")
    answers = pick_answers(before, 2 * probe.limit)
    with tempfile.TemporaryDirectory(prefix="gogpt-") as folder:
        save_generation_config(tokenizer.generation_config, before.template, tokenizer, Path(folder))
        served = GenerationConfig.from_pretrained(folder)
    stops = stop_ids(served)
    speaker = Speaker(model=probe.model, tokenizer=tokenizer, template=before.template, stop_ids=stops, device=probe.trainer.args.device)
    compared = [(a, d) for a in answers if (d := _difference(speaker, a)) is not None]
    if not compared:
        raise NotProven("the template renders no prompt for the answers")
    answers, differences = tuple(a for a, _ in compared), [d for _, d in compared]
    ends = [a.said[-1] for a in answers]
    others = [e for e in ends if e not in stops]
    stopped = 0
    probe.model.eval()
    for answer in answers:
        stopped += forced(speaker, served, answer)
    return StopProof(
        answers=len(answers), prompts_equal=sum(not d for d in differences), difference=next((d for d in differences if d), ""),
        stops_trained=len(ends) - len(others), last_token=tokenizer.token(others[0]) or str(others[0]) if others else "",
        stopped=stopped, generation_stops=stops,
    )


def stop_ids(served: GenerationConfig) -> tuple[int, ...]:
    """The ids that end generation."""
    found = served.eos_token_id
    return tuple(found) if isinstance(found, list) else () if found is None else (int(found),)


def pick_answers(before: Preflight, limit: int) -> tuple[Answer, ...]:
    """First trained answers of examples of the sampled conversations: one short, one longer, each ending within ``limit`` tokens.

    Raises NotProven."""
    if isinstance(before.template, Documents) or before.config.data.train_on == "all":
        raise NotProven("there is no answer apart from its prompt")
    if before.config.data.overlong == "split":
        raise NotProven("conversations are split at turns: which prompt an example begins with is not known")
    examples, sampled, pattern = before.prepared.train, before.prepared.sampled, before.tokenizer.special_pattern
    numbers, lengths = examples.conversations.tolist(), examples.lengths
    known = sorted((i for i, number in enumerate(numbers) if number in sampled), key=lambda i: int(lengths[i]))
    found: list[Answer] = []
    for i in known:
        conversation = sampled[int(numbers[i])][0]
        spelled = any(pattern and pattern.search(m.content) for m in conversation.messages)
        if spelled or conversation.is_text or conversation.tools or int(lengths[i]) >= before.plan.max_length:
            continue
        example = examples[i]
        place = _first_answer(example)
        if place is not None and place[1] <= limit:
            found.append(Answer(example=example, conversation=conversation, start=place[0], end=place[1]))
    if not found:
        raise NotProven(f"no sampled conversation has an answer that ends within {limit} tokens")
    return tuple(found[i] for i in dict.fromkeys((0, len(found) // 2)))[:NUM_ANSWERS]


def _first_answer(example: Example) -> tuple[int, int] | None:
    """Start and end of the first trained stretch."""
    trained = np.nonzero(example.labels != IGNORE_INDEX)[0]
    if not trained.size or trained[0] == 0:
        return None
    start = int(trained[0])
    gaps = np.nonzero(np.diff(trained) > 1)[0]
    return start, int(trained[gaps[0]] if gaps.size else trained[-1]) + 1


def _difference(speaker: Speaker, answer: Answer) -> str | None:
    """Where inference's prompt differs from training's, or nothing; None where no prompt can be rendered (a conversation that the
    assistant begins). The trained answer may be any of the assistant's turns."""
    nearest: tuple[int, str | None] = (-1, None)
    messages = answer.conversation.messages
    for k in (k for k, m in enumerate(messages) if m.role == "assistant"):
        try:
            asked = prompt_ids(speaker, messages[:k])
        except (GogptError, RowError):
            continue
        if asked == answer.prompt:
            return ""
        same = next((i for i, (a, b) in enumerate(zip(asked, answer.prompt, strict=False)) if a != b), min(len(asked), len(answer.prompt)))
        if same > nearest[0]:
            nearest = (same, f"{answer.example.origin}: token {same} is {asked[same : same + 1] or 'none'} in generation, "
                       f"{answer.prompt[same : same + 1] or 'none'} in training")
    return nearest[1]


class _Say(LogitsProcessor):  # type: ignore[misc]
    """Makes generate() say the given ids, and then ``filler`` for ever."""

    def __init__(self, ids: Sequence[int], prompt: int, filler: int) -> None:
        self.ids, self.prompt, self.filler = list(ids), prompt, filler

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        at = int(input_ids.shape[1]) - self.prompt
        wanted = self.ids[at] if at < len(self.ids) else self.filler
        if bool(torch.isneginf(scores[:, wanted]).any()):
            return scores  # the generation config forbids it here: what comes out is then not the answer
        forced = torch.full_like(scores, float("-inf"))
        forced[:, wanted] = 0.0
        return forced


def forced(speaker: Speaker, served: GenerationConfig, answer: Answer) -> bool:
    """Whether generate(), made to say the end of the answer, ends exactly with it."""
    tail = answer.said[-NUM_FORCED:]
    begin = answer.prompt + answer.said[: len(answer.said) - len(tail)]
    stops = set(stop_ids(served))
    filler = next(i for i in [*begin, *range(len(stops) + 1)] if i not in stops)
    settings = served.to_dict()
    if settings.get("min_new_tokens"):  # it counts the whole answer, of which the end alone is said here
        settings["min_new_tokens"] = max(0, int(settings["min_new_tokens"]) - len(answer.said) + len(tail)) or None
    out = _generate(speaker, GenerationConfig.from_dict(settings), [begin], len(tail) + 3, [_Say(tail, len(begin), filler)])
    return out[0] == tail


def _generate(speaker: Speaker, served: GenerationConfig, prompts: Sequence[Sequence[int]], num_new: int, processors: Sequence[Any]) -> list[list[int]]:
    """New ids of each prompt with the generation config as it is served, but greedily and of at most ``num_new`` tokens: up to and with
    the stop."""
    longest = max(len(p) for p in prompts)
    stops = set(stop_ids(served))
    pad = served.pad_token_id if served.pad_token_id is not None else min(stops, default=0)
    ids = torch.full((len(prompts), longest), int(pad), dtype=torch.long, device=speaker.device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt):] = torch.tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt):] = 1
    config = GenerationConfig.from_dict(served.to_dict() | {
        "max_new_tokens": num_new, "max_length": None, "do_sample": False, "num_beams": 1, "use_cache": True, "pad_token_id": int(pad),
        "temperature": None, "top_p": None, "top_k": None})
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a min_new_tokens beyond what is asked for here
        out = speaker.model.generate(input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=LogitsProcessorList(processors))
    rows = out[:, longest:].tolist()
    ends = [next((i + 1 for i, token in enumerate(row) if token in stops), len(row)) for row in rows]
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


def trained_stop(trainer: GogptTrainer, before: Preflight, final: Path) -> TrainedStopProof:
    """After training: generate from a few training prompts with the files of ``final``, and compare with what the model thinks of
    the stop after the answers that it was trained on. Raises NotProven."""
    if before.plan.parameters > MAX_PARAMETERS and trainer.args.device.type == "cpu":
        raise NotProven(f"more than {MAX_PARAMETERS:,} parameters on the CPU")
    answers = pick_answers(before, 2 * before.plan.max_length)
    served = GenerationConfig.from_pretrained(final)
    stops = stop_ids(served)
    speaker = Speaker(model=trainer.model, tokenizer=before.tokenizer, template=before.template, stop_ids=stops, device=trainer.args.device)
    probabilities = []
    speaker.model.eval()
    for answer in answers:
        ids = torch.tensor([answer.prompt + answer.said[:-1]], device=speaker.device)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            logits = speaker.model(input_ids=ids, use_cache=False).logits[0, -1].float()
        probabilities.append(float(logits.softmax(-1)[answer.said[-1]]))
    room = max(8, min(MAX_NEW, 2 * max(len(a.said) for a in answers)))
    out = _generate(speaker, served, [a.prompt for a in answers], room, [])
    return TrainedStopProof(
        answers=len(answers), sure=sum(p >= 0.5 for p in probabilities), stopped=sum(row[-1] in stops for row in out),
        max_new_tokens=room, probability=sum(probabilities) / len(probabilities),
    )
