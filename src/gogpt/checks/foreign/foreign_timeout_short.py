"""CFG276: tokenising takes longer than the other processes wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

BYTES_A_SECOND = 1.35e6
"""Of text, one process: half of what LLaMA-Factory 0.9.5 encodes with two (docs/performance.md: 2.2 k conversations of 305 tokens, 2.7 MB)."""

MESSAGE = Text(
    en="{megabytes:,} MB are tokenised inside the run by {workers} processes, about {minutes} minutes, while {others} processes wait {timeout} s at most",
    zh="训练中要用 {workers} 个进程分词 {megabytes:,} MB，约需 {minutes} 分钟，而其余 {others} 个进程最多等待 {timeout} 秒",
)
FIX = Text(
    en="tokenise beforehand (tokenized_path, dataset_prepared_path, cached_dataset), or {key}: {wanted}",
    zh="预先分词（tokenized_path、dataset_prepared_path、cached_dataset），或设 {key}: {wanted}",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if (file.world_size or 1) < 2 or file.tokenised_ahead or not file.ddp_timeout:
        return
    seconds = file.data_bytes / (BYTES_A_SECOND * file.workers)
    if seconds > file.ddp_timeout:
        yield Finding(
            code="CFG276", severity=Severity.WARNING, message=MESSAGE, fix=FIX, where=file.at(file.key("ddp_timeout"), file.key("train")),
            evidence={"megabytes": file.data_bytes // 10**6, "workers": file.workers, "minutes": round(seconds / 60), "others": (file.world_size or 1) - 1,
                      "timeout": file.ddp_timeout, "key": file.key("ddp_timeout"), "wanted": 2 * (int(seconds) // 3600 + 1) * 3600, "bytes_a_second": BYTES_A_SECOND},
        )


CHECK = Check(
    code="CFG276",
    name="foreign_timeout_short",
    stage=Stage.FOREIGN,
    severity=Severity.WARNING,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="the other processes give up while one tokenises",
            zh="一个进程分词时其余进程等待超时",
        ),
        what=Text(
            en="Of a launch script with several processes: whether the local data, at the measured speed of the tool, takes longer to tokenise than ddp_timeout.",
            zh="对多进程的启动脚本：按实测速度，检查本地数据的分词时间是否超过 ddp_timeout。",
        ),
        why=Text(
            en="One rank tokenises while the others stand at a barrier; after 1,800 seconds (the default) NCCL ends the run: Watchdog caught collective operation timeout, BROADCAST. docs/performance.md: LLaMA-Factory encodes 2.2 k conversations (2.7 MB) a second in two processes.",
            zh="一个进程分词时，其余进程停在屏障处；1,800 秒（默认值）后 NCCL 终止训练：Watchdog caught collective operation timeout，BROADCAST。docs/performance.md：LLaMA-Factory 用两个进程每秒编码 2.2 k 条对话（2.7 MB）。",
        ),
        fix=Text(
            en="Tokenise in a run of its own, before the machines are booked, and train from what it wrote.",
            zh="在占用机器之前单独运行一次分词，再从其结果开始训练。",
        ),
        example="""warning CFG276 train.sh:9: 12,000 MB are tokenised inside the run by 2 processes, about 74 minutes, while 7 processes wait 1800 s at most
  fix: tokenise beforehand (tokenized_path, dataset_prepared_path, cached_dataset), or ddp_timeout: 14400

tokenized_path: saves/tokenized
ddp_timeout: 180000000""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, world_size=8, data_bytes=12 * 10**9, workers=2, places={"dataset": "train.sh:9"})),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, world_size=8)),
        Facts(foreign=replace(FOREIGN, world_size=8, data_bytes=12 * 10**9, tokenised_ahead=True)),
        Facts(foreign=replace(FOREIGN, data_bytes=12 * 10**9)),
    ),
)
