"""Configurations and launch scripts of LLaMA-Factory, Axolotl, ms-swift and TRL: read as text, never run."""

from __future__ import annotations

from gogpt.foreign.document import ForeignFile, read_foreign
from gogpt.foreign.marks import TOOL_NAMES, tools_of

__all__ = ["TOOL_NAMES", "ForeignFile", "read_foreign", "tools_of"]
