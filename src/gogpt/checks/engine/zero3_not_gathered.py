"""CFG270: ZeRO-3 that saves no whole weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="ZeRO stage {stage} without stage3_gather_16bit_weights_on_model_save: each process holds a part of every weight, and the saved model is empty or missing",
    zh="ZeRO 第 {stage} 阶段没有 stage3_gather_16bit_weights_on_model_save：每个进程只有各权重的一部分，保存的模型为空或缺失",
)
FIX = Text(
    en="write \"stage3_gather_16bit_weights_on_model_save\": true (gogpt check {path} --fix OUT)",
    zh="写上 \"stage3_gather_16bit_weights_on_model_save\": true（gogpt check {path} --fix OUT）",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if file.zero_stage != 3 or file.gather_on_save:
        return
    yield Finding(code="CFG270", severity=Severity.ERROR, message=MESSAGE, fix=FIX,
                  where=file.at("zero_optimization.stage3_gather_16bit_weights_on_model_save", "zero_optimization.stage", "zero_optimization"),
                  evidence={"path": file.path, "stage": file.zero_stage})


CHECK = Check(
    code="CFG270",
    name="zero3_not_gathered",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="ZeRO-3 does not gather the weights that it saves", zh="ZeRO-3 保存时没有收集权重"),
        what=Text(
            en="Whether a file of ZeRO stage 3 gathers the weights when a model is saved.",
            zh="检查 ZeRO 第 3 阶段的文件在保存模型时是否收集权重。",
        ),
        why=Text(
            en="The weights are spread over the processes. Saved without being gathered, they are files of empty tensors or none at all (huggingface/trl#4416, huggingface/peft#2450, deepspeedai/DeepSpeed#7900).",
            zh="权重分散在各个进程上。不收集就保存，得到的是空张量的文件，或根本没有文件（huggingface/trl#4416、huggingface/peft#2450、deepspeedai/DeepSpeed#7900）。",
        ),
        fix=Text(
            en="Set stage3_gather_16bit_weights_on_model_save to true. The gathered model needs its size in memory on one process while it is saved.",
            zh="把 stage3_gather_16bit_weights_on_model_save 设为 true。保存时，一个进程上需要能放下整个模型的内存。",
        ),
        example="""error CFG270 ds.json:6: ZeRO stage 3 without stage3_gather_16bit_weights_on_model_save: each process holds a part of every weight, and the saved model is empty or missing
  fix: write "stage3_gather_16bit_weights_on_model_save": true (gogpt check ds.json --fix OUT)

{"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, zero_stage=3)),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, zero_stage=3, gather_on_save=True)),
    ),
)
