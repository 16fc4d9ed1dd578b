"""DAT312: what cleaning found in the data and was told to keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="cleaning was told to keep what it found in {conversations} conversations: {reasons}",
    zh="在 {conversations} 条对话中，清洗按设置保留了发现的内容：{reasons}",
)
FIX = Text(
    en="see the row with gogpt show {first}; data.clean: {{{settings}}} drops them, and keep in that place asks for no report",
    zh="用 gogpt show {first} 查看该行；data.clean: {{{settings}}} 会丢弃它们，改成 keep 则不再报告",
)
SETTINGS = {"other_identity": "identities: drop", "refusal": "refusals: drop", "empty_turn": "empty_turns: drop",
            "repeated_turn": "repeated_turns: drop", "duplicate": "duplicates: exact"}
"""Reason -> the setting of data.clean that drops what is found. Other reports (a name rewritten, a language not told) are no fault."""
LEAST_SHARE = 0.01
LEAST = 2
"""Exact duplicates are looked for in every run, also where nobody asked: so many conversations, and this share of all, are told."""
_PLACE = re.compile(r".+?:\d+(?=: | = |$)")


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    found = {reason: data.reports[reason] for reason in SETTINGS if reason in data.reports and data.reports[reason].count}
    repeats = data.duplicates.count - data.drops.get("duplicate", 0)  # those that were dropped are DAT311's
    share = repeats / max(1, data.conversations)
    many = repeats >= LEAST and share >= LEAST_SHARE
    if not found and not many:
        return
    if repeats > 0:
        found["duplicate"] = Tally(count=repeats, first=data.duplicates.first)
    counts = {reason: tally.count for reason, tally in sorted(found.items(), key=lambda item: -item[1].count)}
    places = {reason: _place(found[reason].first[0]) for reason in counts if found[reason].first}
    first = next(iter(places.values()), None)
    evidence = {
        "conversations": data.conversations, "counts": counts, "duplicate_share": max(0.0, share), "first": first or "FILE:ROW",
        "places": {reason: list(found[reason].first) for reason in counts},
        "reasons": ", ".join(f"{reason} {n}" + (f" (first {places[reason]})" if reason in places else "") for reason, n in counts.items()),
        "settings": ", ".join(SETTINGS[reason] for reason in counts),
    }
    yield Finding(code="DAT312", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=first)


def _place(told: str) -> str:
    """``data/a.jsonl:7`` of ``data/a.jsonl:7: I am MOSS`` and of ``data/a.jsonl:7 = data/a.jsonl:3``."""
    at = _PLACE.match(told)
    return at[0] if at else told


REFUSAL = Tally(count=12, first=("data/a.jsonl:31: As an AI language model, I cannot",))
IDENTITY = Tally(count=3, first=("data/a.jsonl:118: I am MOSS, an AI assistant", "data/a.jsonl:340: I am ChatGPT"))
REPEATS = Tally(count=40, first=("data/a.jsonl:97 = data/a.jsonl:12", "data/a.jsonl:98 = data/a.jsonl:13"))

CHECK = Check(
    code="DAT312",
    name="cleaning_reported",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="cleaning found something and was told to keep it", zh="清洗发现了问题，但按设置保留"),
        what=Text(
            en="What data.clean was told to report: refusals, blank turns, turns said twice; and answers that say they are another assistant, which is looked for in "
            "every run unless data.clean.identities says otherwise. "
            "And exact duplicates, which are counted in every run unless data.clean.duplicates is keep: told from 2 of them and 1 % of all "
            "conversations on. Fewer are told beside another finding only, since a repeat among hundreds weighs nothing and a warning that "
            "every data set gives is read by nobody; their number is always in gogpt prepare and in facts.json. What was dropped is told "
            "by DAT311 (a row that was reported and is then too long stands in both), and copies that a weight or a count makes are no duplicates.",
            zh="data.clean 设为 report 时发现的内容：拒答、空白轮次、重复的轮次；自称是其他助手的回答（除非 data.clean.identities 另有设置，每次运行都会查找）；以及完全重复的对话（除非 data.clean.duplicates "
            "为 keep，每次运行都会统计）：达到 2 条且占全部对话的 1% 才提示。更少时只随其他发现一并列出，因为几百条中的一条重复没有影响，"
            "而人人都会得到的警告没有人看；其数量始终在 gogpt prepare 和 facts.json 中。被丢弃的由 DAT311 说明（先被报告、后因过长而丢弃的行两处都有）；由 weight 或 count 产生的副本不算重复。",
        ),
        why=Text(
            en="A model answers with the name that stands in its data: sets made with ChatGPT or MOSS name them, and a few such rows are enough. "
            "Refusals teach to refuse. Duplicates are trained several times as much as the rest, which nobody decided.",
            zh="模型会用数据里的名字称呼自己：由 ChatGPT 或 MOSS 生成的数据集带有它们的名字，少数几行就足够。拒答会教会模型拒答。"
            "重复的对话比其余数据多训练几遍，而这并不是谁的决定。",
        ),
        fix=Text(
            en="Look at the rows (gogpt show FILE:ROW). Then drop them (identities, refusals, empty_turns, repeated_turns: drop; duplicates: "
            "exact, or near for those alike as well), or write your own name (identities: rewrite, with identity and maker). What should stay: keep.",
            zh="先查看这些行（gogpt show FILE:ROW）。然后丢弃（identities、refusals、empty_turns、repeated_turns: drop；duplicates: exact，near 还包括相近的），"
            "或写入自己的名字（identities: rewrite，并给出 identity 和 maker）。应当保留的，设为 keep。",
        ),
        example="""warning DAT312 data/a.jsonl:97: cleaning was told to keep what it found in 2000 conversations: duplicate 40 (first data/a.jsonl:97), refusal 12 (first data/a.jsonl:31), other_identity 3 (first data/a.jsonl:118)
  fix: see the row with gogpt show data/a.jsonl:97; data.clean: {duplicates: exact, refusals: drop, identities: drop} drops them, and keep in that place asks for no report

data:
  clean: {duplicates: exact, refusals: drop, identities: rewrite, identity: Lumen, maker: Northlight}""",
    ),
    fires=(
        Facts(data=replace(DATA, duplicates=REPEATS, reports={"refusal": REFUSAL, "other_identity": IDENTITY})),
        Facts(data=replace(DATA, duplicates=REPEATS)),
        Facts(data=replace(DATA, duplicates=Tally(count=20, first=REPEATS.first))),
        Facts(data=replace(DATA, conversations=10, duplicates=Tally(count=2))),
        Facts(data=replace(DATA, reports={"empty_turn": Tally(count=1, first=("data/a.jsonl:5: message 3 (user) is blank",))})),
        Facts(data=replace(DATA, reports={"repeated_turn": Tally(count=1)}, duplicates=Tally(count=1, first=REPEATS.first[:1]))),
        Facts(data=replace(DATA, drops={"duplicate": 40}, duplicates=REPEATS, reports={"refusal": REFUSAL})),
    ),
    silent=(
        Facts(data=DATA),
        Facts(data=replace(DATA, duplicates=Tally(count=19, first=REPEATS.first))),
        Facts(data=replace(DATA, conversations=10, duplicates=Tally(count=1, first=REPEATS.first[:1]))),
        Facts(data=replace(DATA, drops={"duplicate": 40}, duplicates=REPEATS)),
        Facts(data=replace(DATA, reports={"identity_rewritten": IDENTITY, "language_unknown": Tally(count=9)})),
    ),
)
