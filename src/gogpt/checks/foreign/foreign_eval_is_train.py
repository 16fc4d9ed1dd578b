"""CFG228: the evaluation set is the training set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{key} evaluates on what is trained: {same}",
    zh="{key} 在训练数据上做评估：{same}",
)
FIX = Text(
    en="name other rows, or let the tool hold a share out",
    zh="换用其他数据，或让工具留出一部分",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    same = [p for p in dict.fromkeys(file.eval) if p in file.train]
    if same:
        yield Finding(code="CFG228", severity=Severity.ERROR, message=MESSAGE, evidence={"key": file.key("eval"), "same": ", ".join(same)}, fix=FIX,
                      where=file.at(file.key("eval"), file.key("train")))


CHECK = Check(
    code="CFG228",
    name="foreign_eval_is_train",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="evaluation on the training data",
            zh="用训练数据做评估",
        ),
        what=Text(
            en="Whether a file or data set is named for evaluation and for training, also as one split of a data set.",
            zh="检查同一文件或数据集（或同一个 split）是否既用于训练又用于评估。",
        ),
        why=Text(
            en="The evaluation loss then falls with the training loss and says nothing; early stopping and load_best_model_at_end choose by it. TRL 1.16 and LLaMA-Factory 0.9.5 were measured to say nothing; a leak of this kind is told of in parameter-golf#2127 with 80% overlap.",
            zh="评估损失会随训练损失下降，却毫无意义；早停和 load_best_model_at_end 却依据它。实测 TRL 1.16 和 LLaMA-Factory 0.9.5 都不提示；parameter-golf#2127 记录了 80% 重叠的同类泄漏。",
        ),
        fix=Text(
            en="LLaMA-Factory and Axolotl hold a share out with val_size and val_set_size, ms-swift with split_dataset_ratio, TRL with test_split_size or another dataset_test_split.",
            zh="LLaMA-Factory 和 Axolotl 用 val_size、val_set_size 留出一部分，ms-swift 用 split_dataset_ratio，TRL 用 test_split_size 或另一个 dataset_test_split。",
        ),
        example="""error CFG228 lf.yaml:5: eval_dataset evaluates on what is trained: data/a.jsonl
  fix: name other rows, or let the tool hold a share out

val_size: 0.05""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, eval=("data/a.jsonl",))),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, eval=("data/b.jsonl",))),
    ),
)
