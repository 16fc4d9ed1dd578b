"""Facts: everything that a check may see, as plain data that survives a trip through JSON.

``facts.json`` of a run replays every verdict on a machine without the model or the data, and is the bug
report. Counts are whole numbers; ``first`` fields hold the first places (``file:row``) of a kind.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

NUM_FIRST = 5
"""How many places are kept for each kind of event."""


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
    quantised_already: str = ""
    """how the base's own config.json says that it is quantised (gptq, awq, bitsandbytes ...); nothing where it is not"""
    quantised_modules: int = 0
    """qlora: linear modules that are held in 4 bits"""
    unquantised_modules: tuple[str, ...] = ()
    """qlora: linear modules of the layers that are not, as ``name (rows x columns)``"""
    packing_unsafe: str | None = None
    """why documents packed into a row could see each other in this architecture, or None"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """One optimizer step. ``loss`` is the raw mean over the trained tokens of the whole step, before any filter.

    ``lr`` is the learning rate that the step used. ``update_norm`` is the l2 norm of the change of the
    trainable parameters (from a fixed sample of the elements of large tensors). ``seconds`` is wall time,
    ``memory`` the peak so far in bytes (of the device, or resident set on CPU).
    """

    step: int
    loss: float
    lr: float
    grad_norm: float | None
    trained_tokens: int
    tokens: int
    update_norm: float | None
    seconds: float
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """How the run went. ``planned_lr`` is the plan's learning rate of the last step recorded."""

    steps_planned: int
    last: StepStats | None
    planned_lr: float | None
    peak_lr: float
    zero_losses: int = 0
    """steps so far whose loss was exactly 0.0"""
    still_steps: int = 0
    """steps so far in a row, with a learning rate above 0, after which no trainable weight had moved"""
    skipped_steps: int = 0
    """steps so far in a row that the fp16 loss scaler skipped"""
    non_finite: str | None = None
    """what was not finite in the last step: loss, grad_norm, update_norm, evaluation loss, or None"""
    saved_batch: str | None = None
    world_size: int = 1
    rank_spread: float = 0.0
    """of several processes that each hold all weights: the largest relative difference between the squares of their update norms"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts:
    """The proof of a merge, on fixed probe sequences. Differences are of logits."""

    max_difference: float
    """largest |merged - (base + adapter)|"""
    tolerance: float
    effect: float
    """largest |(base + adapter) - base|"""
    reloaded_difference: float
    """largest |merged, loaded back from disk - (base + adapter)|"""
    probe_tokens: int
    base: str
    adapter: str
    probe_loss_before: float = 0.0
    """mean cross-entropy over the trained tokens of the probe sequence: of the base as it was trained + adapter"""
    probe_loss_after: float = 0.0
    """... and of the merged model"""
    trained_base: str = "full"
    """what the base was held in while the adapter was trained: full, nf4 or fp4"""
    merged_base: str = "full"
    """what the weights that it was merged into stand for: the same, or another"""
    trained_difference: float = 0.0
    """largest |merged - (base as it was trained + adapter)|; another base than that trained is not held to the tolerance"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFacts:
    """What a model folder will be served with: its chat template, rendered over probe conversations, against the
    declared templates, its tokenizer and its generation_config.json."""

    path: str
    nearest: str
    """the declared template whose text is nearest"""
    equal: int
    """probe conversations of which both the text and the prompt are the nearest template's, byte for byte"""
    probes: int
    difference: str | None
    """the first differing byte against the nearest, in words; None when all are equal"""
    refused: tuple[str, ...]
    """probe conversations that the chat template refuses, with its words"""
    not_prefix: tuple[str, ...]
    """probe conversations whose generation prompt is no prefix of the text with the answer"""
    stop_text: str | None
    """what the template writes at the end of an answer"""
    stop_ids: tuple[int, ...]
    """its ids: one, when it is a token"""
    generation_stops: tuple[int, ...]
    """ids that end generation: eos_token_id of generation_config.json, else of config.json"""
    bos_twice: bool
    """the text begins with BOS, and the tokenizer adds another when it encodes text"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What a DeepSpeed file says, as plain data. None: the file does not say it, or leaves it to the Trainer (``auto``).

    ``asked_*`` and ``world_size``: what the command line says of the run that the file is for.
    """

    path: str
    lines: Mapping[str, int] = field(default_factory=dict)
    """dotted key -> its line"""
    scheduler: str | None = None
    scheduler_decays: bool = True
    scheduler_keys: tuple[str, ...] = ()
    scheduler_missing: tuple[str, ...] = ()
    """parameters without a default that are missing"""
    warmup_type: str | None = None
    optimizer: str | None = None
    optimizer_keys: tuple[str, ...] = ()
    optimizer_lr: float | None = None
    torch_adam: bool = False
    batch_size: int | None = None
    micro_batch_size: int | None = None
    accumulation: int | None = None
    fp16: bool = False
    bf16: bool = False
    loss_scale: float = 0.0
    initial_scale_power: int = 16
    min_loss_scale: float = 1.0
    auto_unfilled: tuple[str, ...] = ()
    zero_stage: int = 0
    gather_on_save: bool = False
    unknown: Mapping[str, str] = field(default_factory=dict)
    """dotted key that DeepSpeed does not know -> the nearest that it does, or nothing"""
    offload_optimizer: str | None = None
    """cpu or nvme"""
    offload_param: str | None = None
    clipping_set: bool = False
    clipping: float | None = None
    world_size: int | None = None
    asked_schedule: str | None = None
    asked_rate: float | None = None
    asked_clipping: float | None = None

    def at(self, *keys: str) -> str:
        """The place of the first of these keys that the file has: ``ds.json:12``."""
        return next((f"{self.path}:{self.lines[k]}" for k in keys if k in self.lines), self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFacts:
    """What ``gogpt doctor`` looked at: files, metadata and environment variables. Bytes are bytes; "" is unknown."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """the environment variables that are looked at and set; never a token or a password"""
    cuda_home: str | None = None
    """CUDA_HOME, else CUDA_PATH"""
    cuda_home_nvcc: bool = False
    """bin/nvcc is in it"""
    toolkits: Mapping[str, str] = field(default_factory=dict)
    """folder with bin/nvcc, links resolved -> version; usual places, CUDA_HOME and PATH"""
    named: Mapping[str, str] = field(default_factory=dict)
    """which toolkit (links resolved) CUDA_HOME, PATH and LD_LIBRARY_PATH name first, where they name one that exists"""
    missing_paths: tuple[str, ...] = ()
    """entries that name CUDA and do not exist, as ``PATH: /usr/usr/local/cuda/bin``"""
    toolkit_lacks: tuple[str, ...] = ()
    """what a build needs of the toolkit that CUDA_HOME (or PATH) names, and that is not in it"""
    nvcc_max_gcc: int | None = None
    """newest GCC that the toolkit's crt/host_config.h takes"""
    compiler: str | None = None
    gcc: int | None = None
    """major version of the compiler, where it is GCC"""
    ninja: bool = False
    torch: str | None = None
    torch_cuda: str | None = None
    """the CUDA version that torch was built with (torch/version.py); None: built without"""
    driver: str | None = None
    driver_cuda: str | None = None
    """the newest CUDA version that the driver runs"""
    gpus: tuple[str, ...] = ()
    capabilities: tuple[float, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    torch_hip: str | None = None
    """the ROCm version that torch was built with"""
    bitsandbytes_libraries: tuple[str, ...] = ()
    """native libraries in bitsandbytes' folder, as ``cpu``, ``cuda124``, ``rocm64``"""
    bitsandbytes_wanted: str | None = None
    """the one that it would load on this machine; None: it is not installed"""
    flash_attn_missing: tuple[str, ...] = ()
    """symbols that flash-attn's extension wants of torch's c10 libraries, and that those do not have"""
    interfaces: tuple[str, ...] = ()
    """network interfaces"""
    shm_total: int | None = None
    """size of /dev/shm"""
    disk: str = ""
    """folder whose disk was measured"""
    disk_free: int = 0
    disk_needed: int = 0
    """0: no recipe was given"""
    memory: int = 0
    """of one device, or of the machine without one"""
    memory_needed: int = 0
    hub_cache: str = ""
    hub_cache_exists: bool = False
    hub_cache_writable: bool = True
    searched: str | None = None
    """folder or file looked through for git-lfs pointers"""
    pointers: tuple[str, ...] = ()
    """first files that are git-lfs pointers"""
    num_pointers: int = 0
    git_lfs: bool = False
    openssl_missing: tuple[str, ...] = ()
    """what OPENSSL_CONF and OPENSSL_MODULES name and that is not there"""
    installs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """package found more than once -> ``version at folder`` of each"""
    shadows: Mapping[str, str] = field(default_factory=dict)
    """package -> file or folder of the same name that comes first on sys.path"""


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
    engine: EngineFacts | None = None
    doctor: DoctorFacts | None = None


T = TypeVar("T")


def to_json(value: Any) -> Any:
    """A dataclass (or a container of them) as JSON data. Floats that JSON lacks become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def from_json(kind: type[T], data: Any) -> T:
    """The inverse of to_json: ``from_json(type(x), to_json(x)) == x``."""
    return typing.cast(T, _convert(kind, data))


def _convert(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        if data is None:
            return None
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
        return _convert(kind, data)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{k: _convert(hints[k], v) for k, v in data.items() if k in hints})
    if origin is tuple:
        return tuple(_convert(typing.get_args(kind)[0], v) for v in data)
    if origin is Mapping or origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {k: _convert(typing.get_args(kind)[1], v) for k, v in data.items()}
    if kind is float and isinstance(data, (int, str)):
        return float(data)
    return data
