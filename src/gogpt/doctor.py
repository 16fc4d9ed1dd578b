"""EnvFacts: the machine, looked at without importing torch (a second, and hundreds of megabytes)."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from gogpt.facts import EnvFacts

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "datasets", "safetensors", "deepspeed",
            "bitsandbytes", "flash-attn", "numpy")


def package_versions() -> dict[str, str]:
    out = {}
    for name in PACKAGES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def collect_env(output: Path) -> EnvFacts:
    """Facts of this machine. ``output``: where the run will write; its disk is the one measured."""
    import psutil

    versions = package_versions()
    device, names, capability = "cpu", [platform.processor() or platform.machine()], 0.0
    gpus = [] if "+cpu" in versions.get("torch", "") else _nvidia()
    if gpus:
        device, names, capability = "cuda", [g[0] for g in gpus], min(g[1] for g in gpus)
    elif platform.system() == "Darwin" and platform.machine() == "arm64":
        device = "mps"
    folder = output
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return EnvFacts(
        python=platform.python_version(), platform=platform.platform(), device=device, num_devices=len(names),
        device_name=names[0], bf16=device == "cuda" and capability >= 8.0,
        memory_total=int(psutil.virtual_memory().total), disk_free=shutil.disk_usage(folder).free,
        cpu_count=os.cpu_count() or 1, versions=versions,
    )


def _nvidia() -> list[tuple[str, float]]:
    """Name and compute capability of every GPU that the driver shows."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    out = []
    for line in done.stdout.splitlines():
        name, _, capability = line.rpartition(",")
        try:
            out.append((name.strip(), float(capability)))
        except ValueError:
            continue
    return out
