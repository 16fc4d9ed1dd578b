"""CFG225: conversations longer than the other tool's maximum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

LIMIT = 0.05
"""From this share of the rows on, cut conversations are an error."""

MOST = 0.5
"""... and dropped ones."""

PROMPT = Text(
    en="{count} of {rows} conversations are longer than {key} {max_length} ({share:.0%}): {release} cuts prompts and answers to fit, and trains what is left",
    zh="{rows} 条对话中有 {count} 条（{share:.0%}）超过 {key} {max_length}：{release} 会裁剪提示和答案，并训练剩下的部分",
)
END = Text(
    en="{count} of {rows} conversations are longer than {key} {max_length} ({share:.0%}): {release} cuts their end, the answer and its stop token, or drops them",
    zh="{rows} 条对话中有 {count} 条（{share:.0%}）超过 {key} {max_length}：{release} 会裁掉末尾的答案和停止符，或整条丢弃",
)
DROPS = Text(
    en="{count} of {rows} conversations are longer than {key} {max_length} ({share:.0%}): {release} drops them",
    zh="{rows} 条对话中有 {count} 条（{share:.0%}）超过 {key} {max_length}：{release} 会丢弃它们",
)
FIX = Text(
    en="{key} above {max_length}, or take the long conversations out",
    zh="提高 {key}（现为 {max_length}），或去掉过长的对话",
)


def run(facts: Facts) -> Iterator[Finding]:
    file, data = facts.foreign, facts.data
    assert file is not None
    assert data is not None
    count = data.drops.get("overlong", 0)
    if not count:
        return
    share = count / max(1, data.rows_in)
    first = data.first.get("overlong") or ()
    message = {"cuts_prompt": PROMPT, "cuts_end": END}.get(file.overlong, DROPS)
    severity = Severity.ERROR if share >= (LIMIT if file.overlong != "drops" else MOST) else Severity.WARNING
    yield Finding(
        code="CFG225", severity=severity, message=message, fix=FIX, where=file.at(file.key("max_length")),
        evidence={"count": count, "rows": data.rows_in, "share": share, "key": file.key("max_length"), "max_length": file.max_length, "release": file.release, "first": list(first)},
    )


CHECK = Check(
    code="CFG225",
    name="foreign_rows_cut",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign", "data"),
    run=run,
    page=Page(
        title=Text(
            en="conversations are longer than the maximum",
            zh="对话超过最大长度",
        ),
        what=Text(
            en="Where model and data are here: how many conversations are longer than the maximum of the configuration. An error from 5% on where the tool cuts them, from half of the rows on where it drops them; a warning below.",
            zh="模型和数据都在本地时：统计超过配置最大长度的对话数。工具会裁剪时从 5% 起为错误，会丢弃时从半数起为错误；低于此为警告。",
        ),
        why=Text(
            en="Measured: LLaMA-Factory 0.9.5 keeps the answer and cuts the end of the prompt, the closing of the user's turn with it, or trains one token without EOS; TRL 1.16 drops rows that it cut to nothing without a word, and with packing trains 32 rows at loss 0 (hiyouga/LLaMA-Factory#5231, #3945; yangjianxin1/Firefly#293; huggingface/trl#4632).",
            zh="实测：LLaMA-Factory 0.9.5 保留答案而裁掉提示的末尾（连同用户回合的结束标记），或只训练一个不带 EOS 的 token；TRL 1.16 会悄悄丢掉被裁空的行，打包时则以损失 0 训练 32 行（hiyouga/LLaMA-Factory#5231、#3945；yangjianxin1/Firefly#293；huggingface/trl#4632）。",
        ),
        fix=Text(
            en="Raise the maximum as far as memory allows, or split the conversations first. gogpt data inspect shows the lengths.",
            zh="在内存允许的范围内提高上限，或先拆分对话。gogpt data inspect 会显示长度分布。",
        ),
        example="""error CFG225 lf.yaml:6: 900 of 2000 conversations are longer than cutoff_len 64 (45%): LLaMA-Factory 0.9.5 cuts prompts and answers to fit, and trains what is left
  fix: cutoff_len above 64, or take the long conversations out

cutoff_len: 4096""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, max_length=64), data=replace(DATA, drops={"overlong": 900}, first={"overlong": ("data/a.jsonl:3",)})),
        Facts(foreign=replace(FOREIGN, max_length=64, overlong="cuts_end"), data=replace(DATA, drops={"overlong": 20})),
        Facts(foreign=replace(FOREIGN, max_length=64, overlong="drops"), data=replace(DATA, drops={"overlong": 900})),
        Facts(foreign=replace(FOREIGN, max_length=64, overlong="drops"), data=replace(DATA, drops={"overlong": 1900})),
    ),
    silent=(
        Facts(foreign=FOREIGN, data=DATA),
    ),
)
