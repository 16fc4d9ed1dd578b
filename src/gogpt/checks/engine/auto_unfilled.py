"""CFG269: auto where nothing fills it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="\"auto\" stands where neither transformers nor accelerate puts a value: {keys}; DeepSpeed gets the word itself",
    zh="\"auto\" 写在了 transformers 和 accelerate 都不会填值的地方：{keys}；DeepSpeed 得到的就是这个词",
)
DEFAULT = Text(
    en="\"auto\" stands where neither transformers nor accelerate puts a value: {keys}; DeepSpeed takes its default, and says nothing",
    zh="\"auto\" 写在了 transformers 和 accelerate 都不会填值的地方：{keys}；DeepSpeed 会悄悄采用默认值",
)
DROPS_AUTO = ("zero_optimization", "fp16", "bf16", "bfloat16", "tensorboard", "wandb", "csv_monitor", "comet", "compile", "comms_logger", "hybrid_engine")
"""Parts that DeepSpeed reads with its configuration model, which leaves out what is ``auto`` (runtime/config_utils.py)."""
FIX = Text(
    en="write a value, or take the key out for DeepSpeed's default: gogpt check {path} --fix OUT",
    zh="写明一个值，或去掉该键以使用 DeepSpeed 的默认值：gogpt check {path} --fix OUT",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if not file.auto_unfilled:
        return
    kept = [key for key in file.auto_unfilled if key.partition(".")[0] not in DROPS_AUTO]
    yield Finding(code="CFG269", severity=Severity.ERROR if kept else Severity.WARNING, message=MESSAGE if kept else DEFAULT, fix=FIX, where=file.at(*file.auto_unfilled),
                  evidence={"path": file.path, "keys": ", ".join(file.auto_unfilled)})


CHECK = Check(
    code="CFG269",
    name="auto_unfilled",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="auto where nothing fills it", zh="auto 写在了没有人填值的地方"),
        what=Text(
            en="Whether each auto stands at a key that transformers or accelerate fills from the run's settings (batch sizes, clipping, lr, betas, warm-up, total steps, fp16 and bf16, three bucket sizes, the stage and the devices of offload).",
            zh="检查每个 auto 是否位于 transformers 或 accelerate 会按训练设置填值的键（批大小、裁剪、lr、betas、预热、总步数、fp16 与 bf16、三个桶大小、ZeRO 阶段与卸载设备）。",
        ),
        why=Text(
            en="In fp16, bf16, zero_optimization and the parts for logging DeepSpeed then takes its default, in silence: a warning. Elsewhere it gets the word auto, and ends in a type error or takes the word as true: an error.",
            zh="在 fp16、bf16、zero_optimization 和日志相关的部分中，DeepSpeed 会悄悄采用默认值：警告。在其他地方它收到 auto 这个词，会以类型错误结束，或把它当作 true：错误。",
        ),
        fix=Text(
            en="Write the value. The two stage3 sizes are filled at stage 3 only.",
            zh="写明该值。两个 stage3 的大小只在第 3 阶段才会填值。",
        ),
        example="""error CFG269 ds.json: "auto" stands where neither transformers nor accelerate puts a value: steps_per_print; DeepSpeed gets the word itself
  fix: write a value, or take the key out for DeepSpeed's default: gogpt check ds.json --fix OUT

{"zero_optimization": {"stage": 2, "overlap_comm": true}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, auto_unfilled=("steps_per_print",))),
        Facts(engine=replace(ENGINE, auto_unfilled=("zero_optimization.overlap_comm",))),
    ),
    silent=(
        Facts(engine=ENGINE),
    ),
)
