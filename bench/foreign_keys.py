"""Keys and defaults of the configurations of TRL and LLaMA-Factory, from the installed packages; run in an environment that has one of them.

    python bench/foreign_keys.py >> keys.jsonl      one JSON line: tool, versions, {key: default}

``src/gogpt/foreign/keys.json`` holds both lines, by tool; of LLaMA-Factory also its templates. A default that is no JSON value (a path made of the date, an enumeration) is written
as its text.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from typing import Any


def default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return None
    value = getattr(value, "value", value)
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value


def kinds() -> tuple[str, list[type]]:
    """The dataclasses that the tool's own parser is given."""
    try:
        from llamafactory.hparams import parser

        return "llamafactory", list(parser._TRAIN_ARGS)
    except ImportError:
        from trl import ModelConfig, ScriptArguments, SFTConfig
        from trl.scripts.utils import DatasetMixtureConfig

        return "trl", [ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig]


def llamafactory_templates() -> dict[str, Any]:
    """Of each template the text around a question, up to the answer, and its stop words; of each known model the template LLaMA-Factory names."""
    import sys
    from unittest.mock import MagicMock

    sys.modules.setdefault("torchaudio", MagicMock())  # imported for audio data alone, which no template text needs
    from llamafactory.data.template import TEMPLATES
    from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS

    templates = {}
    for name, template in TEMPLATES.items():
        slots = template.format_user.slots
        templates[name] = {"user": "".join(s for s in slots if isinstance(s, str)), "stop": list(template.stop_words),
                           "efficient_eos": template.efficient_eos, "answer": "".join(s if isinstance(s, str) else "{eos}" for s in template.format_assistant.slots)}
    models = {str(path).rpartition("/")[2].lower(): DEFAULT_TEMPLATE[name]
              for name, paths in SUPPORTED_MODELS.items() if name in DEFAULT_TEMPLATE for path in paths.values()}
    return {"templates": dict(sorted(templates.items())), "models": dict(sorted(models.items()))}


def main() -> None:
    tool, parts = kinds()
    keys = {f.name: default_of(f) for part in parts for f in dataclasses.fields(part) if f.init}
    versions = {p: importlib.metadata.version(p) for p in (tool, "transformers")}
    more = llamafactory_templates() if tool == "llamafactory" else {}
    print(json.dumps({"tool": tool, "versions": versions, "keys": dict(sorted(keys.items())), **more}))


if __name__ == "__main__":
    main()
