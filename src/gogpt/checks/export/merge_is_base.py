"""EXP702: the adapter changes nothing, so that the merged model is the base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import EXPORT
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the adapter changes nothing: base + adapter differs from the base by at most {effect} in its logits (tolerance {tolerance}, "
    "{probe_tokens} probe tokens)",
    zh="适配器没有任何作用：“基座 + 适配器”与基座的 logits 最多相差 {effect}（容差 {tolerance}，探针 {probe_tokens} 个 token）",
)
FIX = Text(
    en="see that the adapter was trained (lora_B not all 0) and that its keys fit {base}; a weakly trained one needs --dtype float32",
    zh="确认适配器确实训练过（lora_B 不全为 0），且其键名与 {base} 匹配；训练较弱的适配器需要 --dtype float32",
)


def run(facts: Facts) -> Iterator[Finding]:
    export = facts.export
    assert export is not None
    if export.effect <= export.tolerance:
        evidence = to_json({
            "effect": export.effect, "tolerance": export.tolerance, "max_difference": export.max_difference,
            "probe_tokens": export.probe_tokens, "base": export.base, "adapter": export.adapter,
        })
        yield Finding(code="EXP702", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=export.adapter)


CHECK = Check(
    code="EXP702",
    name="merge_is_base",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("export",),
    run=run,
    page=Page(
        title=Text(en="the merged model is the base", zh="合并后的模型就是基座"),
        what=Text(
            en="The largest difference between the logits of base + adapter and of the base alone, on fixed probe sequences. It must "
            "be larger than the tolerance of the merge.",
            zh="在固定的探针序列上，比较“基座 + 适配器”与单独基座的 logits，最大差值必须大于合并的容差。",
        ),
        why=Text(
            en="Adapter keys that do not match the model's module names are skipped with a warning at most: the merge succeeds and the "
            "model behaves as its base (NeMo Automodel#1226, unslothai/unsloth#2142, hiyouga/LLaMA-Factory#8134, #9346). ZeRO-3 "
            "can save an empty adapter (huggingface/trl#4416, deepspeedai/DeepSpeed#7900).",
            zh="适配器的键名与模型模块名不匹配时，最多给一个警告就被跳过：合并成功，模型表现却与基座一样"
            "（NeMo Automodel#1226、unslothai/unsloth#2142、hiyouga/LLaMA-Factory#8134、#9346）。ZeRO-3 可能保存出空的适配器"
            "（huggingface/trl#4416、deepspeedai/DeepSpeed#7900）。",
        ),
        fix=Text(
            en="Read the run's report: did the weights move (RUN604), did the loss fall? Merge into the base that the adapter was "
            "trained on, and look at the shapes and values of lora_B in adapter_model.safetensors.",
            zh="查看训练报告：权重是否变化（RUN604）、损失是否下降？合并到训练该适配器的基座，并检查 adapter_model.safetensors 中 lora_B 的形状和数值。",
        ),
        example="""error EXP702 runs/a/final: the adapter changes nothing: base + adapter differs from the base by at most 0.0 in its logits (tolerance 0.001, 192 probe tokens)
  fix: see that the adapter was trained (lora_B not all 0) and that its keys fit models/base; a weakly trained one needs --dtype float32

train:
  learning_rate: 2e-4
  epochs: 3""",
    ),
    fires=(Facts(export=replace(EXPORT, effect=0.0)), Facts(export=replace(EXPORT, effect=1e-3))),
    silent=(Facts(export=EXPORT), Facts(export=replace(EXPORT, effect=0.01))),
)
