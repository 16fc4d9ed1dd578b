"""CFG255: a DeepSpeed file says otherwise than the recipe that names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE, PLAN
from gogpt.facts import EngineFacts, Facts, PlanFacts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{path} says {theirs}; the recipe's plan is {ours}: one of them would be ignored in silence",
    zh="{path} 写的是 {theirs}；配方的计划是 {ours}：其中之一会被悄悄忽略",
)
FIX = Text(
    en='write "auto" for {keys} in the file (gogpt check {path} --fix OUT for what else is wrong), or change the recipe',
    zh='把文件中的 {keys} 写成 "auto"（其他问题可用 gogpt check {path} --fix OUT 改正），或修改配方',
)


def run(facts: Facts) -> Iterator[Finding]:
    file, plan = facts.engine, facts.plan
    assert file is not None
    assert plan is not None
    found = list(_differences(file, plan))
    if not found:
        return
    yield Finding(
        code="CFG255", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=file.at(*(key for key, _, _ in found)),
        evidence={"path": file.path, "keys": ", ".join(key for key, _, _ in found), "theirs": ", ".join(f"{k}: {t}" for k, t, _ in found),
                  "ours": ", ".join(f"{k}: {o}" for k, _, o in found)},
    )


def _differences(file: EngineFacts, plan: PlanFacts) -> Iterator[tuple[str, str, str]]:
    """(key of the file, its value, the plan's)."""
    sizes = (("train_batch_size", file.batch_size, plan.batch_size), ("train_micro_batch_size_per_gpu", file.micro_batch_size, plan.micro_batch_size),
             ("gradient_accumulation_steps", file.accumulation, plan.accumulation))
    for key, theirs, ours in sizes:
        if theirs is not None and theirs != ours:
            yield key, str(theirs), str(ours)
    for name, on in (("bf16", file.bf16), ("fp16", file.fp16)):
        if on and plan.precision != name:
            yield f"{name}.enabled", "true", plan.precision


CHECK = Check(
    code="CFG255",
    name="file_against_recipe",
    stage=Stage.CONFIG,
    severity=Severity.ERROR,
    needs=("engine", "plan"),
    run=run,
    page=Page(
        title=Text(en="the DeepSpeed file says otherwise than the recipe", zh="DeepSpeed 文件与配方不一致"),
        what=Text(
            en="Whether the batch sizes, the accumulation and the precision of parallel.config, where it gives them as values, are those of the plan. What "
            "it says of schedule, optimizer and clipping is judged by CFG260 to CFG273.",
            zh="检查 parallel.config 中写明的批大小、累积步数和精度是否与计划相同。学习率计划、优化器和裁剪由 CFG260 至 CFG273 检查。",
        ),
        why=Text(
            en="Two places that set one thing are how a run trains with numbers that nobody asked for: the file wins in some of the engines' versions, the "
            "arguments in others (hiyouga/LLaMA-Factory#2495; huggingface/transformers#33086).",
            zh="同一件事由两处设定，训练就可能使用谁也没要求的数值：有的版本以文件为准，有的以参数为准（hiyouga/LLaMA-Factory#2495；huggingface/transformers#33086）。",
        ),
        fix=Text(
            en='Write "auto" in the file: the plan\'s values are put there. Or leave parallel.config out and use parallel.zero and parallel.offload.',
            zh='在文件中写 "auto"，计划的数值会填入其中；或去掉 parallel.config，改用 parallel.zero 和 parallel.offload。',
        ),
        example="""error CFG255 ds.json:3: ds.json says train_micro_batch_size_per_gpu: 8; the recipe's plan is train_micro_batch_size_per_gpu: 4: one of them would be ignored in silence
  fix: write "auto" for train_micro_batch_size_per_gpu in the file (gogpt check ds.json --fix OUT for what else is wrong), or change the recipe

{ "train_micro_batch_size_per_gpu": "auto" }""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, bf16=False, micro_batch_size=8, lines={"train_micro_batch_size_per_gpu": 3}), plan=PLAN),
        Facts(engine=replace(ENGINE, batch_size=999), plan=PLAN),
        Facts(engine=replace(ENGINE, accumulation=PLAN.accumulation + 1), plan=PLAN),
        Facts(engine=replace(ENGINE, fp16=True, bf16=False), plan=PLAN),
    ),
    silent=(
        Facts(engine=replace(ENGINE, bf16=False), plan=PLAN),
        Facts(engine=replace(ENGINE, bf16=True), plan=replace(PLAN, precision="bf16")),
        Facts(engine=replace(ENGINE, bf16=False, batch_size=PLAN.batch_size, micro_batch_size=PLAN.micro_batch_size, accumulation=PLAN.accumulation), plan=PLAN),
    ),
)
