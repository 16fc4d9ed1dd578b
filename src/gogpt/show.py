"""One row at every stage: the document of ``gogpt show`` and of ``samples.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from gogpt.config import DataConfig, SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations
from gogpt.data.store import ExampleSet
from gogpt.errors import GogptError, RowError
from gogpt.records import Conversation, Example, Origin
from gogpt.runfolder import write_text
from gogpt.templates import Template
from gogpt.tokenize import Tokenizer, encode


def show_documents(
    conversation: Conversation, schema: str, config: DataConfig, tokenizer: Tokenizer | None, template: Template
) -> list[dict[str, Any]]:
    """The row's documents: one, or one per answer where the template rewrites history or tokens would straddle.

    Raises GogptError TOK423 where the template cannot render it.
    """
    origin = conversation.origin or Origin(path="-", row=1)
    head: dict[str, Any] = {
        "origin": {"path": origin.path, "row": origin.row}, "schema": schema,
        "messages": [m.to_dict() for m in conversation.messages],
        **({"tools": [dict(t) for t in conversation.tools]} if conversation.tools else {}),
        "template": template.name,
    }
    try:
        renderings = template.render(conversation, config.train_on)
    except RowError as problem:
        raise GogptError("TOK423", f"the template cannot render this conversation: {problem.detail}", where=str(origin),
                         got=f"template {template.name}", fix="pick a template with that form, or clean the row") from problem
    out = []
    for rendering in renderings:
        document = {**head, "segments": [{"text": s.text, "train": s.train} for s in rendering.segments]}
        if tokenizer is None:
            out.append(document)
            continue
        out += [
            {**document, "input_ids": e.input_ids.tolist(), "labels": e.labels.tolist(),
             "tokens": [tokenizer.token(i) for i in e.input_ids], "pieces": tokenizer.pieces(e.input_ids)}
            for e in encode(rendering, tokenizer)
        ]
    return out


def find_conversation(source: SourceConfig, row: int) -> tuple[Conversation, str]:
    """The conversation in a file's row, and the schema that read it.

    Raises GogptError DAT309 where there is no such row, or it cannot be used (with the reason).
    """
    ledger = Ledger()
    last = 0
    for conversation in read_conversations(source, ledger):
        if conversation.origin and conversation.origin.row == row:
            return conversation, ledger.schema[conversation.origin.path]
        last = max(last, conversation.origin.row if conversation.origin else 0)
    for reject in ledger.rejects:
        if reject["origin"]["row"] == row:
            raise GogptError("DAT309", f"the row cannot be used: {reject['reason']}: {reject['detail']}",
                             where=f"{reject['origin']['path']}:{row}", fix="a run counts it in its ledger and leaves it out")
    raise GogptError("DAT309", "there is no such row", where=f"{source.path}:{row}",
                     got=f"row {row}", expected=f"1 to {max([last, *(r['origin']['row'] for r in ledger.rejects)])}", fix="the first row is 1")


def painted_sample(
    example: Example, tokenizer: Tokenizer, template: str, conversation: Conversation, schema: str
) -> dict[str, Any]:
    """A training example as a document of ``gogpt show``: what was really trained, decoded from its ids."""
    ids, labels = example.input_ids, example.labels
    segments: list[dict[str, Any]] = []
    start = 0
    trained = labels != -100
    for i in range(1, ids.size + 1):
        if i == ids.size or trained[i] != trained[start]:
            segments.append({"text": tokenizer.decode(ids[start:i]), "train": bool(trained[start])})
            start = i
    return {
        "origin": {"path": example.origin.path, "row": example.origin.row}, "schema": schema,
        "messages": [m.to_dict() for m in conversation.messages], **({"tools": [dict(t) for t in conversation.tools]} if conversation.tools else {}),
        "template": template, "segments": segments,
        "input_ids": ids.tolist(), "labels": labels.tolist(), "tokens": [tokenizer.token(i) for i in ids],
        "pieces": tokenizer.pieces(ids),
    }


def pick_samples(examples: ExampleSet, numbers: Container[int], count: int = 10) -> list[int]:
    """Indices of examples of the conversations in ``numbers``, spread evenly over their lengths, from the shortest to
    the longest."""
    lengths = examples.lengths
    known = sorted((i for i, number in enumerate(examples.conversations.tolist()) if number in numbers), key=lambda i: int(lengths[i]))
    if not known:
        return []
    spread = [known[round(i * (len(known) - 1) / max(1, count - 1))] for i in range(count)]
    return sorted(dict.fromkeys(spread))


def write_samples(path: Path, examples: ExampleSet, sampled: Mapping[int, tuple[Conversation, str]], tokenizer: Tokenizer, template: str) -> None:
    """The painted samples of a set, one a line. Raises GogptError ENV110."""
    numbers = examples.conversations
    samples = [painted_sample(examples[i], tokenizer, template, *sampled[int(numbers[i])]) for i in pick_samples(examples, sampled)]
    write_text(path, "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in samples))
