"""CFG226: fp16 for a model whose weights are bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="fp16 for {model}, whose weights are {dtype}: values that bfloat16 holds overflow in fp16{filter}",
    zh="对权重为 {dtype} 的 {model} 使用 fp16：bfloat16 能表示的数值在 fp16 中会溢出{filter_zh}",
)
FIX = Text(
    en="bf16: true, or fp32 where the device has no bfloat16; and watch the gradient norm",
    zh="改用 bf16: true；设备没有 bfloat16 时用 fp32，并留意梯度范数",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.precision == "fp16" and file.model_dtype == "bfloat16":
        yield Finding(
            code="CFG226", severity=Severity.WARNING, message=MESSAGE, fix=FIX, where=file.at("fp16", "float16", "torch_dtype"),
            evidence={"model": file.model, "dtype": file.model_dtype, "filter": ", and logging_nan_inf_filter (the default) would print the NaN as a calm loss" if file.nan_filter else "",
                      "filter_zh": "，而 logging_nan_inf_filter（默认开启）会把 NaN 打印成平静的损失" if file.nan_filter else ""},
        )


CHECK = Check(
    code="CFG226",
    name="foreign_fp16_base",
    stage=Stage.FOREIGN,
    severity=Severity.WARNING,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="fp16 for a bfloat16 model",
            zh="对 bfloat16 模型使用 fp16",
        ),
        what=Text(
            en="Where the model is local: whether fp16 is asked for and config.json says that the weights are bfloat16.",
            zh="模型在本地时：检查是否要求 fp16，而 config.json 表明权重为 bfloat16。",
        ),
        why=Text(
            en="Activations of such models go beyond 65,504: the loss becomes NaN, steps are skipped, and the Trainer's logging filter prints 0.0 (QwenLM/Qwen3#670, unslothai/unsloth-zoo PR#866, hiyouga/LLaMA-Factory#4901; huggingface/transformers#33086 for the learning rate that reads 0 meanwhile).",
            zh="这类模型的激活会超过 65,504：损失变成 NaN，步被跳过，而 Trainer 的日志过滤器打印 0.0（QwenLM/Qwen3#670、unslothai/unsloth-zoo PR#866、hiyouga/LLaMA-Factory#4901；期间学习率显示为 0，见 huggingface/transformers#33086）。",
        ),
        fix=Text(
            en="Train in bfloat16 where the device computes it. logging_nan_inf_filter: false shows the loss as it is.",
            zh="设备支持时用 bfloat16 训练。logging_nan_inf_filter: false 会如实显示损失。",
        ),
        example="""warning CFG226 lf.yaml:12: fp16 for models/base, whose weights are bfloat16: values that bfloat16 holds overflow in fp16, and logging_nan_inf_filter (the default) would print the NaN as a calm loss
  fix: bf16: true, or fp32 where the device has no bfloat16; and watch the gradient norm

bf16: true""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, precision="fp16")),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, precision="fp16", model_dtype="float16")),
        Facts(foreign=replace(FOREIGN, precision="fp16", model_dtype=None)),
    ),
)
