"""CFG214: settings that wait for an evaluation that never comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{settings} does nothing: no example is held out for evaluation",
    zh="{settings} 不起作用：没有留出任何评估样本",
)
FIX = Text(
    en="data.eval: 0.02 (a fraction), or a list of files; or take the setting out",
    zh="设为 data.eval: 0.02（比例）或文件列表；或去掉该设置",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan, data = facts.plan, facts.data
    assert plan is not None
    assert data is not None
    asked = {"train.early_stopping": plan.early_stopping, "train.eval_every": plan.eval_every}
    settings = [name for name, value in asked.items() if value is not None]
    if settings and data.eval_examples == 0 and data.examples > 0:
        evidence = {"settings": ", ".join(settings), "eval_examples": 0}
        yield Finding(code="CFG214", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX)


STOPPING = replace(PLAN, early_stopping=3)

CHECK = Check(
    code="CFG214",
    name="evaluation_missing",
    stage=Stage.CONFIG,
    severity=Severity.ERROR,
    needs=("plan", "data"),
    run=run,
    page=Page(
        title=Text(en="a setting needs evaluation examples", zh="某项设置需要评估样本"),
        what=Text(
            en="Whether train.early_stopping or train.eval_every is set although data.eval holds nothing out.",
            zh="检查是否设置了 train.early_stopping 或 train.eval_every，而 data.eval 没有留出样本。",
        ),
        why=Text(
            en="Without an evaluation early stopping never stops and no best weights are kept: a setting that is silently "
            "ignored, noticed when the compute is spent.",
            zh="没有评估，早停永远不会触发，也不会保留最佳权重：设置被悄悄忽略，等发现时算力已经花完。",
        ),
        fix=Text(
            en="Hold examples out (data.eval: 0.02, or files of their own), or take the setting out.",
            zh="留出评估样本（data.eval: 0.02 或单独的文件），或去掉该设置。",
        ),
        example="""error CFG214: train.early_stopping does nothing: no example is held out for evaluation
  fix: data.eval: 0.02 (a fraction), or a list of files; or take the setting out

data:
  eval: 0.02""",
    ),
    fires=(
        Facts(plan=STOPPING, data=replace(DATA, eval_examples=0)),
        Facts(plan=replace(PLAN, eval_every=10), data=replace(DATA, eval_examples=0)),
    ),
    silent=(Facts(plan=STOPPING, data=DATA), Facts(plan=PLAN, data=replace(DATA, eval_examples=0))),
)
