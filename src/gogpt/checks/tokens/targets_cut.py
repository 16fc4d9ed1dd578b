"""TOK405: answers that truncation cuts off before their end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, PLAN
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

LIMIT = 0.05
"""From this share of the examples on, cut answers are an error."""

MESSAGE = Text(
    en="truncation to {max_length} cuts the answer in {count} of {examples} examples ({share:.1%}): text and stop token are lost",
    zh="截断到 {max_length} 使 {examples} 个样本中的 {count} 个（{share:.1%}）的答案被截断：丢失了文本和停止符",
)
FIX = Text(
    en="data.overlong: drop | split, or a data.max_length above {max_length}",
    zh="设为 data.overlong: drop | split，或把 data.max_length 提高到 {max_length} 以上",
)


def run(facts: Facts) -> Iterator[Finding]:
    data, plan = facts.data, facts.plan
    assert data is not None
    assert plan is not None
    cut = data.cut_targets
    if not cut.count:
        return
    examples = max(data.encoded, cut.count)
    share = cut.count / examples
    evidence = {"count": cut.count, "examples": examples, "share": share, "limit": LIMIT, "max_length": plan.max_length,
                "first": list(cut.first)}
    severity = Severity.ERROR if share >= LIMIT else Severity.WARNING
    where = cut.first[0] if cut.first else None
    yield Finding(code="TOK405", severity=severity, message=MESSAGE, evidence=evidence, fix=FIX, where=where)


SHORT = replace(PLAN, max_length=512, overlong="truncate")

CHECK = Check(
    code="TOK405",
    name="targets_cut",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data", "plan"),
    run=run,
    page=Page(
        title=Text(en="truncation cuts answers", zh="截断切掉了答案"),
        what=Text(
            en="In how many examples truncation to data.max_length takes trained tokens away: an error from 5% of the examples "
            "on, a warning below.",
            zh="统计有多少样本因截断到 data.max_length 而丢失被训练的 token：达到 5% 报错，低于则警告。",
        ),
        why=Text(
            en="A cut answer has no end and no stop token. A model that is trained on many of them learns that long answers do "
            "not end (hiyouga/LLaMA-Factory#5231, #3945, #3143: endless generation after training on long samples).",
            zh="被截断的答案没有结尾，也没有停止符。训练了大量这样的答案，模型就学会长答案不结束"
            "（hiyouga/LLaMA-Factory#5231、#3945、#3143：用长样本微调后无休止地生成）。",
        ),
        fix=Text(
            en="data.overlong: drop leaves the long rows out and counts them; split cuts conversations between turns. Or raise "
            "data.max_length, up to the context of the model.",
            zh="data.overlong: drop 丢弃过长的行并计数；split 在轮次之间切分对话。也可以提高 data.max_length，但不超过模型的上下文长度。",
        ),
        example="""error TOK405 data/a.jsonl:4: truncation to 512 cuts the answer in 310 of 2000 examples (15.5%): text and stop token are lost
  fix: data.overlong: drop | split, or a data.max_length above 512

data:
  max_length: 512
  overlong: drop""",
    ),
    fires=(
        Facts(plan=SHORT, data=replace(DATA, cut_targets=Tally(count=310, first=("data/a.jsonl:4", "data/a.jsonl:17")))),
        Facts(plan=SHORT, data=replace(DATA, cut_targets=Tally(count=100, first=("data/a.jsonl:4",)))),
        Facts(plan=SHORT, data=replace(DATA, cut_targets=Tally(count=1, first=("data/a.jsonl:4",)))),
    ),
    silent=(Facts(plan=PLAN, data=DATA), Facts(plan=SHORT, data=DATA)),
)
