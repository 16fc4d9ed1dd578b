"""DAT315: answers stand in their own prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SHARE = 0.8
LEAST = 20
"""Answers below which a share says nothing."""

MESSAGE = Text(
    en="{inside} of {long} answers of {least_tokens} tokens and more stand whole in their prompts ({share:.0%}): the model learns to copy",
    zh="在 {least_tokens} 个 token 以上的 {long} 个回答中，有 {inside} 个完整地出现在自己的提示里（{share:.0%}）：模型学会的是照抄",
)
FIX = Text(
    en="take the answers out of the prompts (gogpt show FILE:ROW shows one); where copying is the task, nothing is wrong",
    zh="把回答从提示中去掉（用 gogpt show FILE:ROW 查看一行）；若任务本来就是照抄，则没有问题",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    if data.long_answers < LEAST or data.answers_in_prompts < SHARE * data.long_answers:
        return
    yield Finding(code="DAT315", severity=Severity.WARNING, message=MESSAGE, fix=FIX,
                  evidence={"long": data.long_answers, "inside": data.answers_in_prompts, "share": data.answers_in_prompts / data.long_answers, "least_tokens": 8})


CHECK = Check(
    code="DAT315",
    name="answers_in_prompts",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="answers stand in their own prompts", zh="回答出现在自己的提示里"),
        what=Text(
            en="Whether 8 of 10 answers of at least 8 tokens stand, word for word, in what comes before them, among up to 500 of examples spread evenly over the set.",
            zh="在均匀取出的样本的至多 500 个回答中，检查 8 个 token 以上的回答是否有八成一字不差地出现在其前文里。",
        ),
        why=Text(
            en="A prompt that was built from the wrong column holds its answer. The loss falls to nearly 0, which looks like success; asked without the answer in the "
            "prompt, the model has nothing to copy. The original training log names leaked data as one cause of a loss of 0.",
            zh="用错了列的提示会含有答案。损失降到接近 0，看似成功；真正提问时提示里没有答案，模型就无从照抄。最初的训练日志把数据泄漏列为损失为 0 的原因之一。",
        ),
        fix=Text(
            en="Look at the painted tokens of a row (gogpt show FILE:ROW). Quoting, translation memory and the like copy on purpose.",
            zh="用 gogpt show FILE:ROW 查看一行中被训练的 token。引用、翻译记忆等任务本来就要照抄。",
        ),
        example="""warning DAT315: 480 of 500 answers of 8 tokens and more stand whole in their prompts (96%): the model learns to copy
  fix: take the answers out of the prompts (gogpt show FILE:ROW shows one); where copying is the task, nothing is wrong

gogpt show data/train.jsonl:1""",
    ),
    fires=(Facts(data=replace(DATA, long_answers=500, answers_in_prompts=480)), Facts(data=replace(DATA, long_answers=20, answers_in_prompts=16))),
    silent=(Facts(data=DATA), Facts(data=replace(DATA, long_answers=500, answers_in_prompts=250)), Facts(data=replace(DATA, long_answers=19, answers_in_prompts=19))),
)
