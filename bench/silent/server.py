"""Runs cases of one tool in that tool's own Python: the tool is imported once, and every command is a fork of it.

    python -m bench.silent.server TOOL JOBS.json        from the checkout's root

Each command sees what a fresh process of the tool would see: its own working folder, arguments and output (both streams
in one file, in order); it ends as the interpreter would end it, a traceback and exit code 1 for an exception that nobody caught. What
differs from a shell is that the imports are done. Standard library alone, but for the tool.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import runpy
import shutil
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

Main = Callable[[list[str]], int]


def _gogpt() -> Main:
    from gogpt.cli import run

    for name in ("gogpt.train", "gogpt.export", "gogpt.chat"):
        importlib.import_module(name)
    return run


def _trl() -> Main:
    import peft  # noqa: F401
    from accelerate.commands.launch import _validate_launch_command, prepare_simple_launcher_cmd_env
    from trl import SFTTrainer, TrlParser  # noqa: F401
    from trl.cli.accelerate_launcher import launch_training_script
    from trl.cli.main import main
    from trl.scripts import sft

    def in_this_process(args: Any) -> None:
        """What accelerate's launcher does for one process, but for starting it: its environment, then the script."""
        args, _, _ = _validate_launch_command(args)
        os.environ.update(prepare_simple_launcher_cmd_env(args)[1])
        script([args.training_script, *args.training_script_args])

    def script(words: list[str]) -> None:
        """The last lines of trl/scripts/sft.py."""
        sys.argv = words
        sft.main(*sft.make_parser().parse_args_and_config(fail_with_unknown_args=False))

    def run(words: list[str]) -> int:
        if words[0] == "sft.py":  # started by torchrun, which sets the step's environment
            script(words)
            return 0
        return main(words)

    launch_training_script.__kwdefaults__["launch_command_fn"] = in_this_process
    return run


def _llamafactory() -> Main:
    if importlib.util.find_spec("torchaudio") is None:  # for sound; see environments.py
        module = types.ModuleType("torchaudio")
        module.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = module
    import llamafactory.train.tuner  # noqa: F401
    from llamafactory.cli import main

    def run(words: list[str]) -> int:
        sys.argv = ["llamafactory-cli", *words]
        main()
        return 0

    return run


TOOLS: dict[str, Callable[[], Main]] = {"gogpt": _gogpt, "trl": _trl, "llamafactory": _llamafactory}


def _child(main: Main, number: int, folder: Path, job: dict[str, Any]) -> int:
    """In the fork: the command, as a process of its own would run it. The exit code."""
    os.setpgid(0, 0)
    words = job["steps"][number]["words"]
    out = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    (folder / "stdin.txt").write_text(job["steps"][number]["stdin"], encoding="utf-8")
    os.dup2(os.open(folder / "stdin.txt", os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    work = folder / "work"
    os.chdir(work)
    os.environ.update(job["steps"][number]["env"])
    sys.path.insert(0, str(work))
    if "datasets" in sys.modules:
        import datasets

        datasets.config.HF_DATASETS_CACHE = Path(folder / "datasets")
    probe = None
    try:
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
            return 0
        from bench.silent.probe import install

        probe = install(str(folder / "probe.json"), job["model"], job["leak"], job["steps"][number]["kill_after"])
        return main(words)
    except SystemExit as asked:
        if isinstance(asked.code, str):
            print(asked.code, file=sys.stderr)
        return asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        if probe is not None:
            probe.write()
        sys.stdout.flush()
        sys.stderr.flush()


def _wait(child: int, timeout: float) -> int:
    """The exit code; -9 for one that took too long and was ended."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9


def run_job(main: Main, job: dict[str, Any]) -> dict[str, Any]:
    """One case: its commands in order, until one that only prepares fails. Writes outcome.json, output.txt, probe.json."""
    folder = Path(job["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    started, codes = time.monotonic(), []
    for number, step in enumerate(job["steps"]):
        for name, content in step["files"].items():
            file = folder / "work" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        if number:
            (folder / "output.txt").rename(folder / f"output-{number}.txt")
            if (folder / "probe.json").exists():
                (folder / "probe.json").rename(folder / f"probe-{number}.json")
        (folder / "output.txt").touch()
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _child(main, number, folder, job)
            finally:
                os._exit(code & 0xFF)
        codes.append(_wait(child, job["timeout"]))
        if codes[-1] not in (0, -signal.SIGKILL if step["kill_after"] else 0) and number + 1 < len(job["steps"]):
            break
    files = sorted(str(f.relative_to(folder / "work")) for f in (folder / "work").rglob("*") if f.is_file())
    outcome = {"codes": codes, "commands": len(job["steps"]), "seconds": round(time.monotonic() - started, 2), "files": files}
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")
    return outcome


def main(tool: str, file: str) -> None:
    os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
                       "CUDA_VISIBLE_DEVICES": "", "NO_COLOR": "1", "COLUMNS": "200", "LANG": "C.UTF-8",
                       "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})
    os.environ.setdefault("HF_DATASETS_CACHE", str(Path(file).resolve().parent / "datasets"))
    os.environ.setdefault("GOGPT_CACHE", str(Path(file).resolve().parent / "gogpt"))
    # Not the user's: a build that was killed leaves a lock there, for which the next one waits.
    os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(file).resolve().parent / "extensions")
    jobs = json.loads(Path(file).read_text(encoding="utf-8"))
    started = time.monotonic()
    run = TOOLS[tool]()
    print(f"{tool}: imported in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    for job in jobs:
        outcome = run_job(run, job)
        print(f"{tool}: {job['name']}: {outcome['codes']} in {outcome['seconds']} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
