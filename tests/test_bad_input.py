"""Every mistake of a user's: one message with its code, place and fix, exit code 2, nothing on stdout, nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from conftest import Ran, make_model, make_tokenizer, rows, write_jsonl
from gogpt.checks import page_of

READING = {"check": ("check", "-q", "--format", "json"), "train": ("train", "-q", "--format", "json"),
           "plan": ("plan", "-q", "--no-probe", "--format", "json")}
"""The commands that read a recipe."""

Refused = Callable[..., Ran]


def tree(folder: Path) -> dict[str, int]:
    """What lies in a folder; a whole prepared set may stay, since the corrected recipe can use it."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*")
            if (p.is_file() or not any(p.iterdir())) and not re.search(r"(^|/)prepared/[0-9a-f]{20}/", p.relative_to(folder).as_posix())}


def message_of(ran: Ran) -> str:
    """The one message on stderr, after the notes of progress."""
    starts = [m.start() for m in re.finditer(r"^[A-Z]{3}\d{3}(?: |:)", ran.err, re.M)]
    assert len(starts) == 1, ran.err
    return ran.err[starts[0]:]


@pytest.fixture
def refused(gogpt: Callable[..., Ran], tmp_path: Path) -> Refused:
    """Runs a command line that must be refused: ``refused("check", recipe, code="DAT300", said=["did you mean"])``."""

    def call(*words: object, code: str, said: tuple[str, ...] | list[str] = (), exit_code: int = 2, place: bool = True) -> Ran:
        before = tree(tmp_path)
        ran = gogpt(*words)
        message = message_of(ran)
        assert ran.code == exit_code, ran.err
        assert ran.out == ""
        assert message.startswith(code + (" " if place else "")), message
        for part in said:
            assert part in message, message
        assert message.rstrip().splitlines()[-1] == f"  see:      gogpt explain {code}"
        assert re.search(r"^  (?:got|expected|fix): +\S", message, re.M), message
        assert page_of(code)
        assert tree(tmp_path) == before, "something was left behind"
        return ran

    return call


# -- recipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", READING)
def test_a_recipe_that_is_not_there(command: str, recipe: Callable[..., Path], refused: Refused) -> None:
    path = recipe()
    refused(*READING[command], path.with_name("recpie.yaml"), code="CFG200", said=["recpie.yaml: there is no such recipe", f"did you mean {path}?"])
    refused(*READING[command], path.parent / "nowhere" / "x.yaml", code="CFG200")


@pytest.mark.parametrize("command", READING)
def test_three_mistakes_are_told_at_once(command: str, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\ndata:\n  trian: a.jsonl\n  train: a.jsonl\ntrain:\n  learning_rte: 1e-4\n  epochs: three\noutput: run\n", encoding="utf-8")
    refused(*READING[command], path, code="CFG202", said=[
        "3 mistakes in the recipe",
        f"{path}:3: unknown key 'data.trian'; did you mean 'train'?",
        f"{path}:6: unknown key 'train.learning_rte'; did you mean 'learning_rate'?",
        f"{path}:7: train.epochs: should be a valid number, unable to parse string as a number, got 'three'",
    ])


@pytest.mark.parametrize(("text", "code", "said"), [
    ("model: a\nmodel: b\n", "CFG201", ":2: not valid YAML: the key 'model' stands twice"),
    ("model: a\ndata:\n\ttrain: x\n", "CFG201", ":3: not valid YAML"),
    ("- model: a\n", "CFG201", "got:      a list"),
    ("", "CFG201", "got:      nothing"),
    ("\x00\x01", "CFG201", "control character"),
    ("model: &a [*a]\n", "CFG201", "contains itself"),
    ("model: m\ndata: {train: ''}\noutput: o\n", "DAT300", "the path of the data is empty"),
    ("model: ''\ndata: {train: data.jsonl}\noutput: o\n", "MOD500", "the path of the model is empty"),
    ("model: m\ndata: {train: data.jsonl}\noutput: ''\n", "CFG202", "output: should not be empty"),
    ("model: m\ndata: {train: data.jsonl}\nmethod:\n  rank: sixteen\noutput: o\n", "CFG202", ":4: method.rank: should be a valid integer"),
    ("model: m\ndata: {train: data.jsonl, eval: 20}\noutput: o\n", "CFG202", ":2: data.eval: should be less than 1, got 20"),
    ("model: m\ndata: {train: data.jsonl, overlong: cut}\noutput: o\n", "CFG202", "data.overlong: should be 'drop', 'truncate', 'split' or 'error', got 'cut'"),
])
def test_what_is_no_recipe(text: str, code: str, said: str, tmp_path: Path, tiny: Path, refused: Refused) -> None:
    write_jsonl(tmp_path / "data.jsonl", rows(4))
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("model: m\n", f"model: {tiny}\n"), encoding="utf-8")
    refused("check", "-q", "--format", "json", path, code=code, said=[said], place="path of the" not in said)


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize(("assignment", "code", "said"), [
    ("train.learning_rte=1", "CFG202", "command line, train.learning_rte: unknown key 'train.learning_rte'; did you mean 'learning_rate'?"),
    ("nonsense", "CFG204", "cannot read 'nonsense'"),
    ("data.train.5.path=x", "CFG204", "there is no such place in the recipe: data.train.5.path"),
    ("train.learning_rate=fast", "CFG202", "should be a valid number"),
    ("train.seed=-1", "CFG202", "should be greater than or equal to 0"),
    ("method.rank=true", "CFG202", "true and false are no values of this key"),
    ("train.epochs=.inf", "CFG202", "should be a finite number"),
    ("output=", "CFG202", "output: should be a valid string, got nothing"),
    ("data.template=chatlm", "TOK420", "'chatml'"),
    ("data.template=missing.jinja", "TOK420", "the template file cannot be read"),
    ("data.train.0.schema=alpacca", "DAT306", "did you mean 'alpaca'?"),
    ("data.train=nowhere/*.jsonl", "DAT300", "no file matches"),
    ("data.train.0.weight=0.001", "DAT308", "of which the weights take none"),
    ("parallel.zero=3", "CFG253", "parallel.zero without engine: deepspeed"),
    ("parallel.offload=all", "CFG253", "parallel.offload with engine: ddp"),
    ("parallel.processes=0", "CFG202", "should be greater than or equal to 1"),
    ("method.targets='['", "MOD502", "no valid regular expression"),
    ("checks.allow=[TOK304]", "CFG205", "TOK403"),
])
def test_a_setting_that_cannot_be(command: str, assignment: str, code: str, said: str, recipe: Callable[..., Path], refused: Refused) -> None:
    refused(*READING[command], recipe(), assignment, code=code, said=[said], place=code not in ("TOK420", "CFG205"))


def test_settings_of_parallel_are_all_named(recipe: Callable[..., Path], refused: Refused) -> None:
    path = recipe(parallel={"engine": "deepspeed", "processes": 2, "zero": 2, "offload": "all", "config": "ds.json"}, train={"optimizer": "adafactor"})
    refused("check", "-q", path, code="CFG253", said=["parallel.zero beside parallel.config", "parallel.offload beside", "adafactor with engine: deepspeed"])


@pytest.mark.parametrize(("text", "code", "said"), [
    (None, "CFG200", "cannot be read"), ("{", "CFG206", "is not JSON"), ('{"a": 1}', "CFG206", "is not a DeepSpeed file"),
])
def test_a_deepspeed_file_that_is_none(text: str | None, code: str, said: str, recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ds.json").write_text(text)
    refused("check", "-q", recipe(parallel={"engine": "deepspeed", "config": "ds.json"}), code=code, said=[said])


@pytest.mark.parametrize(("environ", "code", "said"), [
    ({"RANK": "2", "WORLD_SIZE": "2"}, "CFG252", "do not fit together"), ({"RANK": "x", "WORLD_SIZE": "2"}, "CFG252", "RANK is not a number"),
    ({"RANK": "0", "WORLD_SIZE": "4"}, "CFG254", "other processes were started"),
])
def test_a_launcher_that_says_otherwise(environ: dict[str, str], code: str, said: str, recipe: Callable[..., Path], refused: Refused,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    refused("train", "-q", recipe(parallel={"processes": 2}), code=code, said=[said])


@pytest.mark.parametrize(("key", "said"), [
    ("loging_steps", "did you mean 'logging_steps'?"), ("learning_rate", "use train.learning_rate"), ("no_such_thing_at_all", "take it out of train.trainer"),
])
def test_keys_of_the_trainer(key: str, said: str, recipe: Callable[..., Path], refused: Refused) -> None:
    refused("train", "-q", "--format", "json", recipe(train={"trainer": {key: 1}}), code="CFG231", said=[key, said])


def test_a_value_that_the_trainer_refuses(recipe: Callable[..., Path], refused: Refused) -> None:
    refused("train", "-q", recipe(train={"trainer": {"hub_strategy": "sometimes"}}), code="CFG231", said=["sometimes"])


def test_a_command_line_that_cannot_be_understood(gogpt: Callable[..., Ran], recipe: Callable[..., Path]) -> None:
    for words in (["chekc", "x"], ["check"], ["check", recipe(), "--frmat", "json"], ["check", recipe(), "--format", "xml"], ["train"], ["generate", "m"]):
        ran = gogpt(*words)
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err.startswith("gogpt")
        assert "--help" in ran.err


# -- models ----------------------------------------------------------------------------------------


def damage(model: Path, how: str) -> None:
    weights = model / "model.safetensors"
    if how == "no config.json":
        (model / "config.json").unlink()
    elif how == "broken config.json":
        (model / "config.json").write_text('{"model_type": "llama",', encoding="utf-8")
    elif how == "config.json of a list":
        (model / "config.json").write_text("[]", encoding="utf-8")
    elif how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "weights of a few bytes":
        weights.write_bytes(b"abc")
    elif how == "weights with another header":
        weights.write_bytes(struct.pack("<Q", 8) + b'{"a": 1}')
    elif how == "a git-lfs pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="utf-8")
    elif how == "no weights":
        weights.unlink()
    elif how == "a missing shard":
        weights.rename(model / "model-00001-of-00002.safetensors")
        (model / "model.safetensors.index.json").write_text(json.dumps(
            {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}), encoding="utf-8")
    elif how == "a broken index":
        (model / "model.safetensors.index.json").write_text("[]", encoding="utf-8")
    elif how == "broken tokenizer.json":
        (model / "tokenizer.json").write_text('{"version": "1.0"', encoding="utf-8")
    elif how == "no tokenizer.json":
        (model / "tokenizer.json").unlink()
    elif how == "broken tokenizer_config.json":
        (model / "tokenizer_config.json").write_text("{", encoding="utf-8")


DAMAGE = {
    "no config.json": ("MOD500", "the folder holds no config.json"), "broken config.json": ("MOD500", "config.json cannot be read"),
    "config.json of a list": ("MOD500", "config.json is no object"), "truncated weights": ("MOD500", "not a whole safetensors file"),
    "weights of a few bytes": ("MOD500", "not a whole safetensors file"), "weights with another header": ("MOD500", "not a whole safetensors file"),
    "a git-lfs pointer": ("MOD500", "git lfs pull"), "no weights": ("MOD500", "the folder holds no weights"),
    "a missing shard": ("MOD500", "model-00002-of-00002.safetensors"), "a broken index": ("MOD500", "the weight index cannot be read"),
    "broken tokenizer.json": ("TOK410", "tokenizer.json: not valid JSON"), "no tokenizer.json": ("TOK410", "no tokenizer in the model folder"),
    "broken tokenizer_config.json": ("TOK410", "not valid JSON"),
}


@pytest.fixture
def own_model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_model(command: str, how: str, own_model: Path, recipe: Callable[..., Path], refused: Refused) -> None:
    path = recipe(model=str(own_model))
    damage(own_model, how)
    code, said = DAMAGE[how]
    refused(*READING[command], path, code=code, said=[said, str(own_model)])


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_model_answers_nothing(how: str, own_model: Path, gogpt: Callable[..., Ran]) -> None:
    damage(own_model, how)
    ran = gogpt("generate", "-q", own_model, "Hello")
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert message_of(ran).startswith(("MOD500 ", "MOD506 ", "TOK410 "))


@pytest.mark.parametrize("command", READING)
def test_a_model_that_is_not_there(command: str, own_model: Path, recipe: Callable[..., Path], refused: Refused) -> None:
    refused(*READING[command], recipe(model="modle"), code="MOD500", said=["there is no such model folder", "did you mean model?"])
    refused(*READING[command], recipe(model="data.jsonl"), code="MOD500", said=["a file, not a model folder"])
    refused(*READING[command], recipe(model="owner/no-such-model"), code="MOD500", said=["owner/no-such-model", "check the id"])
    refused(*READING[command], recipe(model="x" * 300), code="MOD500")


def test_a_model_inside_the_folder_is_suggested(own_model: Path, recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    own_model.rename(tmp_path / "outer" / "inner")
    refused("check", "-q", recipe(model="outer"), code="MOD500", said=["holds no config.json", "did you mean", "inner"])


# -- templates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", READING)
def test_auto_without_a_chat_template(command: str, tiny_llama: Path, recipe: Callable[..., Path], refused: Refused) -> None:
    refused(*READING[command], recipe(model=str(tiny_llama)), code="TOK422", said=["no chat template of its own", "gogpt template list"])


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize(("text", "said"), [
    ("{% for m in messages %}\n{{ m.content }}\n", "'endfor'"), ("{{ messages[0] }\n", "line 1"), ("{{ messages | no_such_filter }}", "no_such_filter"),
])
def test_a_template_file_with_a_syntax_error(command: str, text: str, said: str, recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(text, encoding="utf-8")
    refused(*READING[command], recipe(data={"template": "t.jinja"}), code="TOK421", said=["not valid Jinja", said])


def test_a_template_file_that_is_no_text(recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_bytes(b"\xff\xfe\x00")
    refused("check", "-q", recipe(data={"template": "t.jinja"}), code="TOK420", said=["cannot be read"])


def test_template_render(refused: Refused, tmp_path: Path) -> None:
    good = tmp_path / "c.json"
    good.write_text(json.dumps(rows(1)[0]), encoding="utf-8")
    refused("template", "render", "chatlm", good, code="TOK420", said=["'chatml'"], place=False)
    refused("template", "show", "chatlm", code="TOK420", said=["'chatml'"], place=False)
    refused("template", "render", "chatml", tmp_path / "d.json", code="DAT300", said=["did you mean c.json?"])
    bad = tmp_path / "bad.json"
    for text, code in (("{", "DAT301"), ("", "DAT304"), ("[]", "DAT304"), ("[1]", "DAT301"), ('{"a": 1}', "DAT306"),
                       ('{"messages": [{"role": "alien", "content": "x"}]}', "TOK423"), ('{"messages": [{"role": "user", "content": 5}]}', "TOK423")):
        bad.write_text(text, encoding="utf-8")
        refused("template", "render", "chatml", bad, code=code)
    backwards = tmp_path / "backwards.json"
    backwards.write_text(json.dumps({"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]}), encoding="utf-8")
    refused("template", "render", "llama2", backwards, code="TOK423", said=["turn"])


# -- data files: refused whole ---------------------------------------------------------------------


def png() -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"


def zipped(tmp_path: Path) -> bytes:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as z:
        z.writestr("data.jsonl", json.dumps(rows(1)[0]))
    data = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").unlink()
    return data


def broken_array() -> tuple[bytes, int]:
    """Five rows, a colon missing in the third; and the line of that."""
    third = ARRAY.index('"role": "user"', ARRAY.index("Question 2") - 40)
    return (ARRAY[:third] + ARRAY[third:].replace(":", " ", 1)).encode(), ARRAY[:third].count("\n") + 1


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(30)).encode()
ARRAY = json.dumps(rows(5), indent=1)

WHOLE: dict[str, tuple[str, bytes, str, tuple[str, ...]]] = {
    "empty": ("x.jsonl", b"", "DAT304", ("x.jsonl: the file is empty",)),
    "empty .json": ("x.json", b"", "DAT304", ("the file is empty",)),
    "empty .csv": ("x.csv", b"", "DAT304", ("the file is empty",)),
    "empty .gz": ("x.jsonl.gz", gzip.compress(b""), "DAT304", ("the file is empty",)),
    "empty .zst": ("x.jsonl.zst", zstandard.ZstdCompressor().compress(b""), "DAT304", ("the file is empty",)),
    "empty .parquet": ("x.parquet", b"", "DAT304", ("the file is empty",)),
    "blank": ("x.jsonl", b"\n \n\t\n", "DAT304", ("the file has no rows", "blank lines")),
    "blank .json": ("x.json", b"\n \n\t\n", "DAT304", ("the file is blank",)),
    "blank .csv": ("x.csv", b"\n \n", "DAT304", ("header",)),
    "blank .txt": ("x.txt", b"\n \n", "DAT304", ("the file is blank",)),
    "[]": ("x.json", b" [ ]\n", "DAT304", ("the file has no rows", "[]")),
    "[] in .jsonl": ("x.jsonl", b"[]", "DAT304", ("the file has no rows",)),
    "a header alone": ("x.csv", b"instruction,output\n", "DAT304", ("a header alone",)),
    "a column twice": ("x.csv", b"instruction,output,output\na,b,c\n", "DAT303", ("the column 'output' stands twice",)),
    "a quote that is never closed": ("x.csv", b'instruction,output\na,b\nc,"d\ne,f\n', "DAT303", ("x.csv:2: not valid CSV",)),
    "broken array": ("x.json", broken_array()[0], "DAT301",
                     ("x.json:3: not valid JSON in row 3: Expecting ':' delimiter", f"(line {broken_array()[1]} column 13)")),
    "array that ends early": ("x.json", ARRAY.encode()[:-3], "DAT301", ("not valid JSON in row 5",)),
    "array and more": ("x.json", ARRAY.encode() + b"{}", "DAT301", ("Extra data after the array",)),
    "array in .jsonl, broken": ("x.jsonl", ARRAY.encode()[:-3], "DAT301", ("not valid JSON in row 5",)),
    "object that ends early": ("x.json", b'{"messages": [', "DAT301", ("x.json:1", "line 1 column")),
    "a list in every row": ("x.jsonl", b"[1, 2]\n[3]\n", "DAT303", ("x.jsonl:1: no row can be read", "the row is a list, not an object")),
    "a number in every row": ("x.jsonl", b"1\n2\n", "DAT303", ("the row is a number",)),
    "null": ("x.json", b"null", "DAT303", ("the row is null",)),
    "a list of texts": ("x.json", b'["a", "b"]', "DAT303", ("x.json:1", "the row is a text")),
    "integers of thousands of digits": ("x.json", b'[{"text": ' + b"9" * 5000 + b"}]", "DAT301", ("x.json:1", "digits")),
    "nested without end": ("x.json", b"[" * 100_000, "DAT301", ("x.json:1",)),
    "prose": ("x.jsonl", b"Once upon a time\nthere was a file.\n", "DAT303", ("x.jsonl:1: no row can be read; the first: not valid JSON",)),
    "a web page": ("x.parquet", b"<!DOCTYPE html>\n<html></html>\n", "DAT303", ("no row can be read",)),
    "other keys": ("x.jsonl", b'{"instructions": "a", "outputs": "b"}\n', "DAT306", ("x.jsonl:1: no schema fits", "the keys instructions, outputs",
                   "'instructions' is close to 'instruction'", "alpaca: instruction, output", "openai: messages", "sharegpt: conversations", "text: text")),
    "messages a string": ("x.jsonl", b'{"messages": "hello"}\n' * 3, "DAT306", ("the keys messages",)),
    "output a list in every row": ("x.jsonl", b'{"instruction": "a", "output": ["b"]}\n' * 3, "DAT306", ("the keys instruction, output",)),
    "instruction a number in every row": ("x.jsonl", b'{"instruction": 5, "output": "b"}\n' * 3, "DAT308",
                                          ("3 rows, dropped: 3 wrong_type (first: ", "x.jsonl:1)")),
    "content a number in every row": ("x.jsonl", b'{"messages": [{"role": "user", "content": 5}]}\n', "DAT308", ("wrong_type",)),
    "role null in every row": ("x.jsonl", b'{"messages": [{"role": null, "content": "x"}]}\n', "DAT308", ("unknown_role",)),
    "no answer in every row": ("x.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}\n', "DAT308", ("no_answer",)),
    "mixed": ("x.jsonl", b'{"instruction": "a", "output": "b"}\n{"text": "c"}\n' * 3, "DAT307",
              ("alpaca from row 1 on (3 of 6); text from row 2 on (3 of 6)", "schema: alpaca")),
    "NUL bytes": ("x.jsonl", LINES[:50] + b"\0\0\0" + LINES[50:], "DAT305", ("a NUL byte at offset 50",)),
    "a PNG": ("x.jsonl", png(), "DAT305", ("a PNG image",)),
    "a pickle": ("x.json", pickle.dumps(rows(3)), "DAT305", ("a Python pickle",)),
    "a truncated .gz": ("x.jsonl.gz", gzip.compress(LINES)[:-20], "DAT303", ("x.jsonl.gz: the file cannot be read", "fetch it again")),
    "a damaged .gz": ("x.jsonl.gz", gzip.compress(LINES)[:60] + b"\xff" * 40 + gzip.compress(LINES)[100:], "DAT303", ("cannot be read",)),
    "a truncated .zst": ("x.jsonl.zst", zstandard.ZstdCompressor().compress(LINES)[:-20], "DAT303", ("x.jsonl.zst: the file cannot be read", "fetch it again")),
    "a damaged .zst": ("x.jsonl.zst", zstandard.ZstdCompressor().compress(LINES)[:60] + b"\xff" * 40, "DAT303", ("cannot be read",)),
    "a broken parquet": ("x.parquet", b"PAR1" + b"\x15\x04" * 200, "DAT303", ("x.parquet: not readable as Parquet",)),
    "a broken arrow": ("x.arrow", b"\xff\xff\xff\xff" + b"\x10\x00" * 200, "DAT303", ("x.arrow: not readable as Arrow",)),
    "half of UTF-16": ("x.jsonl", LINES.decode().encode("utf-16")[:-1], "DAT305", ("not valid utf-16 text",)),
    "an array that is no UTF-8": ("x.json", ARRAY.encode().replace(b"Question 2", b"Quest\xff\xfeion 2", 1), "DAT305", (f"x.json:{ARRAY[:ARRAY.index('Question 2')].count(chr(10)) + 1}: not valid utf-8 text", "0xff")),
}


@pytest.mark.parametrize("what", [*WHOLE, "a zip"])
def test_a_file_that_cannot_be_read(what: str, recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    name, data, code, said = WHOLE.get(what) or ("x.jsonl", zipped(tmp_path), "DAT305", ("a zip archive",))
    (tmp_path / name).write_bytes(data)
    path = recipe(data={"train": name})
    for command in ("check", "train"):
        refused(*READING[command], path, code=code, said=said)
    if code != "DAT308":  # a conversion may end with no conversation; a run may not
        refused("data", "convert", "-q", "--format", "json", tmp_path / name, "-o", tmp_path / "out.jsonl", code=code, said=said)


@pytest.mark.parametrize("command", READING)
def test_a_data_file_that_is_not_there(command: str, recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    refused(*READING[command], recipe(data={"train": "dta.jsonl"}), code="DAT300", said=["dta.jsonl: there is no such data file", "did you mean data.jsonl?"])
    refused(*READING[command], recipe(data={"train": "x" * 300 + ".jsonl"}), code="DAT300")
    refused(*READING[command], recipe(data={"eval": "evl.jsonl"}), code="DAT300", said=["evl.jsonl"])
    (tmp_path / "folder").mkdir(exist_ok=True)
    (tmp_path / "folder" / "readme.rst").write_text("x", encoding="utf-8")
    refused(*READING[command], recipe(data={"train": "folder"}), code="DAT304", said=["folder: the folder holds no data file", "readme.rst"])
    refused(*READING[command], recipe(data={"train": "hub:no/such-set"}), code="DAT302", said=["no/such-set"])


def test_data_convert(refused: Refused, gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", rows(3))
    refused("data", "convert", "-q", "--format", "json", tmp_path / "dta.jsonl", "-o", tmp_path / "o.jsonl", code="DAT300", said=["did you mean data.jsonl?"])
    refused("data", "convert", "-q", data, "-o", tmp_path / "o.jsonl", "--schema", "opanai", code="DAT306", said=["did you mean 'openai'?"])
    refused("data", "convert", "-q", data, "-o", tmp_path / "nowhere" / "o.jsonl", code="ENV110", said=["o.jsonl: cannot write"])
    refused("data", "convert", "-q", "", "-o", tmp_path / "o.jsonl", code="DAT300", said=["the path of the data is empty"], place=False)
    (tmp_path / "folder").mkdir()
    refused("data", "convert", "-q", data, "-o", tmp_path / "folder", code="ENV110", said=["cannot write"])
    assert gogpt("data", "convert", "-q", data, "-o", tmp_path / "o.jsonl").code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl", "folder", "o.jsonl", "o.jsonl.ledger.json"]


# -- data files: single rows -----------------------------------------------------------------------


def convert(gogpt: Callable[..., Ran], path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What ``data convert`` makes of a file: the conversations and the ledger, which conserves."""
    out = path.with_name("out.jsonl")
    ran = gogpt("data", "convert", "-q", "--format", "json", path, "-o", out)
    assert ran.code == 0, ran.err
    assert ran.err == ""
    ledger = ran.json
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert ledger == json.loads(out.with_name("out.jsonl.ledger.json").read_text(encoding="utf-8"))
    assert ledger["rows_in"] == len(found) + sum(ledger["drops"].values())
    return found, ledger


ROWS: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"messages": [{"role": "user", "content": "x"}', "unreadable"),
    "not JSON": (b"nonsense", "unreadable"),
    "a trailing comma": (b'{"messages": [{"role": "user", "content": "x"}],}', "unreadable"),
    "a list": (b'[{"role": "user", "content": "x"}]', "not_an_object"),
    "a number": (b"5", "not_an_object"),
    "null": (b"null", "not_an_object"),
    "no UTF-8": (b'{"messages": [{"role": "user", "content": "caf\xe9t\xe9"}]}', "unreadable"),
    "half of an emoji": (b'{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "x"}]}', "unreadable"),
    "nested without end": (b"[" * 50_000, "unreadable"),
    "nested deeply": (b'{"messages": ' + b"[" * 300 + b"]" * 300 + b"}", "unreadable"),
    "an integer of thousands of digits": (b'{"text": ' + b"9" * 5000 + b"}", "unreadable"),
    "another schema": (b'{"instruction": "a", "output": "b"}', "other_schema"),
    "an empty object": (b"{}", "other_schema"),
    "messages a string": (b'{"messages": "hello"}', "other_schema"),
    "messages of strings": (b'{"messages": ["hello"]}', "other_schema"),
    "messages empty": (b'{"messages": []}', "no_user"),
    "content a number": (b'{"messages": [{"role": "user", "content": 5}, {"role": "assistant", "content": "x"}]}', "wrong_type"),
    "content an object": (b'{"messages": [{"role": "user", "content": {"a": 1}}, {"role": "assistant", "content": "x"}]}', "wrong_type"),
    "content an image": (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}, {"role": "assistant", "content": "x"}]}', "not_text"),
    "role null": (b'{"messages": [{"role": null, "content": "x"}, {"role": "assistant", "content": "x"}]}', "unknown_role"),
    "role unknown": (b'{"messages": [{"role": "alien", "content": "x"}, {"role": "assistant", "content": "x"}]}', "unknown_role"),
    "no answer": (b'{"messages": [{"role": "user", "content": "x"}]}', "no_answer"),
    "a blank answer": (b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}', "empty_answer"),
    "content null": (b'{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "x"}]}', "empty_prompt"),
    "tool calls a string": (b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": "f"}]}', "wrong_type"),
    "a function that is a string": (b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{"function": "f"}]}]}', "wrong_type"),
    "tools that are no JSON": (b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}], "tools": "{"}', "wrong_type"),
    "a weight of seven": (b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x", "weight": 7}]}', "wrong_type"),
}


@pytest.mark.parametrize("what", ROWS)
def test_a_row_that_cannot_be_used(what: str, recipe: Callable[..., Path], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    bad, reason = ROWS[what]
    good = [json.dumps(row).encode() for row in rows(40)]
    recipe()
    (tmp_path / "data.jsonl").write_bytes(b"\n".join([*good[:2], bad, *good[2:]]))
    found, ledger = convert(gogpt, tmp_path / "data.jsonl")
    assert len(found) == 40
    assert ledger["drops"] == {reason: 1}
    assert ledger["first"][reason][0].endswith("data.jsonl:3")
    assert ledger["schema"] == {str(tmp_path / "data.jsonl"): "openai"} or list(ledger["schema"].values()) == ["openai"]
    ran = gogpt("check", "--format", "json", "-q", tmp_path / "recipe.yaml")
    assert ran.code == 0, ran.out
    finding = next(f for f in ran.json["findings"] if f["code"] == "DAT311")
    assert finding["evidence"]["drops"] == {reason: 1}
    assert finding["where"].endswith("data.jsonl:3")


def test_row_3_of_5_is_broken_and_the_others_train(recipe: Callable[..., Path], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    path = recipe(data={"eval": 0}, train={"max_steps": 1, "batch_size": 2})
    lines = [json.dumps(row) for row in rows(5)]
    lines[2] = lines[2][:-4]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    ran = gogpt("train", "-q", path)
    assert ran.code == 0, ran.err
    run = tmp_path / "run"
    ledger = json.loads((run / "ledger.json").read_text(encoding="utf-8"))
    assert (ledger["rows_in"], ledger["conversations"], ledger["drops"]) == (5, 4, {"unreadable": 1})
    (reject,) = [json.loads(line) for line in (run / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert reject["origin"]["row"] == 3
    assert reject["reason"] == "unreadable"
    assert "not valid JSON" in reject["detail"]
    trained = {json.loads(line)["origin"]["row"] for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()}
    assert trained == {1, 2, 4, 5}
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(("what", "reason"), [("a list", "not_an_object"), ("content a number", "wrong_type"), ("role null", "unknown_role")])
def test_more_bad_rows_than_good_ones_are_an_error(what: str, reason: str, recipe: Callable[..., Path], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    path = recipe()
    (tmp_path / "data.jsonl").write_bytes(b"\n".join([*(json.dumps(row).encode() for row in rows(4)), *[ROWS[what][0]] * 6]))
    ran = gogpt("train", "-q", path)
    assert ran.code == 1
    assert "DAT311" in ran.err
    assert f"{reason} 6" in ran.err
    assert not (tmp_path / "run").exists()


def test_no_row_that_trains_a_token(recipe: Callable[..., Path], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    """With a share held out there is nothing to hold out of; the finding says what is wrong."""
    path = recipe([{"messages": [{"role": "user", "content": "hello " * 100}, {"role": "assistant", "content": "x"}]}] * 3,
                  data={"overlong": "truncate", "max_length": 16})
    ran = gogpt("check", "--format", "json", "-q", path)
    assert ran.code == 1
    assert "TOK403" in [f["code"] for f in ran.json["findings"]]


MEASURED = """
import re, resource, sys, time
from pathlib import Path
from gogpt.cli import run
started = time.process_time()
code = run(sys.argv[1:])
# ru_maxrss of a new process begins at its parent's; the kernel's own peak of this program does not.
peak = Path("/proc/self/status")
kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", peak.read_text())[1]) if peak.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.process_time() - started, kilobytes / 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_a_line_of_50_mb_is_dropped_and_the_others_stay(name: str, recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe(data={"train": name})
    items = rows(6)
    items[3]["messages"][1]["content"] = "all the same words again " * 2_100_000
    if name == "data.jsonl":
        write_jsonl(tmp_path / name, items)
    else:
        (tmp_path / name).write_text(json.dumps(items), encoding="utf-8")
    assert (tmp_path / name).stat().st_size > 50_000_000
    done = subprocess.run([sys.executable, "-c", MEASURED, "check", "-q", "--format", "json", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seconds, megabytes = map(float, done.stderr.split())
    assert seconds < 8
    assert megabytes < 900
    finding = next(f for f in json.loads(done.stdout)["findings"] if f["code"] == "DAT311")
    assert finding["evidence"]["drops"] == {"overlong": 1}
    assert finding["where"].endswith(f"{name}:4")
    assert finding["evidence"]["conversations"] == 5


def test_a_million_blank_lines_and_long_names_cost_little(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n" * 1_000_000 + json.dumps({"text": "x", "k" * 100_000: 1}).encode() + b"\n" * 1_000_000)
    started = time.process_time()
    found, ledger = convert(gogpt, path)
    assert time.process_time() - started < 5
    assert found == [{"text": "x"}]
    assert ledger["rows_in"] == 1


# -- encodings and line ends -----------------------------------------------------------------------

CHINESE = [{"messages": [{"role": "user", "content": f"第{i}个问题：请介绍北京。"}, {"role": "assistant", "content": "北京是中国的首都，é €😀。" if i % 2 else "好的。"}]}
           for i in range(12)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom", "gb18030"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_encodings_and_line_ends_are_read_right(name: str, encoding: str, ends: str, gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    wanted = CHINESE
    if name == "a.csv":
        text = ends.join(["instruction,output", *(f'"{m[0]["content"]}","{m[1]["content"]}"' for m in (row["messages"] for row in CHINESE)), ""])
    elif name == "a.json":
        text = json.dumps(CHINESE, ensure_ascii=False, indent=2).replace("\n", ends)
    else:
        text = ends.join(json.dumps(row, ensure_ascii=False) for row in CHINESE) + ends
    data = text.encode("utf-16-be" if encoding == "utf-16-be-bom" else encoding)
    data = b"\xfe\xff" + data if encoding == "utf-16-be-bom" else data
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found, ledger = convert(gogpt, tmp_path / name)
    assert found == wanted
    assert ledger["drops"] == {}
    if encoding != "utf-8":
        assert any("read as" in note for note in ledger["notes"])


@pytest.mark.parametrize("line", [b"caf\xe9t\xe9ria", b"\xff\xfe\xfd", b"\xb1\xb1\xbe\xa9", b"\xe4\xba"])
@pytest.mark.parametrize("around", [CHINESE, rows(12)], ids=["chinese", "ascii"])
def test_one_line_in_another_encoding_does_not_turn_the_file(line: bytes, around: list[Any], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    if around is not CHINESE and line in (b"\xb1\xb1\xbe\xa9", b"\xe4\xba"):
        return  # the only bytes of a file that are no ASCII, and Chinese in GB 18030: it is read as that, and noted
    good = [json.dumps(row, ensure_ascii=False).encode() for row in around]
    bad = b'{"messages": [{"role": "user", "content": "' + line + b'"}, {"role": "assistant", "content": "x"}]}'
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*good[:2], bad, *good[2:]]))
    found, ledger = convert(gogpt, tmp_path / "a.jsonl")
    assert found == around
    assert ledger["drops"] == {"unreadable": 1}
    assert ledger["first"]["unreadable"][0].endswith(":3")


def test_a_table_with_one_field_that_is_no_text(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("instruction,output\n你好,好\nb,c\n".encode() + b"caf\xe9t,x\nd,e\nf\ng,h,i\n")
    found, ledger = convert(gogpt, tmp_path / "a.csv")
    assert len(found) == 3
    assert ledger["drops"] == {"unreadable": 2, "empty_answer": 1}
    assert [place.rsplit(":", 1)[1] for place in ledger["first"]["unreadable"]] == ["3", "6"]


def test_a_file_is_what_it_holds_and_not_what_it_is_called(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    for name, data in (("a.jsonl", ARRAY.encode()), ("a.jsonl", json.dumps(rows(5)).encode()), ("a.json", b"".join(LINES.splitlines(True)[:5])), ("a.txt.jsonl", gzip.compress(ARRAY.encode())),
                       ("a", ARRAY.encode()), ("a.ndjson", b"\xef\xbb\xbf" + ARRAY.encode())):
        (tmp_path / name).write_bytes(data)
        found, ledger = convert(gogpt, tmp_path / name)
        assert len(found) == 5
        assert ledger["drops"] == {}


def test_a_name_that_is_no_utf8(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    try:
        (folder / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(LINES + b"nonsense\n")
    except OSError:
        pytest.skip("this file system takes no such name")
    out = tmp_path / "out.jsonl"
    ran = gogpt("data", "convert", "-q", "--format", "json", folder, "-o", out)
    assert ran.code == 0, ran.err
    assert ran.json["first"]["unreadable"][0].endswith("caf?.jsonl:31")


# -- run folders -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished LoRA run, and a finished full run, of the tiny model. Read only."""
    from gogpt.cli import run

    out = {}
    for kind in ("lora", "full"):
        folder = tmp_path_factory.mktemp(kind)
        write_jsonl(folder / "data.jsonl", rows(8))
        (folder / "recipe.yaml").write_text(json.dumps({
            "model": str(tiny), "data": {"train": "data.jsonl", "max_length": 128}, "method": {"kind": kind, "rank": 2},
            "train": {"max_steps": 1, "batch_size": 2, "micro_batch_size": 2, "learning_rate": 1e-3}, "output": "run"}), encoding="utf-8")
        assert run(["train", "-q", str(folder / "recipe.yaml")]) == 0
        out[kind] = folder / "run"
    return out


def test_a_run_folder_that_exists(finished: dict[str, Path], recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    shutil.copytree(finished["lora"], tmp_path / "run")
    refused("train", "-q", recipe(), code="RUN610", said=["the run folder exists already", "a run with a checkpoint at step 1", "--resume"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused("train", "-q", recipe(output="mine"), code="RUN610", said=["a folder that is not empty"])
    refused("train", "-q", recipe(output="data.jsonl"), code="RUN610", said=["the output is a file"])
    refused("train", "-q", recipe(output="data.jsonl/run"), code="ENV110", said=["cannot write"])


def test_an_output_in_a_place_that_is_read_only(recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    place = tmp_path / "locked"
    place.mkdir()
    place.chmod(0o500)
    if os.access(place, os.W_OK):
        pytest.skip("root writes everywhere")
    refused("train", "-q", recipe(output="locked/run"), code="ENV110", said=["cannot write", "Permission"])


def test_an_output_where_nobody_can_write(recipe: Callable[..., Path], refused: Refused) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc")
    refused("train", "-q", recipe(output="/proc/gogpt/run"), code="ENV110", said=["/proc/gogpt", "cannot write"])


def interrupted(run: Path, copy: Path) -> Path:
    """A copy of a run that says it was interrupted."""
    shutil.copytree(run, copy)
    status = json.loads((copy / "run.json").read_text(encoding="utf-8"))
    (copy / "run.json").write_text(json.dumps({**status, "status": "interrupted"}), encoding="utf-8")
    return copy


def test_resuming_what_is_no_run(finished: dict[str, Path], refused: Refused, tmp_path: Path, recipe: Callable[..., Path]) -> None:
    (tmp_path / "empty").mkdir()
    refused("train", "-q", "--resume", tmp_path / "empty", code="RUN611", said=[str(tmp_path / "empty")])
    refused("train", "-q", "--resume", tmp_path / "nowhere", code="RUN611", said=[str(tmp_path / "nowhere")])
    run = interrupted(finished["lora"], tmp_path / "copy")
    shutil.rmtree(run / "checkpoints")
    refused("train", "-q", "--resume", run, code="RUN611", said=["no whole checkpoint"])
    refused("train", "-q", "--resume", run, "train.seed=1", code="RUN612", said=["a resumed run keeps its recipe"])
    refused("train", "-q", recipe(), "--resume", run, code="RUN612")
    (run / "recipe.yaml").write_text("model: [", encoding="utf-8")
    refused("train", "-q", "--resume", run, code="CFG201", said=["recipe.yaml"])


def test_resuming_a_checkpoint_that_is_not_whole(finished: dict[str, Path], refused: Refused, tmp_path: Path) -> None:
    run = interrupted(finished["lora"], tmp_path / "copy")
    (run / "checkpoints" / "step-1" / "trainer_state.json").unlink()
    refused("train", "-q", "--resume", run, code="RUN611", said=["the checkpoint is not whole"])


def test_merging_what_cannot_be_merged(finished: dict[str, Path], refused: Refused, tmp_path: Path, tiny: Path) -> None:
    out = ("-q", "--format", "json", "-o", tmp_path / "merged")
    refused("merge", finished["full"], *out, code="EXP703", said=["no adapter to merge", "gogpt chat"])
    refused("merge", tiny, *out, code="EXP703")
    (tmp_path / "empty").mkdir()
    refused("merge", tmp_path / "empty", *out, code="MOD500", said=["no config.json"])
    refused("merge", tmp_path / "nowhere", *out, code="MOD500", said=["no such model folder"])
    write_jsonl(tmp_path / "data.jsonl", rows(1))
    refused("merge", finished["lora"], "-q", "-o", tmp_path / "data.jsonl", code="RUN610", said=["the output exists already"])
    refused("merge", finished["lora"], *out, "--base", tmp_path / "nowhere", code="MOD500", said=["no such model folder"])
    refused("merge", finished["lora"], "-q", "-o", tmp_path / "data.jsonl" / "x", code="ENV110", said=["cannot write"])


def test_merging_into_a_base_that_does_not_fit(finished: dict[str, Path], refused: Refused, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "other")
    make_model(tmp_path / "other", hidden_size=16)
    refused("merge", finished["lora"], "-q", "-o", tmp_path / "merged", "--base", tmp_path / "other", code="EXP704", said=["base"])


def test_merging_a_run_that_did_not_finish(finished: dict[str, Path], refused: Refused, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished["lora"], tmp_path / "copy"))
    shutil.rmtree(run / "final")
    refused("merge", run, "-q", "-o", tmp_path / "merged", code="RUN611", said=["no final model", "--resume"])
    refused("generate", "-q", run, "Hello", code="RUN611", said=["a checkpoint at step 1"])


def test_generate(refused: Refused, tmp_path: Path, tiny: Path) -> None:
    refused("generate", "-q", tmp_path / "nowhere", "Hello", code="MOD500", said=["there is no such model folder"])
    refused("generate", "-q", "no/such-model", "Hello", code="MOD500", said=["no/such-model"])
    prompts = tmp_path / "prompts.txt"
    json_prompts = tmp_path / "prompts.jsonl"
    for text in ("", "\n \n"):
        prompts.write_text(text, encoding="utf-8")
        json_prompts.write_text(text, encoding="utf-8")
        refused("generate", "-q", "--format", "json", tiny, "-f", prompts, code="DAT304", said=["prompts.txt", "prompt"])
        refused("generate", "-q", "--format", "json", tiny, "-f", json_prompts, code="DAT304", said=["prompts.jsonl"])
    json_prompts.write_text('{"question": "x"}\n', encoding="utf-8")
    refused("generate", "-q", tiny, "-f", json_prompts, code="DAT306", said=["prompts.jsonl:1", "the keys question"])
    json_prompts.write_text('{"prompt": "x"}\nnonsense\n', encoding="utf-8")
    refused("generate", "-q", tiny, "-f", json_prompts, code="DAT303", said=["prompts.jsonl:2"])
    refused("generate", "-q", tiny, "-f", tmp_path / "missing.jsonl", code="DAT300")
    refused("generate", "-q", tiny, "Hello", "--template", "chatlm", code="TOK420", said=["'chatml'"], place=False)


def test_a_file_of_prompts_that_cannot_be_read(gogpt: Callable[..., Ran], tmp_path: Path, tiny: Path) -> None:
    ran = gogpt("generate", "-q", tiny, "-f", tmp_path / "missing.txt")
    assert ran.code == 2
    assert message_of(ran).startswith("DAT303 ")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    ran = gogpt("generate", "-q", tiny, "-f", tmp_path / "latin.txt")
    assert ran.code == 2
    assert message_of(ran).startswith("DAT303 ")


# -- show and explain ------------------------------------------------------------------------------


def test_show(refused: Refused, tmp_path: Path, recipe: Callable[..., Path]) -> None:
    lines = [json.dumps(row) for row in rows(5)]
    lines[2] = "nonsense"
    data = tmp_path / "data.jsonl"
    path = recipe()
    data.write_text("\n".join(lines), encoding="utf-8")
    form = ("--format", "json")
    refused("show", *form, f"{data}:0", code="DAT309", said=["there is no such row", "the first row is 1"])
    refused("show", *form, f"{data}:6", code="DAT309", said=["there is no such row", "expected: 1 to 5"])
    refused("show", *form, data, code="DAT309", said=["which row?", f"gogpt show {data}:1"])
    refused("show", *form, f"{data}:3", code="DAT309", said=["data.jsonl:3: the row cannot be used: unreadable: not valid JSON"])
    refused("show", *form, f"{tmp_path}/dta.jsonl:1", code="DAT300", said=["did you mean data.jsonl?"])
    refused("show", *form, path, "--row", "9", code="DAT309", said=["expected: 1 to 5"])
    refused("show", *form, f"{data}:1", "--template", "chatlm", code="TOK420", said=["'chatml'"], place=False)
    refused("show", *form, f"{data}:1", "--schema", "opneai", code="DAT306", said=["did you mean 'openai'?"])
    refused("show", *form, f"{data}:1", "--model", tmp_path / "nowhere", code="MOD500")
    refused("show", *form, path.with_name("recipee.yaml"), code="CFG200", said=["did you mean"])


@pytest.mark.parametrize(("code", "near"), [("TOK340", "TOK403"), ("tok03", "TOK403"), ("nonsense", "docs/checks"), ("DAT999", "")])
def test_explain(code: str, near: str, refused: Refused) -> None:
    refused("explain", code, "--format", "json", code="CFG205", said=[f"there is no code {code.upper()!r}", near], place=False)


def test_other_objects(refused: Refused, tmp_path: Path, tiny: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", rows(3))
    refused("check", "-q", data, "--base", tiny, code="CFG206", said=["recognised as data"])
    refused("check", "-q", tiny, "--fix", "x.json", code="CFG206", said=["recognised as model"])
    refused("check", "-q", tiny / "model.safetensors", code="CFG206", said=["give the folder"])
    refused("report", tmp_path, code="RUN611", said=["not a run folder"])
    refused("train", "-q", data, code="CFG201")


def test_messages_in_chinese_keep_code_and_place(gogpt: Callable[..., Ran], recipe: Callable[..., Path]) -> None:
    ran = gogpt("check", "-q", "--lang", "zh", recipe(data={"train": "dta.jsonl"}))
    assert ran.code == 2
    assert message_of(ran).startswith("DAT300 ")
    assert "修正" in ran.err
    assert "data.jsonl" in ran.err


# -- a disk that is full ---------------------------------------------------------------------------

LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from gogpt.cli import main
main()
"""


def told_that_the_disk_is_full(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    ran = Ran(done.returncode, done.stdout, done.stderr)
    assert message_of(ran).startswith("ENV110 ")
    assert "the disk is full" in done.stderr
    assert "free some room" in done.stderr


def nothing_half_written(run: Path) -> None:
    left = [str(p.relative_to(run)) for p in run.rglob("*")]
    assert not [p for p in left if p.endswith(".partial") or "checkpoint-" in p], left
    assert not (run / "final").exists()
    for checkpoint in run.glob("checkpoints/step-*"):
        assert (checkpoint / "trainer_state.json").is_file()
        assert (checkpoint / "adapter_model.safetensors").stat().st_size > 0 if (checkpoint / "adapter_config.json").exists() else True
    for document in run.glob("*.json"):
        json.loads(document.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "limit"), [
    pytest.param("full", 60_000, id="weights"), pytest.param("lora", 30_000, id="adapter"), pytest.param("full", 200, id="documents"),
    pytest.param("lora", 60_000, id="optimizer"),
])
def test_a_disk_that_is_full(kind: str, limit: int, recipe: Callable[..., Path], tmp_path: Path) -> None:
    """No file may pass a limit: what the checkpoint writes fails as on a full disk, in Python, Rust and C++ alike."""
    path = recipe(method={"kind": kind, "rank": 8}, train={"max_steps": 2, "save_every": 1})
    before = tree(tmp_path)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(limit), "train", "-q", "--format", "json", str(path)],
                          capture_output=True, text=True, check=False, timeout=120)
    told_that_the_disk_is_full(done)
    nothing_half_written(tmp_path / "run")
    if limit < 1000:
        assert tree(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; skipped where mounting is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_real_small_disk(small_disk: Path, recipe: Callable[..., Path]) -> None:
    (small_disk / "ballast").write_bytes(b"\0" * 900_000)
    path = recipe(method={"kind": "full"}, train={"max_steps": 2, "save_every": 1}, output=str(small_disk / "run"))
    done = subprocess.run([sys.executable, "-m", "gogpt", "train", "-q", "--format", "json", str(path)], capture_output=True, text=True, check=False, timeout=120)
    told_that_the_disk_is_full(done)
    nothing_half_written(small_disk / "run")


# -- odd things, tried as a new user might --------------------------------------------------------


def test_row_0_names_the_rows_that_there_are(refused: Refused, tmp_path: Path) -> None:
    refused("show", f"{write_jsonl(tmp_path / 'data.jsonl', rows(5))}:0", code="DAT309", said=["expected: 1 to 5"])


def test_rendering_a_prompt_of_content_parts(gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}), encoding="utf-8")
    ran = gogpt("template", "render", "chatml", path)
    assert ran.code == 0
    assert ran.out == "<|im_start|>user\nhi<|im_end|>\n"


@pytest.mark.parametrize("name", ["data.jsonl/o.jsonl", "x" * 300, ""])
def test_converting_to_where_nothing_can_be_written(name: str, refused: Refused, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", rows(3))
    refused("data", "convert", "-q", data, "-o", tmp_path / name if name else "", code="ENV110", said=["cannot write"])


def test_converting_a_file_onto_itself(refused: Refused, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", [*rows(3), {"mine": "alone"}])
    refused("data", "convert", "-q", data, "-o", data, code="RUN610")


def test_overwriting_what_is_no_run(recipe: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work", encoding="utf-8")
    refused("train", "-q", recipe(output="thesis"), "--overwrite", code="RUN610")


@pytest.mark.parametrize("words", [("check",), ("plan", "--no-probe"), ("train", "--dry-run")])
def test_keys_of_the_trainer_are_checked_before_training(words: tuple[str, ...], recipe: Callable[..., Path], refused: Refused) -> None:
    refused(*words, "-q", recipe(train={"trainer": {"loging_steps": 1}}), code="CFG231")


def test_resuming_a_finished_run_prints_a_document(finished: dict[str, Path], gogpt: Callable[..., Ran]) -> None:
    ran = gogpt("train", "-q", "--format", "json", "--resume", finished["lora"])
    assert ran.code == 0
    assert ran.json["run"] == str(finished["lora"])


@pytest.mark.parametrize("words", [("check", "-q"), ("report",), ("merge", "-q", "-o", "merged"), ("generate", "-q", "--system", "x")])
def test_a_name_that_is_too_long(words: tuple[str, ...], gogpt: Callable[..., Ran]) -> None:
    ran = gogpt(*words, "x" * 300, *(["Hello"] if words[0] == "generate" else []))
    assert ran.code == 2
    assert message_of(ran)


@pytest.mark.parametrize("messages", [[], [{"role": "alien", "content": "x"}], [{"role": None, "content": 5}]])
def test_prompts_that_are_no_messages(messages: list[Any], gogpt: Callable[..., Ran], tmp_path: Path, tiny: Path) -> None:
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"messages": messages}])
    ran = gogpt("generate", "-q", tiny, "-f", prompts, "--max-new-tokens", "2")
    assert ran.code == 2
    assert "prompts.jsonl:1" in message_of(ran)


ODD_FILES = {
    "an adapter's config that is broken": ("lora", "final/adapter_config.json", b"{", "generate.base_of"),
    "an adapter's config of a list": ("lora", "final/adapter_config.json", b"[]", "generate.base_of"),
    "a base that is a number": ("lora", "final/adapter_config.json", b'{"base_model_name_or_path": 5}', "generate.base_of"),
    "an adapter of a few bytes": ("lora", "final/adapter_model.safetensors", b"abc", "adapters.load_adapter: SafetensorError"),
    "a note of the base that is broken": ("lora", "final/gogpt_base.json", b"[", "adapters.load_adapter"),
    "final weights of a few bytes": ("full", "final/model.safetensors", b"abc", "model.load_base: SafetensorError"),
    "a config of wrong types": ("full", "final/config.json", b'{"model_type": "llama", "num_attention_heads": "x"}', "model.load_base: huggingface_hub's StrictDataclassError"),
    "a chat template that is no text": ("full", "final/chat_template.jinja", b"\xff\xfe", "tokenize.Tokenizer.chat_template"),
    "an added token without a number": ("full", "final/tokenizer_config.json", b'{"added_tokens_decoder": {"x": {"content": "y"}}}', "tokenize.Tokenizer._add_missing_tokens"),
    "an end of text that is no number": ("full", "final/generation_config.json", b'{"eos_token_id": "x"}', "tokenize.Tokenizer.stop_texts"),
    "an end of text below zero": ("full", "final/generation_config.json", b'{"eos_token_id": -1}', "tokenize.Tokenizer.stop_texts"),
}


@pytest.mark.parametrize("what", list(ODD_FILES))
def test_an_odd_file_in_a_finished_run(what: str, finished: dict[str, Path], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    kind, name, data, _ = ODD_FILES[what]
    run = Path(shutil.copytree(finished[kind], tmp_path / "copy"))
    (run / name).write_bytes(data)
    ran = gogpt("generate", "-q", run, "Hello", "--max-new-tokens", "1")
    assert ran.code == 2, ran.err
    assert message_of(ran)


def test_merging_a_run_whose_samples_were_cut(finished: dict[str, Path], gogpt: Callable[..., Ran], tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished["lora"], tmp_path / "copy"))
    (run / "samples.jsonl").write_text('{"input_ids": [1, 2', encoding="utf-8")
    ran = gogpt("merge", "-q", run, "-o", tmp_path / "merged")
    assert ran.code in (0, 2)
