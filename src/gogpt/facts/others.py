"""What others wrote: DeepSpeed files, and other tools' configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
