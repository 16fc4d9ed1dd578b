"""The peers' virtual environments: each peer in one of its own, exact versions, made once with pip.

    python bench/environments.py            make what is missing
    python bench/environments.py trl        only that one
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("GOGPT_BENCH_VENVS") or HERE / ".venvs")
"""Where they are made, or are already."""
CONSTRAINTS = HERE / "constraints"

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "trl": ("trl==1.16.*", "torch==2.13.0", "psutil", "peft==0.21.2", "deepspeed==0.19.8", "ninja"),
    "llamafactory": ("llamafactory==0.9.5", "torch==2.13.0", "psutil", "deepspeed==0.16.9", "ninja"),
    "ceiling": ("tokie==0.1.4", "fastokens==0.3.5", "tokenizers==0.23.*", "numpy", "psutil"),
}
"""What is asked of pip; everything below it is pinned in constraints/NAME.txt."""

UNWANTED: dict[str, tuple[str, ...]] = {"llamafactory": ("torchaudio", "torchvision")}
"""Taken out again: for sound and pictures, and their builds need the CUDA libraries. Beside a torch without CUDA they
break the import of transformers, and text needs neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One peer's environment, made or not."""

    name: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def constraints(self) -> Path:
        return CONSTRAINTS / f"{self.name}.txt"

    @property
    def stamp(self) -> Path:
        """Written last: an environment whose making was interrupted is made again."""
        return self.folder / ".ready"

    @property
    def wanted(self) -> str:
        wanted = [*REQUIREMENTS[self.name], *(f"without {name}" for name in UNWANTED.get(self.name, ()))]
        return "\n".join(wanted) + "\n" + self.constraints.read_text(encoding="utf-8")

    @property
    def ready(self) -> bool:
        return self.stamp.is_file() and self.stamp.read_text(encoding="utf-8") == self.wanted

    def make(self) -> None:
        """Raises CalledProcessError where pip fails; its own words are on stderr by then."""
        if self.ready:
            return
        print(f"environment  {self.name}: making it (once) ...", file=sys.stderr, flush=True)
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        pip = [str(self.python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", str(self.constraints), *REQUIREMENTS[self.name]], check=True, stdout=sys.stderr)
        for package in UNWANTED.get(self.name, ()):
            subprocess.run([str(self.python), "-m", "pip", "uninstall", "-qq", "--yes", package], check=True)
        self.stamp.write_text(self.wanted, encoding="utf-8")


ENVIRONMENTS: tuple[Environment, ...] = tuple(Environment(name=name) for name in REQUIREMENTS)


def environment(name: str) -> Environment:
    return next(e for e in ENVIRONMENTS if e.name == name)


def main(names: list[str]) -> None:
    for name in names or list(REQUIREMENTS):
        if name not in REQUIREMENTS:
            sys.exit(f"{name}: no such environment. There are: {', '.join(REQUIREMENTS)}")
        environment(name).make()


if __name__ == "__main__":
    main(sys.argv[1:])
