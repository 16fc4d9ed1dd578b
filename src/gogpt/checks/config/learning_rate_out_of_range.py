"""CFG211: a learning rate that cannot train, or that is far from what the method bears."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PLAN
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

LIMIT = 0.02
"""Above this nothing trains with Adam; 0.05 gave NaN in hiyouga/LLaMA-Factory#2810."""

LARGEST_FLOAT32 = 3.4e38
"""A rate beyond it is infinity to the optimizer: allowing it by name does not help."""

USUAL = {"full": 1e-3, "freeze": 1e-3, "lora": 5e-3, "qlora": 5e-3}
"""Above this a learning rate is unusual for the method."""

SUGGESTED = {"full": "1e-5", "freeze": "2e-5", "lora": "2e-4", "qlora": "2e-4"}

NOT_POSITIVE = Text(
    en="train.learning_rate is {learning_rate}: it must be finite and above 0, or nothing is learned",
    zh="train.learning_rate 为 {learning_rate}：必须是大于 0 的有限数，否则什么也学不到",
)
TOO_HIGH = Text(
    en="train.learning_rate is {learning_rate}, above {limit}, where training diverges",
    zh="train.learning_rate 为 {learning_rate}，超过 {limit}，训练会发散",
)
UNUSUAL = Text(
    en="train.learning_rate {learning_rate} is high for method {method}: rates above {limit} are unusual there",
    zh="对 {method} 方法来说 train.learning_rate {learning_rate} 偏高：通常不超过 {limit}",
)
FIX = Text(
    en="train.learning_rate: {suggested} is a usual start for {method}",
    zh="{method} 常用的起点是 train.learning_rate: {suggested}",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan = facts.plan
    assert plan is not None
    rate, usual = plan.learning_rate, USUAL.get(plan.method, LIMIT)
    evidence = {"learning_rate": to_json(rate), "method": plan.method, "suggested": SUGGESTED.get(plan.method, "2e-4")}
    if not math.isfinite(rate) or rate <= 0:
        yield Finding(code="CFG211", severity=Severity.ERROR, message=NOT_POSITIVE, evidence=evidence, fix=FIX, allowable=False)
    elif rate > LIMIT:
        yield Finding(code="CFG211", severity=Severity.ERROR, message=TOO_HIGH, evidence={**evidence, "limit": LIMIT}, fix=FIX,
                      allowable=rate < LARGEST_FLOAT32)
    elif rate > usual:
        yield Finding(code="CFG211", severity=Severity.WARNING, message=UNUSUAL, evidence={**evidence, "limit": usual}, fix=FIX)


CHECK = Check(
    code="CFG211",
    name="learning_rate_out_of_range",
    stage=Stage.CONFIG,
    severity=Severity.ERROR,
    needs=("plan",),
    run=run,
    page=Page(
        title=Text(en="the learning rate is out of range", zh="学习率超出合理范围"),
        what=Text(
            en="The peak learning rate: an error when it is not finite, not above 0, or above 0.02; a warning above 1e-3 for "
            "methods full and freeze, and above 5e-3 for lora and qlora.",
            zh="检查峰值学习率：非有限数、不大于 0 或超过 0.02 时报错；full 和 freeze 超过 1e-3、lora 和 qlora 超过 5e-3 时警告。",
        ),
        why=Text(
            en="A rate that is far too high makes the weights NaN within a few steps. Trainers then print a calm loss of 0, "
            "because a logging filter replaces NaN (hiyouga/LLaMA-Factory#2810 with 0.05; also #8088, #2916, "
            "huggingface/trl#6702): the run ends with exit code 0 and a dead model. A rate of 0 ends with an untouched one.",
            zh="学习率过高会在几步内把权重变成 NaN。日志过滤器会把 NaN 换掉，于是训练器仍打印平静的 0 损失"
            "（hiyouga/LLaMA-Factory#2810 用了 0.05；另见 #8088、#2916、huggingface/trl#6702）：训练以退出码 0 结束，模型却已报废。"
            "学习率为 0 则得到一个原封不动的模型。",
        ),
        fix=Text(
            en="Start from 1e-4 to 2e-4 for lora and qlora, and from 1e-5 to 2e-5 for full. Check the exponent: 2e-4, not 2e4. "
            "To keep a rate on purpose, name the code in checks.allow; the run records that.",
            zh="lora 和 qlora 从 1e-4 到 2e-4 开始，full 从 1e-5 到 2e-5 开始。检查指数：是 2e-4 而不是 2e4。"
            "若确实要用该学习率，把代码写入 checks.allow，训练会记录下来。",
        ),
        example="""error CFG211: train.learning_rate is 0.05, above 0.02, where training diverges
  fix: train.learning_rate: 2e-4 is a usual start for lora

train:
  learning_rate: 2e-4""",
    ),
    fires=(
        Facts(plan=replace(PLAN, learning_rate=0.05)),
        Facts(plan=replace(PLAN, learning_rate=0.0)),
        Facts(plan=replace(PLAN, learning_rate=-1e-4)),
        Facts(plan=replace(PLAN, learning_rate=float("nan"))),
        Facts(plan=replace(PLAN, learning_rate=float("inf"))),
        Facts(plan=replace(PLAN, learning_rate=6e-3)),
        Facts(plan=replace(PLAN, method="full", learning_rate=2e-3)),
    ),
    silent=(
        Facts(plan=PLAN),
        Facts(plan=replace(PLAN, learning_rate=5e-3)),
        Facts(plan=replace(PLAN, method="qlora", learning_rate=1e-3)),
        Facts(plan=replace(PLAN, method="full", learning_rate=1e-3)),
        Facts(plan=replace(PLAN, method="freeze", learning_rate=1e-6)),
    ),
)
