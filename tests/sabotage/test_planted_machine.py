"""Faults of the machine, planted in trees of plain files: a fake root, an environment given as a mapping."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from planted import planted

from gogpt.checks import DOCTOR
from gogpt.facts import Facts, from_json, to_json
from gogpt.findings import Finding, judge
from gogpt.survey import survey


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@dataclass
class Tree:
    """A healthy machine of two GPUs, which a test spoils."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        toolkit = self.root / "usr/local/cuda-12.2"
        script(toolkit / "bin/nvcc", 'echo "Cuda compilation tools, release 12.2, V12.2.140"')
        for part in ("bin/ptxas", "nvvm/bin/cicc", "include/cuda_runtime.h", "lib64/libcudart.so"):
            (toolkit / part).parent.mkdir(parents=True, exist_ok=True)
            (toolkit / part).touch()
        header = toolkit / "include/crt/host_config.h"
        header.parent.mkdir(parents=True)
        header.write_text("#if __GNUC__ > 12\n#error -- unsupported GNU version!\n#endif\n", encoding="utf-8")
        (self.root / "usr/local/cuda").symlink_to("cuda-12.2")
        script(self.root / "usr/bin/g++", 'case $1 in -dumpversion) echo 12;; *) echo "g++ (GCC) 12.3.0";; esac')
        script(self.root / "usr/bin/ninja", "echo 1.11.1")
        script(self.root / "usr/bin/git-lfs", "echo git-lfs/3.4.0")
        self.driver("535.104", "12.2")
        for name in ("eth0", "lo"):
            (self.root / "sys/class/net" / name).mkdir(parents=True)
        (self.root / "home/me/.cache/huggingface/hub").mkdir(parents=True)
        self.install("torch", "2.2.0+cu121")
        self.file("torch/version.py", "__version__ = '2.2.0+cu121'\ncuda: Optional[str] = '12.1'\n")
        self.file("torch/lib/libc10.so", "\0_ZN3c105ErrorC2ENS_14SourceLocationESs\0")
        self.install("deepspeed", "0.14.0")
        self.install("flash-attn", "2.5.6")
        self.file("flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so", "\0_ZN3c105ErrorC2ENS_14SourceLocationESs\0")
        self.install("cryptography", "42.0.5")
        self.install("bitsandbytes", "0.45.3")
        for library in ("cpu", "cuda118", "cuda121", "cuda124"):
            self.file(f"bitsandbytes/libbitsandbytes_{library}.so", "")
        (self.root / "project").mkdir()
        self.environ = {
            "HOME": "/home/me", "PATH": "/usr/local/cuda-12.2/bin:/usr/bin", "CUDA_HOME": "/usr/local/cuda", "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
            "HF_TOKEN": "secret"}

    @property
    def site(self) -> Path:
        return self.root / "site-packages"

    def driver(self, version: str, cuda: str, gpu: str = "NVIDIA A100-SXM4-40GB, 8.0") -> None:
        row = f"{gpu}, 40960, {version}"
        script(self.root / "usr/bin/nvidia-smi", f'case $1 in --query*) echo "{row}"; echo "{row}";; *) echo "CUDA Version: {cuda} |";; esac')

    def file(self, name: str, text: str) -> None:
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())

    def install(self, name: str, version: str, site: str = "site-packages") -> None:
        module = name.replace("-", "_")
        folder = self.root / site
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (folder / module).mkdir(exist_ok=True)
        (folder / module / "__init__.py").write_text("", encoding="utf-8")

    def findings(self, *, sites: tuple[str, ...] = ("site-packages",), **more: Any) -> list[Finding]:
        seen = survey(self.environ, sys_path=[str(self.root / s) for s in sites], root=self.root, folder=self.root / "project", **more)
        assert "secret" not in json.dumps(to_json(seen))
        facts = Facts(doctor=seen)
        assert from_json(Facts, json.loads(json.dumps(to_json(facts)))) == facts
        verdict = judge(DOCTOR, facts)
        assert verdict.checked == tuple(c.code for c in DOCTOR)
        return list(verdict.findings)

    def only(self, code: str, severity: str = "error", **more: Any) -> dict[str, Any]:
        found = [f.to_dict() for f in self.findings(**more)]
        assert [(f["code"], f["severity"]) for f in found] == [(code, severity)]
        return found[0]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr("gogpt.survey.shm_size", lambda path: 16 * 2**30)
    monkeypatch.setattr("gogpt.survey.shutil.disk_usage", lambda path: type("Usage", (), {"free": 200 * 2**30}))
    return Tree(tmp_path)


def test_healthy_machine_is_silent(machine: Tree) -> None:
    assert machine.findings(searched=machine.root / "project", disk_needed=2**30, memory_needed=2**30) == []
    assert Tree(machine.root / "inner").findings() == []


@planted("ENV120")
def test_doubled_usr(machine: Tree) -> None:
    machine.environ.update(CUDA_HOME="/usr/usr/local/cuda-12.2", PATH="/usr/usr/local/cuda-12.2/bin:/usr/bin", LD_LIBRARY_PATH="/usr/usr/local/cuda-12.2/lib64")
    found = machine.only("ENV120")
    assert "/usr/usr/local/cuda-12.2 holds no bin/nvcc" in found["message"]
    for line in ("export CUDA_HOME=/usr/local/cuda-12.2;", "export PATH=/usr/local/cuda-12.2/bin:$PATH;", "export LD_LIBRARY_PATH=/usr/local/cuda-12.2/lib64:"):
        assert line in found["fix"]


@planted("ENV120")
def test_two_toolkits(machine: Tree) -> None:
    script(machine.root / "usr/local/cuda-11.8/bin/nvcc", 'echo "release 11.8, V11.8.89"')
    (machine.root / "usr/local/cuda-11.8/lib64").mkdir()
    machine.environ["LD_LIBRARY_PATH"] = "/usr/local/cuda-11.8/lib64"
    assert "cuda-12.2" in machine.only("ENV120", "warning")["fix"]


@planted("ENV120")
def test_cuda_home_is_a_list(machine: Tree) -> None:
    machine.environ["CUDA_HOME"] = ":/usr/local/cuda"
    assert machine.only("ENV120")["fix"].startswith("export CUDA_HOME=/usr/local/cuda-12.2;")


def test_a_wrapper_of_the_same_version_is_no_second_toolkit(machine: Tree) -> None:
    script(machine.root / "usr/local/bin/nvcc", 'echo "Cuda compilation tools, release 12.2, V12.2.140"')
    machine.environ["PATH"] = "/usr/local/bin:" + machine.environ["PATH"]
    assert machine.findings() == []
    machine.environ["CUDA_HOME"] = "/usr/usr/local/cuda-12.2"
    assert machine.only("ENV120")["fix"].startswith("export CUDA_HOME=/usr/local/cuda-12.2;")


def test_no_toolkit_and_no_gpu_is_no_fault(machine: Tree) -> None:
    machine.environ.update(PATH="/usr/bin", CUDA_VISIBLE_DEVICES="")
    del machine.environ["CUDA_HOME"], machine.environ["LD_LIBRARY_PATH"]
    assert machine.findings() == []


@planted("ENV121")
def test_driver_too_old(machine: Tree) -> None:
    machine.driver("470.82", "11.4")
    assert "11.4" in machine.only("ENV121")["message"]


@planted("ENV121")
def test_cpu_build_beside_gpus(machine: Tree) -> None:
    machine.file("torch/version.py", "__version__ = '2.2.0+cpu'\ncuda: Optional[str] = None\n")
    assert "2 GPUs" in machine.only("ENV121")["message"]


@planted("ENV122")
def test_ninja_missing(machine: Tree) -> None:
    (machine.root / "usr/bin/ninja").unlink()
    assert machine.only("ENV122", "warning")["fix"] == "pip install ninja"


@planted("ENV122")
def test_gcc_too_new(machine: Tree) -> None:
    script(machine.root / "usr/bin/g++", 'case $1 in -dumpversion) echo 14;; *) echo "g++ (GCC) 14.1.0";; esac')
    assert "g++-12" in machine.only("ENV122", "warning")["fix"]


@planted("ENV122")
@pytest.mark.parametrize("part", ["nvvm/bin/cicc", "bin/ptxas", "include/cuda_runtime.h", "lib64/libcudart.so"])
def test_a_toolkit_that_holds_nvcc_and_little_else(machine: Tree, part: str) -> None:
    """What pip installs as nvidia-cuda-nvcc: without its dependencies no cicc and no headers, and never a libcudart.so to link."""
    (machine.root / "usr/local/cuda-12.2" / part).unlink()
    found = machine.only("ENV122", "warning")
    assert f"holds nvcc but not {part}" in found["message"]
    assert "export CUDA_HOME=" in found["fix"]
    if part.startswith(("include", "lib64")):  # conda's place for them
        other = machine.root / "usr/local/cuda-12.2/targets/x86_64-linux" / part.replace("lib64", "lib")
        other.parent.mkdir(parents=True)
        other.touch()
        assert machine.findings() == []


@planted("ENV132")
def test_bitsandbytes_without_a_library_for_this_cuda(machine: Tree) -> None:
    """One made for CPUs, or for an older major version of CUDA: it is imported, and the first 4-bit layer fails."""
    for library in ("cuda121", "cuda124"):
        machine.site.joinpath(f"bitsandbytes/libbitsandbytes_{library}.so").unlink()
    found = machine.only("ENV132")
    assert found["message"] == "bitsandbytes 0.45.3 would load libbitsandbytes_cuda121 for torch 2.2.0+cu121 (CUDA 12.1), and has cpu, cuda118"
    assert "pip install -U bitsandbytes" in found["fix"]
    machine.file("bitsandbytes/libbitsandbytes_cuda126.so", "")  # a newer one of the same major version is taken
    assert machine.findings() == []


@planted("ENV132")
def test_a_version_that_another_machine_left_behind(machine: Tree) -> None:
    machine.environ["BNB_CUDA_VERSION"] = "118"
    found = machine.only("ENV132", "warning")
    assert (found["evidence"]["wanted"], found["fix"]) == ("cuda118", "unset BNB_CUDA_VERSION")
    machine.environ["BNB_CUDA_VERSION"] = "130"
    assert machine.only("ENV132")["fix"] == "unset BNB_CUDA_VERSION"
    machine.environ["BNB_CUDA_VERSION"] = "124"
    assert machine.findings() == []


def test_bitsandbytes_without_a_gpu_takes_that_for_the_cpu(machine: Tree) -> None:
    machine.environ["CUDA_VISIBLE_DEVICES"] = ""
    for library in ("cuda118", "cuda121", "cuda124"):
        machine.site.joinpath(f"bitsandbytes/libbitsandbytes_{library}.so").unlink()
    assert machine.findings() == []
    machine.site.joinpath("bitsandbytes/libbitsandbytes_cpu.so").unlink()
    assert machine.only("ENV132")["evidence"]["wanted"] == "cpu"


@planted("ENV123")
def test_flash_attn_of_another_torch(machine: Tree) -> None:
    machine.file("flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so", "\0_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\0")
    assert "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx11" in machine.only("ENV123")["message"]


@planted("ENV123")
def test_flash_attn_of_the_first_generation(machine: Tree) -> None:
    (machine.site / "flash_attn-2.5.6.dist-info").rename(machine.site / "flash_attn-1.0.9.dist-info")
    (machine.site / "flash_attn-1.0.9.dist-info/METADATA").write_text("Name: flash-attn\nVersion: 1.0.9\n", encoding="utf-8")
    assert "flash_attn_varlen" in machine.only("ENV123", "warning")["message"]


@planted("ENV124")
def test_interface_that_is_not_there(machine: Tree) -> None:
    machine.environ["NCCL_SOCKET_IFNAME"] = "ib0"
    assert "eth0" in machine.only("ENV124")["fix"]


@planted("ENV124")
def test_small_shared_memory(machine: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gogpt.survey.shm_size", lambda path: 64 * 2**20)
    assert "64 MiB" in machine.only("ENV124", "warning")["message"]


@planted("ENV125")
def test_disk_and_memory(machine: Tree) -> None:
    machine.only("ENV125", disk_needed=300 * 2**30)
    machine.only("ENV125", "warning", disk_needed=2**30, memory_needed=60 * 2**30)


@planted("ENV126")
def test_offline_without_a_cache(machine: Tree) -> None:
    machine.environ.update(HF_HUB_OFFLINE="1", HF_HOME="/data/hf")
    assert "/data/hf/hub" in machine.only("ENV126", "warning")["message"]


@planted("ENV127")
def test_pointer_in_place_of_weights(machine: Tree) -> None:
    model = machine.root / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n", encoding="utf-8")
    found = machine.only("ENV127", searched=model)
    assert "model.safetensors" in found["message"]
    assert f"git -C {model} lfs pull" in found["fix"]


@planted("ENV128")
def test_openssl_modules_without_legacy(machine: Tree) -> None:
    machine.environ["OPENSSL_MODULES"] = "/opt/conda/lib/ossl-modules"
    machine.only("ENV128", "warning")
    modules = machine.root / "opt/conda/lib/ossl-modules"
    modules.mkdir(parents=True)
    (modules / "legacy.so").write_text("", encoding="utf-8")
    assert machine.findings() == []


@planted("ENV129")
def test_two_installs(machine: Tree) -> None:
    machine.install("transformers", "4.51.3")
    machine.install("transformers", "5.2.0", "local")
    found = machine.only("ENV129", "warning", sites=("site-packages", "local"))
    assert "4.51.3 at" in found["message"]
    assert "5.2.0 at" in found["message"]


@planted("ENV129")
def test_shadowed_library(machine: Tree) -> None:
    machine.install("datasets", "3.0.0")
    (machine.root / "project/datasets.py").write_text("", encoding="utf-8")
    assert "project/datasets.py" in machine.only("ENV129", "warning")["message"]
