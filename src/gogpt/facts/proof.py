"""What was proven on the model and the data before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gogpt.facts.before import Tally

FAILED = "it failed"
"""How the reason of a proof begins that could not be made because of an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccumulationProof:
    """The same rows as one micro-batch and as several, through the run's own loss and backward pass.

    Losses are nats per trained token; differences are relative.
    """

    rows: int
    trained_tokens: int
    loss_expected: float
    """mean of the cross-entropy over all trained tokens, computed aside from the run's loss"""
    loss_together: float
    """one micro-batch of all rows"""
    loss_apart: float
    """one micro-batch of each row, added up"""
    gradient_difference: float
    """l2 norm of the difference of the two gradients, over that of the first"""
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingProof:
    """A packed row whose documents were changed one at a time. Differences are of logits, over the largest logit."""

    documents: int
    tokens: int
    leak: float
    """largest change of the logits of documents that were not changed"""
    alone: float
    """largest difference between a document's logits in the row and by itself"""
    tolerance: float
    shared: float | None = None
    """the same of two examples whose common beginning is computed once; None where the run shares no prefixes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientProof:
    """What one backward pass left in the trainable tensors."""

    tensors: int
    attached: bool
    """the loss has a gradient at all"""
    loss_finite: bool
    missing: Tally = Tally()
    """tensors that got no gradient although their module ran"""
    unreached: Tally = Tally()
    """tensors whose module did not run: experts without a token, a tower for images"""
    non_finite: Tally = Tally()
    zero: int = 0
    """tensors whose gradient is exactly 0: under LoRA half of them at the start, because lora_B is 0"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateProof:
    """One step of the run's own optimizer at the peak learning rate, which was taken back.

    ``effect``: largest change of the loss of one token, in nats; ``effect_enlarged``: the same with the step enlarged until its
    largest change of a weight is 0.05, None where the step itself had an effect.
    """

    tensors: int
    """trainable tensors that took part (of large models a sample)"""
    moved: int
    update_norm: float
    learning_rate: float
    loss_before: float
    loss_after: float
    effect: float
    effect_enlarged: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossProof:
    """Mean losses of the untrained model over the same tokens of a few answers (nats a token; no stop token, no first token)."""

    answers: int
    tokens: int
    vocab_size: int
    loss: float
    """as they will be trained: after their prompts, in the template"""
    alone: float
    """without prompt and template"""
    shuffled: float
    """alone, their tokens in random order"""
    entropy: float
    """of the predictions under ``loss``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopProof:
    """Whether generation ends where the trained answers end. Counts are of ``answers``."""

    answers: int
    prompts_equal: int
    """inference's ids of the prompt are those before the answer in training"""
    difference: str
    """the first prompt that differs: where, and both ids; empty when all are equal"""
    stops_trained: int
    """the last trained token of the answer is one of the ids that end generation"""
    last_token: str
    """the last trained token of the first answer that ends otherwise"""
    stopped: int
    """generate(), made to give the answer, ended with its last token"""
    generation_stops: tuple[int, ...]
    """eos_token_id of the generation_config.json that will be saved"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedStopProof:
    """Generation from training prompts after training, with the files of final/."""

    answers: int
    sure: int
    """answers after which the trained model gives the stop a probability of at least a half"""
    stopped: int
    """generations that ended by themselves"""
    max_new_tokens: int
    probability: float
    """mean probability of the stop after the trained answers"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofFacts:
    """What was proven on the user's own model and data before the first step; None: not proven, for the reason in ``skipped``."""

    tokens: int
    """most tokens that one pass of a proof had"""
    precision: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    """by proof"""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """proof -> why it was not made"""
    accumulation: AccumulationProof | None = None
    packing: PackingProof | None = None
    gradients: GradientProof | None = None
    adapter: UpdateProof | None = None
    initial_loss: LossProof | None = None
    generation: StopProof | None = None
    trained_stop: TrainedStopProof | None = None
    """made after training"""
