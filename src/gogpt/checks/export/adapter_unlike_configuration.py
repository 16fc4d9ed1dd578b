"""EXP724: an adapter whose tensors are not those of its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ADAPTER
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

TARGETS = Text(
    en="adapter_config.json targets {targets}, for which the adapter has no tensor",
    zh="adapter_config.json 以 {targets} 为目标，但适配器中没有对应的张量",
)
RANK = Text(
    en="{count} tensors are not of rank {rank}, as adapter_config.json says (first {first})",
    zh="{count} 个张量的秩不是 adapter_config.json 所写的 {rank}（首个：{first}）",
)
FIX = Text(
    en="take configuration and weights from the same save",
    zh="使用同一次保存的配置和权重",
)


def run(facts: Facts) -> Iterator[Finding]:
    adapter = facts.adapter
    assert adapter is not None
    if adapter.wrong_rank.count:
        yield Finding(code="EXP724", severity=Severity.ERROR, message=RANK, fix=FIX, where=adapter.path,
                      evidence={"count": adapter.wrong_rank.count, "rank": adapter.rank, "first": adapter.wrong_rank.first[0]})
    elif adapter.targets_without:
        yield Finding(code="EXP724", severity=Severity.ERROR, message=TARGETS, evidence={"targets": ", ".join(adapter.targets_without)}, fix=FIX, where=adapter.path)


CHECK = Check(
    code="EXP724",
    name="adapter_unlike_configuration",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("adapter",),
    run=run,
    page=Page(
        title=Text(
            en="weights and configuration of an adapter differ",
            zh="适配器的权重与配置不一致",
        ),
        what=Text(
            en="Whether each target module of adapter_config.json has tensors, and whether they have its rank.",
            zh="检查 adapter_config.json 的每个目标模块是否有张量，且秩相符。",
        ),
        why=Text(
            en="A target without tensors is created fresh on loading, as zero: that part of the model is the base again. LLaMA-Factory 0.9.5 and TRL 1.16 train a list with one right and one misspelt target without a word.",
            zh="没有张量的目标在加载时会以零新建，模型的这一部分就回到了基座。LLaMA-Factory 0.9.5 和 TRL 1.16 在目标列表一对一错时会不作提示地训练。",
        ),
        fix=Text(
            en="Copy both files from the same checkpoint. gogpt check CONFIG finds a misspelt target before the run (MOD502).",
            zh="从同一检查点复制这两个文件。gogpt check CONFIG 会在训练前发现拼错的目标（MOD502）。",
        ),
        example="""error EXP724 runs/a/final: adapter_config.json targets k_proj, for which the adapter has no tensor
  fix: take configuration and weights from the same save

{"r": 16, "target_modules": ["q_proj", "v_proj"]}""",
    ),
    fires=(
        Facts(adapter=replace(ADAPTER, targets_without=("k_proj",))),
        Facts(adapter=replace(ADAPTER, wrong_rank=Tally(count=2, first=("x.lora_A.weight",)))),
    ),
    silent=(
        Facts(adapter=ADAPTER),
    ),
)
