"""Whether the untrained model's loss on the user's answers is one that a healthy model has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gogpt.facts import LossProof
from gogpt.probing import NotProven, Probe
from gogpt.records import IGNORE_INDEX, Example, Origin, TokenArray

NUM_ANSWERS = 6
NUM_TOKENS = 48
"""Of an answer that are looked at."""
PASSES = 1.5
"""Tokens of all prompts and answers together, as a multiple of what one pass may have."""
_NOWHERE = Origin(path="proof", row=0)


def initial_loss(probe: Probe) -> LossProof:
    """Losses of the same answer tokens: as trained, without prompt and template, and in random order.

    The last trained token (the stop, which a base has not learned) and the first of each answer, which nothing predicts where it
    stands alone, are left out of all three. At step 0 an adapter changes nothing yet: this is the base's loss.
    """
    answers = _answers(probe)
    prefix = np.asarray(probe.before.tokenizer.bos_prefix, dtype=np.int32)
    draw = np.random.default_rng(0)
    said = [_said(example, span) for example, span in answers]
    prompts = [example.input_ids[: span[0]] for example, span in answers]
    kept = [_row(p, s) for p, s in zip(prompts, said, strict=True)]
    losses, entropy = _losses(probe, kept)
    alone, _ = _losses(probe, [_row(prefix, s) for s in said])
    shuffled, _ = _losses(probe, [_row(prefix, draw.permutation(s)) for s in said])
    head = probe.model.get_output_embeddings()
    size = int(head.weight.shape[0]) if head is not None else int(probe.model.config.vocab_size)
    return LossProof(answers=len(said), tokens=sum(s.size - 1 for s in said), vocab_size=size,
                     loss=losses, alone=alone, shuffled=shuffled, entropy=entropy)


def _answers(probe: Probe) -> list[tuple[Example, tuple[int, int]]]:
    """Examples with their first trained stretch of at least 4 tokens, spread over the lengths that fit.

    Raises NotProven."""
    examples = probe.before.prepared.train
    lengths = examples.lengths
    room = int(max(PASSES * probe.limit / NUM_ANSWERS, min(64, PASSES * probe.limit / 2)))
    order = np.argsort(lengths, kind="stable")
    fit = order[lengths[order] <= room]
    if not fit.size and probe.before.config.stage == "pretrain":
        fit = order[:NUM_ANSWERS]  # documents are as good from any place
    if not fit.size:
        raise NotProven(f"no example has at most {room} tokens")
    chosen = dict.fromkeys(int(fit[round(i * (fit.size - 1) / max(1, 4 * NUM_ANSWERS - 1))]) for i in range(4 * NUM_ANSWERS))
    found: list[tuple[Example, tuple[int, int]]] = []
    tokens = 0
    for i in sorted(chosen, key=lambda i: -int(lengths[i])):
        example = examples[i]
        if example.num_tokens > room:
            example = replace(example, input_ids=example.input_ids[:room], labels=example.labels[:room])
        span = _first_span(example)
        if span is not None and tokens + span[1] <= PASSES * probe.limit and len(found) < NUM_ANSWERS:
            found.append((example, span))
            tokens += span[1]
    if not found:
        raise NotProven("no answer has 5 tokens")
    return found


def _first_span(example: Example) -> tuple[int, int] | None:
    """The first trained stretch, without its last token and of at most NUM_TOKENS: start and end."""
    trained = np.concatenate([[False], example.labels != IGNORE_INDEX, [False]]).astype(np.int8)
    edges = np.diff(trained)
    for start, end in zip(np.nonzero(edges == 1)[0], np.nonzero(edges == -1)[0], strict=True):
        if end - start >= 5:
            return int(start), int(min(end - 1, start + NUM_TOKENS))
    return None


def _said(example: Example, span: tuple[int, int]) -> TokenArray:
    return example.input_ids[span[0] : span[1]]


def _row(prompt: TokenArray, said: TokenArray) -> Example:
    """The prompt, and the answer of which all but the first token count."""
    ids = np.concatenate([prompt, said]).astype(np.int32)
    labels = ids.copy()
    labels[: prompt.size + 1] = IGNORE_INDEX
    return Example(input_ids=ids, labels=labels, origin=_NOWHERE)


def _losses(probe: Probe, rows: Sequence[Example]) -> tuple[float, float]:
    """Mean loss of the rows' labels, and the mean entropy of the predictions at them."""
    logits = probe.logits([[row] for row in rows])
    losses, entropies = [], []
    for row, said in zip(rows, logits, strict=True):
        at = torch.from_numpy(np.nonzero(row.labels != IGNORE_INDEX)[0])
        wanted = torch.from_numpy(row.labels.astype(np.int64))[at].to(said.device)
        logs = said[at - 1].log_softmax(-1)
        losses.append(-logs.gather(1, wanted[:, None])[:, 0])
        entropies.append(-(logs.exp() * logs.clamp(min=-1e4)).sum(-1))
    return float(torch.cat(losses).double().mean()), float(torch.cat(entropies).double().mean())
