"""Text -> plain data, and the line of every key. Numbers, booleans and nulls follow YAML 1.2; JSON is read too."""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

import yaml

from gogpt.errors import GogptError

Where: TypeAlias = dict[tuple[str | int, ...], str]
"""Path of a key -> ``name:line``."""


class Loader(yaml.SafeLoader):
    """YAML 1.2's core schema for numbers and booleans."""


Loader.yaml_implicit_resolvers = {
    k: [(tag, r) for tag, r in v if tag not in (
        "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp")]
    for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$|^0x[0-9a-fA-F]+$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)).replace("_", ""), 0 if str(node.value).startswith("0x") else 10)


Loader.add_constructor("tag:yaml.org,2002:int", _int)
# JSON's kinds of value and no others: dates, sets and binary data have no place in a recipe.
Loader.yaml_constructors = {
    k: v for k, v in Loader.yaml_constructors.items()
    if k is None or k.rsplit(":", 1)[-1] in ("null", "bool", "int", "float", "str", "seq", "map")
}


class Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would read as something else: the revision ``12e4567`` is a word."""


Dumper.yaml_implicit_resolvers = {
    k: [*yaml.SafeDumper.yaml_implicit_resolvers.get(k, []), *Loader.yaml_implicit_resolvers.get(k, [])]
    for k in {*yaml.SafeDumper.yaml_implicit_resolvers, *Loader.yaml_implicit_resolvers}
}

MAX_DEPTH = 40
"""Levels of a recipe; deeper ones (and a value that contains itself) are refused."""


def parse_yaml(text: str, name: str) -> tuple[Any, Where]:
    """Data, and for every key the place (``name:line``) where it stands. Raises GogptError CFG201."""
    where: Where = {}
    as_json = _json_object(text)
    if as_json is not None:
        text = text.replace("\t", " ")  # YAML takes no tabs; in JSON a raw one stands only between tokens
    try:
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, where
            _walk(node, (), name, where)
            return loader.construct_document(node) if as_json is None else as_json, where
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise GogptError("CFG201", f"not valid YAML: {problem.problem or problem.context}", where=place,
                         fix="correct the line; indent with spaces and put a space after each colon") from problem
    except yaml.reader.ReaderError as problem:
        line = text[: problem.position].count("\n") + 1
        raise GogptError("CFG201", "not valid YAML: a control character", where=f"{name}:{line}",
                         got=f"the character U+{int(problem.character):04X}", fix="save the recipe as plain text in UTF-8") from problem
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        said = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise GogptError("CFG201", f"not valid YAML: {said}", where=name, fix="write plain keys and values") from problem


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _walk(node: yaml.Node, path: tuple[str | int, ...], name: str, where: Where) -> None:
    if len(path) > MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem="nested too deeply, or a value that contains itself", problem_mark=node.start_mark)
    where.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            text = str(key.value)
            if text in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {text!r} stands twice", problem_mark=key.start_mark)
            seen.add(text)
            where[path + (text,)] = f"{name}:{key.start_mark.line + 1}"
            _walk(value, (*path, text), name, where)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*path, i), name, where)


def parse_value(text: str) -> Any:
    """One value of ``key=value``, read as YAML; what is no YAML is text."""
    try:
        return parse_yaml(text, "command line")[0]
    except GogptError:
        return text


def dump_yaml(data: Any) -> str:
    """``data`` as YAML that reads back the same."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
