"""The table of declared templates. To add one, add an entry to its family's file; the tests then hold it to its
oracle, to its exported chat template, to prefix stability and to a trained stop marker."""

from __future__ import annotations

from gogpt.templates.declared import DeclaredTemplate
from gogpt.templates.table import (
    alpaca,
    chatglm,
    chatml,
    chinese,
    deepseek,
    labs,
    llama,
    mistral,
    qwen,
    recent,
    vicuna,
)

TEMPLATES: tuple[DeclaredTemplate, ...] = (
    *alpaca.TEMPLATES,
    *llama.TEMPLATES,
    *vicuna.TEMPLATES,
    *chatml.TEMPLATES,
    *qwen.TEMPLATES,
    *mistral.TEMPLATES,
    *deepseek.TEMPLATES,
    *chatglm.TEMPLATES,
    *labs.TEMPLATES,
    *recent.TEMPLATES,
    *chinese.TEMPLATES,
)
