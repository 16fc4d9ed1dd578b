"""CFG266: the three batch sizes do not multiply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

WORLD = Text(
    en="train_batch_size is {batch_size}, but train_micro_batch_size_per_gpu {micro} x gradient_accumulation_steps {accumulation} x processes {world_size} = {product}",
    zh="train_batch_size 为 {batch_size}，但 train_micro_batch_size_per_gpu {micro} × gradient_accumulation_steps {accumulation} × 进程数 {world_size} = {product}",
)
NEVER = Text(
    en="train_batch_size is {batch_size}, which is no multiple of train_micro_batch_size_per_gpu {micro} x gradient_accumulation_steps {accumulation} = {product}: no number of processes fits",
    zh="train_batch_size 为 {batch_size}，不是 train_micro_batch_size_per_gpu {micro} × gradient_accumulation_steps {accumulation} = {product} 的倍数：任何进程数都不合适",
)
FIX = Text(
    en="take train_batch_size out (DeepSpeed works it out from the other two): gogpt check {path} --fix OUT",
    zh="去掉 train_batch_size（DeepSpeed 会由另外两项算出）：gogpt check {path} --fix OUT",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if not file.batch_size or not file.micro_batch_size or not file.accumulation:
        return
    product = file.micro_batch_size * file.accumulation * (file.world_size or 1)
    if file.batch_size == product or (file.world_size is None and file.batch_size % product == 0):
        return
    yield Finding(
        code="CFG266", severity=Severity.ERROR, message=NEVER if file.world_size is None else WORLD, fix=FIX,
        evidence={"path": file.path, "batch_size": file.batch_size, "micro": file.micro_batch_size, "accumulation": file.accumulation,
                  "world_size": file.world_size, "product": product},
        where=file.at("train_batch_size"),
    )


CHECK = Check(
    code="CFG266",
    name="batch_sizes_differ",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="DeepSpeed's batch sizes do not multiply", zh="DeepSpeed 的批大小对不上"),
        what=Text(
            en="Whether train_batch_size = train_micro_batch_size_per_gpu x gradient_accumulation_steps x processes. The processes are parallel.processes=N of the command line; without it, whether any number of them fits.",
            zh="检查 train_batch_size 是否等于 train_micro_batch_size_per_gpu × gradient_accumulation_steps × 进程数。进程数取命令行的 parallel.processes=N；未给出时，检查是否存在合适的进程数。",
        ),
        why=Text(
            en="DeepSpeed refuses to start, on every process, after the model was loaded.",
            zh="DeepSpeed 会在模型加载之后、在每个进程上拒绝启动。",
        ),
        fix=Text(
            en="Name two of the three and let DeepSpeed work out the third, or leave all three to the Trainer (auto).",
            zh="只写其中两项，由 DeepSpeed 算出第三项；或三项都交给 Trainer（auto）。",
        ),
        example="""error CFG266 ds.json:2: train_batch_size is 30, which is no multiple of train_micro_batch_size_per_gpu 4 x gradient_accumulation_steps 2 = 8: no number of processes fits
  fix: take train_batch_size out (DeepSpeed works it out from the other two): gogpt check ds.json --fix OUT

{"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, batch_size=30, micro_batch_size=4, accumulation=2)),
        Facts(engine=replace(ENGINE, batch_size=32, micro_batch_size=4, accumulation=2, world_size=8)),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, batch_size=32, micro_batch_size=4, accumulation=2)),
        Facts(engine=replace(ENGINE, batch_size=64, micro_batch_size=4, accumulation=2, world_size=8)),
        Facts(engine=replace(ENGINE, batch_size=30)),
    ),
)
