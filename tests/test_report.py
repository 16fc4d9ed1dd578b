"""The report: complete, well-formed and honest whatever a run folder holds."""

from __future__ import annotations

import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gogpt.facts import DataFacts, EnvFacts, Facts, ModelFacts, PlanFacts, StepStats, Tally, to_json
from gogpt.report import LABELS, charts, read_folder, render_report, write_report

EVIL = "<script>alert(1)</script>"
DOCUMENTS = ("run.json", "plan.json", "facts.json", "findings.json", "ledger.json", "recipe.yaml", "metrics.jsonl",
             "eval.jsonl", "samples.jsonl")
VOID = {"meta", "br", "hr"}


# -- a run folder ----------------------------------------------------------------------------------


def planned_lr(step: int, steps: int, peak: float = 2e-4) -> float:
    warm = max(1, steps // 20)
    return peak * step / warm if step <= warm else peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def stats(step: int, steps: int) -> dict[str, Any]:
    wave = math.sin(step * 12.9898) * 0.5 + math.sin(step * 78.233) * 0.5
    return to_json(StepStats(
        step=step, loss=0.8 + 1.6 * math.exp(-4 * step / steps) + 0.08 * wave, lr=planned_lr(step, steps),
        grad_norm=0.6 + 0.9 * math.exp(-8 * step / steps) + 0.15 * abs(wave), trained_tokens=2900 + 10 * (step % 7),
        tokens=8192, update_norm=400 * planned_lr(step, steps) * (1 + 0.1 * wave), seconds=1.25, memory=6 * 2**30 + step))


def sample(row: int) -> dict[str, Any]:
    pieces = ["<|im_start|>", "user", "\n", f"Say {EVIL}", " \u4f60", "", "\u597d", "<|im_end|>", "\n", "<|im_start|>", "assistant",
              "\n", "Hello", ",", " world", ".", "\n\n", "Bye", ".", "<|im_end|>", "\n"]
    ids = list(range(100, 100 + len(pieces)))
    return {
        "origin": {"path": "data/a.jsonl", "row": row}, "schema": "openai", "template": "chatml",
        "messages": [{"role": "user", "content": f"Say {EVIL} \u4f60\u597d"}, {"role": "assistant", "content": "Hello, world.\n\nBye."}],
        "segments": [{"text": "".join(pieces[:12]), "train": False}, {"text": "".join(pieces[12:20]), "train": True}],
        "input_ids": ids, "labels": [i if 12 <= k < 20 else -100 for k, i in enumerate(ids)],
        "tokens": [f"raw{i}" for i in ids], "pieces": pieces,
    }


def facts() -> Facts:
    return Facts(
        env=EnvFacts(python="3.11.7", platform="Linux x86_64", device="cuda", num_devices=1, device_name="A GPU", bf16=True,
                     memory_total=24 * 2**30, disk_free=200 * 2**30, cpu_count=16, versions={"torch": "2.9.0"}),
        plan=PlanFacts(method="lora", epochs=3.0, steps=200, warmup_steps=10, schedule="cosine", learning_rate=2e-4,
                       batch_size=16, micro_batch_size=4, accumulation=4, world_size=1, precision="bf16", max_length=2048,
                       overlong="drop", packing=True, special_text="error", num_rows=1067),
        data=DataFacts(rows_in=5000, conversations=4948, examples=4849, eval_examples=99,
                       drops={"empty_answer": 41, "unreadable": 11}, first={"empty_answer": ("data/a.jsonl:18",)},
                       schemas={"data/a.jsonl": "openai"}, tokens=1638400, trained_tokens=586000, longest=1998, template="chatml",
                       stop_ids=(2,), stop_texts=("<|im_end|>",), stop_is_token=True, bos_id=1, eos_id=2, pad_id=None,
                       answers=7310, answers_stopped=7310, overlap=Tally(count=2, first=("data/a.jsonl:77", "data/b.jsonl:5"))),
        model=ModelFacts(path="models/base", model_type="llama", num_parameters=1711376384, trainable_parameters=18087936,
                         embedding_rows=49152, tokenizer_size=49152, max_position_embeddings=8192, num_layers=24,
                         hidden_size=2048, vocab_size=49152),
    )


FINDING = {"code": "TOK405", "severity": "warning", "message": "2 conversations are in both train and eval",
           "evidence": {"count": 2, "first": ["data/a.jsonl:77"], "share": 0.00040420371867}, "where": "data/a.jsonl:77",
           "fix": "remove them from one of the two"}
NOT_FINITE = {"code": "RUN601", "severity": "error", "message": "the loss of step 60 is NaN", "evidence": {"step": 60, "loss": "nan"},
              "where": None, "fix": "lower the learning rate, or train in bf16"}


def make_run(folder: Path, steps: int = 200, done: int | None = None, **changes: Any) -> Path:
    """A run folder as a healthy run leaves it. ``changes`` update run.json."""
    done = steps if done is None else done
    folder.mkdir(parents=True, exist_ok=True)
    documents: dict[str, Any] = {
        "run.json": {"status": "finished", "started": "2025-11-24T09:00:00+00:00", "finished": "2025-11-24T09:04:25+00:00",
                     "step": done, "steps": steps, "versions": {"gogpt": "0.1.0", "transformers": "5.0.0"}, "device": "cuda",
                     "command": "gogpt train recipe.yaml", "error": None} | changes,
        "plan.json": {"steps": steps, "warmup_steps": steps // 20, "schedule": "cosine", "learning_rate": 2e-4, "epochs": 3.0,
                      "batch_size": 16, "micro_batch_size": 4, "accumulation": 4, "world_size": 1, "precision": "bf16",
                      "method": "lora", "rows": 1067, "tokens": 1638400, "trained_tokens": 586000, "tokens_per_step": 8192,
                      "trained_tokens_per_step": 2930, "max_length": 2048, "packing": True,
                      "lr": [[s, planned_lr(s, steps)] for s in range(1, steps + 1)],
                      "memory": {"total": 7 * 2**30, "weights": 4 * 2**30, "gradients": 2**29, "optimizer": 2**30,
                                 "activations": 3 * 2**29}, "seconds": 240.0, "trainable_parameters": 18087936,
                      "parameters": 1711376384},
        "facts.json": to_json(facts()),
        "findings.json": {"object": {"path": "recipe.yaml", "kind": "recipe"}, "findings": [], "checked": ["CFG201", "DAT301", "TOK405"],
                          "not_checked": [{"code": "EXP701", "why": "no export facts"}], "allowed": []},
        "ledger.json": {"rows_in": 5000, "conversations": 4948, "drops": {"empty_answer": 41, "unreadable": 11},
                        "schema": {"data/a.jsonl": "openai", "data/b.json": "alpaca"},
                        "first": {"empty_answer": ["data/a.jsonl:18", "data/a.jsonl:402"], "unreadable": ["data/b.json:7"]},
                        "kept": {"train": 4849, "eval": 99}, "examples": {"train": 4849, "eval": 99}, "notes": {"duplicates kept": 3}},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    (folder / "recipe.yaml").write_text(f"model: models/base\n# {EVIL}\ndata:\n  train: data/a.jsonl\noutput: runs/x\n", encoding="utf-8")
    lines(folder / "metrics.jsonl", [stats(s, steps) for s in range(1, done + 1)])
    lines(folder / "eval.jsonl", [{"step": s, "eval_loss": 0.95 + 1.2 * math.exp(-4 * s / steps), "eval_tokens": 59000, "seconds": 3.1}
                                  for s in range(steps // 5, done + 1, max(1, steps // 5))])
    lines(folder / "samples.jsonl", [sample(row) for row in range(1, 13)])
    return folder


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


# -- reading a page --------------------------------------------------------------------------------


class Element:
    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element | str] = []

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def all(self, tag: str | None = None, css: str | None = None) -> list[Element]:
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if tag in (None, child.tag) and (css is None or css in child.classes):
                    found.append(child)
                found += child.all(tag, css)
        return found

    def id(self, name: str) -> Element:
        return next(e for e in self.all() if e.attributes.get("id") == name)


class Page(HTMLParser):
    """The tree of a page; fails on a tag closed out of order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Element("", {}, None)
        self.at = self.root
        self.html = html
        self.feed(html)
        self.close()
        assert self.at is self.root, f"<{self.at.tag}> is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({k for k, _ in attrs}) == len(attrs), (tag, attrs)
        element = Element(tag, dict(attrs), self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.at.tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)

    def section(self, name: str) -> Element:
        return next(e for e in self.root.all("section") if e.attributes.get("aria-labelledby") == name)

    @property
    def verdict(self) -> Element:
        return self.root.all(css="verdict")[0]

    def tile(self, label: str) -> tuple[str, str]:
        tile = next(t for t in self.root.all(css="tile") if t.all("dt")[0].text == label)
        return tile.all(css="figure")[0].text, "".join(n.text for n in tile.all(css="note"))

    def chart(self, key: str) -> Element:
        return next(e for e in self.root.all("svg", "chart") if (e.attributes["aria-labelledby"] or "").startswith(f"chart-{key}-"))


def page_of(run: Path, lang: str = "en") -> Page:
    """Write the report and read it back, with what must hold of every page."""
    page = Page(write_report(run, lang).read_text(encoding="utf-8"))
    assert [p.name for p in run.iterdir() if "report" in p.name] == ["report.html"], "a temporary file was left"
    elements = page.root.all()
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {e.tag for e in elements}
    for e in elements:
        assert not {"src", "srcset", "xlink:href", "background"} & e.attributes.keys()
        assert (e.attributes.get("href") or "#").startswith("#")
        assert not [k for k in e.attributes if k.startswith("on")]
    style = "".join(e.text for e in elements if e.tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style
    assert "http://" not in page.html
    assert "https://" not in page.html
    scripts = [e for e in elements if e.tag == "script"]
    assert len(scripts) == 1
    assert "alert" not in scripts[0].text
    ids = [i for e in elements if (i := e.attributes.get("id"))]
    assert len(ids) == len(set(ids))
    for e in elements:
        for name in (e.attributes.get("aria-labelledby") or "").split():
            assert name in ids
        if e.tag == "a":
            assert (e.attributes["href"] or "")[1:] in ids
    for svg in page.root.all("svg", "chart"):
        assert svg.attributes["role"] == "img"
        assert svg.all("title")[0].text
        assert svg.all("desc")[0].text
    for table in page.root.all("table"):
        assert table.all("th")
        assert all(th.attributes.get("scope") in ("row", "col") for th in table.all("th"))
    return page


def path_points(element: Element) -> int:
    return len(re.findall(r"[ML]", element.attributes["d"] or ""))


# -- the page --------------------------------------------------------------------------------------


def test_healthy_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    page = page_of(run)
    last, first = stats(200, 200), stats(1, 200)
    assert "Finished: 200 of 200 steps" in page.verdict.text
    assert "good" in page.verdict.classes
    assert page.root.all(css="absent") == []
    assert page.tile("Final loss")[0] == charts.number(last["loss"])
    assert page.tile("Loss, first → last")[0] == f"{charts.number(first['loss'], 3)} → {charts.number(last['loss'], 3)}"
    assert page.tile("Best eval loss")[0] == charts.number(0.95 + 1.2 * math.exp(-4))
    trained = sum(stats(s, 200)["trained_tokens"] for s in range(1, 201))
    assert page.tile("Trained tokens")[0] == f"{trained:,}"
    assert page.tile("Tokens per second") == (f"{round(8192 / 1.25):,}", f"{round(trained / 250):,} trained")
    assert page.tile("Duration") == ("4 min 25 s", "4 min 10 s in 200 steps")
    assert page.tile("Peak memory") == (charts.size(6 * 2**30 + 200), "planned 7 GiB")
    assert page.tile("Dropped rows") == ("52", "1.04% of 5,000 rows")
    assert "None. Checks run: 3." in page.section("findings").text
    assert "EXP701" in page.section("findings").text
    plan = page.section("plan").text
    assert "16 = 4 (micro batch) × 4 (accumulation) × 1 (processes)" in plan
    assert "18,087,936 (1.06%)" in plan
    assert "gogpt train recipe.yaml" in page.section("environment").text
    assert "5.0.0" in page.section("environment").text


def test_same_folder_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = sorted((p.name, p.read_bytes()) for p in run.iterdir())
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert sorted((p.name, p.read_bytes()) for p in run.iterdir() if p.name != "report.html") == before


def test_text_of_the_users_is_never_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / f"<b>{'x' * 3}&")
    edit(run / "run.json", status="stopped", error=EVIL, command=EVIL, device=EVIL, versions={EVIL: EVIL})
    edit(run / "findings.json", allowed=[EVIL], checked=[EVIL], not_checked=[{"code": EVIL, "why": EVIL}],
         findings=[{**NOT_FINITE, "severity": EVIL, "message": EVIL, "fix": EVIL, "evidence": {EVIL: EVIL}, "where": EVIL}])
    edit(run / "ledger.json", drops={EVIL: 52}, first={EVIL: [EVIL]}, schema={EVIL: EVIL}, notes={EVIL: 1})
    edit(run / "plan.json", schedule=EVIL, **{EVIL: EVIL}, memory={EVIL: 5, "total": 5})
    page = page_of(run)
    assert page.root.all("h1")[0].text == "<b>xxx&"
    assert EVIL in page.section("recipe").text
    assert EVIL in page.section("samples").all("pre")[0].text
    assert page.html.count("<script") == 1


def test_painted_tokens_are_the_labels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    painted = page_of(run).section("samples").all(css="painted")
    assert len(painted) == 10
    for row, element in enumerate(painted, 1):
        want = sample(row)
        assert len(element.all("mark")) == sum(label != -100 for label in want["labels"])
        assert len(element.all("mark")) + len(element.all("span")) == len(want["input_ids"])
        shown = [e for e in element.children if isinstance(e, Element)]
        assert len(shown) == len(element.children), "text outside of a token"
        for token, i, raw, label, piece in zip(
            shown, want["input_ids"], want["tokens"], want["labels"], want["pieces"], strict=True
        ):
            assert token.tag == ("span" if label == -100 else "mark")
            assert token.text == piece.replace("\n", "⏎\n")
            assert token.attributes["title"] == f"id {i} · {raw} · label {label}{' (ignored)' if label == -100 else ''}"


def test_long_example_says_what_it_leaves_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    n = 5000
    lines(run / "samples.jsonl", [{"origin": {"path": "b.jsonl", "row": 1}, "input_ids": [7] * n, "labels": [-100] + [7] * (n - 1)}])
    section = page_of(run).section("samples")
    assert len(section.all(css="painted")[0].all("mark")) == 3999
    assert "Only the first 4,000 of 5,000 tokens are shown." in section.text
    assert "5,000 tokens, 4,999 trained" in section.text


def test_learning_rate_planned_and_used(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", done=120))
    chart = page.chart("lr")
    assert path_points(chart.all("path", "plan")[0]) == 200
    assert path_points(chart.all("path", "used")[0]) == 120
    assert chart.all("circle", "ring") == []
    assert "Compared with the plan at 120 steps: all the same." in page.section("curves").text


def test_learning_rate_off_the_plan_is_marked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=100)
    rows = [stats(s, 200) for s in range(1, 101)]
    for row in rows[79:83]:
        row["lr"] *= 0.5
    rows[90]["lr"] *= 1 + 1e-9  # rounding, no deviation
    lines(run / "metrics.jsonl", rows)
    page = page_of(run)
    assert len(page.chart("lr").all("circle", "ring")) == 4
    assert (f"4 of 100 steps compared differ from the plan, first step 80: planned {charts.number(planned_lr(80, 200))}, "
            f"used {charts.number(planned_lr(80, 200) / 2)}.") in page.section("curves").text


@pytest.mark.parametrize(("kept", "balances"), [({"train": 4849, "eval": 99}, True), ({"train": 4849, "eval": 90}, False), ({}, True)])
def test_ledger_equation(tmp_path: Path, kept: dict[str, int], balances: bool) -> None:
    run = make_run(tmp_path / "run")
    edit(run / "ledger.json", kept=kept)
    page = page_of(run)
    terms = [int(b.text.replace(",", "")) for b in page.root.id("ledger-equation").all("b")]
    assert (terms[0] == sum(terms[1:])) is balances
    text = page.section("ledger").text
    assert ("Every row is accounted for." in text) is balances
    assert ("9 rows are unaccounted for" in text) is not balances
    assert "data/a.jsonl:18" in text
    assert "data/a.jsonl:402" in text


def test_rows_lost_from_the_ledger(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    edit(run / "ledger.json", drops={"empty_answer": 41})
    assert "does not balance: 11 rows" in page_of(run).section("ledger").text


def test_interrupted_with_half_a_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run", done=120, status="interrupted", finished=None)
    (run / "checkpoints" / "step-20").mkdir(parents=True)
    (run / "checkpoints" / "step-100").mkdir()
    (run / "checkpoints" / "step-120.partial").mkdir()
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 121, "lo')
    page = page_of(run)
    assert "Interrupted at step 120 of 200" in page.verdict.text
    assert page.verdict.all(css="command")[0].text == f"gogpt train --resume '{run}'"
    assert "Last checkpoint in the folder: step-100" in page.verdict.text
    assert "metrics.jsonl has lines that cannot be read and are left out: 1 (first: line 121)." in page.section("curves").text
    assert path_points(page.chart("loss").all("path", "raw")[0]) == 120


def test_killed_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=50, status="running", finished=None, step=0)
    page = page_of(run)
    assert "Running: step 50 of 200" in page.verdict.text
    assert "gogpt train --resume" in page.verdict.text
    assert "There is no checkpoint in the folder." in page.verdict.text


def test_resumed_run_counts_each_step_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=120)
    again = [stats(s, 200) | {"loss": 9.0} for s in range(101, 201)]
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in again)
    folder = read_folder(run)
    assert [row["step"] for row in folder.steps] == list(range(1, 201))
    assert folder.steps[110]["loss"] == 9.0
    page = page_of(run)
    assert "Steps recorded more than once (the run was resumed): 20" in page.root.text
    assert page.tile("Trained tokens")[0] == f"{sum(stats(s, 200)['trained_tokens'] for s in range(1, 201)):,}"


@pytest.mark.parametrize("spelling", ["NaN", '"nan"', '"NaN"'])
def test_stopped_by_nan(tmp_path: Path, spelling: str) -> None:
    run = make_run(tmp_path / "run", done=60, status="stopped", error="RUN601: the loss of step 60 is NaN\n  fix: lower it")
    rows = [json.dumps(stats(s, 200)) for s in range(1, 60)]
    rows.append(json.dumps(stats(60, 200) | {"loss": "X", "grad_norm": "inf"}).replace('"X"', spelling))
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    edit(run / "findings.json", findings=[NOT_FINITE, FINDING])
    page = page_of(run)
    assert "Stopped by RUN601 at step 60 of 200" in page.verdict.text
    assert "the loss of step 60 is NaN" in page.verdict.text
    assert NOT_FINITE["fix"] in page.verdict.text
    assert "Steps whose loss was not finite: 1, first step 60." in page.verdict.text
    assert page.tile("Final loss")[0] == "NaN"
    (mark,) = page.chart("loss").all(css="non-finite")
    assert mark.all("text")[0].text == "NaN at step 60"
    assert [m.all("text")[0].text for m in page.chart("grad_norm").all(css="non-finite")] == ["+Inf at step 60"]
    assert path_points(page.chart("loss").all("path", "raw")[0]) == 59
    assert "nan" not in (page.chart("loss").all("path", "raw")[0].attributes["d"] or "")


def test_finished_does_not_hide_a_nan(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines(run / "metrics.jsonl", [stats(s, 200) | ({"loss": "nan"} if s > 50 else {}) for s in range(1, 201)])
    page = page_of(run)
    assert "bad" in page.verdict.classes
    assert "Steps whose loss was not finite: 150, first step 51." in page.verdict.text
    assert page.chart("loss").all(css="non-finite")[0].all("text")[0].text == "NaN at 150 steps, first: 51"


def test_all_values_non_finite(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines(run / "metrics.jsonl", [stats(s, 200) | {"loss": "nan"} for s in range(1, 201)])
    (run / "eval.jsonl").unlink()
    assert "no finite value" in page_of(run).chart("loss").text


def test_finished_with_steps_missing(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", done=25))
    assert "bad" in page.verdict.classes
    assert "fewer steps were done than planned" in page.verdict.text
    early = page_of(make_run(tmp_path / "early", done=25, stopped_early=True))
    assert "good" in early.verdict.classes
    assert "Stopped early, as the recipe asks" in early.verdict.text


def test_findings_and_overrides(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    edit(run / "findings.json", findings=[NOT_FINITE, FINDING], allowed=["RUN601", "CFG213"])
    page = page_of(run)
    first, second = page.section("findings").all("article")
    assert "error" in first.all(css="badge")[0].text
    assert "allowed by the recipe" in first.text
    assert "allowed by the recipe" not in second.text
    assert {"TOK405", FINDING["message"], "data/a.jsonl:77"} <= {e.text for e in second.all()}
    assert FINDING["fix"] in second.text
    assert "0.00040420371867" in second.all("details")[0].text
    text = page.section("findings").text
    assert "it fired, and was overridden" in text
    assert "it did not fire" in text
    assert "good" in page.verdict.classes, "an allowed error does not spoil the verdict"
    assert "Findings: errors 1, warnings 1" in page.verdict.text


def test_refused_before_the_first_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=0, status="stopped")
    edit(run / "findings.json", findings=[{**NOT_FINITE, "code": "TOK401"}])
    assert "Stopped by TOK401 before the first step" in page_of(run).verdict.text


def test_stopped_by_what_has_no_code(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", done=3, status="stopped", error="device lost"))
    assert "Stopped by an error at step 3 of 200" in page.verdict.text
    assert "device lost" in page.verdict.text


def test_empty_folder(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "Status unknown: no step was recorded" in page.verdict.text
    for name in DOCUMENTS:
        assert f"{name} is not in the run folder." in page.root.text
    assert not re.search(r"\d", "".join(f.text for f in page.root.all(css="figure")))
    assert page.root.all("svg", "chart") == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_document_may_be_missing_or_broken(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    whole = (run / name).read_bytes()
    (run / name).unlink()
    assert f"{name} is not in the run folder." in page_of(run).root.text
    for cut in (b"", whole[: len(whole) // 2], b"[1, 2", b"[]", b"null", b"\xff\xfe", b"[" * 100_000):
        (run / name).write_bytes(cut)
        text = page_of(run).root.text
        if name.endswith(".json"):
            assert f"{name} cannot be read" in text
    (run / name).unlink()
    (run / name).mkdir()
    assert f"{name} cannot be read" in page_of(run).root.text


@pytest.mark.parametrize("wrong", [
    None, 3, -1.5, "text", "nan", [1], [None], [{}], {"a": {"b": 1}}, True, 1.7e308, -1.7e308, 5e-324, pytest.param(10**400, id="huge")])
def test_values_of_another_type_never_fail(tmp_path: Path, wrong: Any) -> None:
    run = make_run(tmp_path / "run", steps=12)
    for name in DOCUMENTS:
        if name.endswith(".json"):
            document = json.loads((run / name).read_text(encoding="utf-8"))
            for key in document:
                (run / name).write_text(json.dumps(document | {key: wrong}), encoding="utf-8")
                render_report(run)
            inner = {k: dict.fromkeys(v, wrong) if isinstance(v, dict) else v for k, v in document.items()}
            (run / name).write_text(json.dumps(inner), encoding="utf-8")
            render_report(run)
            (run / name).write_text(json.dumps(document), encoding="utf-8")
        elif name.endswith(".jsonl"):
            rows = [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]
            lines(run / name, [row | {key: wrong} for row, key in zip(rows * 4, [*rows[0]] * 4, strict=False)])
            render_report(run)
            lines(run / name, rows)
    edit(run / "findings.json", findings=[dict.fromkeys(FINDING, wrong), wrong], not_checked=[wrong, {"code": wrong}])
    page_of(run)


@pytest.mark.parametrize("seed", range(30))
def test_documents_full_of_nonsense(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    wrong = [None, True, 0, -1, 2.5, "x", "nan", float("nan"), float("-inf"), 1.7e308, -1.7e308, [], {}, [1, [2]], {"a": []}, 2**60, EVIL]

    def spoil(value: Any, part: float) -> Any:
        if choose.random() < part:
            return choose.choice(wrong)
        if isinstance(value, dict):
            return {k: spoil(v, part) for k, v in value.items() if choose.random() > part / 3}
        return [spoil(v, part) for v in value] if isinstance(value, list) else value

    run = make_run(tmp_path / "run", steps=15)
    part = choose.choice([0.02, 0.1, 0.3])
    for name in DOCUMENTS:
        text = (run / name).read_text(encoding="utf-8")
        if name.endswith(".json"):
            (run / name).write_text(json.dumps(spoil(json.loads(text), part)), encoding="utf-8")
        elif name.endswith(".jsonl"):
            lines(run / name, [spoil(json.loads(line), part) for line in text.splitlines()])
    page_of(run, choose.choice(["en", "zh"]))


def test_a_run_without_evaluation_misses_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "eval.jsonl").unlink()
    edit(run / "ledger.json", kept={"train": 4948, "eval": 0}, examples={"train": 4948})
    page = page_of(run)
    assert page.root.all(css="absent") == []
    assert page.tile("Best eval loss") == ("–", "no eval set")


def test_five_thousand_steps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=5000)
    rows = [stats(s, 5000) for s in range(1, 5001)]
    rows[3210]["loss"] = 2.9  # one spike must survive the thinning
    lines(run / "metrics.jsonl", rows)
    page = page_of(run)
    raw = page.chart("loss").all("path", "raw")[0]
    assert path_points(raw) <= charts.MAX_POINTS
    hover = json.loads(page.chart("loss").attributes["data-hover"] or "")
    assert [3211, 2.9] in hover["series"][0][1]
    assert "highest 2.900 at step 3,211" in page.section("curves").text
    assert len(page.html) < 600_000
    assert "The numbers: 24 of 5,000 steps" in page.section("curves").text


def test_broken_text_in_the_data(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    broken = sample(1)
    broken["pieces"][3] = "\ud800\x00\u2028\r"
    (run / "samples.jsonl").write_text(json.dumps(broken) + "\n", encoding="utf-8")
    assert len(page_of(run).section("samples").all(css="painted")) == 1


# -- languages -------------------------------------------------------------------------------------


def test_labels_have_the_same_keys_and_places(tmp_path: Path) -> None:
    assert LABELS["en"].keys() == LABELS["zh"].keys()
    for key, english in LABELS["en"].items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", LABELS["zh"][key])), key
        assert english, key


def test_chinese_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=120, status="interrupted")
    page = page_of(run, "zh")
    assert page.root.all("html")[0].attributes["lang"] == "zh"
    assert "在第 120 步中断（共 200 步）" in page.verdict.text
    assert [h.text for h in page.root.all("h2")] == [
        "关键数字", "检查结果", "曲线", "训练计划", "数据台账", "数据概况", "着色样本", "运行环境", "配方"]
    assert page.tile("参与训练的 token")[0] == f"{sum(stats(s, 200)['trained_tokens'] for s in range(1, 121)):,}"


# -- charts and numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 2e-4), (0.83, 2.4), (-3.0, 7.0), (1.0, 1.0), (0.0, 0.0), (-2.0, -2.0), (1e5, 1e5 + 1e-9), (0.0, 1e30)])
def test_nice_ticks_enclose(low: float, high: float) -> None:
    ticks = charts.nice_ticks(low, high)
    assert ticks[0] <= low + 1e-9 * abs(low)
    assert ticks[-1] >= high * (1 - 1e-9)
    assert 2 <= len(ticks) <= 12
    texts = [charts.tick_text(t, ticks[1] - ticks[0]) for t in ticks]
    assert len(set(texts)) == len(texts)


def test_log_ticks_enclose() -> None:
    assert charts.log_ticks(0.5, 2e3) == [0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]
    for low, high in ((1e-30, 1e30), (1.0, 1.0), (10.0, 100.0)):
        ticks = charts.log_ticks(low, high)
        assert ticks[0] <= low
        assert ticks[-1] >= high
        assert 2 <= len(ticks) <= 9


def test_tick_text() -> None:
    assert [charts.tick_text(v, 5e-5) for v in (0, 5e-5, 1e-4, 1.5e-4)] == ["0", "5e-5", "1.0e-4", "1.5e-4"]
    assert charts.tick_text(1500, 500) == "1,500"
    assert charts.tick_text(0.25, 0.05) == "0.25"


def test_downsample_keeps_ends_and_extremes() -> None:
    points = [(float(x), math.sin(x) + (50.0 if x == 777 else -50.0 if x == 4001 else 0.0)) for x in range(5000)]
    kept = charts.downsample(points, 100)
    assert len(kept) <= 100
    assert kept == sorted(kept)
    assert {points[0], points[-1], points[777], points[4001]} <= set(kept)
    assert charts.downsample(points[:100], 100) == points[:100]


def test_smooth() -> None:
    flat = charts.smooth([(float(x), 2.0) for x in range(50)], 9)
    assert all(y == pytest.approx(2.0) for _, y in flat)
    slope = charts.smooth([(float(x), float(x)) for x in range(101)], 5)
    assert slope[50][1] == pytest.approx(50.0), "no lag"
    assert [x for x, _ in charts.smooth([(1.0, 1.0), (2.0, math.nan), (3.0, math.inf), (4.0, 2.0)], 3)] == [1.0, 4.0]


def test_spikes_make_the_axis_logarithmic() -> None:
    def draw(top: float) -> str:
        points = [(float(x), 1.0 + x / 100) for x in range(50)] + [(50.0, top)]
        return charts.line_chart(charts.Chart(id="c", title="t", desc="d", x_label="x", y_label="y", log_label="log", empty="", series=[
            charts.Series(label="s", points=points, style="raw")], non_finite=lambda kind, first, count: kind))

    assert "y (log)" in draw(1e6)
    assert "y (log)" not in draw(10.0)


@pytest.mark.parametrize(("value", "text"), [
    (None, "–"), ("cosine", "cosine"), (0, "0"), (1234567, "1,234,567"), (0.87461, "0.8746"), (2e-4, "2e-4"), (9.702e-5, "9.702e-5"),
    (1e-3, "0.001000"), (1234.5678, "1,235"), (3.0, "3"), ("nan", "NaN"), (float("inf"), "+Inf"), (-0.5, "-0.5000"), (1e20, "1e20")])
def test_number(value: Any, text: str) -> None:
    assert charts.number(value) == text


def test_size_and_share() -> None:
    assert [charts.size(v) for v in (0, 1023, 1536, 7 * 2**30, 3 * 2**40, None)] == ["0 B", "1,023 B", "1.50 KiB", "7 GiB", "3 TiB", "–"]
    assert [charts.share(a, b) for a, b in ((1, 3), (0, 5), (1, 0), (None, 1), (5, 5))] == ["33.3%", "0%", "–", "–", "100%"]
