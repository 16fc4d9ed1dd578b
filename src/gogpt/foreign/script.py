"""A launch script (or a command line in a text file) -> the command that trains: its tool, its arguments, each with its line. Nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gogpt.yaml12 import parse_value

_ASSIGN = re.compile(r"^(?:export\s+)?([A-Za-z_]\w*)=(.*)$", re.S)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?-([^}]*))?\}|([A-Za-z_]\w*))")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_ENDS = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "2>", "2>&1", "&>", "<"})

LAUNCHERS = frozenset({"torchrun", "deepspeed", "accelerate", "python", "python3", "accelerate-launch", "srun", "nohup", "env", "time", "exec", "uv", "poetry", "sudo"})
PROCESSES = frozenset({"--nproc_per_node", "--nproc-per-node", "--num_processes", "--num_gpus"})
NODES = frozenset({"--nnodes", "--num_machines", "--num_nodes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The training command of a script. ``arguments``: key -> value as YAML reads it; ``lines``: key -> line; ``unresolved``: words in which a
    variable could not be filled in."""

    tool: str
    line: int
    arguments: Mapping[str, Any]
    lines: Mapping[str, int]
    config: str | None
    accelerate_config: str | None
    processes: int | None
    variables: Mapping[str, str]
    unresolved: tuple[str, ...]
    commands: int
    """training commands in the script; the first is read"""


def logical_lines(text: str) -> list[tuple[list[tuple[str, int]], int]]:
    """Commands as pieces of (text, line), continuation lines joined, heredocs and comments left out."""
    out: list[tuple[list[tuple[str, int]], int]] = []
    pieces: list[tuple[str, int]] = []
    until: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if until is not None:
            until = None if line.strip() == until else until
            continue
        if not pieces and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if pieces and line.lstrip().startswith("#"):
            continue
        if (found := _HEREDOC.search(line)) and "<<<" not in line:
            until = found[1]
        going_on = line.rstrip().endswith("\\")
        pieces.append((line.rstrip()[:-1] if going_on else line, number))
        if not going_on:
            out.append((pieces, pieces[0][1]))
            pieces = []
    if pieces:
        out.append((pieces, pieces[0][1]))
    return out


def _fill(word: str, variables: Mapping[str, str], unresolved: list[str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name in variables:
            return variables[name]
        if found[2] is not None:
            return found[2]
        unresolved.append(f"${name}")
        return found[0]

    if "$(" in word or "`" in word:
        unresolved.append(word)
        return word
    return _VARIABLE.sub(value, word)


def _words(pieces: list[tuple[str, int]], variables: Mapping[str, str], unresolved: list[str]) -> list[tuple[str, int]]:
    """Words of one command with their lines; a single-quoted word keeps its dollar signs."""
    out: list[tuple[str, int]] = []
    for text, line in pieces:
        try:
            raw = shlex.shlex(text, posix=False, punctuation_chars=False)
            raw.whitespace_split = True
            raw.commenters = "#"
            parts = list(raw)
        except ValueError:
            parts = text.split()
        for part in parts:
            literal = len(part) > 1 and part[0] == part[-1] == "'"
            try:
                word = "".join(shlex.split(part)) if not literal else part[1:-1]
            except ValueError:
                word = part
            out.append((word if literal else _fill(word, variables, unresolved), line))
    return out


def tool_of_words(words: list[str]) -> tuple[str, int] | None:
    """The tool that a command trains with, and the index of the word from which its arguments go on."""
    for i, word in enumerate(words):
        name = word.rpartition("/")[2]
        following = words[i + 1] if i + 1 < len(words) else ""
        if name in ("llamafactory-cli", "lmf") and following in ("train", "export"):
            return "llamafactory", i + 2
        if name == "axolotl" and following in ("train", "preprocess", "merge-lora"):
            return "axolotl", i + 2
        if word == "-m" and following in ("axolotl.cli.train", "axolotl.cli.merge_lora"):
            return "axolotl", i + 2
        if name == "swift" and following in ("sft", "pt"):
            return "swift", i + 2
        if name == "trl" and following == "sft":
            return "trl", i + 2
        if name in ("train_bash.py", "train.py", "launcher.py") and ("llamafactory" in word.lower() or "LLaMA-Factory" in word or name == "train_bash.py"
                                                                      or (name == "train.py" and word in ("src/train.py", "./src/train.py"))):
            return "llamafactory", i + 1
        if name == "sft.py" and not word.startswith("-") and ("swift" in word):
            return "swift", i + 1
        if name in ("sft.py", "sft_trainer.py", "run_sft.py") and not word.startswith("-"):
            return "trl", i + 1
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() and int(text) else None


def _launcher(words: list[str], variables: Mapping[str, str]) -> tuple[int | None, str | None]:
    """Processes over all nodes, as the words before the training program say, and accelerate's configuration."""
    said: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        key, equals, value = word.partition("=")
        said[key] = value if equals else following
    count = next((n for k in PROCESSES if k in said and (n := _number(said[k]))), None)
    nodes = next((n for k in NODES if k in said and (n := _number(said[k].partition(":")[0]))), 1) or 1
    if count is None and (alone := _number(variables.get("NPROC_PER_NODE", ""))):
        count = alone
    if count is not None and "--num_processes" not in said:
        count *= nodes
    return count, said.get("--config_file")


def _arguments(words: list[tuple[str, int]]) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """``--key value ...``, ``--key=value`` and ``key=value``; several words after a key are a list. Words that belong to no key come third."""
    values: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    free: list[str] = []
    key: str | None = None
    for word, line in words:
        if word in _ENDS:
            break
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            key = name.replace("-", "_")
            values[key], lines[key] = [value] if equals else [], line
            key = None if equals else key
        elif key is not None:
            values[key].append(word)
        elif re.match(r"^[A-Za-z_][\w.]*=", word):
            name, _, value = word.partition("=")
            values[name], lines[name] = [value], line
        else:
            free.append(word)
    def read(found: list[str]) -> Any:
        return True if not found else parse_value(found[0]) if len(found) == 1 else [parse_value(f) for f in found]

    return {k: read(v) for k, v in values.items()}, lines, free


def find_launch(text: str) -> Launch | None:
    """The first training command of a script; None where there is none."""
    variables: dict[str, str] = {}
    found: Launch | None = None
    commands = 0
    for pieces, line in logical_lines(text):
        unresolved: list[str] = []
        words = _words(pieces, variables, unresolved)
        while words and (assigned := _ASSIGN.match(words[0][0])):
            variables[assigned[1]] = assigned[2]
            words = words[1:]
        if words and words[0][0] in ("export", "set", "declare", "local"):
            for word, _ in words[1:]:
                if assigned := _ASSIGN.match(word):
                    variables[assigned[1]] = assigned[2]
            continue
        plain = [w for w, _ in words]
        tool = tool_of_words(plain)
        if tool is None:
            continue
        commands += 1
        if found is not None:
            continue
        name, start = tool
        arguments, lines, free = _arguments(words[start:])
        processes, accelerate = _launcher(plain[:start], variables)
        config = next((f for f in free if f.endswith((".yaml", ".yml", ".json"))), None)
        if isinstance(arguments.get("config"), str):
            config = arguments.pop("config")
        found = Launch(tool=name, line=line, arguments=arguments, lines=lines, config=config, accelerate_config=accelerate, processes=processes,
                       variables=dict(variables), unresolved=tuple(dict.fromkeys(unresolved)), commands=1)
    if found is None:
        return None
    return Launch(**{**{f: getattr(found, f) for f in Launch.__dataclass_fields__}, "commands": commands})
