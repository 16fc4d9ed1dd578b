"""EXP701: the merged model does not compute what base and adapter compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import EXPORT
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MERGED = Text(
    en="the merged model differs from base + adapter by up to {max_difference} in its logits (tolerance {tolerance}, {probe_tokens} probe tokens)",
    zh="合并后的模型与“基座 + 适配器”的 logits 最多相差 {max_difference}（容差 {tolerance}，探针 {probe_tokens} 个 token）",
)
RELOADED = Text(
    en="the merged model, loaded back from disk, differs from base + adapter by up to {reloaded_difference} in its logits (tolerance "
    "{tolerance}, {probe_tokens} probe tokens); in memory by {max_difference}",
    zh="从磁盘重新加载的合并模型与“基座 + 适配器”的 logits 最多相差 {reloaded_difference}（容差 {tolerance}，探针 {probe_tokens} 个 token）；"
    "内存中相差 {max_difference}",
)
FIX_MERGED = Text(
    en="merge in float32 into the base that was trained ({base}); a 4-bit base has to be dequantised first",
    zh="以 float32 合并到训练时所用的基座（{base}）；4-bit 基座需先反量化",
)
FIX_RELOADED = Text(
    en="save in float32 or bfloat16 with the tied and the added rows (embedding, head), and check free disk space",
    zh="以 float32 或 bfloat16 保存，并包含共享的和新增的行（嵌入、输出层）；同时检查磁盘空间",
)


def run(facts: Facts) -> Iterator[Finding]:
    export = facts.export
    assert export is not None
    evidence = to_json({
        "max_difference": export.max_difference, "reloaded_difference": export.reloaded_difference,
        "tolerance": export.tolerance, "effect": export.effect, "probe_tokens": export.probe_tokens, "base": export.base,
        "adapter": export.adapter,
    })
    if not export.max_difference <= export.tolerance:  # so that NaN is caught
        yield Finding(code="EXP701", severity=Severity.ERROR, message=MERGED, evidence=evidence, fix=FIX_MERGED, where=export.adapter)
    elif not export.reloaded_difference <= export.tolerance:
        yield Finding(code="EXP701", severity=Severity.ERROR, message=RELOADED, evidence=evidence, fix=FIX_RELOADED, where=export.adapter)


CHECK = Check(
    code="EXP701",
    name="merge_differs",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("export",),
    run=run,
    page=Page(
        title=Text(en="the merged model differs from base + adapter", zh="合并后的模型与基座加适配器不一致"),
        what=Text(
            en="Fixed probe sequences run through base + adapter, through the merged model, and through the merged model loaded "
            "back from disk. The largest difference of logits must stay within the tolerance.",
            zh="用固定的探针序列分别计算“基座 + 适配器”、合并后的模型、以及从磁盘重新加载的合并模型。logits 的最大差值必须在容差之内。",
        ),
        why=Text(
            en="A merge can be wrong without any error: into 4-bit weights it loses the adapter (cross-entropy 0.0026 became 0.94), "
            "into another base than the trained one it drifts (unslothai/unsloth-zoo PR#810, huggingface/peft#2321, #1043), and "
            "added rows that are not saved are gone after loading.",
            zh="合并可能在不报错的情况下出错：合并进 4-bit 权重会丢失适配器（交叉熵从 0.0026 变成 0.94），合并进与训练时不同的基座会产生偏移"
            "（unslothai/unsloth-zoo PR#810、huggingface/peft#2321、#1043），未保存的新增行加载后就没有了。",
        ),
        fix=Text(
            en="Merge in float32 into the same base that was trained; for QLoRA dequantise the base first and merge then, which is "
            "exact. If only the reloaded model differs, look at the dtype of the save and at free disk space.",
            zh="以 float32 合并到训练时的同一基座；QLoRA 先反量化基座再合并，结果是精确的。若只有重新加载的模型不一致，请检查保存的 dtype 和磁盘剩余空间。",
        ),
        example="""error EXP701 runs/a/final: the merged model differs from base + adapter by up to 0.21 in its logits (tolerance 0.001, 192 probe tokens)
  fix: merge in float32 into the base that was trained (models/base); a 4-bit base has to be dequantised first

# the run folder names the base that was trained: runs/a/recipe.yaml
model: {path: models/base, dtype: float32}""",
    ),
    fires=(
        Facts(export=replace(EXPORT, max_difference=0.21, reloaded_difference=0.21)),
        Facts(export=replace(EXPORT, reloaded_difference=0.4)),
        Facts(export=replace(EXPORT, max_difference=float("nan"))),
    ),
    silent=(Facts(export=EXPORT), Facts(export=replace(EXPORT, max_difference=1e-3, reloaded_difference=1e-3))),
)
