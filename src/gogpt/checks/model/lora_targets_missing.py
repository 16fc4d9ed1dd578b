"""MOD502: a LoRA target names no module of the model."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="method.targets {missing}: no linear module of this {model_type} model has that name (all targets together match {matched} modules)",
    zh="method.targets 中的 {missing} 在该 {model_type} 模型中没有对应的线性模块（全部目标共匹配 {matched} 个模块）",
)
NEAR = Text(
    en="did you mean {near}? linear modules here: {modules}; or method.targets: all-linear",
    zh="是否指 {near}？该模型的线性模块：{modules}；或设 method.targets: all-linear",
)
FAR = Text(
    en="name some of {modules}, or method.targets: all-linear",
    zh="从 {modules} 中选择，或设 method.targets: all-linear",
)

NO_TARGETS = Text(
    en="method.targets is empty: LoRA adapts no module",
    zh="method.targets 为空：LoRA 不适配任何模块",
)
UNSAVED = Text(
    en="method.modules_to_save {missing}: no module of this {model_type} model has that name",
    zh="method.modules_to_save 中的 {missing} 在该 {model_type} 模型中没有对应的模块",
)

NO_LINEAR = Text(
    en="no linear module was found in the layers of this model; choose method.kind: full",
    zh="在该模型的层中没有找到线性模块；请设 method.kind: full",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan, model = facts.plan, facts.model
    assert plan is not None
    assert model is not None
    if plan.method not in ("lora", "qlora"):
        return
    if not model.targets and model.linear_modules and model.trainable_parameters > 0:
        yield Finding(code="MOD502", severity=Severity.ERROR, message=NO_TARGETS, evidence={"modules": ", ".join(model.linear_modules)},
                      fix=FAR, allowable=False)
    unsaved = [name for name, count in model.saved_modules.items() if count == 0]
    if unsaved:
        near = [n for name in unsaved for n in difflib.get_close_matches(name, model.modules, n=1)]
        seen: dict[str, object] = {"missing": ", ".join(unsaved), "saved_modules": dict(model.saved_modules), "near": ", ".join(dict.fromkeys(near)),
                    "modules": ", ".join(model.modules), "model_type": model.model_type}
        yield Finding(code="MOD502", severity=Severity.ERROR, message=UNSAVED, evidence=seen, fix=NEAR if near else FAR)
    missing = [target for target, count in model.targets.items() if count == 0]
    if not missing:
        return
    near = [n for target in missing for n in difflib.get_close_matches(target, model.linear_modules, n=1)]
    evidence = {
        "missing": ", ".join(missing), "targets": dict(model.targets), "matched": sum(model.targets.values()),
        "model_type": model.model_type, "linear_modules": list(model.linear_modules),
        "modules": ", ".join(model.linear_modules), "near": ", ".join(dict.fromkeys(near)),
    }
    fix = NEAR if near else FAR if model.linear_modules else NO_LINEAR
    yield Finding(code="MOD502", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=fix)


CHECK = Check(
    code="MOD502",
    name="lora_targets_missing",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("plan", "model"),
    run=run,
    page=Page(
        title=Text(en="LoRA targets name no module", zh="LoRA 目标不对应任何模块"),
        what=Text(
            en="For lora and qlora: whether each entry of method.targets names at least one linear module of the model, and each of "
            "method.modules_to_save a module.",
            zh="对 lora 和 qlora：检查 method.targets 的每一项是否至少对应模型的一个线性模块，method.modules_to_save 的每一项是否对应一个模块。",
        ),
        why=Text(
            en="Module names differ between architectures (q_proj, query_key_value, c_attn). PEFT refuses when no target "
            "matches, but a list with one right and one misspelt name trains the right one alone and says nothing, in TRL "
            "1.16 and LLaMA-Factory 0.9.5 alike: the adapter is smaller than the recipe says.",
            zh="不同架构的模块名不同（q_proj、query_key_value、c_attn）。全部不匹配时 PEFT 会拒绝，但若一个写对、一个拼错，"
            "TRL 1.16 和 LLaMA-Factory 0.9.5 都只训练写对的那个而不作提示：适配器比配方所写的小。",
        ),
        fix=Text(
            en="Use the names that the finding lists, or method.targets: all-linear, which fits every architecture.",
            zh="使用报告列出的名称，或用适合所有架构的 method.targets: all-linear。",
        ),
        example="""error MOD502: method.targets v_porj: no linear module of this llama model has that name (all targets together match 30 modules)
  fix: did you mean v_proj? linear modules here: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; or method.targets: all-linear

method:
  kind: lora
  targets: all-linear""",
    ),
    fires=(
        Facts(plan=PLAN, model=replace(MODEL, targets={"q_proj": 30, "v_porj": 0})),
        Facts(plan=replace(PLAN, method="qlora"), model=replace(MODEL, targets={"query_key_value": 0}, trainable_parameters=0)),
        Facts(plan=PLAN, model=replace(MODEL, targets={"all-linear": 0}, linear_modules=(), trainable_parameters=0)),
    ),
    silent=(
        Facts(plan=PLAN, model=MODEL),
        Facts(plan=PLAN, model=replace(MODEL, targets={"all-linear": 210})),
        Facts(plan=replace(PLAN, method="full"), model=replace(MODEL, targets={})),
        Facts(plan=replace(PLAN, method="full"), model=replace(MODEL, targets={"c_attn": 0})),
    ),
)
