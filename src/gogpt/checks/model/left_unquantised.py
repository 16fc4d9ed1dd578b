"""MOD541: modules that qlora cannot hold in 4 bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NUM_NAMED = 4

SOME = Text(
    en="{left} of {all} linear modules stay unquantised, since their rows are no whole number of blocks of 64: {named}",
    zh="{all} 个线性模块中有 {left} 个保持不量化，因为其行长不是 64 的整数倍：{named}",
)
NONE = Text(
    en="method qlora would quantise nothing: of {all} linear modules none has rows of a whole number of blocks of 64",
    zh="qlora 方法不会量化任何模块：{all} 个线性模块的行长都不是 64 的整数倍",
)
FIX_SOME = Text(
    en="nothing, if the memory of the plan is enough; they train all the same",
    zh="若计划中的内存足够，无需处理；这些模块照常训练",
)
FIX_NONE = Text(en="method.kind: lora", zh="设 method.kind: lora")


def run(facts: Facts) -> Iterator[Finding]:
    plan, model = facts.plan, facts.model
    assert plan is not None
    assert model is not None
    if plan.method != "qlora" or model.quantised_already:
        return
    left = model.unquantised_modules
    evidence = {"left": len(left), "all": len(left) + model.quantised_modules, "modules": list(left),
                "named": ", ".join(left[:NUM_NAMED]) + (" ..." if len(left) > NUM_NAMED else "")}
    if model.quantised_modules == 0:
        yield Finding(code="MOD541", severity=Severity.ERROR, message=NONE, evidence=evidence, fix=FIX_NONE)
    elif left:
        yield Finding(code="MOD541", severity=Severity.WARNING, message=SOME, evidence=evidence, fix=FIX_SOME)


QLORA = replace(PLAN, method="qlora")
ODD = tuple(f"model.layers.{n}.mlp.down_proj (576 x 1500)" for n in range(30))

CHECK = Check(
    code="MOD541",
    name="left_unquantised",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("plan", "model"),
    run=run,
    page=Page(
        title=Text(en="modules that stay unquantised", zh="保持不量化的模块"),
        what=Text(
            en="For qlora: how many linear modules of the layers are held in 4 bits. A matrix whose rows are no multiple of 64 is left as "
            "it is: a warning; an error when none is left to quantise.",
            zh="对 qlora：检查各层线性模块中有多少以 4-bit 保存。行长不是 64 的倍数的矩阵保持原样并警告；若没有任何模块可量化则报错。",
        ),
        why=Text(
            en="Blocks of 64 weights share a scale, counted through the whole matrix. bitsandbytes 0.50.2 on a CPU with AVX-512 counts "
            "them by rows: a matrix of 32 columns then gets other weights than were quantised (measured: off by up to 2.3, where 4 bits "
            "cost at most 0.6), the loss starts where it may, and nothing is said. Such a matrix is never given to it, on any device, so that "
            "a run means the same everywhere. Known trouble of the same kind: bitsandbytes-foundation/bitsandbytes PR#1884, PR#1828.",
            zh="每 64 个权重共用一个缩放系数，在整个矩阵上连续计数。bitsandbytes 0.50.2 在支持 AVX-512 的 CPU 上却按行计数：列数为 32 的矩阵会得到"
            "与量化时不同的权重（实测最多偏差 2.3，而 4-bit 本身最多损失 0.6），训练照常开始，没有任何提示。因此这类矩阵在任何设备上都不量化，"
            "使同一配方在各处含义一致。同类问题：bitsandbytes-foundation/bitsandbytes PR#1884、PR#1828。",
        ),
        fix=Text(
            en="Nothing where memory suffices: gogpt plan counts them in full. Otherwise take a model whose widths are multiples of 64.",
            zh="内存足够则无需处理：gogpt plan 已按原样计入。否则换用宽度为 64 倍数的模型。",
        ),
        example="""warning MOD541: 30 of 210 linear modules stay unquantised, since their rows are no whole number of blocks of 64: model.layers.0.mlp.down_proj (576 x 1500), model.layers.1.mlp.down_proj (576 x 1500), model.layers.2.mlp.down_proj (576 x 1500), model.layers.3.mlp.down_proj (576 x 1500) ...
  fix: nothing, if the memory of the plan is enough; they train all the same

method: {kind: qlora}""",
    ),
    fires=(Facts(plan=QLORA, model=replace(MODEL, quantised_modules=180, unquantised_modules=ODD)),
           Facts(plan=QLORA, model=replace(MODEL, quantised_modules=0, unquantised_modules=ODD))),
    silent=(Facts(plan=QLORA, model=replace(MODEL, quantised_modules=210)), Facts(plan=PLAN, model=MODEL),
            Facts(plan=QLORA, model=replace(MODEL, quantised_already="gptq"))),
)
