"""MOD503: packed documents would see each other in this architecture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="data.packing is on, but packed documents would not stay apart in this model: {reason}",
    zh="data.packing 已开启，但该模型无法隔离打包在一起的文档：{reason}",
)
FIX = Text(en="data.packing: false", zh="设为 data.packing: false")


def run(facts: Facts) -> Iterator[Finding]:
    plan, model = facts.plan, facts.model
    assert plan is not None
    assert model is not None
    if plan.packing and model.packing_unsafe is not None:
        evidence = {"packing": plan.packing, "model_type": model.model_type, "reason": model.packing_unsafe,
                    "max_length": plan.max_length}
        yield Finding(code="MOD503", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX)


REASON = "mamba has no attention heads in its configuration"
STATEFUL = replace(MODEL, model_type="mamba", packing_unsafe=REASON)

CHECK = Check(
    code="MOD503",
    name="packing_unsafe",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("plan", "model"),
    run=run,
    page=Page(
        title=Text(en="packing leaks between documents in this model", zh="在该模型中打包会使文档互相泄漏"),
        what=Text(
            en="Whether the architecture keeps the documents packed into a row apart under a block-diagonal attention mask with "
            "restarting positions. Layers that carry state (Mamba, linear attention), ALiBi positions, and windows shorter "
            "than a row do not.",
            zh="检查在块对角注意力掩码和重新起算的位置编号下，该架构能否隔离打包在一行中的文档。带状态的层（Mamba、线性注意力）、"
            "ALiBi 位置编码、比行更短的滑动窗口都做不到。",
        ),
        why=Text(
            en="A document then reads the one before it, and the model learns to use text that inference will not show. Peers "
            "only warn or say nothing (axolotl-ai-cloud/axolotl PR#3796, huggingface/transformers PR#46634, "
            "OpenRLHF/OpenRLHF#587); the loss looks better for it.",
            zh="此时后一篇文档能看到前一篇，模型学会依赖推理时不存在的文本。其他工具只给警告或完全不提示"
            "（axolotl-ai-cloud/axolotl PR#3796、huggingface/transformers PR#46634、OpenRLHF/OpenRLHF#587），而损失反而更好看。",
        ),
        fix=Text(
            en="Switch packing off. Padding the micro-batches costs some speed, but every document is trained by itself.",
            zh="关闭打包。微批填充会损失一些速度，但每篇文档都单独训练。",
        ),
        example="""error MOD503: data.packing is on, but packed documents would not stay apart in this model: mamba has no attention heads in its configuration
  fix: data.packing: false

data:
  packing: false""",
    ),
    fires=(Facts(plan=PLAN, model=STATEFUL),),
    silent=(Facts(plan=PLAN, model=MODEL), Facts(plan=replace(PLAN, packing=False), model=STATEFUL)),
)
