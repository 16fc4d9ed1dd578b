"""The benchmark of silent failures: its judge on recorded outputs, its recipes, its page, and a few faults end to end with GoGPT."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Ran

sys.path.insert(0, str(ROOT))

from bench.silent import judge, page, probe, results, server, world
from bench.silent.cases import GOGPT, LLAMAFACTORY, MODELS, TOOLS, TRL
from bench.silent.faults import FAULTS, Fault

from gogpt.config import load_recipe

STEP = "{{'loss': '{loss}', 'grad_norm': '{norm}', 'learning_rate': '0.001', 'epoch': '1'}}"
HEALTHY = "\n".join(["loading configuration file MODEL/config.json", *(STEP.format(loss=f"{6.1 - i / 100:.2f}", norm=0.2) for i in range(12)), "Training completed."])


def fault(name: str) -> Fault:
    return next(f for f in FAULTS if f.id == name)


def run(output: str, *, code: int = 0, steps: int = 12, **measured: Any) -> judge.Run:
    measures = {"steps": steps, "batches": steps, "rows": 48, "trained_tokens": 900, "moved": 0.01, "finite": True, **measured}
    return judge.Run(codes=(code,), commands=1, output=output, probe=measures, first_probe={}, saved=code == 0)


def judged(name: str, found: judge.Run, tool: str = TRL, healthy: judge.Run | None = None) -> judge.Cell:
    return judge.judge(tool, fault(name), found, healthy or run(HEALTHY), 12)


# -- judging ---------------------------------------------------------------------------------------


def test_a_crash_that_names_the_cause_is_a_refusal_and_one_that_does_not_is_none() -> None:
    named = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    raise ValueError("max_length cuts")\nValueError: Target modules {\'query_key_value\'} not found'
    found = judged("targets_none", run(named, code=1, steps=0))
    assert (found.outcome, found.saved, found.steps) == (judge.REFUSED, False, 0)
    assert found.evidence == ("ValueError: Target modules {'query_key_value'} not found",)
    empty = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    check(max_length, "too long")\nValueError: num_samples should be a positive integer value, but got num_samples=0'
    found = judged("cut_all", run(empty, code=1, steps=0))
    assert found.outcome == judge.CRASHED, "source code in a traceback names nothing"
    assert "num_samples=0" in found.evidence[0]


def test_a_step_that_was_begun_is_no_refusal_before() -> None:
    found = judged("few_rows", run(HEALTHY.splitlines()[0] + "\nIndexError: index out of range in self", code=1, steps=0, batches=1))
    assert (found.outcome, found.words) == (judge.CRASHED_AT, "crashed at step 1, cause not named")
    found = judged("nan_weight", run("RUN601 run: the loss is not finite at step 1", code=1, steps=0, batches=1), GOGPT)
    assert found.words == "stopped at step 1"


def test_a_line_that_the_healthy_twin_is_told_as_well_says_nothing() -> None:
    always = run("[WARNING|2026-11-24 19:45:52] loader:149 >> Loading dataset from disk will ignore other data arguments.\n" + HEALTHY, words=["a"])
    again = run(always.output.replace("19:45:52", "20:01:07"), words=["a"])
    found = judged("stale_cache", replace(again, first_probe={"words": ["a"]}), LLAMAFACTORY, always)
    assert found.outcome == judge.SILENT
    assert found.measured == "1 of 1 trained rows are the old ones"
    assert found.false_alarm == "", "and is no false alarm either"
    assert judged("stale_cache", replace(again, first_probe={"words": ["a"]}), LLAMAFACTORY).outcome == judge.WARNED


def test_warned_told_after_and_silent() -> None:
    line = "warning: 3 of 48 rows have empty answers"
    assert judged("empty_answers", run(f"{line}\n{HEALTHY}")).outcome == judge.WARNED
    assert judged("empty_answers", run(f"{HEALTHY}\n{line}")).outcome == judge.AFTER
    found = judged("empty_answers", run(HEALTHY))
    assert found.outcome == judge.SILENT
    assert found.evidence[0].startswith("{'loss': '5.99'"), "the evidence of silence is the last step"


def test_log_lines_and_progress_bars_are_no_words() -> None:
    hidden = STEP.format(loss=0, norm="nan")
    bar = "Dropping null answers:   0%|          | 0/48 [00:00<?, ? examples/s]"
    assert judged("rate_nan", run(f"{bar}\n{hidden}")).outcome == judge.SILENT
    assert judged("null_answers", run(f"{bar}\n{HEALTHY}")).outcome == judge.SILENT


def test_what_is_measured_tells_silence_from_a_fault_that_does_not_happen() -> None:
    assert judged("pad_is_eos", run(HEALTHY, stops_trained=48)).outcome == judge.UNHARMED
    assert judged("pad_is_eos", run(HEALTHY, stops_trained=0)).outcome == judge.SILENT
    assert judged("packing_leaks", run(HEALTHY, leak=0.0)).outcome == judge.UNHARMED
    assert judged("packing_leaks", run(HEALTHY, leak=3e-3)).outcome == judge.SILENT
    assert judged("packing_leaks", run(HEALTHY)).outcome == judge.SILENT, "no measurement excuses nothing"


def test_false_alarms() -> None:
    assert judged("targets_half", run(HEALTHY)).false_alarm == ""
    assert "exit code 1" in judged("targets_half", run(HEALTHY), healthy=run("ValueError: no", code=1)).false_alarm
    warned = run("warning DAT311 data.jsonl:6: 3 of 48 rows dropped\n" + HEALTHY)
    assert judged("rate_high", run(HEALTHY), GOGPT, warned).false_alarm.startswith("warning DAT311"), "with GoGPT any finding is one"
    assert judged("rate_high", run(HEALTHY), TRL, warned).false_alarm == "", "with the others one of this fault"


def test_a_fault_needs_a_case_or_a_reason_for_every_tool() -> None:
    known = fault("cut_all")
    with pytest.raises(ValueError, match="trl needs"):
        replace(known, faulty={GOGPT: known.faulty[GOGPT]})
    assert len(FAULTS) >= 25
    assert f"{len(FAULTS)} faults" in (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    assert len({f.id for f in FAULTS}) == len(FAULTS)
    assert all(f.rows and f.planted and f.caught and f.keywords for f in FAULTS)
    assert {f.harm for f in FAULTS} - {None} == set(judge.HARMS), "every measurement is used"


# -- the recipes, and what was written -------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make_models(tmp_path_factory.mktemp("silent"))


def written(files: Any, folder: Path, models: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace(MODELS, str(models)), encoding="utf-8")
    return folder


def test_every_recipe_can_be_read(tmp_path: Path, models: Path) -> None:
    read = 0
    for known in FAULTS:
        if GOGPT in known.not_here:
            continue
        for kind, case in (("faulty", known.faulty[GOGPT]), ("healthy", known.healthy[GOGPT])):
            for number, step in enumerate(case.steps):
                folder = written(step.files, tmp_path / known.id / kind / str(number), models)
                if not (folder / "recipe.yaml").is_file():
                    continue
                if kind == "faulty" and known.id in {"option", "frozen"}:
                    continue  # what is planted is that it cannot be read
                load_recipe(str(folder / "recipe.yaml"), [])
                read += 1
    assert read > 80


def test_the_page_is_what_the_results_give() -> None:
    found = results.load()
    assert page.FILE.read_text(encoding="utf-8") == page.page(found), "python -m bench.silent --page"
    for known in FAULTS:
        for tool in TOOLS:
            cell = found.cells[known.id][tool]
            assert (cell.outcome == judge.NOT_HERE) == (tool in known.not_here), (known.id, tool)
            assert cell.outcome != judge.BROKEN, (known.id, tool)
            assert cell.outcome in judge.OUTCOMES
    assert found.stale(set()) == [], "these cells are of another version of their fault: python -m bench.silent"


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    found = results.load()
    results.save(found, tmp_path / "results.json")
    assert results.load(tmp_path / "results.json").cells == found.cells
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["versions"] == found.versions


# -- the server of a tool ----------------------------------------------------------------------------


def served(folder: Path, *scripts: str, timeout: float = 20.0) -> tuple[list[int], str]:
    steps = [{"words": ["python", "step.py"], "files": {"step.py": text}, "env": {"PLANTED": "1"}, "stdin": "typed", "kill_after": None} for text in scripts]
    outcome = server.run_job(lambda words: 0, {"folder": str(folder / "case"), "model": "", "leak": False, "timeout": timeout, "steps": steps})
    return outcome["codes"], (folder / "case" / "output.txt").read_text(encoding="utf-8")


def test_a_command_ends_as_the_interpreter_would_end_it(tmp_path: Path) -> None:
    both = "import os, sys\nprint(input(), os.environ['PLANTED'])\nprint('second', file=sys.stderr)\nprint('third')\n"
    assert served(tmp_path, both) == ([0], "typed 1\nsecond\nthird\n")
    assert served(tmp_path, "import sys\nsys.exit('in words')") == ([1], "in words\n")
    codes, output = served(tmp_path, "raise KeyError('completion')")
    assert codes == [1]
    assert output.endswith("KeyError: 'completion'\n")
    assert judge.lines_of(output) == ["KeyError: 'completion'"], "of a traceback the exception alone"


def test_commands_run_in_order_until_one_fails_and_none_runs_for_ever(tmp_path: Path) -> None:
    assert served(tmp_path, "open('left', 'w').close()", "import os\nprint(os.listdir('.').count('left'))") == ([0, 0], "1\n")
    assert served(tmp_path, "raise SystemExit(3)", "print('never')") == ([3], "")
    assert served(tmp_path, "import time\ntime.sleep(60)", timeout=0.3)[0] == [-9]


# -- end to end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "outcome"), [("targets_half", judge.REFUSED), ("packing_leaks", judge.UNHARMED), ("nan_weight", judge.REFUSED)])
def test_with_gogpt(name: str, outcome: str, gogpt: Callable[..., Ran], tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer
    from transformers.trainer_callback import CallbackHandler

    known, runs = fault(name), []
    for kind, case in (("faulty", known.faulty[GOGPT]), ("healthy", known.healthy[GOGPT])):
        folder = written(case.steps[-1].files, tmp_path / kind, models)
        monkeypatch.chdir(folder)
        for owner, method in ((Trainer, "training_step"), (CallbackHandler, "on_step_begin"), (CallbackHandler, "on_step_end"), (CallbackHandler, "on_log")):
            monkeypatch.setattr(owner, method, getattr(owner, method))  # put back what the probe replaces
        measuring = probe.install(str(folder / "probe.json"), str(models / case.model), case.leak, None)
        ran = gogpt(*case.steps[-1].words)
        monkeypatch.undo()
        measuring.write()
        runs.append(judge.Run(codes=(ran.code,), commands=1, output=ran.err + ran.out, probe=json.loads((folder / "probe.json").read_text(encoding="utf-8")),
                              first_probe={}, saved=(folder / "run" / "final").is_dir()))
    cell = judge.judge(GOGPT, known, *runs, 12)
    assert (cell.outcome, cell.false_alarm) == (outcome, ""), cell
    assert cell.saved == (outcome == judge.UNHARMED)
