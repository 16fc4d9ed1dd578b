"""CFG224: no answer is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{why}: no assistant turn is trained in {release}",
    zh="{why}：{release} 不会训练任何助手回合",
)
FIX = Text(
    en="roles_to_train: [assistant]",
    zh="设 roles_to_train: [assistant]",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.nothing_trained:
        key = file.nothing_trained.partition(":")[0]
        yield Finding(code="CFG224", severity=Severity.ERROR, message=MESSAGE, evidence={"why": file.nothing_trained, "release": file.release}, fix=FIX,
                      where=file.at(key))


CHECK = Check(
    code="CFG224",
    name="foreign_nothing_trained",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="no answer is trained",
            zh="没有训练任何答案",
        ),
        what=Text(
            en="Whether Axolotl's roles_to_train of a data set names the assistant, where no field of the rows says what to train.",
            zh="检查 Axolotl 数据集的 roles_to_train 是否包含助手（行中没有字段指定训练内容时）。",
        ),
        why=Text(
            en="A set without a trained answer trains on the other side of the conversation, or on nothing: the loss is calm and the model is wrong (axolotl-ai-cloud/axolotl#2089 trained on the wrong turn; PR#3864 is a filter for such rows that never filtered).",
            zh="没有训练答案的数据集会训练对话的另一方，或什么也不训练：损失很平静，模型却是错的（axolotl-ai-cloud/axolotl#2089 训练了错误的回合；PR#3864 是针对这类行却从未生效的过滤器）。",
        ),
        fix=Text(
            en="Name the roles whose answers are to be learned.",
            zh="写明需要学习其回答的角色。",
        ),
        example="""error CFG224 ax.yaml:8: datasets.0.roles_to_train: [user]: no assistant turn is trained in Axolotl
  fix: roles_to_train: [assistant]

datasets:
  - path: data/a.jsonl
    type: chat_template
    roles_to_train: [assistant]""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, tool="axolotl", release="Axolotl", path="ax.yaml", nothing_trained="datasets.0.roles_to_train: [user]", places={"datasets.0.roles_to_train": "ax.yaml:8"})),
    ),
    silent=(
        Facts(foreign=FOREIGN),
    ),
)
