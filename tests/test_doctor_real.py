"""gogpt doctor on what is really installed: bitsandbytes' own choice of a library, and NVIDIA's nvcc."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gogpt.survey import BUILD_PARTS, Machine, _bitsandbytes, survey


def test_the_library_is_the_one_that_bitsandbytes_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own function, for many versions of CUDA and on the package as it is installed."""
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.cextension import get_cuda_bnb_library_path
    from bitsandbytes.cuda_specs import CUDASpecs

    monkeypatch.delenv("BNB_CUDA_VERSION", raising=False)
    versions = [(major, minor) for major in (11, 12, 13, 14) for minor in range(10)]
    exact = 0
    for major, minor in versions:
        specs = CUDASpecs(highest_compute_capability=(8, 0), cuda_version_string=f"{major}{minor}", cuda_version_tuple=(major, minor))
        path = get_cuda_bnb_library_path(specs)
        libraries, wanted = _bitsandbytes(sys.path, {}, f"{major}.{minor}", None, gpu=True)
        assert path.name.removeprefix("libbitsandbytes_").partition(".")[0] == wanted
        assert path.is_file() == (wanted in libraries)
        exact += wanted == f"cuda{major}{minor}" and path.is_file()
    assert exact > 3
    monkeypatch.setenv("BNB_CUDA_VERSION", "121")
    assert get_cuda_bnb_library_path(specs).name.startswith("libbitsandbytes_cuda121")
    assert _bitsandbytes(sys.path, os.environ, "14.9", None, gpu=True)[1] == "cuda121"


def test_this_bitsandbytes_loads_for_the_cpu() -> None:
    pytest.importorskip("bitsandbytes")
    seen = survey({**os.environ, "CUDA_VISIBLE_DEVICES": ""}, sys_path=sys.path)
    assert seen.bitsandbytes_wanted == "cpu"
    assert {"cpu"} <= set(seen.bitsandbytes_libraries)


def toolkits() -> list[Path]:
    """Folders with a real bin/nvcc: that of the wheel nvidia-cuda-nvcc (the extra nvcc), and those of the machine."""
    found = []
    try:
        files = importlib.metadata.files("nvidia-cuda-nvcc") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found += [Path(str(f.locate())).parent.parent for f in files if f.parts[-2:] == ("bin", "nvcc")]
    found += [p.parent.parent for p in sorted(Path("/usr/local").glob("cuda*/bin/nvcc"))]
    return [p for p in dict.fromkeys(f.resolve() for f in found) if os.access(p / "bin" / "nvcc", os.X_OK)]


REAL = toolkits() or [pytest.param(Path(), marks=pytest.mark.skip(reason="no real nvcc: pip install 'gogpt[nvcc]'"))]


@pytest.mark.parametrize("toolkit", REAL, ids=str)
def test_a_real_nvcc(toolkit: Path) -> None:
    """CUDA_HOME names it and nothing else does: the version is what nvcc itself says, and what the folder lacks is told."""
    environ = {"CUDA_HOME": str(toolkit), "PATH": f"{toolkit}/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    seen = survey(environ, sys_path=[])
    said = subprocess.run([str(toolkit / "bin" / "nvcc"), "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+\.\d+)", said)
    assert release
    assert seen.cuda_home_nvcc
    assert seen.named["CUDA_HOME"] == seen.named["PATH"] == str(toolkit)
    assert seen.toolkits[str(toolkit)] == release[1]
    assert seen.missing_paths == ()
    # By the files alone as well as by the program: without cuda.h it is nvcc that is asked.
    assert Machine({}, Path("/")).version(str(toolkit)) == release[1]
    lacks = set(seen.toolkit_lacks)
    assert lacks <= {choices[0] for choices in BUILD_PARTS}
    assert ("include/crt/host_config.h" in lacks) == (not (toolkit / "include/crt/host_config.h").is_file())
    if "include/crt/host_config.h" not in lacks:
        limit = re.search(r"__GNUC__ > (\d+)", (toolkit / "include/crt/host_config.h").read_text(encoding="utf-8", errors="replace"))
        assert seen.nvcc_max_gcc == (int(limit[1]) if limit else None)
        assert seen.nvcc_max_gcc is None or seen.nvcc_max_gcc >= 11


@pytest.mark.parametrize("toolkit", REAL, ids=str)
def test_a_real_nvcc_under_a_doubled_path(gogpt, toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of the log, where a toolkit exists: /usr stands before the path once too often. The fix names one that is there."""
    monkeypatch.setenv("CUDA_HOME", f"/usr{toolkit}")
    monkeypatch.setenv("PATH", f"/usr{toolkit}/bin:{toolkit}/bin:/usr/bin:/bin")
    ran = gogpt("doctor", "--format", "json")
    found = {f["code"]: f for f in ran.json["findings"]}
    assert "ENV120" in found
    named = re.search(r"export CUDA_HOME=([^;]+);", found["ENV120"]["fix"])
    assert named
    assert (Path(named[1]) / "bin" / "nvcc").is_file()
