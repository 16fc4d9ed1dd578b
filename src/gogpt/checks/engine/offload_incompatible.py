"""CFG272: offload that the rest of the file does not allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

ON_CPU = ("adam", "adamw", "adagrad", "lion")

STAGE = Text(
    en="offload_optimizer needs ZeRO stage 1, 2 or 3, and the file has stage {stage}: nothing is offloaded",
    zh="offload_optimizer 需要 ZeRO 第 1、2 或 3 阶段，而文件是第 {stage} 阶段：什么也不会卸载",
)
PARAM = Text(
    en="offload_param needs ZeRO stage 3, and the file has stage {stage}: no parameter is offloaded",
    zh="offload_param 需要 ZeRO 第 3 阶段，而文件是第 {stage} 阶段：参数不会卸载",
)
OPTIMIZER = Text(
    en="offload_optimizer to {device} with the optimizer {optimizer}: it is refused or steps slowly, since DeepSpeed has Adam, Adagrad and Lion alone on the CPU",
    zh="offload_optimizer 卸载到 {device}，但优化器为 {optimizer}：会被拒绝或每步很慢，因为 DeepSpeed 在 CPU 上只有 Adam、Adagrad 和 Lion",
)
FIX = Text(
    en="gogpt check {path} --fix OUT takes out what does not fit",
    zh="gogpt check {path} --fix OUT 会去掉不匹配的部分",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    optimizer = f"{file.optimizer} (torch_adam)" if file.torch_adam else file.optimizer
    if file.offload_optimizer and file.zero_stage == 0:
        message, key = STAGE, "offload_optimizer"
    elif file.offload_param and file.zero_stage != 3:
        message, key = PARAM, "offload_param"
    elif file.offload_optimizer and file.optimizer and (file.torch_adam or file.optimizer.lower() not in ON_CPU):
        message, key = OPTIMIZER, "offload_optimizer"
    else:
        return
    yield Finding(
        code="CFG272", severity=Severity.ERROR, message=message, fix=FIX, where=file.at(f"zero_optimization.{key}"),
        evidence={"path": file.path, "stage": file.zero_stage, "optimizer": optimizer, "device": file.offload_optimizer},
    )


CHECK = Check(
    code="CFG272",
    name="offload_incompatible",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="offload that does not fit the rest of the file", zh="卸载设置与文件其余部分不符"),
        what=Text(
            en="Whether offload_optimizer stands with ZeRO stage 1 to 3 and an optimizer that DeepSpeed has on the CPU, and offload_param with stage 3.",
            zh="检查 offload_optimizer 是否与 ZeRO 第 1 至 3 阶段以及 DeepSpeed 在 CPU 上具备的优化器一起使用，offload_param 是否与第 3 阶段一起使用。",
        ),
        why=Text(
            en="Below these stages the setting does nothing, in silence. An optimizer that ZeRO does not know is refused when the engine starts; torch's own (torch_adam) steps slowly on the CPU.",
            zh="低于这些阶段时，该设置悄悄地不起作用。ZeRO 不认识的优化器会在引擎启动时被拒绝；torch 自带的（torch_adam）在 CPU 上每步都很慢。",
        ),
        fix=Text(
            en="Leave the optimizer to the Trainer (accelerate then puts DeepSpeed's CPU Adam in its place), and raise the stage or take the offload out.",
            zh="把优化器交给 Trainer（accelerate 会换上 DeepSpeed 的 CPU Adam），并提高阶段或去掉卸载。",
        ),
        example="""error CFG272 ds.json: offload_optimizer needs ZeRO stage 1, 2 or 3, and the file has stage 0: nothing is offloaded
  fix: gogpt check ds.json --fix OUT takes out what does not fit

{"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, zero_stage=0, offload_optimizer="cpu")),
        Facts(engine=replace(ENGINE, offload_param="cpu")),
        Facts(engine=replace(ENGINE, offload_optimizer="cpu", optimizer="Lamb")),
        Facts(engine=replace(ENGINE, offload_optimizer="cpu", optimizer="AdamW", torch_adam=True)),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, offload_optimizer="cpu")),
        Facts(engine=replace(ENGINE, offload_optimizer="cpu", optimizer="AdamW")),
        Facts(engine=replace(ENGINE, zero_stage=3, gather_on_save=True, offload_param="nvme")),
    ),
)
