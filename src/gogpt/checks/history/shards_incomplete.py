"""RUN664: ZeRO shards that are not all there, or that nobody put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

GONE = Text(
    en="shards of {missing} of {ranks} ranks are missing: weights and optimizer cannot be put together",
    zh="{ranks} 个 rank 中缺少 {missing} 的分片：无法拼出权重和优化器状态",
)
NO_TAG = Text(
    en="the file latest names {latest}, which is not there: nothing can be resumed from this folder",
    zh="文件 latest 指向的 {latest} 不存在：无法从该目录续训",
)
SHARDED = Text(
    en="the weights are only in {ranks} ZeRO-3 shards: no tool that serves or merges models reads them",
    zh="权重只存在于 {ranks} 个 ZeRO-3 分片中：任何部署或合并模型的工具都读不了",
)
FIX_GONE = Text(
    en="copy the shards of all ranks into one folder (each node writes its own), or take an earlier checkpoint",
    zh="把所有 rank 的分片复制到同一目录（每个节点各写一部分），或改用更早的检查点",
)
FIX = Text(
    en="put them together: python zero_to_fp32.py . OUT (DeepSpeed writes the script beside them); save with stage3_gather_16bit_weights_on_model_save: true",
    zh="拼合权重：python zero_to_fp32.py . OUT（DeepSpeed 会把该脚本写在旁边）；保存时设 stage3_gather_16bit_weights_on_model_save: true",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    evidence = {"ranks": seen.shard_ranks, "zero_stage": seen.zero_stage, "missing": ", ".join(map(str, seen.missing_ranks)), "latest": seen.latest_missing,
                "consolidated": seen.consolidated}
    if seen.latest_missing is not None:
        yield Finding(code="RUN664", severity=Severity.ERROR, message=NO_TAG, evidence=evidence, fix=FIX_GONE, where=seen.checkpoint)
    elif seen.missing_ranks:
        total = {**evidence, "ranks": seen.shard_ranks + len(seen.missing_ranks)}
        yield Finding(code="RUN664", severity=Severity.ERROR, message=GONE, evidence=total, fix=FIX_GONE, where=seen.checkpoint)
    elif seen.shard_ranks and not seen.consolidated:
        yield Finding(code="RUN664", severity=Severity.WARNING, message=SHARDED, evidence=evidence, fix=FIX, where=seen.checkpoint)


SHARDS = replace(PAST, tool="DeepSpeed", checkpoint="out/checkpoint-300", shard_ranks=8, zero_stage=3, consolidated=False)

CHECK = Check(
    code="RUN664",
    name="shards_incomplete",
    stage=Stage.HISTORY,
    severity=Severity.ERROR,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="ZeRO shards without whole weights", zh="只有 ZeRO 分片而没有完整权重"),
        what=Text(
            en="Of a DeepSpeed checkpoint: whether the shards of all ranks from 0 on are there, whether the folder that the file latest names exists, and "
            "whether ZeRO-3 weights lie there whole as well. By names alone; nothing is loaded.",
            zh="对 DeepSpeed 检查点：从 0 起各 rank 的分片是否齐全，latest 指向的目录是否存在，ZeRO-3 的权重是否另有完整的一份。只看文件名，不加载。",
        ),
        why=Text(
            en="ZeRO-3 keeps every weight in pieces. A save that does not gather them leaves a model folder with nothing in it, found out when it is to be "
            "served (huggingface/trl#4416; huggingface/peft#2450; deepspeedai/DeepSpeed#7900).",
            zh="ZeRO-3 把每个权重都切成片。保存时若不收集，模型目录里什么也没有，直到部署时才发现"
            "（huggingface/trl#4416；huggingface/peft#2450；deepspeedai/DeepSpeed#7900）。",
        ),
        fix=Text(
            en="Run zero_to_fp32.py in the checkpoint. For later runs set stage3_gather_16bit_weights_on_model_save (gogpt check ds.json --fix OUT writes it).",
            zh="在检查点中运行 zero_to_fp32.py。以后的训练设 stage3_gather_16bit_weights_on_model_save（gogpt check ds.json --fix OUT 会写上）。",
        ),
        example="""warning RUN664 out/checkpoint-300: the weights are only in 8 ZeRO-3 shards: no tool that serves or merges models reads them
  fix: put them together: python zero_to_fp32.py . OUT (DeepSpeed writes the script beside them); save with stage3_gather_16bit_weights_on_model_save: true

{"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}}""",
    ),
    fires=(Facts(history=SHARDS), Facts(history=replace(SHARDS, shard_ranks=6, missing_ranks=(3, 5))), Facts(history=replace(SHARDS, latest_missing="global_step300"))),
    silent=(Facts(history=PAST), Facts(history=replace(SHARDS, consolidated=True)), Facts(history=replace(SHARDS, zero_stage=2, consolidated=True))),
)
