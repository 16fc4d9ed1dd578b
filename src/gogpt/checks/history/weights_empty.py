"""RUN665: weight files of a checkpoint that hold nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PAST
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(en="{count} weight files hold nothing: {files}", zh="{count} 个权重文件是空的：{files}")
FIX = Text(
    en="with ZeRO-3 save through the Trainer with stage3_gather_16bit_weights_on_model_save: true; after a full disk free some room and take an earlier checkpoint",
    zh="使用 ZeRO-3 时由 Trainer 保存，并设 stage3_gather_16bit_weights_on_model_save: true；若是磁盘写满，先释放空间，再用更早的检查点",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.history
    assert seen is not None
    if seen.empty_files:
        evidence = {"count": len(seen.empty_files), "files": ", ".join(seen.empty_files[:5]), "checkpoint": seen.checkpoint}
        yield Finding(code="RUN665", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=seen.checkpoint)


CHECK = Check(
    code="RUN665",
    name="weights_empty",
    stage=Stage.HISTORY,
    severity=Severity.ERROR,
    needs=("history",),
    run=run,
    page=Page(
        title=Text(en="weight files that hold nothing", zh="空的权重文件"),
        what=Text(
            en="Whether a file of weights or states in the checkpoint has 0 bytes, or is a safetensors file without one element in any tensor. Headers are read, no weights.",
            zh="检查检查点中的权重或状态文件是否为 0 字节，或 safetensors 文件的所有张量都没有元素。只读文件头，不读权重。",
        ),
        why=Text(
            en="Under ZeRO-3 a process sees only its own piece of a weight, often of size 0. Saved without gathering, the adapter is there and empty "
            "(huggingface/trl#4416, huggingface/peft#2892), and a model with it answers as the base does.",
            zh="ZeRO-3 下每个进程只看到权重的一片，常常大小为 0。不收集就保存，适配器文件在而内容为空（huggingface/trl#4416、huggingface/peft#2892），"
            "加载后模型的回答与基座无异。",
        ),
        fix=Text(
            en="If ZeRO shards lie beside it, zero_to_fp32.py puts the weights together. Otherwise take an earlier checkpoint.",
            zh="若旁边有 ZeRO 分片，可用 zero_to_fp32.py 拼出权重。否则改用更早的检查点。",
        ),
        example="""error RUN665 out/checkpoint-300: 1 weight files hold nothing: adapter_model.safetensors
  fix: with ZeRO-3 save through the Trainer with stage3_gather_16bit_weights_on_model_save: true; after a full disk free some room and take an earlier checkpoint

{"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}}""",
    ),
    fires=(Facts(history=replace(PAST, empty_files=("adapter_model.safetensors",))),),
    silent=(Facts(history=PAST),),
)
