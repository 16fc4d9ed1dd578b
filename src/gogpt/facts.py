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


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """One optimizer step. ``loss`` is the raw mean over the trained tokens of the whole step, before any filter.

    ``lr`` is the learning rate that the step used. ``update_norm`` is the l2 norm of the change of the
    trainable parameters (from a fixed sample of the elements of large tensors). ``seconds`` is wall time without
    evaluating and saving, ``memory`` the peak so far in bytes (of the device, or resident set on CPU).
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
    memory_now: int = 0
    """bytes in use after the step; 0: not measured"""
    one_label: float | None = None
    """share of the most frequent id among the trained tokens, where it is at least 0.9; 0 where it is less; None: not counted"""
    skipped: bool = False
    """the fp16 loss scaler left the update out"""
    rolled_back: bool = False
    """the step is passed over after a rollback: nothing was trained; the numbers are those of the attempt that was undone"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVitals:
    """Figures over the course of a run so far (vitals.py), from which the checks RUN650 to RUN659 judge. Medians are over windows of
    steps; ``_steps`` counts steps in a row up to the last one. None: not enough steps yet."""

    loss_start: float | None = None
    """median loss of the first 3 steps"""
    loss_best: float | None = None
    """lowest median loss of 3 steps in a row"""
    loss_noise: float | None = None
    """90th percentile of |difference| between neighbouring steps"""
    loss_limit: float | None = None
    """above it a loss is raised: best + (start - best) / 2 + max(1, 3 x noise), or 1.25 times the highest of the last 32 that were not raised"""
    loss_now: float | None = None
    """median loss of the last 8 steps"""
    loss_uniform: float | None = None
    """loss of guessing every token of the vocabulary alike: ln(vocabulary size)"""
    raised_steps: int = 0
    """steps in a row whose loss is above the limit"""
    guessing_steps: int = 0
    """steps in a row whose loss is above 1.2 times loss_uniform, and by 1 above the lowest"""
    raised_since: int | None = None
    recovering: bool = False
    """the later half of the last 8 losses has lost a quarter of what they stand above the best"""
    spikes: int = 0
    """times that the loss was raised for 4 steps or more and came back"""
    spike_step: int | None = None
    """first raised step of the last spike"""
    spike_loss: float | None = None
    """highest loss of it"""
    begin_loss: float | None = None
    """mean loss of the first 32 steps"""
    begin_now: float | None = None
    """mean loss of the last 32 steps, 128 and 256 steps after the warm-up"""
    begin_gain: float | None = None
    """the most that the loss can have fallen between the two: difference + 3 standard errors"""
    begin_steps: int = 0
    """steps since the warm-up"""
    grad_early: float | None = None
    """median gradient norm of the first 16 steps"""
    grad_usual: float | None = None
    """median gradient norm of the last 64 steps that were not exploding"""
    grad_now: float | None = None
    """median gradient norm of the last 8 steps"""
    exploding_steps: int = 0
    vanishing_steps: int = 0
    skips: int = 0
    """steps that the fp16 loss scaler skipped, of all steps after the first 20"""
    skips_recent: int = 0
    """of the last 64 of them"""
    skips_of: int = 0
    """how many the last 64 are"""
    skips_in_row: int = 0
    rate_usual: float | None = None
    """median tokens per second of the last 64 steps that were not slow, the first 10 left out"""
    rate_now: float | None = None
    """median tokens per second of the slow steps in a row"""
    slow_steps: int = 0
    tokens_usual: float | None = None
    """median tokens per step of the steps of rate_usual"""
    tokens_slow: float | None = None
    """and of the slow ones"""
    memory_blocks: tuple[int, ...] = ()
    """median bytes in use of the last 8 blocks of 10 steps, the first two blocks left out"""
    memory_tokens: tuple[float, ...] = ()
    """median tokens per step of those blocks"""
    tiny_steps: int = 0
    """steps in a row with a loss above 0 and below 0.01, while every row is seen for the first time"""
    epoch_steps: int | None = None
    """steps of one epoch; None: not known (a stream)"""
    one_label_steps: int = 0
    """steps in a row of 8 or more trained tokens of which 99% are one and the same id"""


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
    """of several processes that each hold all weights: the largest relative difference between their gradient norms, or the squares of
    their update norms"""
    vitals: RunVitals = RunVitals()
    lr_mechanism: str | None = None
    """why the learning rate of the last step is off the plan (``diagnosis.Mechanism``); None: it is not, or nobody looked"""
    lr_evidence: Mapping[str, Any] = field(default_factory=dict)
    lr_also: tuple[str, ...] = ()
    """other mechanisms that fit as well"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFacts:
    """What a run left behind, read by ``autopsy``: whoever trained it. Steps are those of the optimizer; None: not known.

    Losses and rates are as logged: often means over ``logging_steps`` steps, rounded, and behind a filter that hides NaN.
    """

    path: str
    tool: str
    """Trainer, TRL, LLaMA-Factory, Axolotl, ms-swift, DeepSpeed, TensorBoard, GoGPT, log"""
    num_records: int = 0
    """logged records with a loss or a learning rate"""
    first_step: int | None = None
    last_step: int | None = None
    steps_from: str = "step"
    """step, counter (a progress bar), epoch, or lines: the records were only counted"""
    last_epoch: float | None = None
    steps_planned: int | None = None
    planned_from: str | None = None
    """command line, max_steps, settings, progress bar, plan.json, or epoch counter (then as exact as it is rounded)"""
    epochs_planned: float | None = None
    """only where the run was asked for by epochs"""
    finished: bool = False
    """a summary of the whole training was logged"""
    world_size: int | None = None
    precision: str | None = None
    accumulation: int | None = None
    vocab_size: int | None = None
    best_kept: bool = False
    """the checkpoint with the lowest evaluation loss is noted"""
    # -- loss
    num_losses: int = 0
    first_loss: float | None = None
    """of the first record, at ``first_loss_step``"""
    first_loss_step: int | None = None
    early_loss: float | None = None
    """median of the first tenth of the records (at least 3)"""
    late_loss: float | None = None
    """median of the last tenth (at least 3)"""
    lowest_loss: float | None = None
    """the lowest running median of five"""
    loss_spread: float | None = None
    """(highest - lowest) / mean"""
    non_finite: str | None = None
    """loss, evaluation loss or grad_norm: what was printed as nan or inf, without a loss of 0 beside it"""
    non_finite_step: int | None = None
    non_finite_count: int = 0
    zero_losses: int = 0
    zero_step: int | None = None
    """first record whose loss is exactly 0"""
    zero_place: str | None = None
    """its file:line, in a log"""
    zero_grad: str | None = None
    """gradient norms beside losses of 0: nan, zero, positive, or none where none is logged"""
    zero_grad_norm: float | None = None
    zero_tail: int = 0
    """records at the end whose loss is exactly 0"""
    before_zero: float | None = None
    """last loss above 0 before the first of 0"""
    # -- learning rate
    num_rates: int = 0
    peak_lr: float | None = None
    last_lr: float | None = None
    lr_mechanism: str | None = None
    """diagnosis.Mechanism, or ends_early, other_schedule, all_zero; None: nothing is wrong with it, or it is not known"""
    lr_evidence: Mapping[str, Any] = field(default_factory=dict)
    # -- gradient, evaluation, skipped steps
    num_grad_norms: int = 0
    zero_grad_norms: int = 0
    num_evals: int = 0
    last_eval: float | None = None
    lowest_eval: float | None = None
    lowest_eval_step: int | None = None
    evals_after_lowest: int = 0
    loss_at_lowest_eval: float | None = None
    """training loss (median) around the lowest evaluation loss"""
    skipped_steps: int | None = None
    """steps that the fp16 loss scaler skipped; None: not logged"""
    skipped_late: int = 0
    """of them, those after the first 30 steps, in which the scale is found"""
    steps_seen: int | None = None
    """steps that skipped_steps is counted among"""
    # -- checkpoint
    checkpoint: str | None = None
    """the newest"""
    checkpoint_missing: tuple[str, ...] = ()
    """optimizer, scheduler: what resuming needs and is not there"""
    empty_files: tuple[str, ...] = ()
    """weight files of 0 bytes, or safetensors whose tensors hold nothing"""
    shard_ranks: int = 0
    """ZeRO shards of optimizer state: one a process"""
    missing_ranks: tuple[int, ...] = ()
    zero_stage: int | None = None
    consolidated: bool = True
    """whole weights lie beside the shards"""
    latest_missing: str | None = None
    """what the file ``latest`` names and is not there"""


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
class AskedFacts:
    """How the model of a run is asked now, against how it was trained: prompts of the run's samples."""

    path: str
    template: str
    samples: int
    """trained answers whose prompts were made again"""
    equal: int
    """those whose ids are the trained ones"""
    difference: str = ""
    """the first token that differs, in words"""


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
class ForeignFacts:
    """What another tool's configuration (or launch script) asks for, in one vocabulary. None: it does not say, and the tool has no default."""

    path: str
    tool: str
    """llamafactory, axolotl, swift or trl"""
    release: str = ""
    """the release whose keys and defaults are compared with"""
    places: Mapping[str, str] = field(default_factory=dict)
    """key as the tool spells it -> ``file:line``"""
    names: Mapping[str, str] = field(default_factory=dict)
    """what is asked for (``max_length``) -> the key that the tool has for it"""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """key that the tool does not know -> the nearest that it does, or nothing"""
    unknown_dropped: bool = False
    """the tool goes on without a key that it does not know"""
    purpose: str = "train"
    """train, or merge (an export)"""
    model: str | None = None
    model_local: bool = False
    model_type: str | None = None
    """of config.json, where the model is local"""
    model_dtype: str | None = None
    template: str | None = None
    template_of_model: str | None = None
    """the template that the tool itself names for this model"""
    template_fits: bool | None = None
    """the text around a question is that of the model's own chat template; None: one of the two is not known"""
    template_seen: str = ""
    """the end of the model's own text around a question"""
    template_written: str = ""
    """... and of the template's"""
    train: tuple[str, ...] = ()
    eval: tuple[str, ...] = ()
    eval_share: float = 0.0
    undefined: Mapping[str, str] = field(default_factory=dict)
    """what a key names and is not there -> the key"""
    max_length: int | None = None
    overlong: str = ""
    """what the tool does with longer conversations: cuts_prompt, cuts_end, drops"""
    packing: bool = False
    packing_leaks: str = ""
    """certain, or likely: packed conversations attend to each other; empty: they do not"""
    packing_why: str = ""
    """the keys that say so"""
    packing_fix: str = ""
    """the key that keeps them apart"""
    learning_rate: float | None = None
    schedule: str | None = None
    micro_batch_size: int | None = None
    accumulation: int | None = None
    world_size: int | None = None
    epochs: float | None = None
    max_steps: int | None = None
    warmup_steps: int | None = None
    warmup_ratio: float | None = None
    clipping: float | None = None
    precision: str = "fp32"
    """fp32, bf16, fp16 or auto"""
    nan_filter: bool = True
    """logging_nan_inf_filter"""
    method: str = "full"
    quantised: int | None = None
    """bits"""
    new_tokens: tuple[str, ...] = ()
    """keys that add tokens to the vocabulary"""
    new_tokens_trained: bool = True
    saved_key: str = ""
    """the key that would train their rows"""
    stop_untrained: str = ""
    """the key and value for which no answer's end is trained"""
    nothing_trained: str = ""
    """the key and value for which no answer is trained"""
    deepspeed: str | None = None
    save_only_model: bool = False
    resume: str | None = None
    ddp_timeout: int | None = None
    tokenised_ahead: bool = False
    """the tool is given a set that was tokenised before"""
    workers: int = 1
    data_bytes: int = 0
    """size of the local training files"""
    transformers_pin: str | None = None
    """the newest transformers that requirements beside the file allow, where that is below 4.46"""
    transformers_place: str | None = None

    def at(self, *keys: str) -> str:
        """The place of the first of these keys that the file has: ``lf.yaml:12``."""
        return next((self.places[k] for k in keys if k in self.places), self.path)

    def key(self, name: str) -> str:
        """What the tool calls it."""
        return self.names.get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """What an adapter folder holds, read without torch. Numbers of tensors unless said otherwise."""

    path: str
    kind: str
    """peft_type"""
    rank: int
    targets: tuple[str, ...]
    target_pattern: str | None = None
    """target_modules as one word: all-linear, or a regular expression"""
    tensors: int = 0
    problem: str | None = None
    """why the weights cannot be read: missing, empty, cut, a git-lfs pointer"""
    empty: Tally = Tally()
    """tensors without an element"""
    lora_b: int = 0
    zero_b: Tally = Tally()
    """lora_B that are zero throughout"""
    non_finite: Tally = Tally()
    wrong_rank: Tally = Tally()
    """lora_A or lora_B whose shape is not of the configuration's rank"""
    targets_without: tuple[str, ...] = ()
    """target modules of the configuration for which there is no tensor"""
    base: str | None = None
    base_found: str | None = None
    """the folder that was taken as the base"""
    base_differs: str = ""
    """what says that this is another base"""
    strangers: Tally = Tally()
    """modules that the base does not have, or that have another shape there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """What a model folder holds, read without torch. Numbers of tensors unless said otherwise."""

    path: str
    model_type: str
    tensors: int = 0
    problem: str | None = None
    """why the weights cannot be read"""
    missing: Tally = Tally()
    """tensors that the index names and no file has"""
    empty: Tally = Tally()
    zero: Tally = Tally()
    """matrices that are zero throughout, by what was sampled of them"""
    non_finite: Tally = Tally()
    sampled: int = 0
    """elements that were looked at"""
    embedding_rows: int | None = None
    vocab_size: int | None = None
    tokenizer_size: int | None = None
    """highest token id + 1; None: no tokenizer is in the folder"""
    special_ids: Mapping[str, str] = field(default_factory=dict)
    """``eos_token_id`` of a configuration that the tokenizer does not agree with -> both"""
    chat_template: bool | None = None
    tied: bool = False
    """config.json: tie_word_embeddings"""
    head: str = ""
    """missing (not tied, and there is none), differs (tied, and another one is stored), or nothing"""
    added_tokens: int = 0
    added_trained: bool = True


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
