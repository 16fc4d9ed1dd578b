"""RUN631: processes that should hold the same weights do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import RUN, STEP
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

TOLERANCE = 1e-3
"""Relative difference of gradient norms, and of the squares of update norms. Processes that average their gradients take the same step: measured 0 under DDP and ZeRO 1 and 2."""

MESSAGE = Text(
    en="the {world_size} processes took different steps: their norms differ by {share:.1%} at step {step}; their gradients are not averaged, or their weights were not the same",
    zh="{world_size} 个进程走了不同的步：第 {step} 步的范数相差 {share:.1%}；梯度没有在进程间平均，或权重本来就不同",
)
FIX = Text(
    en="start the processes with gogpt train, or one launcher alone, and see gogpt doctor; with a custom engine, give every process the same seed",
    zh="用 gogpt train 或单独一种启动器启动各进程，并查看 gogpt doctor；使用自定义引擎时，让各进程使用同一随机种子",
)


def run(facts: Facts) -> Iterator[Finding]:
    seen = facts.run
    assert seen is not None
    if seen.world_size < 2 or seen.rank_spread <= TOLERANCE:
        return
    step = seen.last.step if seen.last is not None else 0
    yield Finding(code="RUN631", severity=Severity.ERROR, message=MESSAGE, fix=FIX,
                  evidence={"step": step, "world_size": seen.world_size, "share": seen.rank_spread, "tolerance": TOLERANCE})


CHECK = Check(
    code="RUN631",
    name="processes_apart",
    stage=Stage.RUN,
    severity=Severity.ERROR,
    needs=("run",),
    run=run,
    page=Page(
        title=Text(en="the processes train apart", zh="各进程各练各的"),
        what=Text(
            en="Whether processes that each hold all weights (DDP, ZeRO 1 and 2) take the same step: their gradient norms and their updates are compared after every optimizer step.",
            zh="检查各自持有全部权重的进程（DDP、ZeRO 1 和 2）是否走同样的一步：每个优化步之后比较它们的梯度范数和更新。",
        ),
        why=Text(
            en="Processes that do not average their gradients are so many runs on a part of the data each, of which one is saved. The loss looks healthy. accelerate 1.15 does this "
            "in silence where it sees no GPU and use_cpu is not set (measured); a token average that is not reduced over processes is a smaller form of it "
            "(huggingface/transformers#34242, #39392; huggingface/trl PR#3538).",
            zh="不平均梯度的进程，等于各自用一部分数据单独训练，最后只保存其中一个，而损失看起来正常。accelerate 1.15 在看不到 GPU 且未设 use_cpu 时就会这样，而且没有任何提示（实测）；"
            "token 平均没有在进程间归约是较轻的一种（huggingface/transformers#34242、#39392；huggingface/trl PR#3538）。",
        ),
        fix=Text(
            en="Start with gogpt train and parallel.processes, or with one launcher. A GPU that one process does not see (CUDA_VISIBLE_DEVICES) is a usual cause.",
            zh="用 gogpt train 和 parallel.processes 启动，或只用一种启动器。常见原因是某个进程看不到 GPU（CUDA_VISIBLE_DEVICES）。",
        ),
        example="""RUN631: the 8 processes took different steps: their norms differ by 12.0% at step 40; their gradients are not averaged, or their weights were not the same
  fix:      start the processes with gogpt train, or one launcher alone, and see gogpt doctor; with a custom engine, give every process the same seed

parallel: {engine: ddp, processes: 8}""",
    ),
    fires=(Facts(run=replace(RUN, world_size=8, rank_spread=0.12, last=replace(STEP, step=40))), Facts(run=replace(RUN, world_size=2, rank_spread=0.002))),
    silent=(Facts(run=RUN), Facts(run=replace(RUN, world_size=8, rank_spread=1e-7)), Facts(run=replace(RUN, world_size=1, rank_spread=0.5))),
)
