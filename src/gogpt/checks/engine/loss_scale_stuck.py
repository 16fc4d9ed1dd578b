"""CFG268: fp16 loss scaling that can skip every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

USUAL_POWER = 16
USUAL_FLOOR = 1024

STATIC = Text(
    en="fp16.loss_scale is {loss_scale}, a fixed scale: once a gradient overflows it is never lowered, and every such step is skipped",
    zh="fp16.loss_scale 为 {loss_scale}，是固定的缩放：梯度一旦溢出，缩放不会降低，这样的步全部被跳过",
)
FLOOR = Text(
    en="fp16.min_loss_scale is {floor}: the scale cannot fall below it, and where that still overflows no step is ever taken (DeepSpeed then stops, or skips on)",
    zh="fp16.min_loss_scale 为 {floor}：缩放不能再低，若仍然溢出就再也不会有有效的一步（DeepSpeed 会停止，或一直跳过）",
)
HIGH = Text(
    en="fp16.initial_scale_power is {power}: the first {skipped} steps or more are skipped before the scale is at 2^16",
    zh="fp16.initial_scale_power 为 {power}：缩放降到 2^16 之前，至少前 {skipped} 步会被跳过",
)
FIX = Text(
    en="let the scale move: \"loss_scale\": 0, \"initial_scale_power\": 16, \"min_loss_scale\": 1 (gogpt check {path} --fix OUT), or use bf16",
    zh="让缩放可以变动：\"loss_scale\": 0、\"initial_scale_power\": 16、\"min_loss_scale\": 1（gogpt check {path} --fix OUT），或改用 bf16",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if not file.fp16:
        return
    stuck = max(file.loss_scale, file.min_loss_scale if file.loss_scale == 0 else 0.0)
    high = file.loss_scale == 0 and file.initial_scale_power > USUAL_POWER
    if file.loss_scale > 1:
        message, key = STATIC, "loss_scale"
    elif file.loss_scale == 0 and file.min_loss_scale > USUAL_FLOOR:
        message, key = FLOOR, "min_loss_scale"
    elif high:
        message, key = HIGH, "initial_scale_power"
    else:
        return
    yield Finding(
        code="CFG268", severity=Severity.ERROR if stuck >= 2**15 else Severity.WARNING, message=message, fix=FIX,
        evidence={"path": file.path, "loss_scale": file.loss_scale, "floor": file.min_loss_scale, "power": file.initial_scale_power,
                  "skipped": max(0, file.initial_scale_power - USUAL_POWER)},
        where=file.at(f"fp16.{key}", "fp16"),
    )


CHECK = Check(
    code="CFG268",
    name="loss_scale_stuck",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="fp16 loss scaling that can skip every step", zh="fp16 损失缩放可能跳过每一步"),
        what=Text(
            en="Whether the fp16 loss scale is dynamic (loss_scale 0), starts at 2^16 or less and can fall to 1,024 or less. An error from a scale of 32,768 on that cannot fall, a warning otherwise.",
            zh="检查 fp16 的损失缩放是否为动态（loss_scale 为 0）、起点不超过 2^16、且能降到 1024 或更低。缩放不低于 32768 且不能再降为错误，其余为警告。",
        ),
        why=Text(
            en="An overflowing step is skipped: no weight moves, the scheduler is not stepped, and the loss goes on being logged. A scale that cannot fall skips for ever.",
            zh="溢出的步会被跳过：权重不动，调度器不前进，而损失照常记录。不能降低的缩放会永远跳过。",
        ),
        fix=Text(
            en="Use the dynamic scale with its defaults, or bf16, which needs none.",
            zh="使用默认的动态缩放，或改用不需要缩放的 bf16。",
        ),
        example="""error CFG268 ds.json:5: fp16.loss_scale is 65536.0, a fixed scale: once a gradient overflows it is never lowered, and every such step is skipped
  fix: let the scale move: "loss_scale": 0, "initial_scale_power": 16, "min_loss_scale": 1 (gogpt check ds.json --fix OUT), or use bf16

{"fp16": {"enabled": true, "loss_scale": 0, "initial_scale_power": 16, "min_loss_scale": 1}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, bf16=False, fp16=True, loss_scale=65536.0)),
        Facts(engine=replace(ENGINE, bf16=False, fp16=True, min_loss_scale=65536.0)),
        Facts(engine=replace(ENGINE, bf16=False, fp16=True, initial_scale_power=32)),
        Facts(engine=replace(ENGINE, bf16=False, fp16=True, loss_scale=128.0)),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, bf16=False, fp16=True)),
        Facts(engine=replace(ENGINE, loss_scale=65536.0)),
        Facts(engine=replace(ENGINE, bf16=False, fp16=True, loss_scale=1.0)),
    ),
)
