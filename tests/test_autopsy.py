"""What runs leave behind is read as it was written: event files against TensorBoard's own reader, logs in every form, damaged files, and rates."""

from __future__ import annotations

import gzip
import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gogpt.autopsy import find_leavings, read_leavings, unjudged
from gogpt.autopsy.events import masked_crc, read_events
from gogpt.autopsy.rates import Plan, story
from gogpt.autopsy.records import Known, number, record_of
from gogpt.autopsy.settings import read_asked, take, take_card
from gogpt.checks import CHECKS, HISTORY
from gogpt.errors import GogptError
from gogpt.facts import Facts, HistoryFacts, from_json, to_json
from gogpt.findings import Stage, judge
from gogpt.schedules import (
    Rate,
    per_process,
    restarted,
    skipping,
    transformers_rate,
    warmup_cosine_lr,
    warmup_decay_lr,
    warmup_lr,
)


def facts_of(path: Path, *asked: str) -> HistoryFacts:
    left = find_leavings(path)
    assert left is not None, path
    return read_leavings(left, asked).facts


def codes(path: Path, *asked: str) -> list[str]:
    facts = facts_of(path, *asked)
    return [f.code for f in judge(HISTORY, Facts(history=facts)).findings]


# -- event files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def event_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scalars as simple values, as float and double tensors, texts, NaN and negative steps, in one file."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from torch.utils.tensorboard import SummaryWriter

    folder = tmp_path_factory.mktemp("events")
    writer = SummaryWriter(str(folder))
    for step in range(1, 41):
        writer.add_scalar("train/loss", 3.8449 - step / 40, step)
        writer.add_scalar("train/learning_rate", 1.9e-4 * step / 40, step)
        writer.add_scalar("train/grad_norm", math.nan if step == 7 else 0.5 + step, step)
    writer.add_scalar("odd", -1.5, -3)
    writer.add_scalar("odd", math.inf, 2**40)
    writer.add_scalar("new", 0.25, 4, new_style=True)
    for step, tensor in enumerate([TensorProto(dtype=2, double_val=[0.125]), TensorProto(dtype=1, tensor_content=struct.pack("<f", 2.5)),
                                   TensorProto(dtype=1, float_val=[7.0])]):
        value = Summary.Value(tag="tensors", tensor=tensor)
        writer._get_file_writer().add_summary(Summary(value=[value]), step)
    writer.add_text("args", json.dumps({"learning_rate": 1.9e-4, "lr_scheduler_type": "linear"}))
    writer.close()
    return folder


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def test_scalars_are_those_of_tensorboards_own_reader(event_folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    theirs = EventAccumulator(str(event_folder), size_guidance={"scalars": 0, "tensors": 0})
    theirs.Reload()
    (file,) = event_folder.glob("events.*")
    ours = read_events(file)
    assert ours.problem is None
    tags = theirs.Tags()
    expected = {tag: [(e.step, float(e.value)) for e in theirs.Scalars(tag)] for tag in tags["scalars"]}
    for tag in tags["tensors"]:
        if tag != "args/text_summary":
            expected[tag] = [(e.step, float(tensor_util.make_ndarray(e.tensor_proto).reshape(-1)[0])) for e in theirs.Tensors(tag)]
    assert set(ours.scalars) == set(expected)
    for tag, points in expected.items():
        mine = [(s, v) for s, v, _ in ours.scalars[tag]]
        assert [s for s, _ in mine] == [s for s, _ in points]
        assert all(same(a, b) for (_, a), (_, b) in zip(mine, points, strict=True)), tag
    assert json.loads(ours.texts["args/text_summary"]) == {"learning_rate": 1.9e-4, "lr_scheduler_type": "linear"}


def test_the_checksum_is_tfrecords() -> None:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    for data in (b"", b"a", bytes(range(256)), struct.pack("<Q", 1234567)):
        assert masked_crc(data) == masked_crc32c(data)


def test_a_file_cut_off_anywhere_gives_what_was_whole(event_folder: Path, tmp_path: Path) -> None:
    (file,) = event_folder.glob("events.*")
    raw, whole = file.read_bytes(), read_events(file).scalars["train/loss"]
    cut = tmp_path / "events.out.tfevents.1"
    seen = set()
    for size in [0, 1, 11, 12, 20, *range(100, len(raw), 331), len(raw) - 1]:
        cut.write_bytes(raw[:size])
        found = read_events(cut)
        points = found.scalars.get("train/loss", [])
        assert points == whole[: len(points)]
        assert found.problem is None or "record" in found.problem
        seen.add(len(points))
    assert len(seen) > 10
    cut.write_bytes(raw[:-1])
    assert "cut off in record" in (read_events(cut).problem or "")


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_byte_is_no_traceback(event_folder: Path, tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    (file,) = event_folder.glob("events.*")
    raw = bytearray(file.read_bytes())
    raw[at % len(raw)] = value
    broken = event_folder.parent / "events.out.tfevents.broken"
    broken.write_bytes(raw)
    read_events(broken)


def test_a_resumed_run_in_two_files_and_another_run_beside(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name, steps in (("runs/a", range(1, 31)), ("runs/b", range(21, 41))):
        writer = SummaryWriter(str(tmp_path / name))
        for step in steps:
            writer.add_scalar("train/loss", (100 if name.endswith("b") else 0) + step, step, walltime=1000 + step)
        writer.close()
    facts = facts_of(tmp_path)
    assert (facts.num_records, facts.first_step, facts.last_step) == (40, 1, 40)
    left = find_leavings(tmp_path)
    assert left is not None
    history = read_leavings(left).history
    assert [r.loss for r in history.records if r.step in (20, 21, 30)] == [20.0, 121.0, 130.0], "of a step in both the later file counts"
    other = SummaryWriter(str(tmp_path / "runs/c"))
    other.add_scalar("train/loss", 1.0, 1, walltime=9000)
    other.close()
    alone = read_leavings(left)
    assert alone.facts.num_records == 1
    assert sorted(alone.history.unread.values()) == ["another run"] * 2


# -- logs ------------------------------------------------------------------------------------------

RECORDS = [{"loss": 2.5 - 0.1 * i, "grad_norm": 0.5 + i, "learning_rate": 1.9e-4 * (10 - i) / 10, "epoch": 0.1 * (i + 1)} for i in range(8)]


def python_lines(quoted: bool = False) -> list[str]:
    return [str({k: f"{v:.6g}" for k, v in r.items()} if quoted else {k: float(f"{v:.6g}") for k, v in r.items()}) for r in RECORDS]


def with_bar(lines: list[str]) -> str:
    """As tqdm draws: the bar, what is written, and the bar once more, over the same line. An evaluation's bar comes between."""
    out = "Tokenizing:  50%|###  | 48/96 [00:00<00:00, 9.1it/s]\r  0%|          | 0/80 [00:00<?, ?it/s]"
    for i, line in enumerate(lines, start=1):
        bar = f" {i * 12}%|#         | {i * 10}/80 [00:0{i}<00:09, 8.2it/s]"
        out += f"\r          \r{line}\n\r{bar}"
        if i == 4:
            out += "\r  0%|   | 0/3 [00:00<?, ?it/s]\r 67%|##  | 2/3 [00:00<00:00, 7it/s]\r{'eval_loss': 2.2, 'eval_runtime': 0.1, 'epoch': 0.4}\n" + bar
    return out + "\n{'train_runtime': 12.1, 'train_loss': 2.1, 'epoch': 0.8}\n"


FORMS: dict[str, Callable[[], str]] = {
    "dictionaries": lambda: "\n".join(python_lines()) + "\n",
    "strings in them": lambda: "\n".join(python_lines(quoted=True)) + "\n",
    "windows": lambda: "\r\n".join(python_lines()) + "\r\n",
    "colours": lambda: "".join(f"\x1b[32m[INFO]\x1b[0m 2026-11-24 >> {x}\x1b[0m\n" for x in python_lines()),
    "json lines": lambda: "".join(json.dumps(r) + "\n" for r in RECORDS),
    "ms-swift": lambda: "".join(json.dumps({**r, "global_step/max_steps": f"{i * 10}/80", "percentage": "12%", "memory(GiB)": 5.1}) + "\n" for i, r in enumerate(RECORDS, 1)),
    "llama-factory": lambda: "".join(json.dumps({"current_steps": i * 10, "total_steps": 80, "loss": r["loss"], "lr": r["learning_rate"], "epoch": r["epoch"]}) + "\n"
                                     for i, r in enumerate(RECORDS, 1)),
    "progress bar": lambda: with_bar(python_lines()),
    "mixed": lambda: "Loading {'a': 1}\nloss is nice\n" + "".join(f"rank0: {x} [W] careful\nsomething else {{}}\n" for x in python_lines()),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_log_gives_the_same_records(tmp_path: Path, form: str, packed: bool) -> None:
    path = tmp_path / ("train.log.gz" if packed else "train.log")
    data = FORMS[form]().encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    left = find_leavings(path)
    assert left is not None
    assert left.kind == "log"
    seen = read_leavings(left)
    records = [r for r in seen.history.records if r.loss is not None]
    assert [r.loss for r in records] == pytest.approx([r["loss"] for r in RECORDS])
    assert [r.lr for r in records] == pytest.approx([r["learning_rate"] for r in RECORDS])
    assert [r.epoch for r in records] == pytest.approx([r["epoch"] for r in RECORDS])
    if form != "llama-factory":
        assert [r.grad_norm for r in records] == pytest.approx([r["grad_norm"] for r in RECORDS])
    told = form in ("ms-swift", "llama-factory", "progress bar")
    assert [r.step for r in records] == [10 * i if told else i for i in range(1, 9)]
    assert seen.facts.steps_from == ("counter" if form == "progress bar" else "step" if told else "lines")
    if told:
        assert seen.facts.steps_planned == 80
    if form == "progress bar":
        assert (seen.facts.num_evals, seen.facts.lowest_eval_step, seen.facts.finished) == (1, 40, True)


def test_what_the_trainer_says_before_the_first_step(tmp_path: Path) -> None:
    """transformers' own lines, with which 8 processes can be told."""
    path = tmp_path / "a.log"
    path.write_text("***** Running training *****\n  Num Epochs = 1\n  Instantaneous batch size per device = 2\n"
                    "  Total train batch size (w. parallel, distributed & accumulation) = 64\n  Gradient Accumulation steps = 4\n"
                    "  Total optimization steps = 9,200\n" + FORMS["dictionaries"](), encoding="utf-8")
    facts = facts_of(path)
    assert (facts.steps_planned, facts.world_size, facts.accumulation) == (9200, 8, 4)


def test_deepspeeds_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "ds.log"
    lines = [f"[2023-06-01 10:00:00,1] [INFO] [logging.py:96:log_dist] [Rank 0] step={s}, skipped={min(s, 40)}, lr=[{1e-4}, {1e-4}], mom=[[0.9, 0.95]]" for s in (10, 20, 50)]
    lines += [f"[deepspeed] OVERFLOW! Rank {r} Skipping step. Attempted loss scale: 65536, reducing to 32768" for r in (0, 1, 0, 1)]
    path.write_text("\n".join(lines), encoding="utf-8")
    facts = facts_of(path)
    assert (facts.tool, facts.num_rates, facts.skipped_steps, facts.steps_seen) == ("DeepSpeed", 3, 40, 50)
    assert facts.skipped_late == 10


@pytest.mark.parametrize(("value", "expected"), [("nan", math.nan), ("0", 0.0), ("1.9e-04", 1.9e-4), (True, None), (None, None), ("x", None), ("-inf", -math.inf)])
def test_numbers(value: Any, expected: float | None) -> None:
    found = number(value)
    assert (found is None) == (expected is None)
    assert found is None or expected is None or same(found, expected)


def test_a_summary_is_no_record() -> None:
    assert record_of({"train_runtime": 1.0, "train_loss": 2.0, "step": 4}) is None
    assert record_of({"epoch": 1.0, "step": 4}) is None


# -- what a path is --------------------------------------------------------------------------------


def test_what_is_no_run_is_not_taken_for_one(tmp_path: Path, tiny: Path, recipe: Any) -> None:
    made = recipe()
    for name, text in {"a.json": "{}", "ds.json": '{"zero_optimization": {"stage": 2}}', "rows.jsonl": '{"text": "the loss was great", "step": 1}\n',
                       "corpus.txt": "the loss {'a': 1} of step=3\n" * 50, "x.yaml": "learning_rate: 1", "losses.jsonl": '{"loss": "heavy", "prompt": "x"}\n'}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert find_leavings(tmp_path / name) is None, name
    assert find_leavings(made) is None
    assert find_leavings(tiny) is None
    assert find_leavings(tmp_path / "nowhere") is None
    assert find_leavings(tmp_path / "data.jsonl") is None


BROKEN = {
    "trainer_state.json": ["", "[]", "{}", '{"log_history": 3}', '{"log_history": [1, null, {"loss": "x"}, {"loss": 1, "step": "a"}]}', "\x00\xff", '{"log_history": []}'],
    "a.log": ["", "\x00\x01", "{'loss': }", "{'loss': 1e999, 'epoch': inf}\n" * 3, "{'loss': '0', 'grad_norm': 'nan'}\n" * 2],
    "metrics.jsonl": ["", "nonsense\n", '{"step": 1, "loss": 2.0, "lr": 0.1}\n{"step": 2, "lo'],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in BROKEN.items() for t in texts])
def test_broken_files_are_told_or_read(gogpt: Any, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    ran = gogpt("check", tmp_path / name, "--format", "json")
    assert ran.code in (0, 1, 2)
    assert (ran.code == 2) == ran.err.startswith("RUN615"), ran
    if ran.code != 2:
        assert json.loads(ran.out)["object"]["kind"] in ("trainer_run", "log")


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_no_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    told: set[str] = set()
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    for name in ("x.log", "trainer_state.json", "events.out.tfevents.1", "y.log.gz", "metrics.jsonl"):
        (folder / name).write_bytes(data)
        left = find_leavings(folder / name)
        if left is None:
            continue
        try:
            facts = read_leavings(left).facts
        except GogptError as problem:
            told.add(problem.code)
            continue
        assert to_json(from_json(HistoryFacts, json.loads(json.dumps(to_json(facts))))) == to_json(facts)
    assert told <= {"RUN615"}


def test_a_log_without_metrics_is_explained(gogpt: Any, tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    path.write_text("ninja\n/bin/sh: 1: /usr/usr/local/cuda-12.2/bin/nvcc: not found\nFAILED: multi_tensor_adam.cuda.o\n", encoding="utf-8")
    ran = gogpt("check", path, "--format", "json")
    assert ran.code == 1
    assert [f["code"] for f in ran.json["findings"]] == ["ENV130"]
    assert gogpt("doctor", "--log", path, "--format", "json").json["findings"] == ran.json["findings"]
    path.write_text("all is well\n", encoding="utf-8")
    quiet = gogpt("check", path)
    assert quiet.code == 0
    assert "no error" in quiet.out


@pytest.mark.parametrize(("words", "code"), [
    (("train.nonsense=1",), "CFG202"), (("train.max_steps=many",), "CFG202"), (("train.schedule=square",), "CFG202"), (("train.max_steps=0",), "CFG202"),
    (("parallel.processes=true",), "CFG202"), (("loose",), "CFG204"), (("train.learning_rate=-1",), "CFG202"), (("--fix", "out.json"), "CFG206")])
def test_what_cannot_be_asked_for(gogpt: Any, tmp_path: Path, words: tuple[str, ...], code: str) -> None:
    path = tmp_path / "a.log"
    path.write_text(FORMS["dictionaries"](), encoding="utf-8")
    ran = gogpt("check", path, *words)
    assert ran.code == 2
    assert ran.err.startswith(code), ran.err


def test_settings_in_their_forms() -> None:
    asked = read_asked(["train.max_steps=9200", "parallel.processes=8", "train.warmup=0.03", "train.learning_rate=2e-4", "train.schedule=linear"])
    assert asked.values == {"max_steps": 9200, "world_size": 8, "warmup": 0.03, "rate": 2e-4, "schedule": "linear"}
    known = Known()
    take(known, {"max_steps": -1, "num_train_epochs": 3.0, "lr_scheduler_type": "SchedulerType.COSINE", "learning_rate": "1e-4", "warmup_ratio": 0.1, "bf16": True}, "args.json")
    assert known.values == {"epochs": 3.0, "schedule": "cosine", "rate": 1e-4, "warmup": 0.1, "precision": "bf16"}
    other = Known()
    take(other, {"lr_scheduler_type": "warmup_stable_decay"}, "x")
    assert other.values == {"schedule": "other"}
    card = Known()
    take_card(card, "- learning_rate: 0.0001\n- distributed_type: multi-GPU\n- num_devices: 8\n- lr_scheduler_type: cosine\n- lr_scheduler_warmup_ratio: 0.1\n- num_epochs: 3.0\n", "README.md")
    assert card.values == {"rate": 1e-4, "world_size": 8, "schedule": "cosine", "warmup": 0.1, "epochs": 3.0}


def test_a_pickle_is_never_opened(tmp_path: Path, gogpt: Any) -> None:
    (tmp_path / "trainer_state.json").write_text(json.dumps({"max_steps": 4, "log_history": [{"loss": 2.0, "step": 1}]}), encoding="utf-8")
    marker = tmp_path / "ran"
    (tmp_path / "training_args.bin").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    ran = gogpt("check", tmp_path, "--format", "json")
    assert ran.code == 0
    assert not marker.exists()
    assert any("training_args.bin was not read: a pickle" in x["why"] for x in ran.json["not_checked"])


def test_what_cannot_be_judged_is_said() -> None:
    nothing = unjudged(HistoryFacts(path="x", tool="log"))
    assert set(nothing) == {c.code for c in HISTORY}
    assert {c.code for c in HISTORY} == {c.code for c in CHECKS if c.stage is Stage.HISTORY} | {"RUN601", "RUN602", "RUN603"}


# -- learning rates, where the plan is known in part -----------------------------------------------

SEEDS = range(12)


def plan_of(steps: int | None, *, exact: bool = True, slack: float = 0.0, **known: Any) -> Plan:
    told = Known()
    for name, value in known.items():
        told.say(name, value, "settings")
    return Plan(steps=steps, slack=slack, exact=exact, known=told)


def setting(seed: int) -> tuple[random.Random, int, int, float, int]:
    rng = random.Random(seed)
    steps = rng.randint(200, 2000)
    return rng, steps, rng.choice([0, steps // 33, steps // 10]), rng.choice([1e-5, 2e-4, 1e-3]), rng.choice([5, 10])


def logged(rate: Rate, steps: int, every: int, digits: int | None = None) -> list[tuple[int, float]]:
    points = [(s, rate(s)) for s in range(every, steps + 1, every)]
    return points if digits is None else [(s, float(f"{lr:.{digits}g}")) for s, lr in points]


def stable_then_decay(peak: float, steps: int) -> Rate:
    return lambda s: peak * min(1.0, s / 50) if s < 0.8 * steps else peak * max(0.0, (steps - s) / (0.2 * steps))


def with_restarts(peak: float, steps: int, cycles: int) -> Rate:
    """transformers' cosine_with_restarts."""
    return lambda s: peak * 0.5 * (1 + math.cos(math.pi * ((cycles * min(s - 1, steps - 1) / steps) % 1.0)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("asked", [False, True], ids=["nothing told", "all told"])
def test_healthy_rates_are_silent(seed: int, asked: bool) -> None:
    """Whole, stopped early, logged before or after the update, with three digits: schedules as asked for, or any when none is told."""
    rng, steps, warmup, peak, every = setting(seed)
    name = rng.choice(["linear", "cosine", "constant"])
    usual = transformers_rate("constant_with_warmup" if name == "constant" else name, learning_rate=peak, warmup_steps=warmup, steps=steps)
    told = {"schedule": name, "rate": peak, "warmup": warmup, "world_size": rng.choice([1, 2, 8])} if asked else {"world_size": rng.choice([1, 2, 8])}
    last = rng.choice([steps, steps, steps // 2, steps // 3])
    for later in (0, 1):
        for digits in (None, 3):
            points = logged(lambda s, later=later: usual(s + later), last, every, digits)
            assert story(points, plan_of(steps, **told)) is None
    if not asked:
        others = [stable_then_decay(peak, steps), with_restarts(peak, steps, 2), with_restarts(peak, steps, 4), warmup_lr(warmup_max_lr=peak, warmup_num_steps=50),
                  warmup_cosine_lr(total_num_steps=steps, optimizer_lr=peak, warmup_num_steps=50), lambda s: peak / math.sqrt(1 + s),
                  lambda s: 0.1 * peak + 0.9 * usual(s)]
        for other in others:
            for end in (steps, steps // 2):
                assert story(logged(other, end, every), plan_of(steps, world_size=rng.choice([1, 2, 8]))) is None
    if name == "linear" and warmup > 2:
        theirs = warmup_decay_lr(total_num_steps=steps, warmup_max_lr=peak, warmup_num_steps=warmup, warmup_type="linear")
        assert story(logged(theirs, steps, every), plan_of(steps, **told)) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_once_per_process_with_nothing_told_but_the_steps(seed: int) -> None:
    rng, steps, warmup, peak, every = setting(seed)
    k = rng.choice([2, 4, 8])
    rate = per_process(transformers_rate("linear", learning_rate=peak, warmup_steps=warmup, steps=steps), k)
    points = logged(rate, steps, every, rng.choice([None, 3]))
    for world, mechanism in ((k, "per_process"), (None, "stepped_often"), (1, "stepped_often")):
        found = story(points, plan_of(steps, **({"world_size": world} if world else {})))
        assert found is not None
        assert (found[0], found[1]["factor"]) == (mechanism, k)
        assert abs(found[1]["end"] - (steps / k + 1)) <= every + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_mechanisms_where_the_schedule_was_told(seed: int) -> None:
    rng, steps, _, peak, every = setting(seed)
    warmup = max(12 * every, steps // 20)
    steps = max(steps, 4 * warmup + 60 * every)
    name = rng.choice(["linear", "cosine"])
    rate = transformers_rate(name, learning_rate=peak, warmup_steps=warmup, steps=steps)
    told = plan_of(steps, schedule=name, rate=peak, warmup=warmup)
    little = plan_of(steps, schedule=name)

    def named(curve: Rate, plan: Plan) -> str | None:
        found = story(logged(curve, steps, every), plan)
        return found[0] if found else None

    assert named(warmup_lr(warmup_max_lr=peak, warmup_num_steps=warmup, warmup_type="linear"), told) == "no_decay"
    assert named(warmup_lr(warmup_max_lr=peak, warmup_num_steps=warmup, warmup_type="linear"), little) == "no_decay"
    assert named(lambda s: 5 * rate(s), told) == "scaled"
    at = rng.randint(steps // 3, steps // 2)
    assert named(restarted(rate, at), told) == "restarted"
    assert named(restarted(rate, at), plan_of(steps)) == "restarted", "a warm-up that comes twice needs no plan"
    assert named(skipping(rate, rng.sample(range(2, steps // 2), max(4, steps // 40))), told) == "skipped"
    other = "cosine" if name == "linear" else "linear"
    swapped = transformers_rate(other, learning_rate=peak, warmup_steps=warmup, steps=steps)
    found = story(logged(swapped, steps, every), little)
    assert found is not None
    assert (found[0], found[1]["got"]) == ("other_schedule", other)
    assert named(swapped, plan_of(steps, schedule="constant")) == "other_schedule"


def test_zero_from_the_start_and_a_schedule_built_for_less() -> None:
    assert story([(s, 0.0) for s in range(1, 41)], plan_of(40)) == ("all_zero", {"observations": 40})
    assert story([(s, 0.0) for s in range(1, 5)], plan_of(40)) is None
    rate = transformers_rate("linear", learning_rate=1e-4, warmup_steps=0, steps=700)
    found = story(logged(rate, 1000, 10), plan_of(1000))
    assert found is not None
    assert (found[0], found[1]["end"]) == ("ends_early", 710)
