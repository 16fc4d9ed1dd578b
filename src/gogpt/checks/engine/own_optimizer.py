"""CFG261: the file brings an optimizer of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NO_RATE = Text(
    en="the file's optimizer {optimizer} has no lr: DeepSpeed and torch then take their own default (0.001 for Adam), not the run's",
    zh="文件中的优化器 {optimizer} 没有 lr：DeepSpeed 与 torch 会用自己的默认值（Adam 为 0.001），而不是训练的学习率",
)
DIFFERS = Text(
    en="the file's optimizer {optimizer} has lr {lr}, the run asks for {asked}",
    zh="文件中的优化器 {optimizer} 的 lr 为 {lr}，而训练要求 {asked}",
)
OWNS = Text(
    en="the file's optimizer {optimizer} replaces the run's, with its own rate, betas and weight decay where they are written",
    zh="文件中的优化器 {optimizer} 会取代训练的优化器，并使用文件中写明的学习率、betas 和权重衰减",
)
FIX = Text(
    en="take optimizer out of the file, so that one place owns it: gogpt check {path} --fix OUT",
    zh="从文件中去掉 optimizer，让优化器只由一处管理：gogpt check {path} --fix OUT",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if file.optimizer is None:
        return
    differs = file.optimizer_lr is not None and file.asked_rate is not None and file.optimizer_lr != file.asked_rate
    missing = "lr" not in file.optimizer_keys
    yield Finding(
        code="CFG261", severity=Severity.ERROR if missing or differs else Severity.WARNING,
        message=NO_RATE if missing else DIFFERS if differs else OWNS,
        evidence={"path": file.path, "optimizer": file.optimizer, "lr": file.optimizer_lr, "asked": file.asked_rate},
        fix=FIX, where=file.at("optimizer.params.lr", "optimizer"),
    )


CHECK = Check(
    code="CFG261",
    name="own_optimizer",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="the DeepSpeed file brings its own optimizer", zh="DeepSpeed 文件自带优化器"),
        what=Text(
            en="Whether the file has an optimizer. An error where its learning rate is missing or is not the run's (train.learning_rate=... on the command line), a warning otherwise.",
            zh="检查文件中是否有 optimizer。若缺少学习率，或与训练的学习率（命令行的 train.learning_rate=...）不同则为错误，否则为警告。",
        ),
        why=Text(
            en="Two places then own the learning rate. A block without lr trains at 0.001, five times a usual LoRA rate and fifty times one of full fine-tuning.",
            zh="这样学习率就由两处管理。没有 lr 的一节会以 0.001 训练：约为常用 LoRA 学习率的五倍、全参微调的五十倍。",
        ),
        fix=Text(
            en="Remove the optimizer block. With offload_optimizer, accelerate then puts DeepSpeed's CPU Adam in the place of the run's AdamW.",
            zh="删除 optimizer 一节。启用 offload_optimizer 时，accelerate 会用 DeepSpeed 的 CPU Adam 代替训练的 AdamW。",
        ),
        example="""error CFG261 ds.json:12: the file's optimizer AdamW has no lr: DeepSpeed and torch then take their own default (0.001 for Adam), not the run's
  fix: take optimizer out of the file, so that one place owns it: gogpt check ds.json --fix OUT

# no "optimizer" in the file
{"zero_optimization": {"stage": 2}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, optimizer="AdamW", optimizer_keys=("betas",))),
        Facts(engine=replace(ENGINE, optimizer="AdamW", optimizer_keys=("lr",), optimizer_lr=1e-3, asked_rate=2e-4)),
        Facts(engine=replace(ENGINE, optimizer="AdamW", optimizer_keys=("lr",))),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, asked_rate=2e-4)),
    ),
)
