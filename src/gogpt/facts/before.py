"""What is known before the first step: machine, plan, data, tokenizer, model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFacts:
    """The machine that the run is planned for. Bytes are bytes."""

    python: str
    platform: str
    device: str
    """cpu, cuda or mps"""
    num_devices: int
    device_name: str
    bf16: bool
    """whether the device computes bfloat16 natively"""
    memory_total: int
    disk_free: int
    cpu_count: int
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """What the recipe asks for and what follows from it."""

    method: str
    epochs: float
    steps: int
    warmup_steps: int
    schedule: str
    learning_rate: float
    batch_size: int
    micro_batch_size: int
    accumulation: int
    world_size: int
    precision: str
    max_length: int
    overlong: str
    packing: bool
    special_text: str
    num_rows: int
    """packed rows (or examples, unpacked) of one epoch"""
    early_stopping: int | None = None
    eval_every: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often something was seen, and where first."""

    count: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What became of the data, counted while it was read and encoded."""

    rows_in: int
    conversations: int
    examples: int
    eval_examples: int
    drops: Mapping[str, int]
    first: Mapping[str, tuple[str, ...]]
    schemas: Mapping[str, str]
    tokens: int
    trained_tokens: int
    longest: int
    template: str
    stop_ids: tuple[int, ...]
    stop_texts: tuple[str, ...]
    stop_is_token: bool
    """the template's stop marker is one token of this tokenizer"""
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    answers: int
    """trained assistant turns"""
    answers_stopped: int
    """trained assistant turns whose last trained token is a stop token"""
    encoded: int = 0
    """sequences encoded, before hold-out and weights: what no_trained and cut_targets are counted among"""
    no_trained: Tally = Tally()
    cut_targets: Tally = Tally()
    double_bos: Tally = Tally()
    special_text: Tally = Tally()
    special_tokens_seen: tuple[str, ...] = ()
    overlap: Tally = Tally()
    duplicates: Tally = Tally()
    """training conversations that say what an earlier one says"""
    reports: Mapping[str, Tally] = field(default_factory=dict)
    """what cleaning found and was told to keep, by reason"""
    collated_stops_in: int = 0
    """stop tokens among the labels of the examples probed ..."""
    collated_stops_out: int = 0
    """... and among the labels of the batches made of them: padding must not take any away"""
    longest_prompt_cut: int = 0
    """length of the longest prompt among rows without a trained token"""
    text_examples: int = 0
    """examples that are plain text (continued pretraining), where no answer and no stop is expected"""
    sampled_only: int = 0
    """of a stream: the training rows that all this was counted on, the first ones; 0: everything was read"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """The file that the tokenizer is read from, compared with the other file that holds the same one, if there is one.

    Of the first difference: ``text`` around it, and from the first token that differs on a few ids and tokens of both.
    """

    file: str
    library: str
    size: int
    """highest token id + 1"""
    other_file: str | None = None
    compared: int = 0
    """texts encoded with both: fixed ones, and the data's own"""
    different: int = 0
    text: str = ""
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    other_ids: tuple[int, ...] = ()
    other_tokens: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    """equal_scores, merge_order, leading_space, normalizer, pre_tokenizer, vocabulary"""
    equal_scores: int = 0
    """pieces that share one score, which no list of merges can order"""
    byte_pieces: bool = False
    """characters without a piece are written as bytes (<0x0A>)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the checkpoint's files say (config.json and the safetensors headers), without loading weights."""

    path: str
    model_type: str
    num_parameters: int
    trainable_parameters: int
    embedding_rows: int | None
    tokenizer_size: int
    """the tokenizer's highest token id + 1"""
    max_position_embeddings: int | None
    num_layers: int
    hidden_size: int
    vocab_size: int
    targets: Mapping[str, int] = field(default_factory=dict)
    """LoRA target -> number of modules that it names"""
    linear_modules: tuple[str, ...] = ()
    """names (last part) of the linear modules that could be targets"""
    saved_modules: Mapping[str, int] = field(default_factory=dict)
    """method.modules_to_save -> number of modules that it names"""
    modules: tuple[str, ...] = ()
    """names (last part) of all modules with weights"""
    learned_positions: bool = False
    """positions are rows of a table, so that there is none beyond max_position_embeddings"""
    added_tokens: int = 0
    """tokens that were added to the base's tokenizer (gogpt_extension.json)"""
    added_trained: bool = False
    """their rows train under this recipe's method, or have been trained by an earlier run"""
    added_seen: int = 0
    """how often they occur in the training examples"""
    mean_rows: Tally = Tally()
    """without a note, and where the method leaves the embedding as it is: tokens of the training examples whose row is the mean of all rows, as
    transformers' resize_token_embeddings leaves new ones"""
    mean_seen: int = 0
    """how often they occur in the training examples"""
    quantised_already: str = ""
    """how the base's own config.json says that it is quantised (gptq, awq, bitsandbytes ...); nothing where it is not"""
    quantised_modules: int = 0
    """qlora: linear modules that are held in 4 bits"""
    unquantised_modules: tuple[str, ...] = ()
    """qlora: linear modules of the layers that are not, as ``name (rows x columns)``"""
    packing_unsafe: str | None = None
    """why documents packed into a row could see each other in this architecture, or None"""
