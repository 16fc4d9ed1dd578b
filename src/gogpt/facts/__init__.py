"""Facts: everything that a check may see, as plain data that survives a trip through JSON.

``facts.json`` of a run replays every verdict on a machine without the model or the data, and is the bug
report. Counts are whole numbers; ``first`` fields hold the first places (``file:row``) of a kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from gogpt.facts.before import DataFacts, EnvFacts, ModelFacts, PlanFacts, Tally, TokenizerFacts
from gogpt.facts.codec import NUM_FIRST, T, from_json, to_json
from gogpt.facts.export import AdapterFacts, AskedFacts, ExportFacts, ServedFacts, WeightsFacts
from gogpt.facts.history import HistoryFacts
from gogpt.facts.machine import DoctorFacts
from gogpt.facts.others import EngineFacts, ForeignFacts
from gogpt.facts.proof import (
    FAILED,
    AccumulationProof,
    GradientProof,
    LossProof,
    PackingProof,
    ProofFacts,
    StopProof,
    TrainedStopProof,
    UpdateProof,
)
from gogpt.facts.run import RunFacts, RunVitals, StepStats

__all__ = [
    "FAILED",
    "NUM_FIRST",
    "AccumulationProof",
    "AdapterFacts",
    "AskedFacts",
    "DataFacts",
    "DoctorFacts",
    "EngineFacts",
    "EnvFacts",
    "ExportFacts",
    "Facts",
    "ForeignFacts",
    "GradientProof",
    "HistoryFacts",
    "LossProof",
    "ModelFacts",
    "PackingProof",
    "PlanFacts",
    "ProofFacts",
    "RunFacts",
    "RunVitals",
    "ServedFacts",
    "StepStats",
    "StopProof",
    "T",
    "Tally",
    "TokenizerFacts",
    "TrainedStopProof",
    "UpdateProof",
    "WeightsFacts",
    "from_json",
    "to_json",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts known about one object; None where that part was not looked at."""

    env: EnvFacts | None = None
    plan: PlanFacts | None = None
    data: DataFacts | None = None
    tokenizer: TokenizerFacts | None = None
    model: ModelFacts | None = None
    run: RunFacts | None = None
    export: ExportFacts | None = None
    served: ServedFacts | None = None
    asked: AskedFacts | None = None
    engine: EngineFacts | None = None
    foreign: ForeignFacts | None = None
    adapter: AdapterFacts | None = None
    weights: WeightsFacts | None = None
    doctor: DoctorFacts | None = None
    proofs: ProofFacts | None = None
    history: HistoryFacts | None = None
