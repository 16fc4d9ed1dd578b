"""The faults. An explicit tuple, in the order of the table."""

from __future__ import annotations

from .data import DATA_FAULTS
from .fault import Fault
from .model import MODEL_FAULTS
from .tokens import TOKEN_FAULTS
from .training import TRAINING_FAULTS

FAULTS: tuple[Fault, ...] = (*TOKEN_FAULTS, *DATA_FAULTS, *TRAINING_FAULTS, *MODEL_FAULTS)

__all__ = ["FAULTS", "Fault"]
