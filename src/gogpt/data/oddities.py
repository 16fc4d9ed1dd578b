"""What looks odd in a conversation: placeholders never filled in, words for "no input", marks of other tools, turns out of order.

None of it is an error: code may well hold ``{{ name }}``. Each is counted with its first places, for a person to look at.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from gogpt.records import Conversation, Message

NOTICES = (
    "duplicates", "repeated_prompts", "placeholders", "noinput", "blank_answers", "begins_with_assistant", "ends_with_user", "same_role_twice",
    "answer_edges", "special_marks", "dialogue_marks", "ai_phrases", "other_identity", "refusal", "broken_text", "undeclared_calls", "other_script",
    "not_rendered",
)
"""Every kind, in the order in which they are shown. The first two, ``other_identity``, ``refusal``, ``other_script`` and
``not_rendered`` are found by ``inspect``, which knows the other conversations, what cleaning looks for, the scripts and the template."""

_HTML = ("A|ABBR|ADDRESS|ARTICLE|ASIDE|AUDIO|B|BASE|BODY|BR|BUTTON|CANVAS|CENTER|CODE|COL|DD|DIV|DL|DT|EM|FONT|FOOTER|FORM|"
         "FRAME|H1|H2|H3|H4|H5|H6|HEAD|HEADER|HR|HTML|I|IFRAME|IMG|INPUT|LABEL|LI|LINK|MAIN|MAP|META|NAV|OBJECT|OL|OPTION|P|"
         "PARAM|PRE|SCRIPT|SECTION|SELECT|SMALL|SPAN|STRONG|STYLE|SUB|SUP|TABLE|TBODY|TD|TEXTAREA|TFOOT|TH|THEAD|TITLE|TR|TT|"
         "U|UL|VIDEO|XML")
PLACEHOLDER = re.compile(rf"<(?!(?:{_HTML})>)[A-Z][A-Z0-9]+(?:[ _-][A-Z0-9]+)*>|\{{\{{ ?[A-Za-z_]\w* ?\}}\}}|(?<![{{$\\])\{{[A-Z][A-Z0-9_]{{2,}}\}}(?!\}})")
"""``<NAME>``, ``{{author}}``, ``{INPUT}``: capitals in angle brackets that are no HTML tag, a name in braces."""

NO_INPUT = frozenset({"noinput", "noinputs", "noinputrequired", "noinputneeded", "noinputprovided", "noinputnecessary", "noinputgiven",
                      "无输入", "没有输入", "无需输入"})
NO_INPUT_FIELD = NO_INPUT | {"none", "na", "null", "nil", "nan", "empty", "notapplicable", "noneprovided", "无", "空", "没有"}
"""What an ``input`` field may say instead of being empty, without case and punctuation."""

SPECIAL = re.compile(r"<\|[A-Za-z_][\w ]{0,40}\|>|<｜[^｜<>\n]{1,40}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<eo[a-z]>|<(?:bos|eos|pad|unk)>")
"""How tokenizers spell their special tokens."""

_HUMAN = re.compile(r"(?:^|###|\n|>)[ \t]*(?:\[?\|?|<)(?:Human|HUMAN|User|USER|user|用户|人类|患者|病人)(?:\|?\]|>)?\s?[:：]|\[\|Human\|\]")
_MACHINE = re.compile(r"(?:^|###|\n|>)[ \t]*(?:\[?\|?|<)(?:Assistant|ASSISTANT|assistant|AI|GPT|Bot|bot|助手|机器人)(?:\|?\]|>)?\s?[:：]|\[\|AI\|\]")
AI_PHRASE = re.compile(r"\bas an? (?:AI|large) language model\b|\bas an AI\b|作为(?:一个|一名|一款)?\s?(?:AI|人工智能)\s?(?:语言模型|助手|模型)?", re.I)


def notices_in(conversation: Conversation) -> Iterator[tuple[str, list[str]]]:
    """(kind, how it is spelled) of everything odd in one conversation; each kind at most once."""
    messages = conversation.messages
    texts = [m.content for m in messages]
    answers = [m for m in messages if m.role == "assistant"]
    found: dict[str, list[str]] = {
        "placeholders": [x for text in texts for x in PLACEHOLDER.findall(text)],
        "noinput": [x for x in map(no_input, messages) if x],
        "special_marks": [x for text in texts for x in SPECIAL.findall(text)],
        "ai_phrases": [x.lower() for m in answers for x in AI_PHRASE.findall(m.content)],
        "broken_text": [x for text in texts for x in re.findall("\ufffd", text)],
        "undeclared_calls": _undeclared(conversation),
    }
    yield from ((name, spelled) for name, spelled in found.items() if spelled)
    plain: dict[str, bool] = {
        "blank_answers": any(not m.content.strip() and not m.tool_calls for m in answers),
        "begins_with_assistant": next((m.role for m in messages if m.role != "system"), "") == "assistant",
        "ends_with_user": messages[-1].role == "user",
        "same_role_twice": any((a.role == b.role and a.role in ("user", "system")) or (a.role == b.role == "assistant" and not a.tool_calls)
                               for a, b in itertools.pairwise(messages)),
        "answer_edges": any(m.content != m.content.strip() and m.content.strip() for m in answers),
        "dialogue_marks": any(_HUMAN.search(text) and _MACHINE.search(text) for text in texts),
    }
    yield from ((name, []) for name, holds in plain.items() if holds)


def no_input(message: Message) -> str | None:
    """The words that stand for an empty input, as they are spelled."""
    if message.role != "user":
        return None
    if message.input is not None:
        return message.input.strip() if _bare(message.input) in NO_INPUT_FIELD else None
    last = message.content.rstrip().rpartition("\n")[2].strip()
    return last if _bare(last) in NO_INPUT else None


def _bare(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower() if len(text) < 60 else text


def _undeclared(conversation: Conversation) -> list[str]:
    """Names of called tools that are not among the conversation's."""
    functions = (tool.get("function", tool) for tool in conversation.tools)
    declared = {f.get("name") for f in functions if isinstance(f, Mapping)}
    calls = (call.get("function", call) for m in conversation.messages for call in m.tool_calls)
    return [str(c.get("name")) for c in calls if isinstance(c, Mapping) and c.get("name") not in declared]
