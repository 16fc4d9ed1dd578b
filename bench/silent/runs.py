"""Cases to runs: written as jobs for the tools' servers, and read back. A run that is there for this case and this version is not run again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cases import GOGPT, MODELS, Case
from .judge import Run

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "bench" / ".data" / "silent"
PYTHONS = {"trl": ROOT / "bench" / ".venvs" / "trl" / "bin" / "python", "llamafactory": ROOT / "bench" / ".venvs" / "llamafactory" / "bin" / "python"}
PACKAGES = ("gogpt", "trl", "llamafactory", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "deepspeed")


def python_of(tool: str) -> Path:
    return Path(sys.executable) if tool == GOGPT else PYTHONS[tool]


def _source_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted((ROOT / "src" / "gogpt").rglob("*")):
        if file.suffix in {".py", ".yaml", ".jinja"}:
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def versions_of(tool: str) -> dict[str, str]:
    """Versions of the packages in a tool's environment; of GoGPT also a digest of the source that is run."""
    script = ("import importlib.metadata as m, json\nfound = {}\nfor name in " + repr(PACKAGES) + ":\n    try:\n        found[name] = m.version(name)\n"
              "    except m.PackageNotFoundError:\n        pass\nprint(json.dumps(found))")
    done = subprocess.run([str(python_of(tool)), "-c", script], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {**found, "source": _source_digest()} if tool == GOGPT else found


def _fill(text: str, models: Path) -> str:
    return text.replace(MODELS, str(models))


def job_of(name: str, case: Case, folder: Path, models: Path) -> dict[str, Any]:
    steps = [{**asdict(s), "words": [_fill(w, models) for w in s.words], "files": {n: _fill(t, models) for n, t in s.files.items()}, "env": dict(s.env)}
             for s in case.steps]
    return {"name": name, "folder": str(folder), "model": str(models / case.model), "leak": case.leak, "timeout": case.timeout, "steps": steps}


def run_cases(tool: str, cases: Iterable[tuple[str, Case]], models: Path, version: Mapping[str, str], *, again: bool = False, data: Path = DATA) -> None:
    """Runs what has not been run. ``cases``: name and case; the same case twice is one run."""
    home = data / "runs" / tool
    home.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, dict[str, Any]] = {}
    for name, case in cases:
        folder = home / case.key
        if again or not _is_there(folder, version):
            jobs.setdefault(case.key, job_of(name, case, folder, models))
    if not jobs:
        return
    file = home / "jobs.json"
    file.write_text(json.dumps(list(jobs.values())), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GOGPT_") and k != "PYTHONPATH"}
    if tool == GOGPT:
        environment["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run([str(python_of(tool)), "-m", "bench.silent.server", tool, str(file)], cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{tool}: its server ended with {done.returncode}")
    for job in jobs.values():
        (Path(job["folder"]) / "version.json").write_text(json.dumps(dict(version)), encoding="utf-8")


def _is_there(folder: Path, version: Mapping[str, str]) -> bool:
    file = folder / "version.json"
    return (folder / "outcome.json").is_file() and file.is_file() and json.loads(file.read_text(encoding="utf-8")) == dict(version)


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _with_metrics(probe: dict[str, Any], metrics: Path) -> dict[str, Any]:
    """GoGPT writes its steps to metrics.jsonl; the Trainer's logging is off."""
    if probe and not probe.get("logged_loss") and metrics.is_file():
        lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if "lr" in line][-int(probe.get("steps", 0)) or None :]
        for name, key in (("loss", "loss"), ("grad_norm", "grad_norm"), ("learning_rate", "lr")):
            probe[f"logged_{name}"] = [float(line[key]) for line in lines if line.get(key) is not None]
    return probe


def read_run(tool: str, case: Case, models: Path, data: Path = DATA) -> Run:
    folder = data / "runs" / tool / case.key
    outcome = _json(folder / "outcome.json")
    last = case.steps[-1]
    out = "merged" if last.words[0] in {"merge", "export"} else "run2" if any("run2" in t for t in last.files.values()) else "run"
    weights = {f"{out}{inner}/{name}.safetensors" for inner in ("", "/final", "/final/adapter") for name in ("model", "adapter_model")}
    output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
    # The folders' names are the harness's own words, and some say what is planted.
    output = re.sub(re.escape(str(models)) + r"/\w+", "MODEL", output.replace(str(folder / "work") + "/", "")).replace(str(ROOT), "CHECKOUT").replace(str(Path.home()) + "/", "~/")
    first = _json(folder / "probe-1.json")
    if tool == GOGPT:
        first = _with_metrics(first, folder / "work" / "run" / "metrics.jsonl")
    probe = _json(folder / "probe.json")
    if tool == GOGPT:
        probe = _with_metrics(probe, folder / "work" / out / "metrics.jsonl")
    return Run(codes=tuple(outcome["codes"]), commands=outcome["commands"], output=output, probe=probe, first_probe=first,
               saved=bool(weights & set(outcome["files"])))
