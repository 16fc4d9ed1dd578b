"""A data set by itself: the checks of data, and, with a model, those of tokens, as a preflight runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gogpt.checks import PREFLIGHT
from gogpt.config import RunConfig, parse_recipe
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations
from gogpt.errors import GogptError, RowError
from gogpt.facts import NUM_FIRST, DataFacts, Facts, Tally
from gogpt.findings import Check, Stage, Verdict, judge
from gogpt.modelfiles import Checkpoint, find_model
from gogpt.preflight import preflight
from gogpt.records import Conversation
from gogpt.templates import pick_template
from gogpt.yaml12 import dump_yaml

CHECKED: tuple[Check, ...] = tuple(c for c in PREFLIGHT if c.stage in (Stage.DATA, Stage.TOKENS) and c.code != "TOK404")
"""Of the preflight; padding (TOK404) is of the batches that a run makes."""
OF_DATA_ALONE = ("DAT311", "DAT312")
DEFAULT_LENGTH = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    facts: Facts
    verdict: Verdict


def check_data(path: str, *, template: str | None = None, model: str | None = None, assignments: Sequence[str] = (), allow: Iterable[str] = (),
               progress: Callable[[int], None] | None = None) -> DataCheck:
    """Raises GogptError as reading the data (DAT3xx), the template (TOK42x) and the model (MOD500) do."""
    if model is None:
        if assignments:
            raise GogptError("CFG204", "without a model there is nothing that a setting of a recipe would change", where="command line", got=assignments[0],
                             fix="add --model MODEL")
        facts = Facts(data=_count(path, template, progress))
        verdict = judge([c for c in CHECKED if c.code in OF_DATA_ALONE], facts)
        left = tuple((c.code, "without --model nothing is encoded") for c in CHECKED if c.code not in verdict.checked)
        return DataCheck(facts=facts, verdict=replace(verdict, not_checked=left, allowed=tuple(allow)))
    before = preflight(_recipe(path, template or "auto", model, assignments), progress=progress)
    verdict = judge(CHECKED, replace(before.facts, env=None, model=None), allow=allow)
    return DataCheck(facts=before.facts, verdict=verdict)


def _recipe(path: str, template: str, model: str, assignments: Sequence[str]) -> RunConfig:
    """One of defaults; max_length: as long as the model reads."""
    folder = find_model(RunConfig.model_validate({"model": model, "data": {"train": path}, "output": "run"}).model)
    longest = Checkpoint(folder).number("max_position_embeddings", "n_positions") or DEFAULT_LENGTH
    text = dump_yaml({"model": str(folder), "data": {"train": [{"path": path}], "template": template, "max_length": longest}, "output": "gogpt-check"})
    return parse_recipe(text, name="recipe", base=Path.cwd(), assignments=assignments)


def _count(path: str, template: str | None, progress: Callable[[int], None] | None) -> DataFacts:
    """Rows, drops by reason and exact repeats; with a template also what it cannot render."""
    ledger, form = Ledger(), pick_template(template) if template is not None else None
    source = RunConfig.model_validate({"model": "none", "data": {"train": path}, "output": "run"}).data.train[0]
    seen: dict[bytes, str] = {}
    repeats: list[str] = []
    for number, conversation in enumerate(read_conversations(source, ledger), 1):
        if progress and number % 1000 == 0:
            progress(ledger.rows_in)
        if form is not None:
            try:
                form.render(conversation)
            except RowError as problem:
                if conversation.origin is not None:
                    ledger.lose(problem.reason, conversation.origin, problem.detail)
                continue
        first = seen.setdefault(_key(conversation), str(conversation.origin))
        if first != str(conversation.origin):
            repeats.append(f"{conversation.origin} = {first}")
    if not ledger.rows_in:
        raise GogptError("DAT304", "the data holds no row", where=path)
    return DataFacts(
        rows_in=ledger.rows_in, conversations=ledger.conversations, examples=ledger.conversations, eval_examples=0, drops=dict(ledger.drops),
        first={k: tuple(v) for k, v in ledger.first.items()}, schemas=dict(ledger.schema), tokens=0, trained_tokens=0, longest=0, template=template or "",
        stop_ids=(), stop_texts=(), stop_is_token=True, bos_id=None, eos_id=None, pad_id=None, answers=0, answers_stopped=0,
        duplicates=Tally(count=len(repeats), first=tuple(repeats[:NUM_FIRST])))


def _key(conversation: Conversation) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for message in conversation.messages:
        digest.update(f"{message.role}\0{message.content}\0{message.tool_calls}\0".encode("utf-8", "surrogatepass"))
    return digest.digest()
