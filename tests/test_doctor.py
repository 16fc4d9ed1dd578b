"""gogpt doctor on this machine, and gogpt doctor --log on logs as they come."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gogpt.checks import DOCTOR
from gogpt.facts import DoctorFacts, from_json
from gogpt.logs import explain_line, first_error, patterns

BUILD = """\
Using /root/.cache/torch_extensions/py310_cu121 as PyTorch extensions root...
/opt/lib/python3.10/site-packages/torch/utils/cpp_extension.py:1964: UserWarning: TORCH_CUDA_ARCH_LIST is not set, all archs are included. error: none
Building extension module fused_adam...
FAILED: multi_tensor_adam.cuda.o
/usr/usr/local/cuda-12.2/bin/nvcc -DTORCH_EXTENSION_NAME=fused_adam -c multi_tensor_adam.cu -o multi_tensor_adam.cuda.o
/bin/sh: /usr/usr/local/cuda-12.2/bin/nvcc: No such file or directory
ninja: build stopped: subcommand failed.
Traceback (most recent call last):
subprocess.CalledProcessError: Command '['ninja', '-v']' returned non-zero exit status 1.
RuntimeError: Error building extension 'fused_adam'
"""

NCCL = """\
step 10 loss 1.2
[E ProcessGroupNCCL.cpp:828] [Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType=BROADCAST, Timeout(ms)=1800000) ran for 1806372 milliseconds before timing out.
Some NCCL operations have failed or timed out.
To avoid data inconsistency, we are taking the entire process down.
"""


@pytest.mark.parametrize("pattern", patterns(), ids=lambda p: p.name)
def test_entries_of_the_table(pattern) -> None:
    assert pattern.level in (1, 2, 3)
    for text in pattern.found:
        taken = explain_line(text)
        assert taken is not None
        assert taken[0].name == pattern.name, text
        for lang in ("en", "zh"):
            for part in (pattern.meaning, pattern.fix):
                told = part.format(lang, taken[1])
                assert any("\u4e00" <= c <= "\u9fff" for c in told) == (lang == "zh")
    for text in pattern.not_found:
        taken = explain_line(text)
        assert taken is None or taken[0].name != pattern.name


def test_names_are_unique() -> None:
    names = [p.name for p in patterns()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        (BUILD, "nvcc_doubled_path", 6),
        (BUILD.replace("/usr/usr/", "/usr/"), "nvcc_not_found", 6),
        (NCCL, "nccl_timeout", 2),
        (NCCL + "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", "out_of_memory", 5),
        ("FAILED: a.cuda.o\na.cu(163): error: identifier \"c10\" is undefined\nninja: build stopped: subcommand failed.\n", "compiler_error", 2),
        ("\x1b[31mRuntimeError: CUDA error: uncorrectable ECC error encountered\x1b[0m\r\n", "ecc", 1),
        ("10%\r20%\rRuntimeError: CUDA error: out of memory\n", "out_of_memory", 1),
        ("ninja: build stopped: subcommand failed.\n", "build_failed", 1),
        ("Using /root/.cache/torch_extensions\n[1/3] /usr/local/cuda/bin/nvcc -std=c++17 -c multi_tensor_adam.cu -o multi_tensor_adam.cuda.o \nFAILED: multi_tensor_adam.cuda.o \n"
         "nvcc fatal   : Value 'c++17' is not defined for option 'std'\nninja: build stopped: subcommand failed.\n", "arch_unsupported", 4),
        ("[rank1]: Traceback (most recent call last):\n[rank1]: KeyError: 'labels'\n" + NCCL, "python_error", 2),
        ("RuntimeError: Failed to import transformers.models.llama.modeling_llama because of the following error (look up to see its traceback):\n"
         "OpenSSL 3.0's legacy provider failed to load. This is a fatal error by default\n", "openssl_legacy", 2),
        ("[W602 11:17:52 ProcessGroupNCCL.cpp:1] Warning: CUDA out of memory\n/bin/sh: 1: :/usr/local/cuda/bin/nvcc: not found\n", "nvcc_list", 2),
        ("a.cpp:3:1: warning: unused error: x\ng++ -c a.cpp\nc++: fatal error: Killed signal terminated program cc1plus\n", "oom_killer", 3),
        ("[launch.py:315:sigkill_handler] Killing subprocess 77\n[launch.py:321:sigkill_handler] ['python'] exits with return code = -9\n", "killed", 2),
    ],
)
def test_first_real_error(text: str, name: str, line: int) -> None:
    match = first_error(text.splitlines(keepends=True) if "\r2" not in text else [text])
    assert match is not None
    assert (match.pattern.name, match.line) == (name, line)


def test_no_error() -> None:
    assert first_error(["loss 0.3", "UserWarning: CUDA out of memory may come", "0 errors, 0 failed"]) is None


def test_log_command(gogpt, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text(BUILD, encoding="utf-8")
    ran = gogpt("doctor", "--log", log)
    assert ran.code == 1
    assert "export CUDA_HOME=/usr/local/cuda-12.2;" in ran.out
    assert "build.log:6" in ran.out
    zh = gogpt("doctor", "--log", log, "--lang", "zh")
    assert "重复" in zh.out
    told = gogpt("doctor", "--log", log, "--format", "json").json
    assert [f["code"] for f in told["findings"]] == ["ENV130"]
    assert told["findings"][0]["evidence"]["line"] == 6
    packed = tmp_path / "build.log.gz"
    packed.write_bytes(gzip.compress(BUILD.encode()))
    assert gogpt("doctor", "--log", packed).code == 1
    log.write_text("all is well\n", encoding="utf-8")
    assert gogpt("doctor", "--log", log).code == 0
    assert gogpt("doctor", "--log", log, "--format", "json").json["findings"] == []


def test_wrong_questions(gogpt, tmp_path: Path) -> None:
    for words in (("--log", tmp_path / "none.log"), ("--log", tmp_path), (tmp_path / "none",), (tmp_path, "a=1")):
        ran = gogpt("doctor", *words)
        assert ran.code == 2, words
        assert ran.out == ""


def test_this_machine(gogpt) -> None:
    ran = gogpt("doctor", "--format", "json")
    assert set(ran.json) == {"facts", "findings", "checked", "not_checked"}
    assert ran.code == int(any(f["severity"] == "error" for f in ran.json["findings"]))
    assert ran.json["checked"] == [c.code for c in DOCTOR]
    assert from_json(DoctorFacts, ran.json["facts"]).versions["torch"]
    assert "torch" in gogpt("doctor").out


def test_pointers_in_a_folder(gogpt, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", encoding="utf-8")
    ran = gogpt("doctor", tmp_path, "--format", "json")
    assert ran.code == 1
    assert "ENV127" in [f["code"] for f in ran.json["findings"]]


def test_a_recipe(gogpt, recipe) -> None:
    facts = gogpt("doctor", recipe(), "--format", "json").json["facts"]
    assert facts["disk_needed"] > 0
    assert facts["memory_needed"] > 0


def test_torch_is_not_imported() -> None:
    code = "import sys; from gogpt.cli import run; run(['doctor', '--format', 'json']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert json.loads(first)["checked"]
    assert last == "False"
