"""gogpt template list | show | render, and docs/templates.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Ran, needs_shared, write_jsonl
from gogpt.templates import TEMPLATES, declared
from gogpt.templates.pages import table_markdown
from templates_cases import BASES, NAMES, ORACLE, expected, joined

Gogpt = Callable[..., Ran]

TWO_TURNS = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": " a\n"}, {"role": "assistant", "content": "b "},
                          {"role": "user", "content": "{c}"}, {"role": "assistant", "content": "d"}]}


def put(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def test_docs_are_current() -> None:
    assert (ROOT / "docs" / "templates.md").read_text(encoding="utf-8") == table_markdown(), "python -m gogpt.templates.pages docs/templates.md"


# -- list ------------------------------------------------------------------------------------------


def test_list(gogpt: Gogpt) -> None:
    ran = gogpt("template", "list")
    assert ran.code == 0
    head, *lines = ran.out.splitlines()
    assert head.split() == ["name", "family", "variants", "verified", "stop"]
    assert [line.split()[0] for line in lines] == BASES
    rows = {line.split()[0]: line.split(maxsplit=4) for line in lines}
    assert rows["llama2"] == ["llama2", "llama2", "5", "A", "</s>"]
    assert rows["guanaco"] == ["guanaco", "guanaco", "3", "C", "### Human:"]
    assert rows["phi4"] == ["phi4", "phi", "-", "A", "<|im_end|>"]
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_list_json(gogpt: Gogpt) -> None:
    entries = gogpt("template", "list", "--format", "json").json
    assert [e["name"] for e in entries] == BASES
    assert sorted(n for e in entries for n in (e["name"], *e["variants"])) == sorted(NAMES)
    assert {"name", "family", "source", "model", "stop", "verified", "variants"} == set(entries[0])


def test_list_is_quick() -> None:
    """Neither numpy nor Jinja is needed to read the table (0.2 s of CPU; with them 0.5)."""
    code = "import sys; from gogpt.cli import run; run(['template', 'list']); print(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "jinja2", "torch", "yaml", "pyarrow", "tokenizers"} & set(done.stderr.split())


# -- show ------------------------------------------------------------------------------------------


def test_show(gogpt: Gogpt) -> None:
    text = gogpt("template", "show", "alpaca").out
    for part in ("family    alpaca", "tatsu-lab/stanford_alpaca", "verified  A: ", "</s> (EOS is the tokenizer's own)", "alpaca/fastchat (B)", "LLaMA-Factory",
                 "### Response:⟦ANSWER 2</s>⟧"):
        assert part in text, part
    assert "rendering 2" not in text
    assert "rendering 2" in gogpt("template", "show", "qwen3").out
    assert "not written" in gogpt("template", "show", "firefly").out
    assert max(map(len, gogpt("template", "show", "moss").out.split("<|Human|>")[0].splitlines()[:30])) <= 400


@pytest.mark.parametrize("name", NAMES)
def test_show_json(gogpt: Gogpt, name: str) -> None:
    shown = gogpt("template", "show", name, "--format", "json").json
    template = declared(name)
    assert shown["name"] == name
    assert shown["notes"] == template.notes
    assert shown["stop"] == list(template.stop)
    assert shown["jinja"] == template.jinja()
    assert [v["name"] for v in shown["variants"]] == [t.name for t in TEMPLATES if t.base == name]
    assert "ANSWER 2" in "".join(text for text, train in shown["segments"] if train)


def test_show_of_a_jinja_file(gogpt: Gogpt, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}")
    ran = gogpt("template", "show", file)
    assert ran.code == 0
    assert "<assistant>⟦ANSWER 1⟧<user>QUESTION 2" in ran.out


def test_unknown_name(gogpt: Gogpt) -> None:
    for words in (["show", "alpaca/fastchart"], ["render", "alpaca/fastchart", "x.json"]):
        ran = gogpt("template", *words)
        assert ran.code == 2
        assert "TOK420" in ran.err
        assert "'alpaca/fastchat'" in ran.err


# -- render ----------------------------------------------------------------------------------------


def test_render_is_exact(gogpt: Gogpt, tmp_path: Path) -> None:
    file = put(tmp_path / "talk.json", TWO_TURNS)
    form = "<|im_start|>{}\n{}<|im_end|>\n".format
    text = form("system", "S") + form("user", " a\n") + form("assistant", "b ") + form("user", "{c}") + form("assistant", "d")
    assert gogpt("template", "render", "chatml", file).out == text
    before = text[: text.rindex("d<|im_end|>")]
    assert gogpt("template", "render", "chatml", file, "--generation").out == before
    segments = gogpt("template", "render", "chatml", file, "--segments")
    assert segments.out.count("\n") == 1
    assert segments.out == gogpt("template", "render", "chatml", file, "--segments", "--format", "json").out
    assert segments.json[-2:] == [["d<|im_end|>", True], ["\n", False]]
    document = gogpt("template", "render", "chatml", file, "--format", "json").json
    assert document == {"text": text, "generation": before, "segments": segments.json}
    assert "".join(t for t, _ in segments.json) == text


def test_render_of_a_variant(gogpt: Gogpt, tmp_path: Path) -> None:
    file = put(tmp_path / "talk.json", TWO_TURNS)
    assert gogpt("template", "render", "vicuna/llamafactory", file).out == "SUSER:  a\n ASSISTANT:b </s>USER: {c} ASSISTANT:d</s>"
    assert gogpt("template", "render", "vicuna", file).out == "S USER:  a\n ASSISTANT: b </s>USER: {c} ASSISTANT: d</s>"


def test_render_of_an_alpaca_row(gogpt: Gogpt, tmp_path: Path) -> None:
    file = put(tmp_path / "row.json", {"instruction": "Add.", "input": "1 2", "output": "3"})
    assert gogpt("template", "render", "nous_hermes", file).out == "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3</s>"
    assert gogpt("template", "render", "bluelm", file).out == "[|Human|]:Add.\n1 2[|AI|]:3</s>"


def test_render_of_a_form_that_rewrites_history(gogpt: Gogpt, tmp_path: Path) -> None:
    """The whole conversation, its last answer trained; and in JSON one example for each answer."""
    file = put(tmp_path / "talk.json", TWO_TURNS)
    document = gogpt("template", "render", "codellama_70b", file, "--format", "json").json
    text = ("<s>Source: system\n\n S <step> Source: user\n\n a <step> Source: assistant\n\n b <step> Source: user\n\n {c} <step> "
            "Source: assistant\nDestination: user\n\n d <step>")
    assert document["text"] == text == gogpt("template", "render", "codellama_70b", file).out
    assert [t for t, train in document["segments"] if train] == ["d <step>"]
    first, second = document["examples"]
    assert first["text"] == "<s>Source: system\n\n S <step> Source: user\n\n a <step> Source: assistant\nDestination: user\n\n b <step>"
    assert first["segments"] == [[first["generation"], False], ["b <step>", True]]
    assert (second["text"], second["generation"]) == (text, document["generation"])
    assert "examples" not in gogpt("template", "render", "mistral_v3", put(tmp_path / "bare.json", {"messages": TWO_TURNS["messages"][1:]}), "--format", "json").json
    # The whole conversation also where its last answer is not trained.
    messages = [*TWO_TURNS["messages"][:4], {"role": "assistant", "content": "d", "train": False}]
    assert gogpt("template", "render", "codellama_70b", put(file, {"messages": messages})).out == text
    assert gogpt("template", "render", "codellama_70b", file, "--segments").json == [[text, False]]


def test_render_of_a_prompt_alone(gogpt: Gogpt, tmp_path: Path) -> None:
    for messages in ([{"role": "user", "content": "a"}], [{"role": "system", "content": "S"}, {"role": "user", "content": " "}]):
        file = put(tmp_path / "talk.json", {"messages": messages})
        ran = gogpt("template", "render", "chatml", file, "--generation")
        assert ran.code == 0
        assert ran.out == "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages) + "<|im_start|>assistant\n"


def test_render_refuses(gogpt: Gogpt, tmp_path: Path) -> None:
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    for document, why in (
        ({"messages": [user, user, answer]}, "in turn"), ({"messages": [user, answer], "tools": tools}, "no form for tools"),
        ({"messages": [user, {**answer, "reasoning_content": "hm"}]}, "no form for reasoning_content"),
    ):
        ran = gogpt("template", "render", "llama2", put(tmp_path / "talk.json", document))
        assert ran.code == 2
        assert ran.out == ""
        assert "TOK423" in ran.err
        assert why in ran.err
    assert "<tools>" in gogpt("template", "render", "qwen2.5", put(tmp_path / "talk.json", {"messages": [user, answer], "tools": tools})).out


@pytest.mark.parametrize(("name", "code"), [("solar/jinja", "TOK401"), ("ziya/llamafactory", "TOK401"), ("guanaco", "TOK407")])
def test_forms_that_cannot_be_trained_are_refused(gogpt: Gogpt, recipe: Callable[..., Path], name: str, code: str) -> None:
    """A form that others train without a stop token has a name here, so that it can be told."""
    ran = gogpt("check", recipe(), f"data.template={name}", "--format", "json")
    assert ran.code == 1
    assert code in [f["code"] for f in ran.json["findings"]]


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_render_is_the_oracle(gogpt: Gogpt, tmp_path: Path, name: str) -> None:
    """All of the oracle's conversations as one .jsonl, in order: text, prompt, segments, and the examples."""
    oracle = json.loads(ORACLE.read_text(encoding="utf-8"))
    renders = next(r for n, _, r in expected(oracle) if n == name)
    rows = []
    for key in renders:
        source = oracle["conversations"][key]
        if "instruction" in source:
            rows.append({k: source[k] for k in ("instruction", "input", "output")})
        else:
            system = [{"role": "system", "content": source["system"]}] if source["system"] is not None else []
            rows.append({"messages": [*system, *source["messages"]]})
    ran = gogpt("template", "render", name, write_jsonl(tmp_path / "all.jsonl", rows))
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert len(lines) == len(renders)
    for line, want in zip(lines, renders.values(), strict=True):
        got = json.loads(line)
        assert got["text"] == want["training"]
        assert got["generation"] == want["generation"]
        assert got["segments"] == want["segments"]
        if "examples" in got and "examples" in want:
            assert [e["text"] for e in got["examples"]] == [e["training"] for e in want["examples"]]
            assert [e["generation"] for e in got["examples"]] == [e["generation"] for e in want["examples"]]
            assert [joined(e["segments"]) for e in got["examples"]] == [e["segments"] for e in want["examples"]]
