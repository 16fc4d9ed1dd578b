"""ENV101: the precision asked for is not computed by this device, or only very slowly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENV, GPU, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

FP16_ON_CPU = Text(
    en="train.precision is fp16 and the device is a CPU, where fp16 training is not applied or refused by the engine",
    zh="train.precision 为 fp16，而设备是 CPU：在 CPU 上 fp16 训练不会生效，或被引擎拒绝",
)
BF16_ON_CPU = Text(
    en="train.precision is bf16 and the device is a CPU without native bf16: measured about 30 times slower than fp32",
    zh="train.precision 为 bf16，而设备是不原生支持 bf16 的 CPU：实测约比 fp32 慢 30 倍",
)
NO_BF16 = Text(
    en="train.precision is bf16, which {device_name} does not compute natively",
    zh="train.precision 为 bf16，但 {device_name} 不原生支持 bf16",
)
FIX_CPU = Text(en="train.precision: fp32 (or auto)", zh="设为 train.precision: fp32（或 auto）")
FIX_CUDA = Text(
    en="train.precision: fp32 (or auto); fp16 works on this device but overflows more easily",
    zh="设为 train.precision: fp32（或 auto）；该设备也能用 fp16，但更容易溢出",
)


def run(facts: Facts) -> Iterator[Finding]:
    env, plan = facts.env, facts.plan
    assert env is not None
    assert plan is not None
    evidence = {"precision": plan.precision, "device": env.device, "device_name": env.device_name, "bf16": env.bf16}
    if env.device == "cpu" and plan.precision == "fp16":
        yield Finding(code="ENV101", severity=Severity.ERROR, message=FP16_ON_CPU, evidence=evidence, fix=FIX_CPU)
    elif env.device == "cpu" and plan.precision == "bf16" and not env.bf16:
        yield Finding(code="ENV101", severity=Severity.WARNING, message=BF16_ON_CPU, evidence=evidence, fix=FIX_CPU)
    elif env.device == "cuda" and plan.precision == "bf16" and not env.bf16:
        yield Finding(code="ENV101", severity=Severity.ERROR, message=NO_BF16, evidence=evidence, fix=FIX_CUDA)


OLD_GPU = replace(GPU, device_name="Tesla V100-SXM2-16GB", bf16=False)

CHECK = Check(
    code="ENV101",
    name="precision_unsupported",
    stage=Stage.ENV,
    severity=Severity.ERROR,
    needs=("env", "plan"),
    run=run,
    page=Page(
        title=Text(en="the device does not compute this precision", zh="设备不支持所设精度"),
        what=Text(
            en="Whether the device of the run computes train.precision natively: fp16 on a CPU and bf16 on a CUDA device "
            "without bfloat16 units are errors; bf16 on a CPU without native bf16 is a warning.",
            zh="检查运行设备是否原生支持 train.precision：CPU 上的 fp16、没有 bfloat16 单元的 CUDA 设备上的 bf16 报错；"
            "不原生支持 bf16 的 CPU 上的 bf16 给出警告。",
        ),
        why=Text(
            en="transformers does not apply fp16 on a CPU and says nothing, while DeepSpeed raises a ValueError there: what "
            "trains is not what the recipe says. bf16 on a CPU runs, about 30 times slower than fp32 where that was "
            "measured. A CUDA device before compute capability 8.0 (V100, T4) has no native bf16.",
            zh="在 CPU 上，transformers 会静默忽略 fp16，DeepSpeed 则抛出 ValueError：实际训练的精度与配方不符。"
            "CPU 上的 bf16 能运行，但实测约比 fp32 慢 30 倍。计算能力低于 8.0 的 CUDA 设备（V100、T4）不原生支持 bf16。",
        ),
        fix=Text(
            en="Set train.precision: auto, which takes bf16 where the device computes it and fp32 elsewhere. With fp16 on "
            "an older GPU, keep the learning rate low and read the gradient norm: fp16 overflows where bf16 does not "
            "(QwenLM/Qwen3#670).",
            zh="设为 train.precision: auto：设备原生支持时用 bf16，否则用 fp32。若在旧 GPU 上用 fp16，请用较低的学习率并留意"
            "梯度范数：fp16 会在 bf16 不溢出的地方溢出（QwenLM/Qwen3#670）。",
        ),
        example="""error ENV101: train.precision is fp16 and the device is a CPU, where fp16 training is not applied or refused by the engine
  fix: train.precision: fp32 (or auto)

train:
  precision: auto""",
    ),
    fires=(
        Facts(env=ENV, plan=replace(PLAN, precision="fp16")),
        Facts(env=ENV, plan=replace(PLAN, precision="bf16")),
        Facts(env=OLD_GPU, plan=replace(PLAN, precision="bf16")),
    ),
    silent=(
        Facts(env=ENV, plan=PLAN),
        Facts(env=GPU, plan=replace(PLAN, precision="bf16")),
        Facts(env=OLD_GPU, plan=replace(PLAN, precision="fp16")),
        Facts(env=replace(ENV, bf16=True), plan=replace(PLAN, precision="bf16")),
    ),
)
