"""The documents say what is so: generated pages are current, what they name exists, and what they show was really printed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, SMOLLM2, Ran
from gogpt.cli.helppages import (
    DOCUMENTS,
    FOLDER,
    NOTES,
    REFUSED,
    TITLES,
    cli_markdown,
    recipe_keys,
    recipe_markdown,
)

SOURCE = ROOT / "src" / "gogpt"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
READMES = ("README.md", "README.zh-CN.md")
TRANSCRIPTS = (*READMES, "docs/check.md")
"""Pages that show what commands print."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of the code blocks, also of those inside lists."""
    return [(m[2], m[3]) for m in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.S | re.M)]


def prose(text: str) -> str:
    return re.sub(r"^( *)```\w*\n.*?^\1```$", "", text, flags=re.S | re.M)


# -- generated pages -------------------------------------------------------------------------------


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==([^;\s]+)", read("constraints.txt"), re.M)
    assert found
    return found[1]


@pytest.mark.skipif(importlib.metadata.version("typer") != pinned("typer"), reason="another typer than constraints.txt words its help otherwise")
def test_cli_page_is_current() -> None:
    assert read("docs/cli.md") == cli_markdown(), "make docs"


def test_recipe_page_is_current() -> None:
    assert read("docs/recipe.md") == recipe_markdown(), "make docs"


def test_make_docs_writes_both() -> None:
    makefile = read("Makefile")
    assert "gogpt.cli.helppages docs/cli.md" in makefile
    assert "gogpt.cli.helppages --recipe docs/recipe.md" in makefile


def test_every_recipe_key_has_a_meaning_once() -> None:
    """A key is explained in config.py, or in NOTES where its field has no description; never in both."""
    from gogpt.config import recipe_schema

    rows = list(recipe_keys())
    keys = [key for key, *_ in rows]
    assert len(set(keys)) == len(keys)
    assert [key for key, _, _, meaning in rows if not meaning] == []
    assert set(NOTES) | set(REFUSED) <= set(keys)
    schema = recipe_schema()
    parts = {"model": "ModelConfig", "data": "DataConfig", "data.train": "SourceConfig",
             "data.clean": "CleanConfig", "data.mix": "MixConfig", "method": "MethodConfig",
             "train": "TrainConfig", "parallel": "ParallelConfig", "checks": "ChecksConfig"}
    described = {f"{prefix}.{key}" for prefix, name in parts.items() for key, spec in schema["$defs"][name]["properties"].items()
                 if spec.get("description")}
    assert set(NOTES) & described == set(), "config.py describes these now: take them out of NOTES in cli/helppages.py"
    assert len(keys) == sum(len(schema["$defs"][name]["properties"]) for name in parts.values()) + 2


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, (_, values) in REFUSED.items() for value in values])
def test_what_is_said_to_be_refused_is(key: str, value: object, tmp_path: Path) -> None:
    from gogpt.config import parse_recipe
    from gogpt.errors import GogptError
    from gogpt.preflight import refuse_unbuilt

    text = "model: m\ndata: {train: a.jsonl}\noutput: run\n"
    refuse_unbuilt(parse_recipe(text, name="recipe.yaml", base=tmp_path))
    with pytest.raises(GogptError, match=key.rpartition(".")[2]) as caught:
        refuse_unbuilt(parse_recipe(text, name="recipe.yaml", base=tmp_path, assignments=[f"{key}={value}"]))
    assert caught.value.code == "CFG230"


# -- documented keys are the keys of real documents ------------------------------------------------


def documented(name: str) -> set[str]:
    return {key for group in DOCUMENTS[name][1] for key in group.split(", ")}


def test_every_document_has_a_title() -> None:
    assert list(TITLES) == list(DOCUMENTS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """A tiny run from recipe to merge, each command with ``--format json``: name -> document, and the run folder."""
    import contextlib
    import io

    from conftest import rows, write_jsonl
    from gogpt.cli import run

    folder = tmp_path_factory.mktemp("documents")
    write_jsonl(folder / "data.jsonl", [*rows(16, turns=2), {"messages": []}])
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps({
        "model": str(tiny), "data": {"train": "data.jsonl", "max_length": 256, "eval": 0.2}, "method": {"rank": 2}, "output": "run",
        "train": {"epochs": 1, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3}}), encoding="utf-8")

    def ask(*words: object) -> Any:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            code = run([*map(str, words), "--format", "json"])
        assert code == 0, words
        return json.loads(text.getvalue())

    out: dict[str, Any] = {"folder": folder / "run"}
    out["plan"] = ask("plan", recipe, "--no-probe", "-q")
    out["check"] = ask("check", recipe, "-q")
    out["prepared"] = ask("prepare", recipe, "-q", "--dry-run")
    out["show"] = ask("show", recipe)
    out["converted"] = ask("data", "convert", folder / "data.jsonl", "-o", folder / "out.jsonl")
    out["rendered"] = ask("template", "render", "chatml", write_one(folder))
    out["trained"] = ask("train", recipe, "-q")
    out["merged"] = ask("merge", folder / "run", "-o", folder / "merged", "-q")
    out["answer"] = ask("generate", folder / "run", "Hi", "--max-new-tokens", 2, "-q")
    out["evaluated"] = ask("evaluate", folder / "run", "-q")
    return out


def write_one(folder: Path) -> Path:
    path = folder / "one.json"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["check", "show", "converted", "rendered", "trained", "answer", "evaluated"])
def test_documents_have_the_documented_keys(finished: dict[str, Any], name: str) -> None:
    assert set(finished[name]) == documented(name)


def test_plan_document(finished: dict[str, Any]) -> None:
    assert set(finished["plan"]) == documented("plan")
    on_disk = json.loads((finished["folder"] / "plan.json").read_text(encoding="utf-8"))
    assert set(on_disk) == documented("plan") | {"fingerprint"}
    memory = finished["plan"]["memory"]
    assert memory.pop("total") == sum(memory.values())


def test_prepared_document(finished: dict[str, Any]) -> None:
    assert set(finished["prepared"]) == documented("prepared")
    assert set(finished["prepared"]["mix"][0]) == {"kind", "name", "found", "used", "share", "tokens", "trained", "repeats"}


def test_merge_document(finished: dict[str, Any]) -> None:
    assert set(finished["merged"]) == documented("merged") | documented("check")


def test_findings(finished: dict[str, Any]) -> None:
    dropped = finished["check"]["findings"]
    assert [f["code"] for f in dropped] == ["DAT311"]
    assert set(dropped[0]) == documented("finding")
    on_disk = json.loads((finished["folder"] / "findings.json").read_text(encoding="utf-8"))
    assert set(on_disk) == documented("check")


@pytest.mark.parametrize(("name", "file"), [("ledger", "ledger.json"), ("run", "run.json")])
def test_files_of_a_run(finished: dict[str, Any], name: str, file: str) -> None:
    assert set(json.loads((finished["folder"] / file).read_text(encoding="utf-8"))) == documented(name)


@pytest.mark.parametrize(("name", "file"), [("metrics", "metrics.jsonl"), ("eval", "eval.jsonl")])
def test_lines_of_a_run(finished: dict[str, Any], name: str, file: str) -> None:
    lines = (finished["folder"] / file).read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        assert set(json.loads(line)) == documented(name)


def test_rejects_and_samples(finished: dict[str, Any]) -> None:
    first = {}
    for name in ("rejects", "samples"):
        first[name] = json.loads((finished["folder"] / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(first["rejects"]) == set(re.findall(r'"(\w+)"', FOLDER["rejects.jsonl"])) - {"path", "row"}
    assert set(first["rejects"]["origin"]) == {"path", "row"}
    assert set(first["samples"]) == documented("show")


def test_run_folder(finished: dict[str, Any]) -> None:
    found = {p.name + ("/" if p.is_dir() else "") for p in finished["folder"].iterdir()}
    listed = {name.replace("checkpoints/step-N/", "checkpoints/") for name in FOLDER}
    assert listed - found == {"rolled_back.jsonl", "stopped_batch.json"}
    assert found <= listed
    assert list((finished["folder"] / "checkpoints").glob("step-*"))


# -- the architecture names every file -------------------------------------------------------------


def tree(text: str) -> Iterator[tuple[str, str]]:
    """(path, remark) of the files in the tree of docs/architecture.md; folders end in a slash and stand alone."""
    block = next(content for _, content in blocks(text) if content.startswith("src/gogpt/\n"))
    open_folders: list[str] = []
    for line in block.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        name, _, remark = line.strip().partition(" ")
        del open_folders[depth:]
        if name.endswith("/"):
            open_folders.append(name)
        else:
            yield "".join(open_folders) + name, remark.strip()


def test_architecture_lists_every_file() -> None:
    listed = list(tree(read("docs/architecture.md")))
    files = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    names = [name for name, _ in listed]
    assert sorted(files - set(names)) == [], "not in the tree of docs/architecture.md"
    assert sorted(set(names) - files) == [], "in the tree of docs/architecture.md, but not in src/gogpt"
    assert len(names) == len(set(names))
    assert [name for name, remark in listed if not remark] == []


def test_architecture_names_each_check_by_its_code() -> None:
    from gogpt.checks import CHECKS

    remarks = dict(tree(read("docs/architecture.md")))
    assert {f"checks/{c.stage.value}/{c.name}.py": c.code for c in CHECKS}.items() <= remarks.items()


# -- the two READMEs -------------------------------------------------------------------------------


def headings(text: str) -> list[int]:
    return [len(m[1]) for m in re.finditer(r"^(#+) ", prose(text), re.M)]


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def test_readmes_are_equal_section_by_section() -> None:
    english, chinese = (read(name) for name in READMES)
    assert headings(english) == headings(chinese)
    assert [kind for kind, _ in blocks(english)] == [kind for kind, _ in blocks(chinese)]
    other = {"README.md": "README.zh-CN.md"}
    assert links(english) == [other.get(link, link) for link in links(chinese)]
    assert links(english)[0] == "README.zh-CN.md"
    assert [line.count("|") for line in english.splitlines() if line.startswith("|")] == [
        line.count("|") for line in chinese.splitlines() if line.startswith("|")]


def test_readme_opens_with_the_two_commands() -> None:
    for name in READMES:
        kind, first = blocks(read(name))[0]
        assert kind == "bash"
        assert [line.split("#")[0].split() for line in first.splitlines()] == [["make", "quickstart"], ["make", "test"]]
        assert read(name).index("```bash") < 100


def test_readmes_show_the_same_output() -> None:
    """Blocks without a comment are the same, but for the command that answers in Chinese."""
    english, chinese = ([b for b in blocks(read(name)) if "#" not in b[1] and "--lang zh" not in b[1]] for name in READMES)
    differ = [a for a in english if a not in chinese]
    assert [a for _, a in differ if not a.startswith("$ gogpt check")] == []
    assert [b for b in chinese if b not in english] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_linked_files_exist(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_pages_name_no_machine(page: Path) -> None:
    found = re.findall(r"(?<![\w.])/(?:work|tmp|home|root|Users)\b\S*", page.read_text(encoding="utf-8"))
    assert found == []


# -- commands --------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after ``gogpt`` of each command in a code block (``gogpt ...``, ``$ gogpt ...``) or in backquotes."""
    lines = [line for _, content in blocks(text) for line in content.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:\.venv/bin/)?gogpt [^`\n]+)`", prose(text))
    for line in lines:
        found = re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?gogpt (\S.*)", line)
        if found is None or re.match(r"VERB|\.\.\.", found[1]):
            continue
        words = []
        for word in shlex.split(found[1], comments=True):
            if word in ("|", ">", ">>", "<", "&&", ";"):
                break
            words.append(word)
        yield words


def parse(words: list[str]) -> None:
    """Parse a command line as the app would, without running it; a name alone (`gogpt train`) only has to exist."""
    from typer.main import get_command

    from gogpt.cli import app

    command: Any = get_command(app)
    context = command.context_class(command, info_name="gogpt", **command.context_settings)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        name, words = words[0], words[1:]
        command = command.commands[name]
        context = command.context_class(command, info_name=name, parent=context)
    if words and words not in (["--help"], ["--version"], ["-h"]):
        command.make_context(context.info_name, list(words), parent=context.parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_exist(page: Path) -> None:
    for words in command_lines(page.read_text(encoding="utf-8")):
        try:
            parse(words)
        except Exception as problem:
            raise AssertionError(f"gogpt {shlex.join(words)}: {getattr(problem, 'message', problem)}") from problem


@pytest.mark.parametrize("words", ["trian x.yaml", "train x.yaml --dryrun", "template shwo chatml", "merge run", "show a:1 --train-on", "plan x --format yaml"])
def test_wrong_commands_are_found(words: str) -> None:
    with pytest.raises(Exception, match=r"no command|No such|Missing|requires|not one of"):
        parse(words.split())


def test_commands_are_read_from_pages() -> None:
    text = "Say `gogpt explain TOK403`.\n\n```bash\n$ gogpt plan a.yaml \\\n  train.epochs=1 # why\ngogpt schema > s.json\nls\n```\n\n- x\n\n  ```text\n  gogpt VERB\n  ```\n"
    assert list(command_lines(text)) == [["plan", "a.yaml", "train.epochs=1"], ["schema"], ["explain", "TOK403"]]


def test_readme_lists_every_command() -> None:
    from typer.main import get_command

    from gogpt.cli import app

    for name in READMES:
        listed = re.findall(r"^\| `gogpt (\w+)` \|", read(name), re.M)
        assert sorted(listed) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


# -- what is shown was printed ---------------------------------------------------------------------


def shown(name: str) -> list[str]:
    return [content for kind, content in blocks(read(name)) if kind == "text" and content.startswith("$ gogpt ")]


def on_cpu() -> bool:
    from gogpt.doctor import collect_env

    return collect_env(ROOT).device == "cpu"


@pytest.mark.skipif(not (SMOLLM2 / "config.json").is_file(), reason="make test makes the model that the README's examples use")
@pytest.mark.parametrize("content", sorted({c for name in TRANSCRIPTS for c in shown(name)}), ids=lambda c: c.splitlines()[0][8:])
def test_output_is_real(content: str, gogpt: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    first, *expected = content.rstrip("\n").splitlines()
    (words,) = command_lines(f"```text\n{first}\n```")
    if words[0] == "plan":
        if not on_cpu():
            pytest.skip("the plan in the README is that of a CPU")
        words.append("--no-probe")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_COLOR", "1")
    printed = [line.rstrip(" ") for line in gogpt(*words).out.rstrip("\n").splitlines()]  # tables fill their last column
    assert [line for line in printed if not line.startswith("time ")] == [line for line in expected if not line.startswith("time ")]


def test_readme_mistakes_are_real(gogpt: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = gogpt("check", "examples/identity.yaml", "train.lerning_rate=1e-4", "data.paking=true")
    assert ran.code == 2
    for name in READMES:
        assert ran.err in [content for _, content in blocks(read(name))]


def test_readme_recipe_is_a_recipe() -> None:
    """It is the quickstart's own, with defaults written out."""
    from gogpt.config import load_recipe, parse_recipe
    from gogpt.data.clean import Cleaner
    from gogpt.data.mix import check_mix
    from gogpt.preflight import refuse_misplaced

    for name in READMES:
        text, cleaning, documents, *parallel = (content for kind, content in blocks(read(name)) if kind == "yaml")
        for line in "".join(parallel).splitlines():  # one choice a line
            parse_recipe(f"model: m\noutput: run\ndata: {{train: a.jsonl}}\n{line}", name=name, base=ROOT / "examples")
        assert parse_recipe(text, name=name, base=ROOT / "examples") == load_recipe(str(ROOT / "examples" / "identity.yaml"))
        parsed = parse_recipe(f"model: m\noutput: run\n{cleaning}", name=name, base=ROOT / "examples").data
        Cleaner(parsed.clean)
        check_mix(parsed.mix, parsed.train)
        refuse_misplaced(parse_recipe(documents, name=name, base=ROOT / "examples"))


def test_readme_schemas_and_templates_are_all() -> None:
    from gogpt.data.schemas import SCHEMAS

    for name in READMES:
        tables = re.findall(r"^\| `(\w+)` \| `", read(name), re.M)
        assert sorted(tables) == sorted(s.name for s in SCHEMAS)


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    from gogpt.data.schemas import NUM_SAMPLE
    from gogpt.plan import NUM_LR_POINTS
    from gogpt.watch import NUM_SAMPLED

    rows, questions = (len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines())
                       for name in ("identity.jsonl", "identity_questions.jsonl"))
    english, chinese, cli, house = (read(name) for name in (*READMES, "docs/cli.md", "docs/architecture.md"))
    assert f"({rows} conversations, " in english
    assert f"（{rows} 条对话，" in chinese
    assert f"the answers to {questions} questions" in english
    assert f"对 {questions} 个不在数据中的问题" in chinese
    assert f"first {NUM_SAMPLE} rows" in english
    assert f"前 {NUM_SAMPLE} 行" in chinese
    assert f"first {NUM_SAMPLE} rows" in house
    assert f"about {NUM_LR_POINTS:,} of them" in cli
    assert f"above {NUM_SAMPLED:,} elements" in cli
