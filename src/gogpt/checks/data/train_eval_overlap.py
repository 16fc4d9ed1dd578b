"""DAT310: examples of the evaluation set are in the training set too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{count} of {eval_examples} evaluation examples ({share:.1%}) have the same messages as a training row; first: {first}",
    zh="{eval_examples} 个评估样本中有 {count} 个（{share:.1%}）与训练行的消息相同；首个：{first}",
)
FIX = Text(
    en="take those rows out of data.train or data.eval, or hold rows out instead: data.eval: 0.02",
    zh="把这些行从 data.train 或 data.eval 中去掉，或改为从训练集留出：data.eval: 0.02",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    if not data.overlap.count:
        return
    first = data.overlap.first[0] if data.overlap.first else ""
    evidence = {
        "count": data.overlap.count, "eval_examples": data.eval_examples,
        "share": data.overlap.count / max(1, data.eval_examples), "first": first, "places": list(data.overlap.first),
    }
    where = first.partition(" = ")[0] or None
    yield Finding(code="DAT310", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=where)


PLACES = ("data/eval.jsonl:3 = data/train.jsonl:118", "data/eval.jsonl:7 = data/train.jsonl:402")

CHECK = Check(
    code="DAT310",
    name="train_eval_overlap",
    stage=Stage.DATA,
    severity=Severity.ERROR,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="evaluation rows are training rows", zh="评估数据混入了训练数据"),
        what=Text(
            en="Whether an example of data.eval has the same messages as an example of data.train (roles and texts compared, "
            "white space at the ends aside). Rows held out by a fraction (data.eval: 0.02) never overlap: rows with equal "
            "messages stay on one side.",
            zh="检查 data.eval 中是否有样本与 data.train 的样本消息相同（比较角色与文本，忽略首尾空白）。"
            "按比例留出（data.eval: 0.02）时不会重叠：消息相同的行总在同一侧。",
        ),
        why=Text(
            en="The evaluation loss then measures memory: it falls while the model gets worse on everything else, and early "
            "stopping keeps the wrong weights. TRL 1.16 and LLaMA-Factory 0.9.5 say nothing, even when both sets are the "
            "same file. In parameter-golf#2127 the overlap was 80%.",
            zh="此时评估损失衡量的是记忆：模型在其他数据上变差，它仍在下降，早停也会保留错误的权重。"
            "TRL 1.16 和 LLaMA-Factory 0.9.5 即使两个集合是同一个文件也不作任何提示。在 parameter-golf#2127 中重叠达 80%。",
        ),
        fix=Text(
            en="Remove the rows named from one of the two sets, or let GoGPT hold rows out of the training data with a fraction.",
            zh="把指出的行从其中一个集合删除，或用比例让 GoGPT 从训练数据中留出评估集。",
        ),
        example="""error DAT310 data/eval.jsonl:3: 2 of 40 evaluation examples (5.0%) have the same messages as a training row; first: data/eval.jsonl:3 = data/train.jsonl:118
  fix: take those rows out of data.train or data.eval, or hold rows out instead: data.eval: 0.02

data:
  train: data/train.jsonl
  eval: 0.02""",
    ),
    fires=(
        Facts(data=replace(DATA, overlap=Tally(count=2, first=PLACES))),
        Facts(data=replace(DATA, overlap=Tally(count=40, first=PLACES[:1]))),
    ),
    silent=(Facts(data=DATA), Facts(data=replace(DATA, eval_examples=0))),
)
