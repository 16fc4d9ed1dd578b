"""The checks: facts -> findings. One file per check; this tuple is the only list of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from gogpt.checks.config.batch_not_divisible import CHECK as CFG212
from gogpt.checks.config.evaluation_missing import CHECK as CFG214
from gogpt.checks.config.file_against_recipe import CHECK as CFG255
from gogpt.checks.config.learning_rate_never_moves import CHECK as CFG213
from gogpt.checks.config.learning_rate_out_of_range import CHECK as CFG211
from gogpt.checks.config.warmup_too_long import CHECK as CFG210
from gogpt.checks.data.answers_in_prompts import CHECK as DAT315
from gogpt.checks.data.cleaning_reported import CHECK as DAT312
from gogpt.checks.data.one_answer import CHECK as DAT314
from gogpt.checks.data.rows_dropped import CHECK as DAT311
from gogpt.checks.data.train_eval_overlap import CHECK as DAT310
from gogpt.checks.engine.auto_unfilled import CHECK as CFG269
from gogpt.checks.engine.batch_sizes_differ import CHECK as CFG266
from gogpt.checks.engine.clipping_differs import CHECK as CFG273
from gogpt.checks.engine.loss_scale_stuck import CHECK as CFG268
from gogpt.checks.engine.offload_incompatible import CHECK as CFG272
from gogpt.checks.engine.own_optimizer import CHECK as CFG261
from gogpt.checks.engine.own_scheduler import CHECK as CFG260
from gogpt.checks.engine.scheduler_incomplete import CHECK as CFG264
from gogpt.checks.engine.two_precisions import CHECK as CFG267
from gogpt.checks.engine.unknown_keys import CHECK as CFG271
from gogpt.checks.engine.warmup_logarithmic import CHECK as CFG265
from gogpt.checks.engine.warmup_peak_missing import CHECK as CFG262
from gogpt.checks.engine.warmup_steps_missing import CHECK as CFG263
from gogpt.checks.engine.zero3_not_gathered import CHECK as CFG270
from gogpt.checks.env.bitsandbytes_unfit import CHECK as ENV132
from gogpt.checks.env.build_tools_missing import CHECK as ENV122
from gogpt.checks.env.cuda_paths_disagree import CHECK as ENV120
from gogpt.checks.env.disk_or_memory_short import CHECK as ENV125
from gogpt.checks.env.flash_attn_unfit import CHECK as ENV123
from gogpt.checks.env.hub_cache_unfit import CHECK as ENV126
from gogpt.checks.env.lfs_pointers import CHECK as ENV127
from gogpt.checks.env.library_twice import CHECK as ENV129
from gogpt.checks.env.nccl_unfit import CHECK as ENV124
from gogpt.checks.env.openssl_legacy import CHECK as ENV128
from gogpt.checks.env.precision_unsupported import CHECK as ENV101
from gogpt.checks.env.torch_cuda_mismatch import CHECK as ENV121
from gogpt.checks.export.adapter_empty import CHECK as EXP720
from gogpt.checks.export.adapter_not_of_base import CHECK as EXP722
from gogpt.checks.export.adapter_other_base import CHECK as EXP723
from gogpt.checks.export.adapter_unlike_configuration import CHECK as EXP724
from gogpt.checks.export.adapter_untrained import CHECK as EXP721
from gogpt.checks.export.added_rows_untrained import CHECK as EXP735
from gogpt.checks.export.asked_unlike_trained import CHECK as EXP714
from gogpt.checks.export.chat_template_missing import CHECK as EXP725
from gogpt.checks.export.head_unlike_configuration import CHECK as EXP734
from gogpt.checks.export.merge_differs import CHECK as EXP701
from gogpt.checks.export.merge_is_base import CHECK as EXP702
from gogpt.checks.export.merged_into_other_base import CHECK as EXP740
from gogpt.checks.export.prompt_not_prefix import CHECK as EXP712
from gogpt.checks.export.served_double_bos import CHECK as EXP713
from gogpt.checks.export.special_ids_differ import CHECK as EXP733
from gogpt.checks.export.stop_not_served import CHECK as EXP711
from gogpt.checks.export.vocabulary_beyond_rows import CHECK as EXP732
from gogpt.checks.export.weights_dead import CHECK as EXP731
from gogpt.checks.export.weights_missing import CHECK as EXP730
from gogpt.checks.foreign.foreign_accumulation_loss import CHECK as CFG277
from gogpt.checks.foreign.foreign_eval_is_train import CHECK as CFG228
from gogpt.checks.foreign.foreign_fp16_base import CHECK as CFG226
from gogpt.checks.foreign.foreign_key_unknown import CHECK as CFG220
from gogpt.checks.foreign.foreign_merge_quantised import CHECK as CFG275
from gogpt.checks.foreign.foreign_name_undefined import CHECK as CFG229
from gogpt.checks.foreign.foreign_new_tokens_untrained import CHECK as CFG227
from gogpt.checks.foreign.foreign_nothing_trained import CHECK as CFG224
from gogpt.checks.foreign.foreign_packing_leaks import CHECK as CFG221
from gogpt.checks.foreign.foreign_resume_without_optimizer import CHECK as CFG274
from gogpt.checks.foreign.foreign_rows_cut import CHECK as CFG225
from gogpt.checks.foreign.foreign_stop_untrained import CHECK as CFG223
from gogpt.checks.foreign.foreign_template_unfit import CHECK as CFG222
from gogpt.checks.foreign.foreign_timeout_short import CHECK as CFG276
from gogpt.checks.history.checkpoint_incomplete import CHECK as RUN663
from gogpt.checks.history.epochs_differ import CHECK as RUN662
from gogpt.checks.history.evaluation_rises import CHECK as RUN660
from gogpt.checks.history.gradient_zero import CHECK as RUN668
from gogpt.checks.history.loss_diverged import CHECK as RUN670
from gogpt.checks.history.loss_flat import CHECK as RUN667
from gogpt.checks.history.loss_near_zero import CHECK as RUN661
from gogpt.checks.history.loss_too_large import CHECK as RUN669
from gogpt.checks.history.shards_incomplete import CHECK as RUN664
from gogpt.checks.history.skipped_share import CHECK as RUN666
from gogpt.checks.history.weights_empty import CHECK as RUN665
from gogpt.checks.model.embedding_too_small import CHECK as MOD501
from gogpt.checks.model.left_unquantised import CHECK as MOD541
from gogpt.checks.model.longer_than_context import CHECK as MOD504
from gogpt.checks.model.lora_targets_missing import CHECK as MOD502
from gogpt.checks.model.new_rows_untrained import CHECK as MOD507
from gogpt.checks.model.nothing_trainable import CHECK as MOD505
from gogpt.checks.model.packing_unsafe import CHECK as MOD503
from gogpt.checks.model.quantised_already import CHECK as MOD540
from gogpt.checks.pages import PAGES
from gogpt.checks.proof.accumulation_differs import CHECK as MOD521
from gogpt.checks.proof.generation_runs_on import CHECK as MOD526
from gogpt.checks.proof.gradient_missing import CHECK as MOD523
from gogpt.checks.proof.initial_loss_implausible import CHECK as MOD525
from gogpt.checks.proof.packing_leaks import CHECK as MOD522
from gogpt.checks.proof.trained_runs_on import CHECK as MOD527
from gogpt.checks.proof.update_without_effect import CHECK as MOD524
from gogpt.checks.run.diverged import CHECK as RUN650
from gogpt.checks.run.gradient_explodes import CHECK as RUN652
from gogpt.checks.run.gradient_vanishes import CHECK as RUN653
from gogpt.checks.run.loss_exactly_zero import CHECK as RUN603
from gogpt.checks.run.loss_spike import CHECK as RUN659
from gogpt.checks.run.loss_too_small import CHECK as RUN657
from gogpt.checks.run.lr_left_plan import CHECK as RUN602
from gogpt.checks.run.memory_creeps import CHECK as RUN656
from gogpt.checks.run.no_improvement import CHECK as RUN651
from gogpt.checks.run.non_finite import CHECK as RUN601
from gogpt.checks.run.one_label import CHECK as RUN658
from gogpt.checks.run.processes_apart import CHECK as RUN631
from gogpt.checks.run.steps_skipped import CHECK as RUN654
from gogpt.checks.run.throughput_collapses import CHECK as RUN655
from gogpt.checks.run.weights_still import CHECK as RUN604
from gogpt.checks.tokens.double_bos import CHECK as TOK402
from gogpt.checks.tokens.no_trained_token import CHECK as TOK403
from gogpt.checks.tokens.padding_masks_stop import CHECK as TOK404
from gogpt.checks.tokens.special_token_in_text import CHECK as TOK406
from gogpt.checks.tokens.stop_never_trained import CHECK as TOK401
from gogpt.checks.tokens.stop_not_a_token import CHECK as TOK407
from gogpt.checks.tokens.targets_cut import CHECK as TOK405
from gogpt.checks.tokens.tokenizer_differs import CHECK as TOK411
from gogpt.errors import GogptError
from gogpt.findings import Check, Page, Stage

__all__ = [
    "ADAPTER", "CHECKS", "DEEPSPEED", "DOCTOR", "ENGINE_FILE", "FOREIGN", "HISTORY", "MODEL", "PAGES", "PREFLIGHT", "PROOFS", "check_named", "codes",
    "page_of", "run_check_named",
]

DEEPSPEED: tuple[Check, ...] = (
    CFG260, CFG261, CFG262, CFG263, CFG264, CFG265, CFG266,
    CFG267, CFG268, CFG269, CFG270, CFG271, CFG272, CFG273,
)
"""The checks of a DeepSpeed file by itself."""

ENGINE_FILE: tuple[Check, ...] = (CFG255, *DEEPSPEED)
"""The checks of a recipe that names a DeepSpeed file (parallel.config), beside those of the preflight."""

PROOFS: tuple[Check, ...] = (MOD521, MOD522, MOD523, MOD524, MOD525, MOD526, MOD527)
"""The checks of what was proven on the model and the data before the first step, and of the trained model's stop after the last."""

FOREIGN: tuple[Check, ...] = (
    CFG220, CFG221, CFG222, CFG223, CFG224, CFG225, CFG226, CFG227, CFG228, CFG229,
    CFG274, CFG275, CFG276, CFG277,
)
"""The checks of another tool's configuration; they judge no recipe."""

ADAPTER: tuple[Check, ...] = (EXP720, EXP721, EXP722, EXP723, EXP724)
"""The checks of an adapter folder."""

MODEL: tuple[Check, ...] = (EXP711, EXP712, EXP713, EXP725, EXP730, EXP731, EXP732, EXP733, EXP734, EXP735)
"""The checks of a model folder."""

CHECKS: tuple[Check, ...] = (
    ENV101,
    ENV120, ENV121, ENV122, ENV123, ENV124, ENV125, ENV126, ENV127, ENV128, ENV129, ENV132,
    CFG210, CFG211, CFG212, CFG213, CFG214,
    *FOREIGN[:10],
    *ENGINE_FILE,
    *FOREIGN[10:],
    DAT310, DAT311, DAT312, DAT314, DAT315,
    TOK401, TOK402, TOK403, TOK404, TOK405, TOK406, TOK407, TOK411,
    MOD501, MOD502, MOD503, MOD504, MOD505, MOD507,
    *PROOFS,
    MOD540, MOD541,
    RUN601, RUN602, RUN603, RUN604, RUN631,
    RUN650, RUN651, RUN652, RUN653, RUN654, RUN655, RUN656, RUN657, RUN658, RUN659,
    RUN660, RUN661, RUN662, RUN663, RUN664, RUN665, RUN666, RUN667, RUN668, RUN669, RUN670,
    EXP701, EXP702, EXP711, EXP712, EXP713, EXP714,
    *ADAPTER,
    EXP725, EXP730, EXP731, EXP732, EXP733, EXP734, EXP735, EXP740,
)
"""In the order of a run: the stages, and within a stage by code."""

DOCTOR: tuple[Check, ...] = (ENV120, ENV121, ENV122, ENV123, ENV124, ENV125, ENV126, ENV127, ENV128, ENV129, ENV132)
"""The checks that look at the machine for ``gogpt doctor``; none of them is part of a preflight."""

HISTORY: tuple[Check, ...] = (RUN601, RUN602, RUN603, *(c for c in CHECKS if c.stage is Stage.HISTORY))
"""The checks of what a run left behind, whoever trained it."""

PREFLIGHT: tuple[Check, ...] = tuple(
    c for c in CHECKS if c not in (*DOCTOR, *ENGINE_FILE) and c.stage in (Stage.ENV, Stage.CONFIG, Stage.DATA, Stage.TOKENS, Stage.MODEL)
)
"""The checks that judge a run before its first step."""


def codes() -> tuple[str, ...]:
    """Every code that has a page, by number."""
    return tuple(sorted([*(c.code for c in CHECKS), *PAGES], key=lambda code: code[3:]))


def check_named(code: str) -> Check:
    """The check of a code. Raises GogptError CFG205."""
    for check in CHECKS:
        if check.code == code:
            return check
    raise _unknown(code, [c.code for c in CHECKS])


def run_check_named(code: str) -> Check:
    """The check of stage run of a code, as ``checks.policy`` names it. Raises GogptError CFG205."""
    run = [c for c in CHECKS if c.stage is Stage.RUN]
    for check in run:
        if check.code == code:
            return check
    error = _unknown(code, [c.code for c in run])
    if code in codes():
        error.got = "a code that is judged before training, or no check"
    raise error


def page_of(code: str) -> Page:
    """The page of a check's or an error's code. Raises GogptError CFG205."""
    for check in CHECKS:
        if check.code == code:
            return check.page
    if code in PAGES:
        return PAGES[code]
    raise _unknown(code, codes())


def _unknown(code: str, known: Sequence[str]) -> GogptError:
    is_error = code in PAGES
    near = _near(code, known)
    told = [f"{c} ({name})" if (name := _NAMES.get(c)) else c for c in near]
    return GogptError(
        "CFG205", f"there is no {'check' if is_error else 'code'} {code!r}",
        got="the code of an error, which is no check" if is_error else None,
        fix=f"did you mean {' or '.join(told)}?" if told else "codes look like TOK403; docs/checks lists them all",
    )


_NAMES = {c.code: c.name for c in CHECKS}


def _near(code: str, known: Sequence[str]) -> list[str]:
    """Up to three codes that may have been meant: swapped characters, a near code, or the check's name."""
    by_name = {name: c for c, name in _NAMES.items()}
    swapped = [c for c in known if sorted(c) == sorted(code.upper())]
    named = difflib.get_close_matches(code.lower(), list(by_name), n=1, cutoff=0.7)
    close = difflib.get_close_matches(code.upper(), known, n=3)
    return list(dict.fromkeys([*swapped, *(by_name[n] for n in named), *close]))[:3]
