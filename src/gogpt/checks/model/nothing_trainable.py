"""MOD505: the recipe trains no parameter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="none of the model's {num_parameters:,} parameters is trainable",
    zh="模型的 {num_parameters:,} 个参数中没有一个可训练",
)
FIX = Text(
    en="method: {{kind: lora, targets: all-linear}}, or {{kind: freeze, trainable_layers: 2}}, or {{kind: full}}",
    zh="设为 method: {{kind: lora, targets: all-linear}}、{{kind: freeze, trainable_layers: 2}} 或 {{kind: full}}",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan, model = facts.plan, facts.model
    assert model is not None
    if model.trainable_parameters != 0:  # -1: not known before loading
        return
    if plan is not None and plan.method in ("lora", "qlora") and 0 in model.targets.values():
        return  # the LoRA targets that name no module are the cause: MOD502
    evidence = {
        "num_parameters": model.num_parameters, "trainable_parameters": model.trainable_parameters,
        "num_layers": model.num_layers, "targets": dict(model.targets), "method": plan.method if plan else None,
    }
    yield Finding(code="MOD505", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, allowable=False)


CHECK = Check(
    code="MOD505",
    name="nothing_trainable",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("model",),
    run=run,
    page=Page(
        title=Text(en="no parameter is trainable", zh="没有可训练的参数"),
        what=Text(
            en="How many parameters train under the recipe's method, counted from the shapes in the checkpoint. LoRA targets that "
            "name no module are told by MOD502.",
            zh="按配方的方法，从检查点的张量形状统计可训练参数的数量。不对应任何模块的 LoRA 目标由 MOD502 报告。",
        ),
        why=Text(
            en="With method freeze and a model whose layers are named unusually, the selection can be empty. The run then takes "
            "its time, prints a loss, and saves the base model under a new name.",
            zh="使用 freeze 方法而模型的层命名特殊时，选中的参数可能为空。训练照样耗时、打印损失，最后只是把基座模型换个名字保存。",
        ),
        fix=Text(
            en="Use lora with targets: all-linear, or full. For freeze, see that the model's layers are named layers.N, h.N or blocks.N.",
            zh="使用 lora 和 targets: all-linear，或使用 full。使用 freeze 时，确认模型的层命名为 layers.N、h.N 或 blocks.N。",
        ),
        example="""error MOD505: none of the model's 134,515,008 parameters is trainable
  fix: method: {kind: lora, targets: all-linear}, or {kind: freeze, trainable_layers: 2}, or {kind: full}

method:
  kind: lora
  targets: all-linear""",
    ),
    fires=(
        Facts(plan=replace(PLAN, method="freeze"), model=replace(MODEL, trainable_parameters=0, targets={})),
        Facts(model=replace(MODEL, trainable_parameters=0, targets={})),
        Facts(plan=PLAN, model=replace(MODEL, trainable_parameters=0)),
    ),
    silent=(
        Facts(plan=PLAN, model=MODEL),
        Facts(plan=PLAN, model=replace(MODEL, trainable_parameters=-1)),
        Facts(plan=PLAN, model=replace(MODEL, trainable_parameters=0, targets={"c_attn": 0})),
    ),
)
