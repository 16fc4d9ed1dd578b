"""Reading other tools' configurations: scripts, defaults, what each key means, the recipe that is made of them, and any nonsense."""

from __future__ import annotations

import json
import shlex
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from foreign_cases import AXOLOTL, LLAMAFACTORY, TRL, lay_out, write
from gogpt.errors import GogptError
from gogpt.facts import Facts, from_json, to_json
from gogpt.foreign import read_foreign
from gogpt.foreign.marks import MARKS, OWN, known_keys, tables, tools_of, unknown_keys
from gogpt.foreign.places import _newest
from gogpt.foreign.recipe import to_recipe
from gogpt.foreign.script import find_launch
from gogpt.secondhand import check_foreign
from gogpt.yaml12 import parse_value

DOCUMENTS = {"llamafactory": LLAMAFACTORY, "axolotl": AXOLOTL, "trl": TRL}


def read(tool: str, **changes: Any) -> Any:
    whole = {k: v for k, v in {**DOCUMENTS[tool], **changes}.items() if v is not None}
    return read_foreign(yaml.safe_dump(whole), "run.yaml", tool)


# -- scripts ---------------------------------------------------------------------------------------

SCRIPT = """#!/bin/bash
# train.sh: nothing of this line
cat <<'END' > hosts
llamafactory-cli train in-a-heredoc.yaml
END
export MODEL="Qwen/Qwen2.5-7B"   LR=1e-4
DATA=a,b
FORCE_TORCHRUN=1 NNODES=2 torchrun --nnodes=2 --nproc_per_node 8 \\
    src/train.py \\
    --model_name_or_path ${MODEL} --learning_rate=$LR \\
    # a comment between
    --dataset "$DATA" --flash_attn ${ATTN:-fa2} \\
    --lora_target q_proj,v_proj --bf16 \\
    --output_dir out/$RUN > train.log 2>&1
"""


def test_a_script() -> None:
    launch = find_launch(SCRIPT)
    assert launch is not None
    assert (launch.tool, launch.line, launch.processes) == ("llamafactory", 8, 16)
    assert launch.arguments == {"model_name_or_path": "Qwen/Qwen2.5-7B", "learning_rate": 1e-4, "dataset": "a,b", "flash_attn": "fa2",
                                "lora_target": "q_proj,v_proj", "bf16": True, "output_dir": "out/$RUN"}
    assert launch.lines["learning_rate"] == 10
    assert launch.lines["output_dir"] == 14
    assert launch.unresolved == ("$RUN",)


@pytest.mark.parametrize(("line", "tool", "config", "processes"), [
    ("llamafactory-cli train a.yaml", "llamafactory", "a.yaml", None),
    ("axolotl train a.yml", "axolotl", "a.yml", None),
    ("accelerate launch --num_processes 4 -m axolotl.cli.train a.yml", "axolotl", "a.yml", 4),
    ("swift sft --config a.yaml", "swift", "a.yaml", None),
    ("NPROC_PER_NODE=4 swift sft --model m", "swift", None, 4),
    ("trl sft --config a.yaml", "trl", "a.yaml", None),
    ("accelerate launch --config_file ds.yaml trl/scripts/sft.py --model_name_or_path m", "trl", None, None),
    ("deepspeed --num_gpus 8 src/train.py --stage sft", "llamafactory", None, 8),
    ("torchrun --nproc_per_node=8 --nnodes 2 src/train.py --stage sft", "llamafactory", None, 16),
])
def test_commands_that_train(line: str, tool: str, config: str | None, processes: int | None) -> None:
    launch = find_launch(line)
    assert launch is not None
    assert (launch.tool, launch.config, launch.processes) == (tool, config, processes)


@pytest.mark.parametrize("line", ["echo llamafactory-cli", "python train.py --lr 1", "pip install trl", "", "llamafactory-cli chat a.yaml", "# trl sft --config x"])
def test_commands_that_do_not(line: str) -> None:
    assert find_launch(line) is None


WORD = st.text(string.ascii_letters + string.digits + "/_.:-", min_size=1, max_size=12).filter(lambda w: not w.startswith("-"))
KEY = st.text(string.ascii_lowercase + "_", min_size=2, max_size=12).filter(lambda k: k != "config" and k[0] != "_")


@given(st.dictionaries(KEY, WORD, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_arguments_arrive_as_they_were_written(arguments: dict[str, str], broken: bool) -> None:
    glue = " \\\n  " if broken else " "
    launch = find_launch("swift sft" + "".join(f"{glue}--{k} {shlex.quote(v)}" for k, v in arguments.items()) + "\n")
    assert launch is not None
    assert {k: repr(v) for k, v in launch.arguments.items()} == {k: repr(parse_value(v)) for k, v in arguments.items()}
    assert set(launch.lines.values()) <= set(range(1, len(arguments) + 2))


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_script_is_read(text: str) -> None:
    find_launch(text)
    find_launch("swift sft --model m " + text)


def test_a_script_over_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "lf.yaml", LLAMAFACTORY)
    (tmp_path / "train.sh").write_text("llamafactory-cli train lf.yaml learning_rate=3e-5 \\\n  cutoff_len=99\n", encoding="utf-8")
    file = read_foreign((tmp_path / "train.sh").read_text(encoding="utf-8"), "train.sh", None)
    assert (file.facts.learning_rate, file.facts.max_length, file.facts.template) == (3e-5, 99, "qwen")
    assert file.facts.at("learning_rate") == "train.sh:1"
    assert file.facts.at("cutoff_len") == "train.sh:2"
    assert file.facts.at("template").startswith("lf.yaml:")
    assert set(file.files) == {"train.sh", "lf.yaml"}


# -- keys and defaults -----------------------------------------------------------------------------


def test_every_mark_is_a_key_of_its_tool() -> None:
    for tool in ("llamafactory", "trl", "axolotl", "swift"):
        assert MARKS[tool] <= known_keys(tool), MARKS[tool] - known_keys(tool)
        assert len(OWN[tool]) >= 5


@pytest.mark.parametrize("tool", DOCUMENTS)
def test_healthy_documents_have_no_unknown_key(tool: str) -> None:
    assert unknown_keys(tool, DOCUMENTS[tool]) == {}
    assert tools_of(DOCUMENTS[tool])[0][0] == tool


def test_defaults_are_those_of_the_packages() -> None:
    bare = {"llamafactory": {"model_name_or_path": "m", "finetuning_type": "full"}, "trl": {"model_name_or_path": "m", "dataset_name": "d"}}
    facts = {tool: read_foreign(yaml.safe_dump(d), "x.yaml", tool).facts for tool, d in bare.items()}
    assert (facts["llamafactory"].learning_rate, facts["trl"].learning_rate) == (5e-5, 2e-5)
    assert (facts["llamafactory"].max_length, facts["trl"].max_length) == (2048, 1024)
    assert (facts["llamafactory"].method, facts["trl"].method) == ("full", "full")
    for tool, found in facts.items():
        assert found.learning_rate == tables()[tool]["keys"]["learning_rate"]
        assert found.micro_batch_size == tables()[tool]["keys"]["per_device_train_batch_size"] == 8
    # ms-swift: documented by method. Axolotl has none: it is asked for.
    assert [read_foreign(f"train_type: {t}\nmodel: m\n", "x.yaml", "swift").facts.learning_rate for t in ("lora", "full")] == [1e-4, 1e-5]
    assert read("axolotl", learning_rate=None).facts.learning_rate is None


@pytest.mark.parametrize(("tool", "changes", "method", "bits"), [
    ("llamafactory", {}, "lora", None), ("llamafactory", {"quantization_bit": 4}, "qlora", 4), ("llamafactory", {"finetuning_type": "freeze"}, "freeze", None),
    ("axolotl", {"adapter": None}, "full", None), ("axolotl", {"adapter": "qlora", "load_in_4bit": True}, "qlora", 4), ("axolotl", {"load_in_8bit": True}, "lora", 8),
    ("trl", {}, "lora", None), ("trl", {"use_peft": None}, "full", None), ("trl", {"load_in_4bit": "yes"}, "qlora", 4),
])
def test_methods(tool: str, changes: dict[str, Any], method: str, bits: int | None) -> None:
    facts = read(tool, **changes).facts
    assert (facts.method, facts.quantised) == (method, bits)


@pytest.mark.parametrize(("tool", "changes", "precision"), [
    ("llamafactory", {}, "bf16"), ("llamafactory", {"bf16": None}, "fp32"), ("llamafactory", {"bf16": None, "fp16": True}, "fp16"), ("axolotl", {}, "auto"),
    ("axolotl", {"bf16": False}, "fp32"), ("axolotl", {"bf16": None, "float16": "true"}, "fp16"), ("trl", {"bf16": None}, "bf16"), ("trl", {"bf16": False}, "fp32"),
])
def test_precisions(tool: str, changes: dict[str, Any], precision: str) -> None:
    assert read(tool, **changes).facts.precision == precision


def test_numbers_as_pyyaml_reads_them() -> None:
    assert read_foreign("base_model: m\nlearning_rate: 2e-4\nwarmup_steps: '10'\n", "x.yaml", "axolotl").facts.learning_rate == 2e-4
    assert read("axolotl", learning_rate="2e-4").facts.learning_rate == 2e-4
    assert read("llamafactory", packing="True").facts.packing_leaks == "certain"


@pytest.mark.parametrize(("spec", "newest"), [
    ("==4.41.2", "==4.41.2"), ("<4.46", "<4.46"), ("~=4.41.0", "~=4.41.0"), (">=4.40,<=4.45.2", "<=4.45.2"), ("==4.46.0", None), (">=4.41.2", None), ("", None), ("<5", None),
    ("<4.46.0", "<4.46.0"), ("<=4.46", None), ("==5.0", None),
])
def test_pins(spec: str, newest: str | None) -> None:
    assert _newest(spec) == newest


def test_facts_survive_json() -> None:
    for tool in DOCUMENTS:
        facts = Facts(foreign=read(tool).facts)
        assert to_json(from_json(Facts, json.loads(json.dumps(to_json(facts))))) == to_json(facts)


def test_every_template_of_the_table_has_its_texts() -> None:
    table = tables()["llamafactory"]
    assert len(table["templates"]) > 100
    assert all("{{content}}" in t["user"] for t in table["templates"].values()), "a question stands in every form"
    assert set(table["models"].values()) <= set(table["templates"])


# -- as a recipe -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", DOCUMENTS)
def test_the_recipe_is_valid_and_says_the_same(tool: str, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gogpt.config import RunConfig

    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, tiny)
    file = read(tool)
    recipe, left = to_recipe(file)
    config = RunConfig.model_validate(recipe)
    facts = file.facts
    assert (config.train.learning_rate, config.data.max_length, config.data.packing) == (facts.learning_rate, facts.max_length, facts.packing)
    assert config.train.batch_size == facts.micro_batch_size * facts.accumulation
    assert config.data.train_on == "assistant"
    assert [s.path for s in config.data.train] == list(facts.train)
    assert {key for key, _ in left} <= set(DOCUMENTS[tool])


@pytest.mark.parametrize("tool", DOCUMENTS)
def test_migrate_writes_a_recipe_that_is_judged_alike(tool: str, gogpt: Any, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, tiny)
    file = write(tmp_path / "run.yaml", DOCUMENTS[tool], odd_key=3)
    (tmp_path / "recipes").mkdir()
    ran = gogpt("migrate", file, "-o", "recipes/mine.yaml", "num_train_epochs=2" if tool != "axolotl" else "num_epochs=2")
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert "run.yaml:" in ran.err
    assert "odd_key" in ran.err
    recipe = yaml.safe_load((tmp_path / "recipes" / "mine.yaml").read_text(encoding="utf-8"))
    assert recipe["model"] == "../model"
    assert recipe["data"]["train"][0]["path"].startswith("../data/")
    assert recipe["train"]["epochs"] == 2
    judged = gogpt("check", "recipes/mine.yaml", "train.precision=fp32", "-q", "--format", "json")
    assert (judged.code, [f["code"] for f in judged.json["findings"]]) == (0, []), judged.out
    printed = gogpt("migrate", file, "-q").out
    assert yaml.safe_load(printed)["data"]["max_length"] == 512
    document = gogpt("migrate", file, "--format", "json").json
    assert document["object"] == {"path": str(file), "kind": tool}
    assert "odd_key" in [e["key"] for e in document["left_out"]]
    assert gogpt("migrate", file, "-o", "recipes/mine.yaml").err.startswith("RUN610")
    assert gogpt("migrate", "recipes/mine.yaml").err.startswith("CFG206")
    assert gogpt("migrate", "gone.yaml").err.startswith("CFG200")


# -- nonsense --------------------------------------------------------------------------------------

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-10, 10**12), st.floats(allow_nan=True), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=3),
                   st.lists(st.dictionaries(st.sampled_from(["path", "type", "data_files", "roles_to_train"]), st.text(max_size=4), max_size=2), max_size=2),
                   st.dictionaries(st.text(max_size=4), st.integers(), max_size=2))
MORE = {"learning_rate", "deepspeed", "warmup_steps", "warmup_ratio", "max_steps", "bf16", "fp16", "per_device_train_batch_size", "gradient_accumulation_steps", "seed",
        "output_dir", "resume_from_checkpoint", "ddp_timeout", "save_only_model"}


@pytest.mark.parametrize("tool", ["llamafactory", "axolotl", "swift", "trl"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_are_judged_or_refused(tool: str, data: st.DataObject) -> None:
    document = data.draw(st.dictionaries(st.sampled_from(sorted(known_keys(tool) & (MARKS[tool] | MORE))), VALUES, max_size=8))
    try:
        found = check_foreign(read_foreign(yaml.safe_dump(document), "x.yaml", tool))
    except GogptError:
        return
    for finding in found.verdict.findings:
        for lang in ("en", "zh"):
            assert finding.to_dict(lang)["message"]
    json.dumps(to_json(found.facts))


def test_the_examples_of_the_docs_are_faulty(gogpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = gogpt("check", "examples/check/llamafactory.yaml", "-q", "--format", "json").json["findings"]
    assert [f["code"] for f in found] == ["CFG211", "CFG220", "CFG221", "CFG229", "CFG260", "CFG222"]
