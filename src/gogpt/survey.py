"""DoctorFacts: the machine as a fine-tune meets it, from files, metadata and environment variables.

Nothing is imported to find out about it. ``root`` stands before every absolute path, so that a tree of plain files can
be looked at as if it were a machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from gogpt.facts import NUM_FIRST, DoctorFacts

VARIABLES = (
    "CUDA_HOME", "CUDA_PATH", "PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TORCH_CUDA_ARCH_LIST", "CC", "CXX", "MAX_JOBS",
    "NCCL_SOCKET_IFNAME", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SHM_DISABLE", "NCCL_DEBUG", "HF_HOME", "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER", "HF_ENDPOINT",
    "BNB_CUDA_VERSION", "BNB_ROCM_VERSION", "OPENSSL_CONF", "OPENSSL_MODULES", "CRYPTOGRAPHY_OPENSSL_NO_LEGACY", "PYTHONPATH", "PYTHONNOUSERSITE",
)
"""The variables that are looked at. None of them holds a secret."""

PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "tokenizers", "datasets", "safetensors", "deepspeed", "bitsandbytes", "flash-attn",
    "numpy", "triton", "huggingface-hub", "hf_transfer", "cryptography", "ninja",
)
BUILD_PARTS = (
    ("bin/ptxas",), ("nvvm/bin/cicc",), ("include/cuda_runtime.h", "targets/x86_64-linux/include/cuda_runtime.h"),
    ("include/crt/host_config.h", "targets/x86_64-linux/include/crt/host_config.h"),
    ("lib64/libcudart.so", "lib/libcudart.so", "targets/x86_64-linux/lib/libcudart.so", "targets/sbsa-linux/lib/libcudart.so"),
)
"""What a build of DeepSpeed or flash-attn takes from the toolkit beside nvcc: each of the first names, or one of those after it."""
POINTER = b"version https://git-lfs.github.com/spec"
MAX_FILES = 20_000
"""Files of a folder that are looked at for pointers."""
SYMBOL = re.compile(rb"(?<=\0)_ZN3c10(?:5Error|4cuda9SetDevice)[A-Za-z0-9_]*(?=\0)")
"""Symbols of c10 that nearly every extension wants, and whose names hold the ABI of strings and the types of that torch."""


def survey(
    environ: Mapping[str, str], *, sys_path: Sequence[str], root: Path = Path("/"), folder: Path = Path("."), start: Path | None = None, searched: Path | None = None,
    disk_needed: int = 0, memory_needed: int = 0,
) -> DoctorFacts:
    """Facts of a machine. ``folder``: where a run would write. ``start``: where Python would start, else ``folder``.
    ``searched``: what is looked through for git-lfs pointers."""
    machine = Machine(environ, root)
    versions, installs, places = _installed(sys_path)
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH") or None
    named, toolkits = machine.toolkits(home)
    chosen = named.get("CUDA_HOME") or named.get("PATH")
    torch, torch_cuda, torch_hip = _torch(sys_path)
    gpus, capabilities, memory, driver, driver_cuda = machine.gpus()
    compiler = next((found for name in (environ.get("CXX"), "g++", "c++", "clang++") if name and (found := machine.which(name))), None)
    libraries, wanted = _bitsandbytes(sys_path, environ, torch_cuda, torch_hip, gpu=bool(gpus))
    cache = _hub_cache(environ)
    pointers = list(_pointers(searched)) if searched else []
    free = folder
    while not free.exists() and free != free.parent:
        free = free.parent
    return DoctorFacts(
        variables={name: environ[name] for name in VARIABLES if environ.get(name)}, cuda_home=home,
        cuda_home_nvcc=bool(home) and machine.at(f"{home}/bin/nvcc").is_file(), toolkits=toolkits, named=named,
        missing_paths=tuple(machine.missing(home)), toolkit_lacks=tuple(machine.lacks(named.get("CUDA_HOME" if home else "PATH"))), nvcc_max_gcc=machine.max_gcc(chosen), compiler=compiler, gcc=machine.gcc(compiler),
        ninja=machine.which("ninja") is not None or "ninja" in versions, torch=torch, torch_cuda=torch_cuda, driver=driver, driver_cuda=driver_cuda,
        gpus=gpus, capabilities=capabilities, versions=versions, torch_hip=torch_hip, bitsandbytes_libraries=libraries, bitsandbytes_wanted=wanted, flash_attn_missing=_flash_attn_missing(sys_path),
        interfaces=machine.interfaces(), shm_total=shm_size(machine.at("/dev/shm")), disk=str(free), disk_free=shutil.disk_usage(free).free,
        disk_needed=disk_needed, memory=memory or machine.memory(), memory_needed=memory_needed, hub_cache=cache, hub_cache_exists=machine.at(cache).is_dir(),
        hub_cache_writable=machine.writable(cache), searched=str(searched) if searched else None, pointers=tuple(map(str, pointers[:NUM_FIRST])),
        num_pointers=len(pointers), git_lfs=machine.which("git-lfs") is not None, openssl_missing=tuple(machine.openssl_missing()),
        installs=installs, shadows=_shadows([str(start or folder), *sys_path], places),
    )


def shm_size(path: Path) -> int | None:
    """Bytes of the shared memory that is mounted there."""
    try:
        found = os.statvfs(path)
    except (OSError, AttributeError):
        return None
    return found.f_blocks * found.f_frsize


class Machine:
    """Files and programs below ``root``, with the environment of a shell."""

    def __init__(self, environ: Mapping[str, str], root: Path) -> None:
        self.environ = environ
        self.root = root.resolve()

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/") if path.startswith("/") else Path(path)

    def real(self, path: str) -> str:
        """The path with links resolved, as seen from inside."""
        found = self.at(path).resolve()
        return "/" + found.relative_to(self.root).as_posix() if found.is_relative_to(self.root) else str(found)

    def entries(self, name: str) -> list[str]:
        return [entry for entry in self.environ.get(name, "").split(":") if entry]

    def which(self, program: str) -> str | None:
        if "/" in program:
            return program if self.at(program).is_file() else None
        for entry in self.entries("PATH"):
            candidate = self.at(f"{entry}/{program}")
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return f"{entry.rstrip('/')}/{program}"
        return None

    def output(self, *words: str) -> str:
        """What a program prints; "" where it cannot be run."""
        program = self.which(words[0])
        if program is None:
            return ""
        try:
            return subprocess.run([str(self.at(program)), *words[1:]], capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return ""

    # -- CUDA --------------------------------------------------------------------------------------

    def toolkits(self, home: str | None) -> tuple[dict[str, str], dict[str, str]]:
        """Which toolkit each variable names; version of every toolkit found."""
        named = {}
        if home and self.at(f"{home}/bin/nvcc").is_file():
            named["CUDA_HOME"] = self.real(home)
        nvcc = self.which("nvcc")
        if nvcc:
            named["PATH"] = self.real(nvcc).rpartition("/bin/")[0] or "/"
        for entry in self.entries("LD_LIBRARY_PATH"):
            real = self.real(entry)
            above = next((str(p) for p in Path(real).parents if self.at(f"{p}/bin/nvcc").is_file()), None) if self.at(entry).is_dir() else None
            if above and "cuda" in entry.lower():
                named["LD_LIBRARY_PATH"] = above
                break
        usual = ["/" + p.relative_to(self.root).as_posix() for p in sorted(self.at("/usr/local").glob("cuda*")) if (p / "bin" / "nvcc").is_file()]
        found = dict.fromkeys([*named.values(), *(self.real(path) for path in usual)])
        return named, {path: self.version(path) for path in found}

    def version(self, toolkit: str) -> str:
        """12.4; "" where no file of the toolkit and not even nvcc says it."""
        try:
            return ".".join(str(json.loads(self.at(f"{toolkit}/version.json").read_text(encoding="utf-8"))["cuda"]["version"]).split(".")[:2])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        number = re.search(r"#define CUDA_VERSION (\d+)", _text(self.at(f"{toolkit}/include/cuda.h")))
        if number:
            return f"{int(number[1]) // 1000}.{int(number[1]) % 1000 // 10}"
        told = re.search(r"release (\d+\.\d+)", self.output(f"{toolkit}/bin/nvcc", "--version"))
        return told[1] if told else ""

    def missing(self, home: str | None) -> Iterator[str]:
        for name in ("PATH", "LD_LIBRARY_PATH"):
            for entry in dict.fromkeys(self.entries(name)):
                if "cuda" in entry.lower() and not self.at(entry).exists():
                    yield f"{name}: {entry}"
        if home and not self.at(home).exists():
            yield f"CUDA_HOME: {home}"

    def lacks(self, toolkit: str | None) -> Iterator[str]:
        """Parts without which nvcc is there and compiles or links nothing. pip's nvcc comes apart: without its dependencies it has no
        cicc and no headers, and with them libcudart.so.13 alone, which -lcudart does not find. A distribution's own nvcc in /usr
        keeps its parts elsewhere and knows where."""
        for choices in BUILD_PARTS if toolkit and toolkit not in ("/", "/usr", "/usr/local") else ():
            if not any(self.at(f"{toolkit}/{choice}").exists() for choice in choices):
                yield choices[0]

    def max_gcc(self, toolkit: str | None) -> int | None:
        found = re.search(r"#if __GNUC__ > (\d+)", _text(self.at(f"{toolkit}/include/crt/host_config.h"))) if toolkit else None
        return int(found[1]) if found else None

    def gcc(self, compiler: str | None) -> int | None:
        if not compiler or "clang" in self.output(compiler, "--version"):
            return None
        found = re.match(r"\d+", self.output(compiler, "-dumpversion"))
        return int(found[0]) if found else None

    def gpus(self) -> tuple[tuple[str, ...], tuple[float, ...], int, str | None, str | None]:
        """Names, compute capabilities, the least memory, the driver, and the newest CUDA that it runs."""
        if self.environ.get("CUDA_VISIBLE_DEVICES") == "":
            return (), (), 0, None, None
        listed = self.output("nvidia-smi", "--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader,nounits")
        rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.count(",") == 3]
        try:
            rows = [row for row in rows if float(row[1])]
        except ValueError:
            rows = []
        if not rows:
            return (), (), 0, None, None
        cuda = re.search(r"CUDA (?:UMD )?Version:\s*([\d.]+)", self.output("nvidia-smi"))
        return (tuple(r[0] for r in rows), tuple(float(r[1]) for r in rows), min(int(r[2]) if r[2].isdigit() else 0 for r in rows) * 2**20, rows[0][3], cuda[1] if cuda else None)

    # -- the rest ----------------------------------------------------------------------------------

    def interfaces(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(p.name for p in self.at("/sys/class/net").iterdir() if p.name != "bonding_masters"))
        except OSError:
            return ()

    def memory(self) -> int:
        import psutil

        return int(psutil.virtual_memory().total)

    def writable(self, path: str) -> bool:
        place = self.at(path)
        while not place.exists() and place != place.parent:
            place = place.parent
        return os.access(place, os.W_OK)

    def openssl_missing(self) -> Iterator[str]:
        conf, modules = self.environ.get("OPENSSL_CONF"), self.environ.get("OPENSSL_MODULES")
        if conf and conf != "/dev/null" and not self.at(conf).exists():
            yield f"OPENSSL_CONF={conf}"
        if modules and not list(self.at(modules).glob("legacy.*")):
            yield f"OPENSSL_MODULES={modules}/legacy.so"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# -- Python's packages -------------------------------------------------------------------------------


def _installed(sys_path: Sequence[str]) -> tuple[dict[str, str], dict[str, tuple[str, ...]], dict[str, Path]]:
    """Version of each package (of the first found); those that are there twice; the folder of each."""
    versions: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    places: dict[str, Path] = {}
    wanted = {_plain(name): name for name in PACKAGES}
    seen = set()
    for entry in sys_path:
        folder = Path(entry or ".").resolve()
        if folder in seen or not folder.is_dir():
            continue
        seen.add(folder)
        for info in sorted(folder.glob("*-info")):
            name = wanted.get(_plain(info.name.rpartition(".")[0].partition("-")[0]))
            if name is None or not info.name.endswith((".dist-info", ".egg-info")):
                continue
            version = importlib.metadata.PathDistribution(info).metadata["Version"] or "?" if info.is_dir() else "?"
            versions.setdefault(name, version)
            places.setdefault(name, folder)
            found.setdefault(name, []).append(f"{version} at {folder}")
    return versions, {name: tuple(all_of) for name, all_of in found.items() if len(all_of) > 1}, places


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _module_file(folder: Path, module: str) -> Path | None:
    return next((p for p in (folder / module / "__init__.py", folder / f"{module}.py") if p.is_file()), None)


def _shadows(sys_path: Sequence[str], places: Mapping[str, Path]) -> dict[str, str]:
    """Installed packages before which a module of the same name comes. An editable install, whose code is elsewhere, is left alone."""
    out = {}
    for name, place in places.items():
        module = name.replace("-", "_")
        if _module_file(place, module) is None:
            continue
        first = next((p for entry in sys_path if (p := _module_file(Path(entry or ".").resolve(), module))), None)
        holder = first.parent.parent if first and first.name == "__init__.py" else first.parent if first else place
        if first and holder != place:
            out[name] = str(first.parent if first.name == "__init__.py" else first)
    return out


def _torch(sys_path: Sequence[str]) -> tuple[str | None, str | None, str | None]:
    """torch's version, and the CUDA and the ROCm version that it was built with, as torch/version.py says."""
    for entry in sys_path:
        text = _text(Path(entry or ".") / "torch" / "version.py")
        version = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", text, re.M)
        if version:
            cuda, hip = (re.search(rf"^{name}\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", text, re.M) for name in ("cuda", "hip"))
            return version[1], cuda[1] if cuda else None, hip[1] if hip else None
    return None, None, None


def _bitsandbytes(
    sys_path: Sequence[str], environ: Mapping[str, str], cuda: str | None, hip: str | None, *, gpu: bool
) -> tuple[tuple[str, ...], str | None]:
    """The native libraries of bitsandbytes, and the one that it would load, by the rule of bitsandbytes 0.50's cextension.py: as
    BNB_CUDA_VERSION says; else that of torch's CUDA; else the newest older one of the same major version; else the oldest
    newer one. Without a GPU that torch can use, the one for the CPU."""
    folder = next((p for entry in sys_path if (p := Path(entry or ".") / "bitsandbytes" / "__init__.py").is_file()), None)
    if folder is None:
        return (), None
    found = tuple(sorted(m[1] for p in folder.parent.glob("libbitsandbytes_*") if (m := re.match(r"libbitsandbytes_([a-z]+\d*)\.", p.name))))
    kind, version = ("rocm", hip) if hip else ("cuda", cuda)
    if not gpu or version is None:
        return found, "cpu"
    if forced := environ.get("BNB_ROCM_VERSION" if hip else "BNB_CUDA_VERSION"):
        return found, f"{kind}{forced}"
    digits = 1 if hip else 2  # of the major version in a name
    there = {(int(n[:digits]), int(n[digits:])): name for name in found
             if name.startswith(kind) and (n := name.removeprefix(kind)).isdigit() and len(n) > digits}
    major, minor = (int(n) for n in (*re.findall(r"\d+", version), "0")[:2])
    same = [v for v in there if v[0] == major]
    nearest = max((v for v in same if v <= (major, minor)), default=min(same, default=(major, minor)))
    return found, there.get(nearest, f"{kind}{major}{minor}")


def _flash_attn_missing(sys_path: Sequence[str]) -> tuple[str, ...]:
    """Symbols that flash-attn's extension names and torch's c10 libraries do not."""
    folders = [Path(entry or ".") for entry in sys_path]
    extensions = [p for folder in folders for p in sorted(folder.glob("flash_attn*cuda*.so"))]
    libraries = [p for folder in folders for p in sorted((folder / "torch" / "lib").glob("libc10*.so"))]
    if not extensions or not libraries:
        return ()
    wanted = set(SYMBOL.findall(extensions[0].read_bytes()))
    there = b"\0".join(p.read_bytes() for p in libraries)
    if not any(p.name.startswith("libc10_cuda") for p in libraries):
        wanted = {symbol for symbol in wanted if b"4cuda" not in symbol}
    return tuple(sorted(symbol.decode() for symbol in wanted if b"\0" + symbol + b"\0" not in there))


# -- the hub, and what came from it ------------------------------------------------------------------


def _hub_cache(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or str(Path.home())
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    return hub or (environ.get("HF_HOME") or (environ.get("XDG_CACHE_HOME") or f"{home}/.cache") + "/huggingface") + "/hub"


def _pointers(path: Path) -> Iterator[Path]:
    """Files that are git-lfs pointers: short, and with the first line of the format."""
    for file in [path] if path.is_file() else sorted(islice(path.rglob("*"), MAX_FILES)):
        if ".git" in file.parts or not file.is_file():
            continue
        try:
            if file.stat().st_size < 1024 and file.read_bytes().startswith(POINTER):
                yield file
        except OSError:
            continue
