"""Every check against its own cases, and every code against its page."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gogpt.checks import (
    CHECKS,
    DEEPSPEED,
    DOCTOR,
    ENGINE_FILE,
    FOREIGN,
    PAGES,
    PREFLIGHT,
    check_named,
    codes,
    page_of,
)
from gogpt.checks.cases import HEALTHY
from gogpt.checks.markdown import HEADINGS, index_markdown, page_markdown
from gogpt.errors import GogptError
from gogpt.facts import Facts, ProofFacts, from_json, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, judge

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "gogpt"
DOCS = ROOT / "docs" / "checks"
LANGS = ("en", "zh")
PREFIXES = {
    Stage.ENV: "ENV1", Stage.CONFIG: "CFG2", Stage.ENGINE: "CFG2", Stage.FOREIGN: "CFG2", Stage.DATA: "DAT3", Stage.TOKENS: "TOK4", Stage.MODEL: "MOD5",
    Stage.PROOF: "MOD5", Stage.RUN: "RUN6", Stage.HISTORY: "RUN6", Stage.EXPORT: "EXP7",
}
VARIES = {"ENV101", "ENV120", "ENV121", "ENV123", "ENV124", "ENV125", "ENV126", "ENV132", "CFG211", "CFG220", "CFG221", "CFG222", "CFG225", "CFG260", "CFG261", "CFG268", "CFG269", "CFG271", "CFG273", "DAT311", "TOK405", "TOK406", "TOK411", "MOD504", "MOD523",
          "MOD525", "MOD541", "RUN664", "EXP721", "EXP723", "EXP731", "EXP734", "EXP740"}
"""Checks whose finding is an error or a warning, depending on the numbers."""

FIRES = [pytest.param(c, facts, id=f"{c.code}-{i}") for c in CHECKS for i, facts in enumerate(c.fires)]
SILENT = [pytest.param(c, facts, id=f"{c.code}-{i}") for c in CHECKS for i, facts in enumerate(c.silent)]
EACH = [pytest.param(c, id=c.code) for c in CHECKS]


def findings_of(check: Check, facts: Facts) -> list[Finding]:
    return list(check.run(facts))


def told(check: Check, finding: Finding) -> str:
    """The finding as the command line prints it: a run that is stopped tells it as an error."""
    d = finding.to_dict()
    if check.stage is Stage.RUN:
        return str(GogptError(d["code"], d["message"], where=d["where"], fix=d["fix"]))
    place = f" {d['where']}" if d["where"] else ""
    return f"{d['severity']} {d['code']}{place}: {d['message']}\n  fix: {d['fix']}"


@pytest.mark.parametrize(("check", "facts"), FIRES)
def test_fires(check: Check, facts: Facts) -> None:
    verdict = judge([check], facts)
    assert verdict.checked == (check.code,), verdict.not_checked
    assert [f.code for f in verdict.findings] == [check.code]
    allowed = {Severity.ERROR, Severity.WARNING} if check.code in VARIES else {check.severity}
    assert verdict.findings[0].severity in allowed


@pytest.mark.parametrize(("check", "facts"), SILENT)
def test_silent(check: Check, facts: Facts) -> None:
    verdict = judge([check], facts)
    assert verdict.checked == (check.code,), verdict.not_checked
    assert verdict.findings == ()


@pytest.mark.parametrize("check", [c for c in CHECKS if c.code in VARIES], ids=lambda c: c.code)
def test_both_severities_have_a_case(check: Check) -> None:
    assert {f.severity for facts in check.fires for f in check.run(facts)} == {Severity.ERROR, Severity.WARNING}


@pytest.mark.parametrize(("check", "facts"), FIRES)
def test_message_and_fix(check: Check, facts: Facts) -> None:
    for finding in findings_of(check, facts):
        for lang in LANGS:
            d = finding.to_dict(lang)
            for part in ("message", "fix"):
                text = d[part]
                assert text == text.strip()
                assert text
                assert "\n" not in text
                assert "None" not in text or finding.evidence.get("grad_norm", 0) is None
                assert bool(re.search(r"[\u4e00-\u9fff]", text)) == (lang == "zh")


@pytest.mark.parametrize(("check", "facts"), FIRES)
def test_findings_are_json(check: Check, facts: Facts) -> None:
    for finding in findings_of(check, facts):
        assert finding.evidence
        text = json.dumps(finding.to_dict(), allow_nan=False)
        assert json.loads(text) == finding.to_dict()


@pytest.mark.parametrize(("check", "facts"), [*FIRES, *SILENT])
def test_replay(check: Check, facts: Facts) -> None:
    again = from_json(Facts, json.loads(json.dumps(to_json(facts), allow_nan=False)))
    assert to_json(again) == to_json(facts)
    assert [str(f) for f in check.run(again)] == [str(f) for f in check.run(facts)]


def test_healthy_facts_are_silent() -> None:
    verdict = judge(CHECKS, HEALTHY)
    assert verdict.findings == ()
    assert verdict.checked == tuple(c.code for c in CHECKS)


@pytest.mark.parametrize("check", EACH)
def test_check_is_whole(check: Check) -> None:
    assert check.code.startswith(PREFIXES[check.stage])
    assert re.fullmatch(r"[A-Z]{3}[1-7]\d\d", check.code)
    assert (SOURCE / "checks" / check.stage.value / f"{check.name}.py").is_file()
    assert check.needs
    assert {need.partition(".")[0] for need in check.needs} <= set(Facts.__dataclass_fields__)
    assert {need.partition(".")[2] for need in check.needs if "." in need} <= set(ProofFacts.__dataclass_fields__)
    assert check.fires
    assert check.silent
    assert check.severity in (Severity.ERROR, Severity.WARNING)


def test_missing_facts_are_told() -> None:
    verdict = judge(CHECKS, Facts())
    assert verdict.checked == ()
    assert [code for code, _ in verdict.not_checked] == [c.code for c in CHECKS]


def test_codes_unique_and_sorted() -> None:
    found = [c.code for c in CHECKS]
    assert found == sorted(found, key=lambda code: code[3:])
    assert len(set(found)) == len(found)
    assert len({c.name for c in CHECKS}) == len(CHECKS)
    assert not set(found) & set(PAGES)
    assert list(codes()) == sorted({*found, *PAGES}, key=lambda code: code[3:])
    for code in PAGES:
        assert code[:4] in PREFIXES.values()
        assert re.fullmatch(r"[A-Z]{3}\d{3}", code)


def test_every_file_is_listed() -> None:
    folders = [SOURCE / "checks" / stage.value for stage in Stage]
    files = {p.relative_to(SOURCE / "checks").as_posix() for f in folders for p in f.glob("*.py") if p.name != "__init__.py"}
    assert files == {f"{c.stage.value}/{c.name}.py" for c in CHECKS}


def test_preflight() -> None:
    apart = (Stage.PROOF, Stage.FOREIGN)
    assert [c.code for c in PREFLIGHT] == [
        c.code for c in CHECKS if c.code[3] in "12345" and c.stage not in apart and c not in ENGINE_FILE and c not in DOCTOR]


def test_deepspeed_files_have_their_own_tuple() -> None:
    assert [c.code for c in DEEPSPEED] == [c.code for c in CHECKS if c.stage is Stage.ENGINE]
    assert {c.needs for c in DEEPSPEED} == {("engine",)}
    assert not {c.code for c in DEEPSPEED} & {c.code for c in PREFLIGHT}


def test_other_tools_configurations_have_their_own_tuple() -> None:
    assert [c.code for c in FOREIGN] == [c.code for c in CHECKS if c.stage is Stage.FOREIGN]
    assert {c.needs[0] for c in FOREIGN} == {"foreign"}


def test_the_doctor_has_its_own_tuple() -> None:
    assert [c.code for c in DOCTOR] == [c.code for c in CHECKS if c.needs == ("doctor",)]


# -- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", codes())
def test_page_is_whole(code: str) -> None:
    page = page_of(code)
    assert isinstance(page, Page)
    for part in (page.title, page.what, page.why, page.fix):
        assert part.en.strip() == part.en
        assert part.zh.strip() == part.zh
        assert part.en
        assert not re.search(r"[\u4e00-\u9fff]", part.en)
        assert re.search(r"[\u4e00-\u9fff]", part.zh)
    assert code in page.example.splitlines()[0]
    assert "@@" not in page.example


@pytest.mark.parametrize("check", EACH)
def test_example_is_what_a_user_sees(check: Check) -> None:
    assert check.page.example.startswith(told(check, findings_of(check, check.fires[0])[0]) + "\n")


@pytest.mark.parametrize("code", codes())
def test_page_file(code: str) -> None:
    text = page_markdown(code)
    assert (DOCS / f"{code}.md").read_text(encoding="utf-8") == text, "python -m gogpt.checks.markdown docs/checks"
    for lang in LANGS:
        lines = page_markdown(code, lang).splitlines()
        assert lines[0] == f"# {code}: {page_of(code).title.of(lang)}"
        assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == list(HEADINGS[lang])


def test_commands_named_exist() -> None:
    """A fix that names a command which is not there is no fix."""
    from typer.main import get_command

    from gogpt.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    for code in codes():
        for lang in LANGS:
            for verb, noun in re.findall(r"gogpt ([a-z]+)(?: ([a-z]+))?", page_markdown(code, lang)):
                assert verb in known, f"{code}: gogpt {verb}"
                if verb in ("template", "data"):
                    assert noun in known[verb].commands, f"{code}: gogpt {verb} {noun}"


def test_index_file() -> None:
    assert (DOCS / "README.md").read_text(encoding="utf-8") == index_markdown()
    assert {p.stem for p in DOCS.glob("*.md")} == {*codes(), "README"}


def test_every_raised_code_has_a_page() -> None:
    raised: dict[str, str] = {}
    for file in SOURCE.rglob("*.py"):
        for code in re.findall(r'GogptError\(\s*"([A-Z]{3}\d{3})"', file.read_text(encoding="utf-8")):
            raised[code] = file.name
    assert "CFG205" in raised
    assert {code: name for code, name in raised.items() if code not in codes()} == {}


@pytest.mark.parametrize(
    ("code", "near"),
    [("TOK340", "TOK403"), ("T0K403", "TOK403"), ("tok403", "TOK403"), ("no_trained_tokens", "TOK403"), ("CFG299", "CFG2"), ("GIBBERISH", "docs/checks")],
)
def test_unknown_code(code: str, near: str) -> None:
    with pytest.raises(GogptError) as caught:
        page_of(code)
    assert caught.value.code == "CFG205"
    assert near in (caught.value.fix or "")


def test_check_named() -> None:
    assert check_named("TOK403").name == "no_trained_token"
    for wrong in ("CFG200", "XYZ999", ""):
        with pytest.raises(GogptError, match="there is no") as caught:
            check_named(wrong)
        assert caught.value.code == "CFG205"


# -- who imports whom ------------------------------------------------------------------------------


def imports_of(file: Path) -> set[str]:
    out: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            out.add(str(node.module))
    return out


@pytest.mark.parametrize("check", EACH)
def test_check_imports_facts_and_findings_alone(check: Check) -> None:
    file = SOURCE / "checks" / check.stage.value / f"{check.name}.py"
    own = {name for name in imports_of(file) if name.split(".")[0] == "gogpt"}
    assert own <= {"gogpt.facts", "gogpt.findings", "gogpt.checks.cases"}


# -- verdicts that hang together -------------------------------------------------------------------


def _codes(**facts: Any) -> list[str]:
    return [f.code for f in judge(CHECKS, Facts(**facts)).refusals]


def test_one_mistake_one_refusal() -> None:
    """A cause that several checks could see is refused once, by the check that names it."""
    from dataclasses import replace

    from gogpt.checks.cases import DATA, MODEL, PLAN
    from gogpt.facts import Tally

    every = replace(
        DATA, conversations=0, examples=0, eval_examples=0, tokens=0, trained_tokens=0, longest=0, answers=0, answers_stopped=0,
        drops={"no_trained_token": 2000}, first={"no_trained_token": ("data/a.jsonl:1",)}, longest_prompt_cut=640,
        no_trained=Tally(count=2000, first=("data/a.jsonl:1",)),
    )
    no_steps = replace(PLAN, max_length=512, overlong="truncate", steps=0, warmup_steps=0, num_rows=0, epochs=0.0)
    assert _codes(data=every, plan=no_steps) == ["TOK403"]
    several = replace(DATA, template="chatml", stop_is_token=False, stop_ids=(), answers_stopped=0)
    assert _codes(data=several, plan=PLAN) == ["TOK407"]
    nothing = replace(MODEL, targets={"c_attn": 0}, trainable_parameters=0)
    assert _codes(data=DATA, plan=PLAN, model=nothing) == ["MOD502"]
    one_step = replace(PLAN, steps=1, warmup_steps=1)
    assert _codes(plan=one_step) == ["CFG213"]
