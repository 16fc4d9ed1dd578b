"""What a set of data holds, before any compute is spent on it: schema, counts, lengths, languages, and what looks odd.

Everything is counted over the conversations that a run would train on (``read_conversations``), in one pass.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gogpt.config import CleanConfig, SourceConfig
from gogpt.data.clean import Cleaner
from gogpt.data.evidence import evidence_for
from gogpt.data.examples import content_key
from gogpt.data.inspection import (
    MAX_LENGTHS,
    FileInspection,
    Inspection,
    Languages,
    Notice,
    Over,
    SystemMessages,
    Tokens,
    Tools,
    histogram,
    spread,
)
from gogpt.data.languages import UNKNOWN, make_identifier, prose, script_of
from gogpt.data.ledger import Ledger
from gogpt.data.oddities import NOTICES, notices_in
from gogpt.data.read import read_conversations
from gogpt.data.schemas import NUM_SAMPLE, schema_named
from gogpt.data.sources import HubSource, display_path, find_files, is_hub_id, read_hub, read_rows
from gogpt.errors import GogptError, RowError
from gogpt.facts import NUM_FIRST
from gogpt.records import IGNORE_INDEX, ROLES, Conversation, Origin
from gogpt.templates import Template
from gogpt.tokenize import Tokenizer, encode

NUM_SAMPLES = 6
"""Conversations kept to be shown."""
NUM_SPELLED = 12
"""Spellings kept of one kind of oddity, the most frequent ones."""


def sample_rows(source: SourceConfig) -> list[Mapping[str, Any]]:
    """The readable rows among the first of one file or hub data set."""
    rows = (read_hub(HubSource(id=source.path, split=source.split, subset=source.subset, revision=source.revision))
            if is_hub_id(source.path) else read_rows(find_files(source.path)[0]))
    head = itertools.islice(rows, min(NUM_SAMPLE, source.limit or NUM_SAMPLE))
    return [row for row, _ in head if not isinstance(row, RowError)]


# -- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How lengths in tokens are taken."""

    model: str
    tokenizer: Tokenizer
    template: Template
    train_on: str = "assistant"

    def __call__(self, conversation: Conversation) -> list[tuple[int, int]]:
        """(tokens, trained tokens) of each training sequence. Raises RowError where the template cannot render it."""
        return [(int(e.input_ids.size), int((e.labels != IGNORE_INDEX).sum()))
                for rendering in self.template.render(conversation, self.train_on) for e in encode(rendering, self.tokenizer)]


class Found:
    """A Notice in the making."""

    __slots__ = ("count", "first", "spelled")

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []
        self.spelled: Counter[str] = Counter()

    def add(self, place: object, spelled: Iterable[str] = ()) -> None:
        """One more conversation, and what was found in it."""
        self.count += 1
        if len(self.first) < NUM_FIRST:
            self.first.append(str(place))
        self.spelled.update(spelled)


class Inspector:
    """Counts conversations as they are read."""

    def __init__(self, measure: Measure | None = None, seed: int = 0) -> None:
        self.measure = measure
        self.identifier = make_identifier()
        self.cleaner = Cleaner(CleanConfig(identities="report", refusals="report"))
        self.count = self.texts = self.turns = self.multi_turn = 0
        self.messages: Counter[str] = Counter()
        self.system: Counter[str] = Counter()
        self.with_tools = 0
        self.calls: Counter[str] = Counter()
        self.lengths: dict[str, list[int]] = {}
        self.tokens: list[int] = []
        self.trained = self.total = self.sequences = 0
        self.languages: Counter[str] = Counter()
        self.found: dict[str, Found] = {name: Found() for name in NOTICES}
        self._seen: dict[int, Origin | None] = {}
        self._prompts: dict[int, int] = {}
        self._prompt_texts: dict[int, str] = {}
        self._samples: list[Conversation] = []
        self._random = random.Random(seed)

    def add(self, conversation: Conversation) -> None:
        self.count += 1
        self._keep_sample(conversation)
        size = 0
        users = 0
        for message in conversation.messages:
            length = len(message.content) + len(message.reasoning or "")
            self.messages[message.role] += 1
            self.lengths.setdefault(message.role, []).append(length)
            size += length
            users += message.role == "user"
            for call in message.tool_calls:
                function = call.get("function", call)
                self.calls[str(function.get("name")) if isinstance(function, Mapping) else "?"] += 1
        self.lengths.setdefault("conversation", []).append(size)
        self.texts += conversation.is_text
        self.turns += users
        self.multi_turn += users > 1
        self.with_tools += bool(conversation.tools)
        if conversation.messages and conversation.messages[0].role == "system":
            self.system[conversation.messages[0].content] += 1
        self._language(conversation)
        self._repeats(conversation)
        for name, spelled in notices_in(conversation):
            self.found[name].add(conversation.origin, spelled)
        for name, said in self.cleaner.judge(conversation).reports:
            self.found[name].add(conversation.origin, [said])
        if self.measure is not None:
            self._tokens(conversation, self.measure)

    def _keep_sample(self, conversation: Conversation) -> None:
        """The first, and others drawn evenly (algorithm R)."""
        if len(self._samples) < NUM_SAMPLES:
            self._samples.append(conversation)
        elif (i := self._random.randrange(self.count - 1)) < NUM_SAMPLES - 1:
            self._samples[i + 1] = conversation

    def _language(self, conversation: Conversation) -> None:
        by_role = {role: "\n".join(m.content for m in conversation.messages if m.role in roles)
                   for role, roles in (("user", ("user", "text")), ("assistant", ("assistant",)))}
        self.languages[self.identifier.name("\n".join(by_role.values()))] += 1
        scripts = [script_of(text) for text in map(prose, by_role.values()) if text.strip()]
        if len(scripts) == 2 and UNKNOWN not in scripts and scripts[0] != scripts[1]:
            self.found["other_script"].add(conversation.origin, [f"{scripts[0]} -> {scripts[1]}"])

    def _repeats(self, conversation: Conversation) -> None:
        key = content_key(conversation)
        if key in self._seen:
            self.found["duplicates"].add(f"{conversation.origin} = {self._seen[key]}")
        else:
            self._seen[key] = conversation.origin
        prompt = next((m.content.strip() for m in conversation.messages if m.role == "user"), None)
        if prompt is None:
            return
        number = hash(prompt)  # equal within this process, which is all that is asked of it
        self._prompts[number] = self._prompts.get(number, 0) + 1
        if self._prompts[number] > 1:
            self.found["repeated_prompts"].add(conversation.origin)
            self._prompt_texts[number] = prompt

    def _tokens(self, conversation: Conversation, measure: Measure) -> None:
        try:
            sizes = measure(conversation)
        except RowError as problem:
            self.found["not_rendered"].add(conversation.origin, [problem.reason])
            return
        self.tokens.append(max((size for size, _ in sizes), default=0))
        self.sequences += len(sizes)
        self.total += sum(size for size, _ in sizes)
        self.trained += sum(trained for _, trained in sizes)

    # -- results -----------------------------------------------------------------------------------

    def notices(self) -> tuple[Notice, ...]:
        """What was found, in the order of NOTICES."""
        repeated = self.found["repeated_prompts"]
        repeated.spelled = Counter({self._prompt_texts[n]: self._prompts[n] for n in self._prompt_texts})
        return tuple(Notice(name=name, count=f.count, share=f.count / self.count, first=tuple(f.first), spelled=dict(f.spelled.most_common(NUM_SPELLED)))
                     for name, f in self.found.items() if f.count)

    def token_lengths(self) -> Tokens | None:
        if self.measure is None:
            return None
        over = [(limit, sum(n > limit for n in self.tokens)) for limit in MAX_LENGTHS]
        return Tokens(
            model=self.measure.model, template=self.measure.template.name, total=self.total, trained=self.trained, sequences=self.sequences,
            lengths=spread(self.tokens), histogram=histogram(self.tokens),
            over=tuple(Over(max_length=limit, count=n, share=n / len(self.tokens) if self.tokens else 0.0) for limit, n in over),
        )

    def samples(self) -> tuple[Mapping[str, Any], ...]:
        return tuple({"origin": {"path": c.origin.path, "row": c.origin.row} if c.origin else None,
                      "messages": [m.to_dict() for m in c.messages], **({"tools": [dict(t) for t in c.tools]} if c.tools else {})}
                     for c in self._samples)


def inspect(path: str, *, schema: str = "auto", limit: int | None = None, measure: Measure | None = None,
            progress: Callable[[int], None] | None = None) -> Inspection:
    """Read everything at ``path`` (file, folder, glob or hub id) once and count it. ``limit``: rows of each file.

    A file that cannot be read does not hide the others; where none can be read, the first one's error is raised.
    Raises GogptError DAT3xx.
    """
    whole = Ledger()
    inspector = Inspector(measure)
    files: list[FileInspection] = []
    problems: list[GogptError] = []
    paths = [path] if is_hub_id(path) else [str(file) for file in find_files(path)]
    for one in paths:
        source = SourceConfig.model_validate({"path": one, "schema": schema, "limit": limit})
        ledger = Ledger()
        try:
            for conversation in read_conversations(source, ledger):
                inspector.add(conversation)
                if progress and inspector.count % 64 == 0:
                    progress(whole.rows_in + ledger.rows_in)
            files.append(_file(source, ledger))
        except GogptError as problem:
            problems.append(problem)
            error = {"code": problem.code, "message": problem.message, "where": problem.where, "got": problem.got, "fix": problem.fix}
            files.append(dataclasses.replace(_counts(source, ledger), error=error))
        _merge(whole, ledger)
    if len(problems) == len(files):
        raise problems[0]
    if progress:
        progress(whole.rows_in)
    assert whole.conserves, whole.to_dict()
    assert whole.conversations == inspector.count, whole.to_dict()
    return _inspection(path, tuple(files), whole, inspector)


def _file(source: SourceConfig, ledger: Ledger) -> FileInspection:
    name = next(iter(ledger.schema.values()))
    return dataclasses.replace(_counts(source, ledger), schema=name, evidence=evidence_for(schema_named(name), sample_rows(source), named=source.schema_ != "auto"))


def _counts(source: SourceConfig, ledger: Ledger) -> FileInspection:
    shown = next(iter(ledger.schema), source.path if is_hub_id(source.path) else display_path(source.path))
    return FileInspection(path=shown, schema=ledger.schema.get(shown), rows=ledger.rows_in, conversations=ledger.conversations,
                          dropped=sum(ledger.drops.values()))


def _merge(whole: Ledger, part: Ledger) -> None:
    whole.rows_in += part.rows_in
    whole.conversations += part.conversations
    whole.drops.update(part.drops)
    whole.schema.update(part.schema)
    for reason, places in part.first.items():
        kept = whole.first.setdefault(reason, [])
        kept += places[: NUM_FIRST - len(kept)]
    for what, count in part.notes.items():
        whole.note(what, count)


def _inspection(path: str, files: tuple[FileInspection, ...], ledger: Ledger, seen: Inspector) -> Inspection:
    roles = [*ROLES, *(role for role in seen.messages if role not in ROLES)]
    characters = {kind: s for kind in ("conversation", *roles) if (s := spread(seen.lengths.get(kind, ()))) is not None}
    return Inspection(
        object={"path": path, "kind": "data"}, files=files, rows_in=ledger.rows_in, conversations=ledger.conversations,
        drops=dict(ledger.drops.most_common()), first=ledger.first, notes=ledger.notes, texts=seen.texts, turns=seen.turns,
        multi_turn=seen.multi_turn, messages={role: seen.messages[role] for role in roles if seen.messages[role]},
        system=SystemMessages(conversations=seen.system.total(), distinct=len(seen.system), most_frequent=tuple(seen.system.most_common(3))),
        tools=Tools(conversations=seen.with_tools, calls=seen.calls.total(), results=seen.messages["tool"],
                    names=dict(seen.calls.most_common(NUM_SPELLED))),
        characters=characters, histogram=histogram(seen.lengths.get("conversation", ())), tokens=seen.token_lengths(),
        languages=Languages(method=seen.identifier.method, counts=dict(seen.languages.most_common())),
        notices=seen.notices(), samples=seen.samples(),
    )
