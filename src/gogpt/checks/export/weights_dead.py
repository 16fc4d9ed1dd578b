"""EXP731: weights that are not finite, or zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

BROKEN = Text(
    en="{count} tensors hold values that are not finite (first {first})",
    zh="{count} 个张量含有非有限值（首个：{first}）",
)
ZERO = Text(
    en="{count} matrices are zero throughout (first {first})",
    zh="{count} 个矩阵全为零（首个：{first}）",
)
FIX = Text(
    en="go back to a checkpoint from before",
    zh="退回到更早的检查点",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    found = model.non_finite if model.non_finite.count else model.zero
    if found.count:
        broken = found is model.non_finite
        yield Finding(code="EXP731", severity=Severity.ERROR if broken else Severity.WARNING, message=BROKEN if broken else ZERO, fix=FIX, where=model.path,
                      evidence={"count": found.count, "first": found.first[0], "tensors": model.tensors, "sampled": model.sampled})


CHECK = Check(
    code="EXP731",
    name="weights_dead",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="weights are not finite, or zero",
            zh="权重非有限或全为零",
        ),
        what=Text(
            en="Samples of every tensor, of small ones every value: an error where one is not finite; a warning where a matrix is zero throughout (it is then read whole).",
            zh="抽样检查每个张量，小张量检查全部值：有非有限值时为错误；有矩阵全为零时为警告（此时会完整读取）。",
        ),
        why=Text(
            en="A run whose loss became NaN saves its weights all the same, with exit code 0, behind a log of calm zeros: measured with TRL 1.16 and LLaMA-Factory 0.9.5 (hiyouga/LLaMA-Factory#8088, #2810; huggingface/trl#6702).",
            zh="损失变成 NaN 的训练照样保存权重并以退出码 0 结束，日志里只有平静的零：TRL 1.16 和 LLaMA-Factory 0.9.5 实测如此（hiyouga/LLaMA-Factory#8088、#2810；huggingface/trl#6702）。",
        ),
        fix=Text(
            en="Find the last good checkpoint by checking each; train on with a lower learning rate, or without fp16.",
            zh="逐个检查检查点，找到最后一个正常的；降低学习率或不用 fp16 继续训练。",
        ),
        example="""error EXP731 models/mine: 273 tensors hold values that are not finite (first lm_head.weight)
  fix: go back to a checkpoint from before

gogpt check runs/a/checkpoint-500""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, non_finite=Tally(count=273, first=("lm_head.weight",)))),
        Facts(weights=replace(WEIGHTS, zero=Tally(count=1, first=("model.layers.0.mlp.up_proj.weight",)))),
    ),
    silent=(
        Facts(weights=WEIGHTS),
    ),
)
