"""DAT311: rows of the data that are not trained, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{dropped} of {rows_in} rows dropped ({share:.1%}): {reasons}",
    zh="{rows_in} 行中有 {dropped} 行（{share:.1%}）被丢弃：{reasons}",
)
FIX = Text(
    en="see the row with gogpt show {first}; every dropped row and its reason is in rejects.jsonl of the run folder",
    zh="用 gogpt show {first} 查看该行；所有被丢弃的行及原因都在运行目录的 rejects.jsonl 中",
)
TOLD_ELSEWHERE = ("no_trained_token",)
"""Reasons with a check of their own (TOK403): told here, but not counted towards an error."""


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    drops = {reason: n for reason, n in sorted(data.drops.items(), key=lambda item: -item[1]) if n}
    dropped = sum(drops.values())
    if not dropped:
        return
    places = {reason: data.first[reason][0] for reason in drops if data.first.get(reason)}
    first = next(iter(places.values()), None)
    reasons = ", ".join(f"{r} {n}" + (f" (first {places[r]})" if r in places else "") for r, n in drops.items())
    counted = sum(n for reason, n in drops.items() if reason not in TOLD_ELSEWHERE)
    evidence = {
        "rows_in": data.rows_in, "conversations": data.conversations, "dropped": dropped, "reasons": reasons,
        "share": dropped / max(1, data.rows_in), "drops": drops, "first": first or "FILE:ROW",
    }
    severity = Severity.ERROR if 2 * counted > data.rows_in else Severity.WARNING
    yield Finding(code="DAT311", severity=severity, message=MESSAGE, evidence=evidence, fix=FIX, where=first)


CHECK = Check(
    code="DAT311",
    name="rows_dropped",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="rows are dropped", zh="有数据行被丢弃"),
        what=Text(
            en="How many rows of the sources become no training example, and why. The ledger conserves: rows in = "
            "conversations + drops. More than half of the rows dropped is an error, fewer a warning (rows without a trained "
            "token are judged by TOK403).",
            zh="统计数据源中没有成为训练样本的行数及原因。账目守恒：读入行数 = 对话数 + 丢弃数。丢弃超过一半报错，否则警告"
            "（没有被训练的 token 的行由 TOK403 判断）。",
        ),
        why=Text(
            en="Rows that vanish without a word change what is learned. TRL 1.16 drops half of the rows behind a progress bar; "
            "LLaMA-Factory 0.9.5 warns without a row number and without a total. A misspelt column or a max_length that is "
            "too small shows here first.",
            zh="悄悄消失的行会改变模型学到的内容。TRL 1.16 在进度条之后丢掉了一半的行；LLaMA-Factory 0.9.5 的警告没有行号，也没有总数。"
            "列名拼错或 max_length 过小，最先在这里显现。",
        ),
        fix=Text(
            en="Look at the first row of each reason with gogpt show FILE:ROW. overlong: raise data.max_length or set "
            "data.overlong: split | truncate. empty_answer, no_answer, unknown_role, turn_order: correct the data. "
            "unreadable: the line is no JSON. other_schema: split the file.",
            zh="用 gogpt show FILE:ROW 查看每种原因的首行。overlong：增大 data.max_length，或设 data.overlong: split | truncate。"
            "empty_answer、no_answer、unknown_role、turn_order：修正数据。unreadable：该行不是 JSON。other_schema：拆分文件。",
        ),
        example="""warning DAT311 data/a.jsonl:4: 15 of 2000 rows dropped (0.8%): overlong 12 (first data/a.jsonl:4), empty_answer 3 (first data/a.jsonl:71)
  fix: see the row with gogpt show data/a.jsonl:4; every dropped row and its reason is in rejects.jsonl of the run folder

data:
  max_length: 4096""",
    ),
    fires=(
        Facts(
            data=replace(
                DATA, conversations=1985, drops={"overlong": 12, "empty_answer": 3},
                first={"overlong": ("data/a.jsonl:4", "data/a.jsonl:9"), "empty_answer": ("data/a.jsonl:71",)},
            )
        ),
        Facts(data=replace(DATA, conversations=800, drops={"overlong": 1200}, first={"overlong": ("data/a.jsonl:1",)})),
        Facts(data=replace(DATA, conversations=1999, drops={"unreadable": 1}, first={})),
    ),
    silent=(Facts(data=DATA), Facts(data=replace(DATA, drops={"overlong": 0}))),
)
