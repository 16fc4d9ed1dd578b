"""What is saved and served: merges, templates, adapters, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gogpt.facts.before import Tally


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
