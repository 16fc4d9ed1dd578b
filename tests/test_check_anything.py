"""``gogpt check ANYTHING``: what is recognised, several objects, output for machines, and the pre-commit hook."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, Ran, rows, write_jsonl
from foreign_cases import AXOLOTL, LLAMAFACTORY, SWIFT, TRL, lay_out, write
from gogpt.cli.objects import HANDLERS
from gogpt.errors import GogptError
from gogpt.recognise import KINDS, recognise

STATE = {"log_history": [{"loss": 1.0, "step": 1}], "global_step": 1, "max_steps": 10, "num_train_epochs": 1}


def kinds(path: Path) -> tuple[str, ...]:
    return recognise(path, path.name).kinds


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


FILES: dict[str, tuple[str, str]] = {
    "recipe": ("x.yaml", "model: m\ndata: {train: a.jsonl}\noutput: run\n"),
    "recipe, broken": ("x.yaml", "modle: m\ndta: {train: a.jsonl}\n"),
    "llamafactory": ("x", yaml.safe_dump(LLAMAFACTORY)),
    "llamafactory, JSON": ("x.txt", json.dumps(LLAMAFACTORY)),
    "axolotl": ("llamafactory.yml", yaml.safe_dump(AXOLOTL)),
    "swift": ("x.yaml", "model: Qwen/Qwen2.5-7B\ntrain_type: lora\ndataset: [a.jsonl]\nper_device_train_batch_size: 1\n"),
    "trl": ("x.yaml", yaml.safe_dump(TRL)),
    "script": ("x", SWIFT),
    "script, a line": ("command.txt", "CUDA_VISIBLE_DEVICES=0 llamafactory-cli train examples/train_lora/qwen.yaml learning_rate=1e-5\n"),
    "deepspeed": ("x.json", '{"zero_optimization": {"stage": 2}, "train_batch_size": "auto"}'),
    "deepspeed, YAML": ("x.yaml", "zero_optimization: {stage: 2}\ntrain_batch_size: auto\n"),
    "accelerate": ("x.yaml", "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 8\nmachine_rank: 0\n"),
    "data": ("x.yaml.jsonl", "".join(json.dumps(r) + "\n" for r in rows(3))),
    "data, an array": ("x.json", json.dumps(rows(3))),
    "data, one row": ("x.json", json.dumps(rows(1)[0])),
    "data, CSV": ("x.csv", "instruction,output\nSay hi,hi\n"),
    "data, text": ("x.txt", "Once upon a time there was a model.\n\nIt learned.\n"),
    "run": ("trainer_state.json", json.dumps(STATE)),
    "log": ("x.jsonl", '{"current_steps": 1, "total_steps": 9, "loss": 1.0, "lr": 1e-4}\n'),
    "log, printed": ("x.log", "  0%|          | 0/9\n{'loss': '0', 'grad_norm': 'nan', 'learning_rate': '1e-4'}\n"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_are_known_by_content(case: str, tmp_path: Path) -> None:
    name, content = FILES[case]
    assert kinds(text(tmp_path / name, content)) == (case.partition(",")[0],)


def test_folders_are_known_by_content(tmp_path: Path, tiny: Path) -> None:
    assert kinds(tiny) == ("model",)
    shutil.copy(tiny / "tokenizer.json", text(tmp_path / "t" / "x", "").parent)
    assert kinds(tmp_path / "t") == ("tokenizer",)
    write_jsonl(tmp_path / "d" / "a.jsonl", rows(2))
    assert kinds(tmp_path / "d") == ("data",)
    text(tmp_path / "a" / "adapter_config.json", "{}")
    assert kinds(tmp_path / "a") == ("adapter",)
    text(tmp_path / "a" / "trainer_state.json", json.dumps(STATE))
    assert kinds(tmp_path / "a") == ("run", "adapter"), "a checkpoint that is an adapter, too"
    text(tmp_path / "r" / "checkpoint-500" / "trainer_state.json", json.dumps(STATE))
    assert kinds(tmp_path / "r") == ("run",)


def test_every_handler_has_a_kind() -> None:
    assert set(HANDLERS) <= set(KINDS)


def test_what_is_nothing_is_told_with_the_nearest_guess(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    for name, content, said in (("a.yaml", "base_modl: x\nsequnce_len: 3\n", "Axolotl"), ("b.yaml", "colour: red\n", "no key is near")):
        ran = gogpt("check", text(tmp_path / name, content), "-q")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("CFG206")
        assert said in ran.err
        assert "a configuration of LLaMA-Factory" in ran.err
    (tmp_path / "empty").mkdir()
    assert "an empty folder" in gogpt("check", tmp_path / "empty", "-q").err
    assert "no training command" not in gogpt("check", text(tmp_path / "x.sh", "#!/bin/sh\necho hello\n"), "-q").out


def test_two_tools_at_once_are_told(tmp_path: Path) -> None:
    with pytest.raises(GogptError, match=r"LLaMA-Factory or of TRL|TRL or of LLaMA-Factory") as caught:
        recognise(text(tmp_path / "x.yaml", "model_name_or_path: m\nfinetuning_type: lora\nuse_peft: true\n"), "x.yaml")
    assert caught.value.code == "CFG206"


def test_every_kind_has_a_handler() -> None:
    assert set(HANDLERS) == set(KINDS)


@pytest.mark.parametrize("option", ["--template=chatml", "--model=m", "--base=m", "--fix=out.json"])
def test_an_option_for_another_object_is_refused(gogpt: Callable[..., Ran], recipe: Callable[..., Path], option: str) -> None:
    ran = gogpt("check", recipe(), option, "-q")
    assert (ran.code, ran.err[:6]) == (2, "CFG206")


# -- data ------------------------------------------------------------------------------------------


def test_data_without_a_model(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(20))
    ran = gogpt("check", path, "-q", "--format", "json")
    assert (ran.code, ran.json["findings"], ran.json["checked"]) == (0, [], ["DAT311", "DAT312"])
    assert {e["why"] for e in ran.json["not_checked"]} == {"without --model nothing is encoded"}
    assert gogpt("check", path, "-q", "--template", "chatml").code == 0
    bad = write_jsonl(tmp_path / "b.jsonl", [*rows(4), *([{"messages": []}] * 9)])
    assert [(f["code"], f["severity"]) for f in gogpt("check", bad, "-q", "--format", "json").json["findings"]] == [("DAT311", "error")]
    twice = write_jsonl(tmp_path / "c.jsonl", [*rows(10), *rows(5)])
    found = gogpt("check", twice, "-q", "--format", "json").json["findings"]
    assert [(f["code"], f["evidence"]["counts"]) for f in found] == [("DAT312", {"duplicate": 5})]
    assert gogpt("check", path, "data.max_length=9", "-q").err.startswith("CFG204")


def test_data_with_a_model_is_judged_as_a_recipe_judges_it(gogpt: Callable[..., Ran], recipe: Callable[..., Path], tiny: Path, tmp_path: Path) -> None:
    items = rows(24)
    items[3]["messages"][0]["content"] += "<|im_end|>"
    path = write_jsonl(tmp_path / "a.jsonl", items)
    ran = gogpt("check", path, "--model", tiny, "-q", "--format", "json")
    assert (ran.code, [f["code"] for f in ran.json["findings"]]) == (1, ["TOK406"])
    assert ran.json["not_checked"] == []
    whole = gogpt("check", recipe(items, data={"eval": 0}), "-q", "--format", "json").json
    assert whole["findings"][0]["message"].replace("data.jsonl", "a.jsonl") == ran.json["findings"][0]["message"]
    wrong = gogpt("check", write_jsonl(tmp_path / "b.jsonl", rows(8)), "--model", tiny, "--template", "belle", "-q", "--format", "json")
    assert "TOK401" in [f["code"] for f in wrong.json["findings"]] or wrong.code == 0
    assert gogpt("check", path, "--model", tiny, "data.special_text=drop", "-q").code == 0


# -- several objects, formats ----------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path, tiny)


def test_several_objects(gogpt: Callable[..., Ran], place: Path) -> None:
    write(place / "good.yaml", LLAMAFACTORY)
    write(place / "bad.yaml", LLAMAFACTORY, packing=True)
    one = gogpt("check", "bad.yaml", "-q", "--format", "json").json
    ran = gogpt("check", "good.yaml", "bad.yaml", "-q", "--format", "json")
    assert ran.code == 1
    assert [d["object"]["path"] for d in ran.json] == ["good.yaml", "bad.yaml"]
    assert ran.json[1] == one, "each as it is alone"
    with_missing = gogpt("check", "bad.yaml", "gone.yaml", "good.yaml", "-q", "--format", "json")
    assert (with_missing.code, with_missing.err[:6]) == (2, "CFG200")
    assert [d["object"]["kind"] for d in with_missing.json] == ["llamafactory", None, "llamafactory"]
    assert with_missing.json[1]["problem"]["code"] == "CFG200"
    printed = gogpt("check", "good.yaml", "bad.yaml", "-q").out
    assert printed.index("good.yaml (llamafactory)") < printed.index("bad.yaml (llamafactory)") < printed.index("CFG221")


SARIF_LEVELS = {"none", "note", "warning", "error"}


def check_sarif(log: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules of the SARIF 2.1.0 schema for what is used here: what is required, and of which kind. The results."""
    assert log["version"] == "2.1.0"
    assert re.fullmatch(r"https://.*sarif.*2\.1\.0.*\.json", log["$schema"])
    assert set(log) <= {"$schema", "version", "runs", "properties", "inlineExternalProperties"}
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert isinstance(driver["name"], str)
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert all(set(rule[k]) == {"text"} and rule[k]["text"] for k in rule if k != "id")
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in SARIF_LEVELS
        assert ids[result["ruleIndex"]] == result["ruleId"]
        for location in result["locations"]:
            physical = location["physicalLocation"]
            assert re.fullmatch(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", physical["artifactLocation"]["uri"]), "a URI reference (RFC 3986)"
            assert physical.get("region", {"startLine": 1})["startLine"] >= 1
        for suppression in result.get("suppressions", []):
            assert suppression["kind"] in ("inSource", "external")
    return list(run["results"])


def test_sarif(gogpt: Callable[..., Ran], place: Path) -> None:
    write(place / "a b.yaml", LLAMAFACTORY, packing=True, learning_rate=0.5)
    write(place / "good.yaml", AXOLOTL)
    ran = gogpt("check", "a b.yaml", "good.yaml", "-q", "--format", "sarif", "--allow", "CFG221")
    assert ran.code == 1
    results = check_sarif(ran.json)
    plain = gogpt("check", "a b.yaml", "-q", "--format", "json").json["findings"]
    assert [(r["ruleId"], r["level"]) for r in results] == [(f["code"], f["severity"]) for f in plain]
    assert [r["ruleId"] for r in results if "suppressions" in r] == ["CFG221"]
    place_of = results[0]["locations"][0]["physicalLocation"]
    assert place_of == {"artifactLocation": {"uri": "a%20b.yaml"}, "region": {"startLine": int(plain[0]["where"].rpartition(":")[2])}}
    assert check_sarif(gogpt("check", "good.yaml", "-q", "--format", "sarif").json) == []


def unescape(text: str, *, property_: bool) -> str:
    for code, sign in ((":", "%3A"), (",", "%2C")) if property_ else ():
        text = text.replace(sign, code)
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_workflow_commands(gogpt: Callable[..., Ran], place: Path) -> None:
    write(place / "a,b:c.yaml", LLAMAFACTORY, packing=True, cutoff_len=60)
    ran = gogpt("check", "a,b:c.yaml", "-q", "--format", "github", "--allow", "CFG221")
    findings = gogpt("check", "a,b:c.yaml", "-q", "--format", "json").json["findings"]
    lines = ran.out.splitlines()
    assert len(lines) == len(findings)
    for line, finding in zip(lines, findings, strict=True):
        found = re.fullmatch(r"::(error|warning|notice) file=([^,:]+),line=(\d+),title=([^,:]+)::(.+)", line)
        assert found, line
        assert found[1] == ("notice" if finding["code"] == "CFG221" else finding["severity"])
        assert (unescape(found[2], property_=True), found[4]) == ("a,b:c.yaml", finding["code"])
        assert unescape(found[5], property_=False) == f"{finding['message']}\n{finding['fix']}"
    assert "%25" in ran.out, "a percentage in a message"


def test_fail_on_warning(gogpt: Callable[..., Ran], place: Path) -> None:
    file = write(place / "ax.yaml", AXOLOTL, flash_attention=None, sdp_attention=True)
    assert [gogpt("check", file, "-q", "--fail-on", level).code for level in ("error", "warning")] == [0, 1]
    assert gogpt("check", file, "-q", "--fail-on", "warning", "--allow", "CFG221").code == 0
    assert gogpt("check", file, "-q", "--allow", "CFG22").err.startswith("CFG205")


# -- pre-commit ------------------------------------------------------------------------------------


def tagged(path: Path) -> set[str]:
    """The tags that pre-commit's identify gives by the ending of a name."""
    return {".yaml": {"yaml"}, ".yml": {"yaml"}, ".json": {"json"}, ".jsonl": {"jsonl"}}.get(path.suffix, set())


def test_pre_commit_hook(place: Path) -> None:
    """The hook's entry over the staged files of a small repository, as pre-commit calls it."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {"id", "name", "entry", "language"} <= set(hook)
    assert (hook["id"], hook["language"]) == ("gogpt-check", "python")

    def git(*words: str) -> str:
        return subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=place, check=True, capture_output=True, text=True).stdout

    def run_hook() -> subprocess.CompletedProcess[str]:
        staged = [Path(name) for name in git("diff", "--cached", "--name-only", "--diff-filter=ACMR").splitlines()]
        chosen = [str(p) for p in staged if tagged(p) & set(hook["types_or"])]
        program, *words = shlex.split(hook["entry"])
        assert program == "gogpt"
        return subprocess.run([sys.executable, "-m", "gogpt", *words, *chosen], cwd=place, capture_output=True, text=True, check=False)

    git("init", "-q")
    write(place / "train.yaml", LLAMAFACTORY)
    (place / "notes.md").write_text("nothing\n", encoding="utf-8")
    others = {"ci.yaml": "on: push\njobs: {test: {runs-on: ubuntu}}\n", "compose.yaml": "services: {web: {image: x}}\n", "package.json": '{"name": "x", "output": "dist"}',
              "odd.yaml": "output: x\n", "list.yaml": "- a\n- b\n", "list.json": "[1, 2]"}
    for name, content in others.items():
        text(place / name, content)
    git("add", "train.yaml", "notes.md", *others)
    ran = run_hook()
    assert (ran.returncode, ran.stderr) == (0, ""), "files of other kinds are none of its business"
    assert list(place.glob("*.yaml"))
    write(place / "train.yaml", LLAMAFACTORY, packing=True)
    git("add", "train.yaml")
    ran = run_hook()
    assert ran.returncode == 1
    assert "CFG221" in ran.stdout
