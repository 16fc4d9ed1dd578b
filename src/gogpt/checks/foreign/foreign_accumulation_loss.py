"""CFG277: a transformers in which the loss depends on the accumulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="transformers {pin} with {key} {accumulation}: below 4.46 the loss of a step is a mean of means, and depends on how it is cut into micro-batches",
    zh="transformers {pin} 且 {key} 为 {accumulation}：4.46 之前一步的损失是均值的均值，取决于如何切成微批次",
)
FIX = Text(
    en="transformers>=4.46, or {key}: 1",
    zh="使用 transformers>=4.46，或设 {key}: 1",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.transformers_pin and (file.accumulation or 1) > 1:
        yield Finding(code="CFG277", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=file.transformers_place,
                      evidence={"pin": file.transformers_pin, "key": file.key("accumulation"), "accumulation": file.accumulation})


CHECK = Check(
    code="CFG277",
    name="foreign_accumulation_loss",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="the loss depends on gradient accumulation",
            zh="损失取决于梯度累积",
        ),
        what=Text(
            en="Whether a requirements file beside the configuration, or in one of the two folders above it, allows no transformers from 4.46 on, while gradients are accumulated.",
            zh="检查配置旁（或上两级目录中）的 requirements 文件是否只允许 4.46 之前的 transformers，而训练又使用梯度累积。",
        ),
        why=Text(
            en="Each micro-batch was divided by its own tokens, so that short answers weighed more than long ones and 8 x 1 was not 1 x 8 (huggingface/transformers PR#34191; modelscope/ms-swift#2363, where the maintainer's advice was to train again; axolotl-ai-cloud/axolotl#2262).",
            zh="每个微批次各自除以自己的 token 数，短答案的权重因此大于长答案，8 x 1 不等于 1 x 8（huggingface/transformers PR#34191；modelscope/ms-swift#2363，维护者建议重新训练；axolotl-ai-cloud/axolotl#2262）。",
        ),
        fix=Text(
            en="Raise the pin. GoGPT divides by the trained tokens of the whole optimizer step.",
            zh="提高版本下限。GoGPT 用整个优化器步的训练 token 数来除。",
        ),
        example="""error CFG277 requirements.txt:3: transformers ==4.41.2 with gradient_accumulation_steps 8: below 4.46 the loss of a step is a mean of means, and depends on how it is cut into micro-batches
  fix: transformers>=4.46, or gradient_accumulation_steps: 1

transformers>=4.46""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, transformers_pin="==4.41.2", transformers_place="requirements.txt:3")),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, transformers_pin="==4.41.2", accumulation=1)),
    ),
)
