"""TOK403: sequences of which no token would be trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, PLAN
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SOME = Text(
    en="no trained token is left after truncation to {max_length} in {count} of {rows_in} rows (the prompt alone is {longest_prompt} "
    "tokens in the longest)",
    zh="截断到 {max_length} 后，{rows_in} 行中有 {count} 行没有任何被训练的 token（其中最长的仅提示就有 {longest_prompt} 个 token）",
)
ALL = Text(
    en="no trained token is left after truncation to {max_length} in any row (all {count}; the prompt alone is "
    "{longest_prompt} tokens in the longest)",
    zh="截断到 {max_length} 后，所有行（共 {count} 行）都没有被训练的 token（其中最长的仅提示就有 {longest_prompt} 个 token）",
)
SEQUENCES = Text(
    en="no trained token is left after truncation to {max_length} in {count} sequences, one for each answer (the prompt alone is "
    "{longest_prompt} tokens in the longest)",
    zh="截断到 {max_length} 后，有 {count} 个序列（每个答案一个）没有被训练的 token（其中最长的仅提示就有 {longest_prompt} 个 token）",
)
FIX = Text(
    en="max_length >= {enough}, or train on fewer turns",
    zh="设 max_length >= {enough}，或减少每行的轮数",
)
NOT_MARKED = Text(
    en="{count} of {rows_in} rows have no trained message: every answer is marked train: false",
    zh="{rows_in} 行中有 {count} 行没有被训练的消息：所有答案都标记为 train: false",
)
FIX_MARK = Text(
    en="set train: true on the answers to train, or take those rows out",
    zh="把要训练的答案标记为 train: true，或去掉这些行",
)


def run(facts: Facts) -> Iterator[Finding]:
    data, plan = facts.data, facts.plan
    assert data is not None
    assert plan is not None
    if not data.no_trained.count:
        return
    longest = data.longest_prompt_cut
    rows = data.drops.get("no_trained_token", 0)
    evidence = {
        "count": data.no_trained.count, "rows_dropped": rows, "rows_in": data.rows_in, "examples": data.examples,
        "max_length": plan.max_length, "longest_prompt": longest, "enough": -(-(longest + 64) // 64) * 64,
        "first": list(data.no_trained.first),
    }
    if longest < plan.max_length:
        message, fix = NOT_MARKED, FIX_MARK
    elif data.examples == 0:
        message, fix = ALL, FIX
    else:
        message, fix = (SOME if data.no_trained.count <= rows else SEQUENCES), FIX
    where = data.no_trained.first[0] if data.no_trained.first else None
    yield Finding(code="TOK403", severity=Severity.ERROR, message=message, evidence=evidence, fix=fix, where=where)


SHORT = replace(PLAN, max_length=512, overlong="truncate")
CUT = replace(
    DATA, conversations=1997, drops={"no_trained_token": 3}, longest=512, longest_prompt_cut=640,
    no_trained=Tally(count=3, first=("data/a.jsonl:118", "data/a.jsonl:250", "data/a.jsonl:911")),
)

CHECK = Check(
    code="TOK403",
    name="no_trained_token",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data", "plan"),
    run=run,
    page=Page(
        title=Text(en="no trained token is left", zh="没有任何被训练的 token"),
        what=Text(
            en="Whether a sequence keeps at least one trained token (a label other than -100) within data.max_length. Counted "
            "over the whole data, not on a sample.",
            zh="检查每个序列在 data.max_length 内是否至少保留一个被训练的 token（标签不为 -100）。在全部数据上计数，而非抽样。",
        ),
        why=Text(
            en="When the prompt alone fills max_length, every label of the row is masked. Such rows train nothing; a batch of "
            "them gives loss 0 or NaN and the run goes on (yangjianxin1/Firefly#293, unslothai/unsloth#2900, "
            "lm-sys/FastChat#3266). TRL 1.16 with packing ran every step with loss 0 and exit code 0.",
            zh="仅提示就占满 max_length 时，整行标签都被屏蔽，什么也不训练；一整批这样的行会使损失为 0 或 NaN，训练却照常继续"
            "（yangjianxin1/Firefly#293、unslothai/unsloth#2900、lm-sys/FastChat#3266）。TRL 1.16 在打包时每步损失都是 0，退出码仍为 0。",
        ),
        fix=Text(
            en="Raise data.max_length above the longest prompt, cut the prompts, or let data.overlong: drop leave long rows out "
            "(they are then counted). If every answer is marked train: false, mark those that should be trained.",
            zh="把 data.max_length 提高到最长提示以上，缩短提示，或用 data.overlong: drop 丢弃过长的行（会计数）。"
            "若所有答案都标记为 train: false，请标记需要训练的答案。",
        ),
        example="""error TOK403 data/a.jsonl:118: no trained token is left after truncation to 512 in 3 of 2000 rows (the prompt alone is 640 tokens in the longest)
  fix: max_length >= 704, or train on fewer turns

data:
  max_length: 704""",
    ),
    fires=(
        Facts(plan=SHORT, data=CUT),
        Facts(plan=SHORT, data=replace(CUT, examples=0, eval_examples=0, drops={"no_trained_token": 2000},
                                       no_trained=Tally(count=2000, first=("data/a.jsonl:1",)))),
        Facts(plan=SHORT, data=replace(CUT, drops={"no_trained_token": 1})),
        Facts(plan=PLAN, data=replace(CUT, longest_prompt_cut=80)),
    ),
    silent=(
        Facts(plan=PLAN, data=DATA),
        Facts(plan=SHORT, data=replace(DATA, longest=512, cut_targets=Tally(count=9, first=("data/a.jsonl:4",)))),
    ),
)
