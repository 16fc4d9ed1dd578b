"""DAT314: nearly all answers are one and the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SHARE = 0.9
LEAST = 20
"""Answers below which a share says nothing."""

MESSAGE = Text(
    en="{same} of {looked} answers are the same one ({share:.0%}): {answer!r}. Whatever is asked, the model learns to say it",
    zh="{looked} 个回答中有 {same} 个完全相同（{share:.0%}）：{answer!r}。无论问什么，模型都会学会这样回答",
)
FIX = Text(
    en="look at the column that the answers are read from (gogpt data inspect FILE, gogpt show FILE:ROW); or balance the data",
    zh="检查回答取自哪一列（gogpt data inspect FILE、gogpt show FILE:ROW）；或平衡数据",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    if data.answers_looked < LEAST or data.same_answer < SHARE * data.answers_looked:
        return
    yield Finding(code="DAT314", severity=Severity.WARNING, message=MESSAGE, fix=FIX,
                  evidence={"looked": data.answers_looked, "same": data.same_answer, "share": data.same_answer / data.answers_looked, "answer": data.same_answer_text})


CHECK = Check(
    code="DAT314",
    name="one_answer",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="nearly all answers are the same", zh="几乎所有回答都相同"),
        what=Text(
            en="Whether 9 of 10 trained answers are one and the same text, among up to 2,000 examples spread evenly over the set.",
            zh="在均匀取出的至多 2000 个样本中，检查是否有九成被训练的回答是同一段文字。",
        ),
        why=Text(
            en="A column that was filled with a default, a label that was joined wrongly, or one class that crowds out the others: the loss falls to nearly 0 within "
            "steps, which looks like success, and the model has learned one sentence. TRL 1.16 and LLaMA-Factory 0.9.5 say nothing (docs/silent-benchmark.md).",
            zh="某一列被默认值填满、标签连接错误，或某一类压倒其他类：损失几步之内降到接近 0，看似成功，而模型只学会了一句话。"
            "TRL 1.16 与 LLaMA-Factory 0.9.5 对此没有任何提示（docs/silent-benchmark.md）。",
        ),
        fix=Text(
            en="Look at a row at every stage with gogpt show FILE:ROW. Where one class is meant to be frequent, balance it with data.mix or weights.",
            zh="用 gogpt show FILE:ROW 查看一行的各个阶段。若某一类本就该多，可用 data.mix 或权重平衡。",
        ),
        example="""warning DAT314: 1910 of 1960 answers are the same one (97%): 'Yes.'. Whatever is asked, the model learns to say it
  fix: look at the column that the answers are read from (gogpt data inspect FILE, gogpt show FILE:ROW); or balance the data

gogpt data inspect data/train.jsonl""",
    ),
    fires=(
        Facts(data=replace(DATA, answers_looked=1960, same_answer=1910, same_answer_text="Yes.")),
        Facts(data=replace(DATA, answers_looked=20, same_answer=18, same_answer_text="positive")),
    ),
    silent=(
        Facts(data=DATA),
        Facts(data=replace(DATA, answers_looked=1000, same_answer=800, same_answer_text="positive")),
        Facts(data=replace(DATA, answers_looked=19, same_answer=19, same_answer_text="Yes.")),
    ),
)
