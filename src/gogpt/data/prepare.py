"""Sources -> the training and the evaluation set of a run, on disk or in memory, with their ledger and facts.

A set is made block by block (``pool``), and then decided as a whole: duplicates, the held-out part, leaks, the mix
(``select``). On disk it lies in a folder named by its fingerprint, under a name of its own until it is complete, so that
what has the name is whole and not stale; a process that was killed goes on at the last block.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gogpt.config import DataConfig
from gogpt.data.examples import Counts, Preparer
from gogpt.data.fingerprint import fingerprint, parts
from gogpt.data.ledger import Ledger
from gogpt.data.mix import check_mix
from gogpt.data.pool import WORTH_PROCESSES, Done, Pool, num_workers
from gogpt.data.select import Selection, Selector
from gogpt.data.store import ExampleSet, read_block
from gogpt.data.stretches import Inputs, find_inputs, stretches
from gogpt.data.work import NUM_SAMPLED, Stretch
from gogpt.errors import GogptError
from gogpt.facts import DataFacts, Tally
from gogpt.records import Conversation, Message, Origin
from gogpt.runfolder import disk_error, read_json, write_json
from gogpt.templates import Template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize.engines import EngineDiffers, distrust, pick_engine

GOES_ON = ("ENV111", "ENV114", "ENV116", "ENV117")
"""Errors after which the same command goes on where it stopped."""
NUM_AGAIN = 10
"""Conversations of a set on the disk that are encoded again when it is used."""
FORM = 1
"""Version of what lies in a set's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The examples of a run, its ledger, and the facts that the checks judge.

    ``folder``: where they lie, None in memory; ``made``: whether this call made them; ``told``: what the user should know of
    how; ``mix``: rows of the table of what each source contributes.
    """

    train: ExampleSet
    eval: ExampleSet
    ledger: Ledger
    facts: DataFacts
    sampled: dict[int, tuple[Conversation, str]]
    """a fixed random sample of the conversations kept, by their number, with their schema"""
    folder: Path | None = None
    made: bool = True
    seconds: float = 0.0
    engine: str = ""
    told: tuple[str, ...] = ()
    mix: tuple[dict[str, Any], ...] = ()
    held: Ledger | None = None
    """of a head: what was read for the evaluation set alone"""

    def rejects(self) -> Iterator[dict[str, Any]]:
        """What was dropped, with its reason, in the order of reading."""
        if self.folder is None:
            yield from self.ledger.rejects
            return
        with (self.folder / "rejects.jsonl").open(encoding="utf-8", errors="surrogatepass") as file:
            for line in file:
                yield json.loads(line)


@dataclass(slots=True)
class _Gathered:
    """All blocks of a set, joined."""

    done: list[Done] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    ledger: Ledger = field(default_factory=Ledger)
    sampled: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    reports: dict[str, list[Any]] = field(default_factory=dict)
    numbered: int = 0
    kept: list[int] = field(default_factory=list)
    """conversations kept in each block"""

    def add(self, done: Done) -> None:
        document = done.document
        self.done.append(replace(done, document={"ledger": document["ledger"]}))  # of a thousand blocks the samples are not kept
        self.numbers.append(self.numbered)
        self.kept.append(document["ledger"]["conversations"])
        self.counts.join(Counts.from_dict(document["counts"]))
        self.ledger.join(**document["ledger"])
        self.sampled += [(rank, number + self.numbered, shown) for rank, number, shown in document["sampled"]]
        self.sampled = sorted(self.sampled, key=lambda s: s[:2])[:NUM_SAMPLED]
        for reason, (count, first) in document["reports"].items():
            known = self.reports.setdefault(reason, [0, []])
            known[0] += count
            known[1] = (known[1] + first)[:3]
        self.numbered += document["numbered"]


def prepare(
    config: DataConfig, tokenizer: Tokenizer, template: Template, *, seed: int = 0,
    progress: Callable[[int], None] | None = None, folder: Path | None = None, keep: bool = True, ray: bool = False,
) -> Prepared:
    """Read, convert, clean, encode, split and mix all sources of a recipe. ``ray``: on the workers of a Ray cluster; the set is the same.

    ``folder``: of prepared sets. One that is complete and not stale is taken from it; else one is made there, or, without
    ``keep``, elsewhere for as long as this process needs it.
    ``progress`` is told the number of rows read.

    Raises GogptError DAT3xx (sources), DAT308 (nothing left), TOK409 (overlong: error), ENV110 (the disk), ENV111, ENV114, ENV116, ENV117 (Ray).
    """
    if folder is not None:
        import pyarrow as pa  # before processes are forked from this one, each of which would import it

        assert pa
    began = time.perf_counter()
    evaluation = config.eval if isinstance(config.eval, tuple) else ()
    sources = (*config.train, *evaluation)
    check_mix(config.mix, config.train, evaluation)
    inputs = find_inputs(sources)
    if folder is None:
        return _prepare_in(None, config, tokenizer, template, seed, inputs, progress, began, {}, ray)
    made_of = parts(config, inputs, tokenizer, template, seed)
    final = folder / fingerprint(made_of)
    if (final / "set.json").exists():
        found = _load(final, began)
        check_again(found, config, tokenizer, template)
        return found
    if not keep:
        return _prepare_in(None, config, tokenizer, template, seed, inputs, progress, began, made_of, ray)
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder / f".{final.name}.lock")):
            if (final / "set.json").exists():  # another process has made it meanwhile
                return _load(final, began)
            partial = final.with_name(final.name + ".partial")
            partial.mkdir(exist_ok=True)
            try:
                made = _prepare_in(partial, config, tokenizer, template, seed, inputs, progress, began, made_of, ray)
            except (GogptError, OSError) as problem:
                if not (isinstance(problem, GogptError) and problem.code in GOES_ON):
                    shutil.rmtree(partial, ignore_errors=True)
                raise
            os.replace(partial, final)
    except OSError as problem:
        raise disk_error(problem, folder) from problem
    finally:
        (folder / f".{final.name}.lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing came of it
    # What is mapped stays valid under the folder's new name.
    return replace(made, folder=final, seconds=time.perf_counter() - began)


def _prepare_in(
    folder: Path | None, config: DataConfig, tokenizer: Tokenizer, template: Template, seed: int, inputs: Inputs,
    progress: Callable[[int], None] | None, began: float, made_of: dict[str, str], ray: bool,
) -> Prepared:
    engine, told = pick_engine(tokenizer, inputs.num_bytes)
    processes = (config.workers or 0) if ray else num_workers(config.workers) if inputs.num_bytes >= WORTH_PROCESSES else 1
    scratch = None
    if folder is None and (processes > 1 or ray):  # not to be kept, and too much for the memory
        scratch = Path(tempfile.mkdtemp(prefix="gogpt-"))
    place = folder or scratch
    pool = Pool(config=config, tokenizer=tokenizer, template=template, engine=engine, seed=seed, processes=processes, folder=place, ray=ray,
                note=told.append)
    try:
        try:
            found = _gather(pool, inputs, progress)
        except EngineDiffers as problem:
            distrust(tokenizer, problem)
            told.append(f"{problem.library} gave other ids than {tokenizer.backend.library} for a text of this data; all was encoded again with the latter")
            engine = tokenizer.backend.library
            if place is not None:
                shutil.rmtree(place)
                place.mkdir()
            inputs = find_inputs(inputs.sources)
            found = _gather(replace(pool, engine=engine), inputs, progress)
        prepared = _decide(found, config, tokenizer, template, seed, inputs, place, made_of,
                           seconds=time.perf_counter() - began, engine=engine, told=tuple(told))
    except BaseException:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    if scratch is not None:
        weakref.finalize(prepared.train, shutil.rmtree, scratch, ignore_errors=True)
    return prepared


def prepare_head(config: DataConfig, tokenizer: Tokenizer, template: Template, inputs: Inputs, some: Iterator[Stretch], *, seed: int,
                 progress: Callable[[int], None] | None = None) -> Prepared:
    """A set of ``some`` stretches of the sources of ``inputs`` (those of training, then those of evaluation), in memory: what a stream is
    judged on. Each counts once, whatever its weight.

    Raises GogptError as ``prepare`` does.
    """
    began = time.perf_counter()
    config = config.model_copy(update={"train": tuple(s.model_copy(update={"weight": 1.0}) for s in config.train)})
    pool = Pool(config=config, tokenizer=tokenizer, template=template, engine=tokenizer.backend.library, seed=seed, processes=1, folder=None)
    found = _Gathered()
    for done in pool.run(some):
        found.add(done)
        if progress:
            progress(found.ledger.rows_in)
    _tell(found.ledger, inputs)
    held = _held(found, config, inputs)
    prepared = _decide(found, config, tokenizer, template, seed, inputs, None, {}, seconds=time.perf_counter() - began, engine=pool.engine, told=())
    held.examples = {"eval": len(prepared.eval)} if config.eval else {}
    facts = replace(prepared.facts, sampled_only=prepared.facts.rows_in - held.rows_in)
    return replace(prepared, facts=facts, held=held)


def _held(found: _Gathered, config: DataConfig, inputs: Inputs) -> Ledger:
    """The ledger of the evaluation sources alone."""
    ledger = Ledger(schema={f.shown: inputs.schemas[f.shown] for f in inputs.files if f.source >= len(config.train)})
    for done in found.done:
        if done.source >= len(config.train):
            ledger.join(**done.document["ledger"])
            ledger.rejects += done.rejects  # type: ignore[arg-type]
    ledger.kept = {"eval": ledger.conversations} if config.eval else {}
    return ledger


def _gather(pool: Pool, inputs: Inputs, progress: Callable[[int], None] | None) -> _Gathered:
    found = _Gathered()
    for done in pool.run(stretches(inputs)):
        found.add(done)
        if progress:
            progress(found.ledger.rows_in)
    _tell(found.ledger, inputs)
    return found


def _tell(ledger: Ledger, inputs: Inputs) -> None:
    """What is known of the files once they are read."""
    ledger.schema = dict(inputs.schemas)
    for what, count in inputs.notes.items():
        ledger.note(what, count)


def _decide(found: _Gathered, config: DataConfig, tokenizer: Tokenizer, template: Template, seed: int, inputs: Inputs, place: Path | None,
            made_of: dict[str, str], *, seconds: float, engine: str, told: tuple[str, ...]) -> Prepared:
    ledger = found.ledger
    everything = ExampleSet([d.block for d in found.done], [f.shown for f in inputs.files], numbers=found.numbers)
    if not len(everything) or not any(len(d.block) for d in found.done if d.source < len(config.train)):
        _nothing_left(ledger)
    chosen = Selector(everything, found.done, found.kept, config, seed, ledger).select()
    if not chosen.train.size:
        _nothing_left(ledger)
    train, evaluation = everything.select(chosen.train), everything.select(chosen.eval)
    ledger.examples = {"train": len(train), "eval": len(evaluation)}
    assert ledger.conserves, ledger.to_dict()
    facts = _facts(train, evaluation, ledger, found, chosen, tokenizer, template)
    if place is not None:
        _write(place, found, chosen, facts, ledger, inputs, made_of)
    else:
        ledger.rejects = [r for d in found.done for r in d.rejects] + ledger.rejects  # type: ignore[union-attr]
    return Prepared(train=train, eval=evaluation, ledger=ledger, facts=facts, sampled=_sampled(found.sampled), folder=place, seconds=seconds,
                    engine=engine, told=told, mix=chosen.mix)


def _sampled(some: list[Any]) -> dict[int, tuple[Conversation, str]]:
    return {int(number): (_conversation(shown), str(shown["schema"])) for _, number, shown in sorted(some, key=lambda s: s[1])}


def _conversation(shown: dict[str, Any]) -> Conversation:
    messages = tuple(_message(m) for m in shown["messages"])
    return Conversation(messages=messages, tools=tuple(shown["tools"]), origin=Origin(path=shown["path"], row=shown["row"]))


def _message(said: dict[str, Any]) -> Message:
    """What ``Message.to_dict`` wrote."""
    return Message(role=said["role"], content=said["content"], input=said.get("input"), reasoning=said.get("reasoning_content"),
                   tool_calls=tuple(said.get("tool_calls", ())), tool_call_id=said.get("tool_call_id"), name=said.get("name"), train=said.get("train"))


# -- the folder of a set ---------------------------------------------------------------------------


def _write(place: Path, found: _Gathered, chosen: Selection, facts: DataFacts, ledger: Ledger, inputs: Inputs, made_of: dict[str, str]) -> None:
    with (place / "rejects.jsonl").open("wb") as out:
        for done in found.done:
            if isinstance(done.rejects, Path) and done.rejects.exists():
                with done.rejects.open("rb") as part:
                    shutil.copyfileobj(part, out)
        for reject in ledger.rejects:
            out.write(json.dumps(reject, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n")
    np.save(place / "train.npy", chosen.train)
    np.save(place / "eval.npy", chosen.eval)
    write_json(place / "ledger.json", ledger.to_dict())
    write_json(place / "set.json", {
        "form": FORM, "made_of": made_of, "files": [f.shown for f in inputs.files], "num_blocks": len(found.done), "numbers": found.numbers,
        "sampled": found.sampled, "facts": facts, "mix": list(chosen.mix),
    })
    for done in found.done:
        for suffix in ("json", "rejects.jsonl", "signatures.npy"):
            (place / f"block-{done.number:05}.{suffix}").unlink(missing_ok=True)
    for left in place.glob("*.tmp"):  # of a process that was killed
        left.unlink()


def _load(folder: Path, began: float) -> Prepared:
    """The set in ``folder``, memory-mapped. Raises GogptError DAT313 where it is damaged."""
    from gogpt.facts import from_json

    try:
        document = read_json(folder / "set.json")
        blocks = [read_block(folder / f"block-{i:05}.arrow") for i in range(document["num_blocks"])]
        ledger = Ledger(**_ledger(read_json(folder / "ledger.json")))
        everything = ExampleSet(blocks, document["files"], numbers=document["numbers"])
        train, evaluation = (everything.select(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("train", "eval"))
        facts = from_json(DataFacts, document["facts"])
    except Exception as problem:
        raise GogptError("DAT313", f"the prepared set cannot be read: {problem}", where=str(folder), fix="remove the folder: it is made again") from problem
    return Prepared(train=train, eval=evaluation, ledger=ledger, facts=facts, sampled=_sampled(document["sampled"]), folder=folder, made=False,
                    seconds=time.perf_counter() - began, mix=tuple(document["mix"]))


def check_again(found: Prepared, config: DataConfig, tokenizer: Tokenizer, template: Template) -> None:
    """Encode a few conversations of a set that is taken from the disk again, and hold the ids and labels against those that lie there: a fingerprint
    is only as good as what it was made of, and files outlive it. Raises GogptError DAT313."""
    preparer, numbers = Preparer(config, tokenizer, template), found.train.conversations
    for number in list(found.sampled)[:NUM_AGAIN]:
        conversation = found.sampled[number][0]
        places = np.flatnonzero(numbers == number)[:NUM_AGAIN].tolist()
        again = preparer.examples(conversation, Ledger()) if places else []
        known = {(e.input_ids.tobytes(), e.labels.tobytes()) for e in again}
        for stored in (found.train[i] for i in places):
            if (stored.input_ids.astype(np.int32).tobytes(), stored.labels.astype(np.int32).tobytes()) not in known:
                raise GogptError("DAT313", "the prepared set holds other token ids than the same conversation gives now", where=str(found.folder),
                                 got=f"{conversation.origin}: {tokenizer.decode(stored.input_ids[:12].tolist())!r} ...", expected="the ids and labels of an encoding made again",
                                 fix="remove the folder: it is made again")


def _ledger(document: dict[str, Any]) -> dict[str, Any]:
    from collections import Counter

    return {**document, "drops": Counter(document["drops"])}


# -- facts -----------------------------------------------------------------------------------------


def _nothing_left(ledger: Ledger) -> None:
    """With no example at all there is nothing to judge; only TOK403's own case goes on, to be told by it."""
    if set(ledger.drops) == {"no_trained_token"}:
        return
    reasons = ", ".join(f"{n} {reason} (first: {ledger.first[reason][0]})" for reason, n in ledger.drops.most_common())
    where = next((places[0] for places in ledger.first.values() if places), next(iter(ledger.schema), None))
    raise GogptError("DAT308", "no training example is left", where=where, got=f"{ledger.rows_in} rows, dropped: {reasons}",
                     expected="at least one row with a prompt and an answer that fit max_length",
                     fix="see the first row of each reason with gogpt show FILE:ROW")


def _facts(train: ExampleSet, evaluation: ExampleSet, ledger: Ledger, found: _Gathered, chosen: Selection, tokenizer: Tokenizer,
           template: Template) -> DataFacts:
    counts, lengths = found.counts, train.lengths
    stop_ids = tuple(i for t in template.stop if (i := tokenizer.token_of(t)) is not None)
    return DataFacts(
        rows_in=ledger.rows_in, conversations=ledger.conversations, examples=len(train), eval_examples=len(evaluation),
        drops=dict(ledger.drops), first={k: tuple(v) for k, v in ledger.first.items()}, schemas=dict(ledger.schema),
        tokens=train.num_tokens, trained_tokens=train.num_trained, longest=int(lengths.max()) if lengths.size else 0,
        template=template.name, stop_ids=stop_ids, stop_texts=template.stop,
        stop_is_token=bool(template.stop) and tokenizer.token_of(template.stop[0]) is not None,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id,
        answers=counts.answers, answers_stopped=counts.answers_stopped,
        no_trained=counts.no_trained.tally(), cut_targets=counts.cut_targets.tally(),
        double_bos=counts.double_bos.tally(), special_text=counts.special_text.tally(),
        special_tokens_seen=tuple(counts.special_seen), overlap=chosen.overlap,
        encoded=counts.encoded, longest_prompt_cut=counts.longest_prompt, text_examples=counts.text_examples,
        duplicates=chosen.duplicates, reports={k: Tally(count=v[0], first=tuple(v[1])) for k, v in found.reports.items()},
    )
