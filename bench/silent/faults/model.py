"""Faults in the base model, and in what is trained of it."""

from __future__ import annotations

from ..cases import GOGPT, LLAMAFACTORY, MODELS, TRL, Case, Step, gogpt_files, lf_files, same
from .fault import Fault
from .rows import plain

USUAL = same(plain())


def _targets(*names: str) -> dict[str, Case]:
    return same(plain(), gogpt_={"method": {"targets": list(names)}}, trl_={"lora_target_modules": list(names)}, lf_={"lora_target": ",".join(names)})


TARGETS_NONE = Fault(
    id="targets_none", title="LoRA targets that name no module", rows="19", planted="query_key_value, in a Llama", caught="the name is told",
    keywords=(r"query_key_value",), faulty=_targets("query_key_value"), healthy=_targets("q_proj", "v_proj"))

TARGETS_HALF = Fault(
    id="targets_half", title="one of two LoRA targets is misspelt", rows="19", planted="q_proj and v_porj", caught="the name is told",
    keywords=(r"v_porj",), faulty=_targets("q_proj", "v_porj"), healthy=_targets("q_proj", "v_proj"))

NAN_WEIGHT = Fault(
    id="nan_weight", title="one weight of the base is NaN", rows="3; the original log's loss 0", planted="one NaN in the MLP of layer 1",
    caught="it is said that a weight, the loss or the gradient is not finite", keywords=(r"\bnan\b", r"not finite|non-?finite"),
    faulty=same(plain(), model="nan"), healthy=USUAL)

MISSING = Fault(
    id="missing_weights", title="weights are missing in the base", rows="19, 20; trl#4416", planted="two matrices of layer 1 are not in the file",
    caught="it is said that weights are missing or new", keywords=(r"missing", r"not in the checkpoint", r"newly initialized", r"unexpected"),
    faulty=same(plain(), model="missing"), healthy=USUAL)

CUT_OFF = Fault(
    id="cut_off", title="the weights' file is cut off", rows="20; peft#2450", planted="model.safetensors ends after half of its bytes",
    caught="it is said that the file is not whole", keywords=(r"safetensor", r"incomplete", r"not fully covered", r"truncat", r"corrupt", r"buffer"),
    faulty=same(plain(), model="cut_off"), healthy=USUAL)

FEW_ROWS = Fault(
    id="few_rows", title="the tokenizer has more ids than the embedding has rows", rows="22", planted="60 rows too few",
    caught="it is said that ids have no row", keywords=(r"embedding", r"vocab"),
    faulty=same(plain(), model="few_rows"), healthy=USUAL)

COPY = "import shutil\nshutil.rmtree('base', ignore_errors=True)\nshutil.copytree('{models}/{name}', 'base')\n"


def _merged(name: str) -> dict[str, Case]:
    """Trained on a copy of the base; then the copy is replaced by the model ``name``; then the adapter is merged."""
    copy, other = (Step(words=("python", "copy.py"), files={"copy.py": COPY.format(models=MODELS, name=n)}) for n in ("tiny", name))
    export = "model_name_or_path: base\nadapter_name_or_path: run\ntemplate: chatml\nexport_dir: merged\nexport_device: cpu\n"
    return {
        GOGPT: Case(planned=0, steps=(copy, Step(words=("train", "recipe.yaml"), files=gogpt_files(plain(), {"model": "base"})), other,
                                      Step(words=("merge", "run", "-o", "merged")))),
        LLAMAFACTORY: Case(planned=0, steps=(copy, Step(words=("train", "train.yaml"), files=lf_files(plain(), {"model_name_or_path": "base"})), other,
                                             Step(words=("export", "export.yaml"), files={"export.yaml": export}))),
    }


OTHER_BASE = Fault(
    id="other_base", title="an adapter is merged into another base", rows="21; unsloth-zoo PR#810, peft#2321",
    planted="trained on one model, then other weights of the same shapes lie in its place, then merged", caught="it is said that the base is another one",
    keywords=(r"base.*(differ|chang|other|not the)", r"not the base", r"fingerprint", r"other (weights|base)"), faulty=_merged("other"), healthy=_merged("tiny"),
    not_here={TRL: "its command line has no command that merges"})

MODEL_FAULTS = (TARGETS_NONE, TARGETS_HALF, NAN_WEIGHT, MISSING, CUT_OFF, FEW_ROWS, OTHER_BASE)
