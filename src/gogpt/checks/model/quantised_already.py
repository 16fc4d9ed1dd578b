"""MOD540: the base is quantised already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the base is quantised already ({quantised_already}, by its config.json), and method {method} wants plain weights",
    zh="基座已被量化（config.json：{quantised_already}），而 {method} 方法需要未量化的权重",
)
FIX = Text(
    en="name the checkpoint that it was made from; method.kind: qlora quantises that one itself",
    zh="改用它所源自的未量化模型；method.kind: qlora 会自行量化",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan, model = facts.plan, facts.model
    assert plan is not None
    assert model is not None
    if model.quantised_already:
        evidence = {"quantised_already": model.quantised_already, "method": plan.method, "path": model.path}
        yield Finding(code="MOD540", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, allowable=False)


CHECK = Check(
    code="MOD540",
    name="quantised_already",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("plan", "model"),
    run=run,
    page=Page(
        title=Text(en="the base is quantised already", zh="基座已被量化"),
        what=Text(
            en="Whether config.json of the base has a quantization_config: GPTQ, AWQ, bitsandbytes, FP8 or another.",
            zh="检查基座的 config.json 是否含有 quantization_config：GPTQ、AWQ、bitsandbytes、FP8 等。",
        ),
        why=Text(
            en="Whole numbers cannot be trained, a merge into them rounds the adapter away, and what was lost when they were made is lost to "
            "the fine-tune. Parameters and memory cannot be told from packed shapes either. The message of the libraries comes after "
            "loading, and names none of it.",
            zh="整数权重无法训练，合并时适配器会被舍入掉，量化时丢失的精度对微调也已丢失；打包后的形状也无法说明参数量和内存。各库的报错在加载之后才出现，且不说明原因。",
        ),
        fix=Text(
            en="Take the unquantised checkpoint (its card names it), with method qlora where memory is short.",
            zh="使用未量化的模型（模型卡会注明来源）；内存不足时用 qlora 方法。",
        ),
        example="""error MOD540: the base is quantised already (gptq, by its config.json), and method lora wants plain weights
  fix: name the checkpoint that it was made from; method.kind: qlora quantises that one itself

model: models/base
method: qlora""",
    ),
    fires=(Facts(plan=PLAN, model=replace(MODEL, quantised_already="gptq")),
           Facts(plan=replace(PLAN, method="full"), model=replace(MODEL, quantised_already="bitsandbytes"))),
    silent=(Facts(plan=PLAN, model=MODEL), Facts(plan=replace(PLAN, method="qlora"), model=replace(MODEL, quantised_modules=210))),
)
