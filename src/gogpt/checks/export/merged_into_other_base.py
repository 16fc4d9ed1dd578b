"""EXP740: the merged model stands on other weights than the adapter was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import EXPORT
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MOST_RISE = 0.01
"""Of the loss on the probe texts, in nats a token, that is told and not refused."""

MESSAGE = Text(
    en="merged into another base ({merged_base}) than the adapter was trained on ({trained_base}): the loss on the probe texts was "
    "{probe_loss_before} and is {probe_loss_after}, logits differ by up to {trained_difference} ({probe_tokens} tokens)",
    zh="合并所用的基座（{merged_base}）不是训练适配器时的基座（{trained_base}）：探针文本上的损失由 {probe_loss_before} 变为 {probe_loss_after}，"
    "logits 最多相差 {trained_difference}（{probe_tokens} 个 token）",
)
FIX = Text(
    en="leave --into out: the weights that were trained are merged, exactly",
    zh="去掉 --into：合并训练时的权重，结果精确一致",
)


def run(facts: Facts) -> Iterator[Finding]:
    export = facts.export
    assert export is not None
    if export.trained_base == export.merged_base:
        return  # what differs then is a fault of the merge, and EXP701's
    rise = export.probe_loss_after - export.probe_loss_before
    evidence = to_json({
        "probe_loss_before": round(export.probe_loss_before, 6), "probe_loss_after": round(export.probe_loss_after, 6),
        "trained_difference": float(f"{export.trained_difference:.3g}"),
        "trained_base": export.trained_base, "merged_base": export.merged_base, "probe_tokens": export.probe_tokens, "most_rise": MOST_RISE,
        "base": export.base, "adapter": export.adapter,
    })
    yield Finding(code="EXP740", severity=Severity.WARNING if rise <= MOST_RISE else Severity.ERROR, message=MESSAGE, evidence=evidence,
                  fix=FIX, where=export.adapter)


OTHER = replace(EXPORT, trained_base="nf4", merged_base="full", probe_loss_before=0.0026, probe_loss_after=0.029, trained_difference=1.9)

CHECK = Check(
    code="EXP740",
    name="merged_into_other_base",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("export",),
    run=run,
    page=Page(
        title=Text(en="merged into another base than was trained", zh="合并到了与训练时不同的基座"),
        what=Text(
            en="Whether the weights that an adapter is merged into are those that it was trained on, and what the change costs: the "
            "mean loss over the probe texts of the base as it was trained + adapter, and of the merged model. An error when it rises "
            "by more than 0.01 a token, a warning otherwise.",
            zh="检查合并所用的权重是否就是训练适配器时的权重，以及差别的代价：分别在“训练时的基座 + 适配器”和合并后的模型上计算探针文本的平均损失。"
            "每个 token 上升超过 0.01 时报错，否则警告。",
        ),
        why=Text(
            en="QLoRA trains on weights in 4 bits, and the adapter learns to make up for their error as well. On the original weights "
            "it corrects an error that is not there: in one measurement the loss went from 0.0026 to 0.029, without a word "
            "(unslothai/unsloth-zoo PR#810, huggingface/peft#2321, huggingface/peft#1043).",
            zh="QLoRA 在 4-bit 权重上训练，适配器同时学会弥补量化误差。换回原始权重后，它会修正并不存在的误差：一次实测中损失从 0.0026 变为 0.029，"
            "且没有任何提示（unslothai/unsloth-zoo PR#810、huggingface/peft#2321、huggingface/peft#1043）。",
        ),
        fix=Text(
            en="Merge without --into: gogpt merge makes the 4-bit base again as it was trained, writes its weights out in float32 and merges "
            "into those, which is exact.",
            zh="合并时不加 --into：gogpt merge 会重新生成训练时的 4-bit 基座，将其权重以 float32 展开后再合并，结果精确一致。",
        ),
        example="""error EXP740 runs/a/final: merged into another base (full) than the adapter was trained on (nf4): the loss on the probe texts was 0.0026 and is 0.029, logits differ by up to 1.9 (192 tokens)
  fix: leave --into out: the weights that were trained are merged, exactly

gogpt merge runs/a -o merged""",
    ),
    fires=(Facts(export=OTHER), Facts(export=replace(OTHER, probe_loss_after=0.002)), Facts(export=replace(OTHER, probe_loss_after=float("nan")))),
    silent=(Facts(export=EXPORT), Facts(export=replace(EXPORT, trained_base="nf4", merged_base="nf4", probe_loss_before=1.5, probe_loss_after=1.5))),
)
