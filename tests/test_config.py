"""The recipe: YAML 1.2 values, paths, shorthand, overrides, and mistakes told all at once with their lines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, Ran
from gogpt.config import RunConfig, load_recipe, parse_recipe, parse_value, recipe_schema
from gogpt.errors import GogptError

BASE = Path("/recipes")
HERE = Path("/here")
HEAD = "model: owner/name\ndata: {train: a.jsonl}\noutput: run\n"


def parse(text: str, *assignments: str, name: str = "r.yaml") -> RunConfig:
    return parse_recipe(textwrap.dedent(text), name=name, base=BASE, assignments=assignments, here=HERE)


def refused(text: str, *assignments: str) -> GogptError:
    with pytest.raises(GogptError) as caught:
        parse(text, *assignments)
    assert caught.value.exit_code == 2
    return caught.value


def problem_of(text: str, *assignments: str) -> GogptError | None:
    """The refusal, or None; any other exception fails the test."""
    try:
        parse_recipe(text, name="r.yaml", base=BASE, assignments=assignments, here=HERE)
    except GogptError as problem:
        return problem
    return None


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [
    ("2e-4", 2e-4), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-3", -3), ("0x10", 16), ("1_000", 1000), ("+7", 7),
    ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("NO", "NO"), ("n", "n"),
    ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
    ("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("1.2.3", "1.2.3"), ("a b", "a b"), ("0o7", "0o7"), ("010", 10),
    ("[1, a]", [1, "a"]), ("{a: 1}", {"a": 1}), ("*.jsonl", "*.jsonl"), ("a: b: c", "a: b: c"), ("@x", "@x"),
])
def test_values_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_a_value_that_contains_itself_or_nests_without_end_is_text() -> None:
    assert parse_value("&a [*a]") == "&a [*a]"
    assert parse_value("[" * 3000) == "[" * 3000


def test_the_readme_example_of_a_learning_rate() -> None:
    assert parse(HEAD + "train: {learning_rate: 2e-4}").train.learning_rate == 2e-4
    assert parse(HEAD, "train.learning_rate=5e-5").train.learning_rate == 5e-5


def test_no_is_a_word() -> None:
    config = parse("model: no\ndata: {train: no.jsonl, template: no}\noutput: off\n")
    assert config.model.path == "/recipes/no"
    assert config.data.template == "no"
    assert config.output == "/recipes/off"


# -- paths and shorthand ---------------------------------------------------------------------------


def test_shorthand_is_written_out() -> None:
    config = parse("""
        model: base
        data: {train: [a.jsonl, {path: b.jsonl, weight: 0.5}], eval: c.jsonl}
        output: run
    """)
    assert config.model.path == "/recipes/base"
    assert [(s.path, s.weight) for s in config.data.train] == [("/recipes/a.jsonl", 1.0), ("/recipes/b.jsonl", 0.5)]
    assert isinstance(config.data.eval, tuple)
    assert config.data.eval[0].path == "/recipes/c.jsonl"
    one = parse("model: {path: base}\ndata: {train: {path: a.jsonl}}\noutput: run\n")
    assert one.data.train[0].path == "/recipes/a.jsonl"


def test_paths_of_the_recipe_and_of_the_command_line() -> None:
    text = "model: base\ndata: {train: a.jsonl, template: t.jinja}\noutput: run\nparallel: {config: ds.json}\n"
    config = parse(text)
    assert config.model.path == "/recipes/base"
    assert config.data.train[0].path == "/recipes/a.jsonl"
    assert config.data.template == "/recipes/t.jinja"
    assert config.output == "/recipes/run"
    assert config.parallel.config == "/recipes/ds.json"
    over = parse(text, "model=base", "data.train=[a.jsonl, {path: b.jsonl}]", "data.template=t.jinja", "output=run", "data.eval=e.jsonl")
    assert over.model.path == "/here/base"
    assert [s.path for s in over.data.train] == ["/here/a.jsonl", "/here/b.jsonl"]
    assert over.data.template == "/here/t.jinja"
    assert over.output == "/here/run"
    assert isinstance(over.data.eval, tuple)
    assert over.data.eval[0].path == "/here/e.jsonl"


def test_absolute_paths_home_and_hub_ids_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = parse("model: owner/name\ndata: {train: [/abs/a.jsonl, ~/b.jsonl, hub:owner/set, owner/set, owner/file.jsonl]}\noutput: /out\n")
    assert config.model.path == "owner/name"
    assert [s.path for s in config.data.train] == ["/abs/a.jsonl", "/home/me/b.jsonl", "hub:owner/set", "owner/set", "/recipes/owner/file.jsonl"]
    assert config.output == "/out"
    (tmp_path / "owner" / "name").mkdir(parents=True)
    local = parse_recipe(HEAD, name="r.yaml", base=tmp_path)
    assert local.model.path == str(tmp_path / "owner" / "name")


def test_home_of_an_unknown_user_is_an_ordinary_path() -> None:
    assert parse("model: owner/name\ndata: {train: ~nosuchuser/a.jsonl}\noutput: o\n").data.train[0].path.endswith("~nosuchuser/a.jsonl")


def test_overrides_reach_into_shorthand_lists_and_new_parts() -> None:
    config = parse(HEAD, "model.dtype=float32", "data.train.0.weight=2", "method.rank=4", "train.trainer.logging_steps=5", "checks.allow=[CFG210]")
    assert config.model.path == "owner/name"
    assert config.model.dtype == "float32"
    assert config.data.train[0].weight == 2
    assert config.data.train[0].path == "/recipes/a.jsonl"
    assert config.method.rank == 4
    assert config.train.trainer == {"logging_steps": 5}
    assert config.checks.allow == ("CFG210",)
    assert parse(HEAD, "data.train.schema=alpaca").data.train[0].schema_ == "alpaca"
    two = parse("model: m\ndata: {train: [a.jsonl, b.jsonl]}\noutput: o\n", "data.train.1.path=c.jsonl", "data.train.1.weight=3")
    assert [(s.path, s.weight) for s in two.data.train] == [("/recipes/a.jsonl", 1.0), ("/here/c.jsonl", 3.0)]


def test_the_later_override_wins() -> None:
    assert parse(HEAD, "train.seed=1", "train.seed=2").train.seed == 2


def test_a_json_recipe(tmp_path: Path) -> None:
    document = {"model": "owner/name", "data": {"train": ["a.jsonl"], "template": "\U0001f600"}, "output": "run",
                "train": {"learning_rate": 1e-5, "epochs": 2}}
    path = tmp_path / "recipe.json"
    for text in (json.dumps(document), json.dumps(document, indent="\t"), json.dumps(document, indent=2, ensure_ascii=False)):
        path.write_text(text, encoding="utf-8")
        config = load_recipe(path)
        assert config.train.learning_rate == 1e-5
        assert config.data.template == "\U0001f600"
        assert config.output == str(tmp_path / "run")
    path.write_text(json.dumps({**document, "tran": {}}, indent=1), encoding="utf-8")
    with pytest.raises(GogptError) as caught:
        load_recipe(path)
    assert f"{path}:14: unknown key 'tran'; did you mean 'train'?" in str(caught.value)


def test_a_recipe_with_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert load_recipe(path).output == str(tmp_path / "run")


# -- mistakes --------------------------------------------------------------------------------------


def test_all_mistakes_at_once_with_their_lines() -> None:
    problem = refused("""\
        modle: owner/name
        data:
          train:
            - a.jsonl
            - path: b.jsonl
              weigth: 2
          max_length: long
        train:
          learning_rte: 1e-4
          schedule: cosin
        output: run
        """)
    assert problem.code == "CFG202"
    lines = problem.message.splitlines()
    assert lines[0] == "6 mistakes in the recipe"
    assert set(map(str.strip, lines[1:])) == {
        "r.yaml:1: 'model' is missing; it has no default",
        "r.yaml:1: unknown key 'modle'; did you mean 'model'?",
        "r.yaml:6: unknown key 'data.train.1.weigth'; did you mean 'weight'?",
        "r.yaml:7: data.max_length: should be a valid integer, unable to parse string as an integer, got 'long'",
        "r.yaml:9: unknown key 'train.learning_rte'; did you mean 'learning_rate'?",
        "r.yaml:10: train.schedule: should be 'cosine', 'linear' or 'constant', got 'cosin'; did you mean 'cosine'?",
    }


@pytest.mark.parametrize(("text", "line"), [
    ("data:\n  train:\n    path: a.jsonl\n    wieght: 2", "r.yaml:6: unknown key 'data.train.0.wieght'; did you mean 'weight'?"),
    ("data: {train: a.jsonl}\ntrain:\n  rank: 4", "r.yaml:5: unknown key 'train.rank'; it belongs to method.rank"),
    ("data: {train: a.jsonl}\ntrain:\n  overlong: drop", "it belongs to data.overlong"),
    ("data: {train: a.jsonl}\nlearning_rate: 1", "r.yaml:4: unknown key 'learning_rate'; it belongs to train.learning_rate"),
    ("data: {train: a.jsonl}\nmethod:\n  rank: sixteen", "r.yaml:5: method.rank: should be a valid integer"),
    ("data: {train: a.jsonl}\nmethod:\n  rank: true", "r.yaml:5: method.rank: true and false are no values of this key, got True"),
    ("data: {train: a.jsonl}\nmethod:\n  rank: 0", "r.yaml:5: method.rank: should be greater than or equal to 1, got 0"),
    ("data: {train: a.jsonl}\nmethod:\n  targets: 5", "r.yaml:5: method.targets: should be a valid string or a valid tuple, got 5"),
    ("data: {train: a.jsonl}\nmethod:", "r.yaml:4: method: should be keys with values (kind, rank, alpha, dropout, targets, modules_to_save, ...), got nothing"),
    ("data: {train: a.jsonl}\ntrain: {epochs: .inf}", "r.yaml:4: train.epochs: should be a finite number, got inf"),
    ("data: {train: a.jsonl}\ntrain: {epochs: 1e9}", "r.yaml:4: train.epochs: should be less than or equal to 100000, got 1000000000.0"),
    ("data: {train: a.jsonl}\ntrain: {seed: 4294967296}", "r.yaml:4: train.seed: should be less than 4294967296"),
    ("data: {train: a.jsonl}\nparallel: {zero: 5}", "r.yaml:4: parallel.zero: should be 0, 1, 2 or 3, got 5"),
    ("data: {train: a.jsonl}\nchecks: {allow: CFG210}", "r.yaml:4: checks.allow: should be a valid tuple, got 'CFG210'"),
    ("data: {train: []}", "r.yaml:3: data.train: should not be empty"),
    ("data: {train: 5}", "r.yaml:3: data.train: should be a valid tuple, got 5"),
    ("data: {train: [5]}", "r.yaml:3: data.train.0: should be keys with values (path, schema, weight, split, subset, revision, ...), got 5"),
    ("data: a.jsonl", "r.yaml:3: data: should be keys with values"),
    ("data:", "r.yaml:3: data: should be keys with values"),
    ("data: {train: a.jsonl, eval: 20}", "r.yaml:3: data.eval: should be less than 1, got 20"),
    ("data: {train: a.jsonl, eval: -0.1}", "r.yaml:3: data.eval: should be greater than or equal to 0, got -0.1"),
    ("data: {train: a.jsonl, eval: true}", "r.yaml:3: data.eval: true and false are no values of this key"),
    ("data: {train: a.jsonl, eval: {pth: b.jsonl}}", "r.yaml:3: unknown key 'data.eval.0.pth'; did you mean 'path'?"),
    ("data: {train: {path: a.jsonl, weight: 0}}", "r.yaml:3: data.train.0.weight: should be greater than 0, got 0"),
])
def test_one_mistake_with_its_line(text: str, line: str) -> None:
    problem = refused(f"model: owner/name\noutput: run\n{text}\n")
    assert problem.code == "CFG202"
    assert line in problem.message
    if "'data.eval.0" not in line:  # a source of which nothing is right lacks its path as well
        assert problem.message.splitlines()[0] == "1 mistake in the recipe"


def test_an_empty_output_is_never_the_current_folder() -> None:
    assert "output: should not be empty" in refused(HEAD, 'output=""').message
    assert "output: should not be empty" in refused("model: m\ndata: {train: a}\noutput: ''\n").message
    assert "output" in refused(HEAD, "output=").message


@pytest.mark.parametrize(("assignment", "code", "said"), [
    ("nonsense", "CFG204", "cannot read 'nonsense'"),
    ("=3", "CFG204", "cannot read '=3'"),
    ("train learning_rate=1", "CFG204", "cannot read"),
    ("data.train.5.path=x", "CFG204", "there is no such place in the recipe: data.train.5.path"),
    ("model.path.x=1", "CFG204", "there is no such place in the recipe"),
    ("train.learning_rte=1", "CFG202", "command line, train.learning_rte: unknown key 'train.learning_rte'; did you mean 'learning_rate'?"),
    ("learning_rate=1", "CFG202", "it belongs to train.learning_rate"),
    ("train.learning_rate=fast", "CFG202", "command line, train.learning_rate: train.learning_rate: should be a valid number"),
    ("train.learning_rate=", "CFG202", "got nothing"),
    ("train=", "CFG202", "got nothing"),
])
def test_wrong_overrides(assignment: str, code: str, said: str) -> None:
    problem = refused(HEAD, assignment)
    assert problem.code == code
    assert said in str(problem)
    assert "command line" in str(problem)


@pytest.mark.parametrize(("text", "where", "said"), [
    ("model: a\nmodel: b\n", "r.yaml:2", "the key 'model' stands twice"),
    ("train: {seed: 1, seed: 2}\n", "r.yaml:1", "the key 'seed' stands twice"),
    ('{"model": "a",\n "model": "b"}', "r.yaml:2", "the key 'model' stands twice"),
    ("model: a\ndata:\n\ttrain: x\n", "r.yaml:3", r"'\t'"),
    ("model: [a\n", "r.yaml:2", ""),
    ("model: a\n data: b\n", "r.yaml:2", ""),
    ("model: 'a\n", "r.yaml:2", ""),
    ("model: &x [*x]\n", "r.yaml:1", "contains itself"),
    ("model: !!python/object:os.system x\n", "r.yaml:1", "python/object"),
    ("train: {trainer: {x: !!binary aGk=}}\n", "r.yaml:1", "binary"),
    ("model: !!int abc\n", "r.yaml", "abc"),
    ("model: a\nx: \x07\n", "r.yaml:2", "control character"),
    ("a: " + "[" * 3000, "r.yaml", "deep"),
    ("a: " + "[" * 60 + "]" * 60, "r.yaml:1", "deep"),
    ("model: a\n---\nmodel: b\n", "r.yaml:2", "another document"),
    ("- a\n- b\n", "r.yaml", "a recipe is a mapping"),
    ("just words\n", "r.yaml", "a recipe is a mapping"),
    ("", "r.yaml", "a recipe is a mapping"),
    ("# nothing\n", "r.yaml", "a recipe is a mapping"),
])
def test_what_is_no_recipe(text: str, where: str, said: str) -> None:
    with pytest.raises(GogptError) as caught:
        parse_recipe(text, name="r.yaml", base=BASE)
    assert caught.value.code == "CFG201"
    assert caught.value.where == where
    assert said in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(HEAD, encoding="utf-8")
    with pytest.raises(GogptError, match="there is no such recipe") as missing:
        load_recipe(tmp_path / "mien.yaml")
    assert missing.value.code == "CFG200"
    assert "mine.yaml" in str(missing.value.fix)
    with pytest.raises(GogptError, match="a folder") as folder:
        load_recipe(tmp_path)
    assert folder.value.code == "CFG200"
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
    with pytest.raises(GogptError, match="UTF-8") as latin:
        load_recipe(tmp_path / "latin.yaml")
    assert latin.value.code == "CFG201"
    with pytest.raises(GogptError) as inside:
        load_recipe(tmp_path / "mine.yaml" / "x.yaml")
    assert inside.value.code == "CFG200"
    with pytest.raises(GogptError) as long:
        load_recipe(tmp_path / ("x" * 400))
    assert long.value.code == "CFG200"


# -- round trip ------------------------------------------------------------------------------------


def test_the_resolved_recipe_reads_back_the_same() -> None:
    config = parse("""
        model: {path: owner/name, revision: 12e4567, dtype: bfloat16}
        data:
          train: [a.jsonl, {path: hub:owner/set, subset: "2e3", split: "no", weight: 0.25, limit: 7}]
          eval: [b.jsonl]
          template: chatml
          overlong: split
        method: {kind: freeze, trainable_layers: 1, targets: [q_proj, "1_0"], modules_to_save: [lm_head]}
        train: {epochs: 0.1, learning_rate: 1e-7, warmup: 10, adam_epsilon: 1e-10, trainer: {adam_beta3: null, name: "0x1F", x: [1, 2.5, true]}}
        checks: {allow: [CFG210]}
        output: run
    """.replace("12e4567", '"12e4567"'))
    again = parse_recipe(config.to_yaml(), name="again", base=Path("/elsewhere"))
    assert again == config
    assert again.model.revision == "12e4567"
    assert again.data.train[1].subset == "2e3"


WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff\ufffe\uffff"), min_size=1, max_size=12)
LIKELY = st.sampled_from(["no", "yes", "null", "~", "1e5", "1_0", "0x1", ".5", "2024-01-01", "12:30", "a: b", "- x", "#", "'", '"', "=", "<<", "true", "é", "北京"])


@settings(deadline=None, max_examples=60)
@given(word=WORDS | LIKELY, rate=st.floats(1e-12, 1, allow_nan=False), steps=st.none() | st.integers(1, 10**7),
       weight=st.floats(0.001, 1000), extra=st.dictionaries(WORDS, st.none() | st.booleans() | st.integers() | WORDS | LIKELY, max_size=2))
def test_any_resolved_recipe_reads_back_the_same(word: str, rate: float, steps: int | None, weight: float, extra: dict[str, Any]) -> None:
    config = RunConfig.model_validate({
        "model": {"path": "/m", "revision": word}, "output": "/out",
        "data": {"train": [{"path": "/a.jsonl", "weight": weight, "split": word}], "template": word},
        "method": {"modules_to_save": [word]}, "train": {"learning_rate": rate, "max_steps": steps, "trainer": extra},
    })
    if "/" in word or word.lower().endswith((".json", ".csv")):
        return  # a template that looks like a file is a path
    assert parse_recipe(config.to_yaml(), name="again", base=Path("/")) == config


@settings(deadline=None, max_examples=100)
@given(text=st.text(st.sampled_from("modeldatrinoup:- [],{}'\"\n\t#&*!|>%@`1e.~?\\"), max_size=60))
def test_any_text_is_a_recipe_or_a_clear_refusal(text: str) -> None:
    problem = problem_of(text)
    assert problem is None or (problem.code in ("CFG201", "CFG202") and problem.where is not None)


@settings(deadline=None, max_examples=100)
@given(key=st.text(st.sampled_from("modeldatrinpth.0123"), min_size=1, max_size=14), value=st.text(max_size=12))
def test_any_override_is_taken_or_clearly_refused(key: str, value: str) -> None:
    problem = problem_of(HEAD, f"{key}={value}")
    assert problem is None or problem.code in ("CFG202", "CFG204")


# -- the JSON schema -------------------------------------------------------------------------------


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> bool:
    """Enough of JSON schema for the recipe's: $ref, anyOf, type, enum, const, bounds, properties, items."""
    root = root or schema
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], value, root)
    if "anyOf" in schema:
        return any(accepts(arm, value, root) for arm in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict, "null": type(None)}
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
        return False
    bounds = {"minimum": lambda v, b: v >= b, "maximum": lambda v, b: v <= b, "exclusiveMinimum": lambda v, b: v > b,
              "exclusiveMaximum": lambda v, b: v < b, "minLength": lambda v, b: len(v) >= b, "minItems": lambda v, b: len(v) >= b}
    if not all(holds(value, schema[name]) for name, holds in bounds.items() if name in schema):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        return (set(schema.get("required", ())) <= set(value) and (more is not False or set(value) <= set(known))
                and all(accepts(known[k], v, root) for k, v in value.items() if k in known))
    if isinstance(value, list) and "items" in schema:
        return all(accepts(schema["items"], v, root) for v in value)
    return True


def as_data(text: str) -> Any:
    """Plain data of a recipe, numbers as gogpt reads them."""
    return {k: parse_value(json.dumps(v)) if isinstance(v, str) else v for k, v in parse_value(text).items()}


EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_the_schema_accepts_the_examples(path: Path) -> None:
    document = as_data(path.read_text(encoding="utf-8"))
    schema = recipe_schema()
    assert accepts(schema, document)
    config = load_recipe(path)
    assert accepts(schema, json.loads(json.dumps(yaml.safe_load(config.to_yaml()))))
    assert not accepts(schema, {**document, "tran": {}})
    assert not accepts(schema, {**document, "method": {"kind": "lroa"}})
    assert not accepts(schema, {k: v for k, v in document.items() if k != "data"})
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)


def test_gogpt_schema_is_whole(gogpt: Callable[..., Ran]) -> None:
    done = gogpt("schema")
    assert done.code == 0
    schema = done.json
    assert schema == recipe_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["model", "data", "output"]
    text = json.dumps(schema)
    for part in schema["$defs"].values():
        assert part["type"] == "object"
        assert part["additionalProperties"] is False
    for name in [p.split('"')[0] for p in text.split('"#/$defs/')[1:]]:
        assert name in schema["$defs"]
    for shorthand in ("a.jsonl", ["a.jsonl", {"path": "b", "schema": "alpaca"}], {"path": "c"}):
        assert accepts(schema, {"model": "m", "data": {"train": shorthand, "eval": 0.1}, "output": "o"})
    assert accepts(schema, {"model": {"path": "m"}, "data": {"train": "a", "eval": ["b"]}, "output": "o"})
