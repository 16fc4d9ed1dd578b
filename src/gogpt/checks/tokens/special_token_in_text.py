"""TOK406: rows whose own text spells a special token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, PLAN
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{count} of {rows_in} rows spell special tokens in their own text ({seen})",
    zh="{rows_in} 行中有 {count} 行的文本含有特殊 token 的写法（{seen}）",
)
FIX = Text(
    en="clean the text, or data.special_text: drop (leaves those rows out) | keep (the text becomes the special token)",
    zh="清理文本，或设 data.special_text: drop（丢弃这些行）| keep（文本变成特殊 token）",
)
KEPT = Text(
    en="{count} of {rows_in} rows spell special tokens in their own text ({seen}), and are encoded with them (data.special_text: keep)",
    zh="{rows_in} 行中有 {count} 行的文本含有特殊 token 的写法（{seen}），并被编码为这些 token（data.special_text: keep）",
)
FIX_KEPT = Text(
    en="see one with gogpt show {place}; data.special_text: drop leaves such rows out",
    zh="用 gogpt show {place} 查看；data.special_text: drop 会丢弃这些行",
)


def run(facts: Facts) -> Iterator[Finding]:
    data, plan = facts.data, facts.plan
    assert data is not None
    assert plan is not None
    found = data.special_text
    if not found.count or plan.special_text == "drop":
        return
    place = found.first[0] if found.first else None
    evidence = {"count": found.count, "rows_in": data.rows_in, "tokens": list(data.special_tokens_seen),
                "seen": " ".join(data.special_tokens_seen), "policy": plan.special_text, "first": list(found.first),
                "place": place or "FILE:ROW"}
    if plan.special_text == "keep":
        yield Finding(code="TOK406", severity=Severity.WARNING, message=KEPT, evidence=evidence, fix=FIX_KEPT, where=place)
    else:
        yield Finding(code="TOK406", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=place)


SEEN = replace(
    DATA, special_text=Tally(count=4, first=("data/a.jsonl:31", "data/a.jsonl:77")), special_tokens_seen=("<|im_end|>", "</s>")
)

CHECK = Check(
    code="TOK406",
    name="special_token_in_text",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data", "plan"),
    run=run,
    page=Page(
        title=Text(en="text spells a special token", zh="文本中出现特殊 token"),
        what=Text(
            en="Whether a message's own text contains the text of a special token of the tokenizer or a marker of the template "
            "(<|im_end|>, </s>). data.special_text decides: error refuses, drop leaves the rows out and counts them, keep "
            "encodes the text as the special token and warns.",
            zh="检查消息文本是否含有分词器特殊 token 或模板标记的写法（<|im_end|>、</s>）。由 data.special_text 决定：error 拒绝训练，"
            "drop 丢弃并计数，keep 把文本编码为特殊 token 并给出警告。",
        ),
        why=Text(
            en="Such text is parsed as control: an answer that contains <|im_end|> ends in the middle, and a user's text can "
            "open an assistant turn. In data that was scraped or generated it usually means that a template was applied "
            "twice. Tuned models then print template marks at the end of their answers.",
            zh="这类文本会被当作控制符：答案里的 <|im_end|> 会使答案中途结束，用户文本可以伪造助手的回合。"
            "在抓取或生成的数据里，这通常说明模板被套用了两次。微调后的模型会在答案末尾输出模板标记。",
        ),
        fix=Text(
            en="Look at the row with gogpt show FILE:ROW. Remove the marks from the data; if the rows are few, "
            "data.special_text: drop is enough. Use keep only for data that is meant to hold special tokens.",
            zh="用 gogpt show FILE:ROW 查看该行，从数据中去掉这些标记；若行数很少，data.special_text: drop 即可。"
            "只有数据本来就应含特殊 token 时才用 keep。",
        ),
        example="""error TOK406 data/a.jsonl:31: 4 of 2000 rows spell special tokens in their own text (<|im_end|> </s>)
  fix: clean the text, or data.special_text: drop (leaves those rows out) | keep (the text becomes the special token)

data:
  special_text: drop""",
    ),
    fires=(Facts(plan=PLAN, data=SEEN), Facts(plan=replace(PLAN, special_text="keep"), data=SEEN)),
    silent=(Facts(plan=PLAN, data=DATA), Facts(plan=replace(PLAN, special_text="drop"), data=SEEN)),
)
