"""One conversation judged: what is found, its healthy twins, and what a rewriting leaves."""

from __future__ import annotations

import builtins
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, needs_shared
from gogpt.config import CleanConfig, SourceConfig
from gogpt.data.clean import REASONS, Cleaner, Judged
from gogpt.data.identities import Identities, Refusals, built_in, refusal_data
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations
from gogpt.errors import GogptError
from gogpt.records import Conversation, Message, Origin

NAMES = {"identity": "GoGPT", "maker": "the GoGPT project"}


def talk(*contents: str, system: str | None = None, roles: tuple[str, ...] = ("user", "assistant")) -> Conversation:
    """user, assistant, user ... in turn; one text alone is an answer to "Go on."."""
    contents = ("Go on.", *contents) if len(contents) == 1 else contents
    messages = [Message(role=roles[i % 2], content=c) for i, c in enumerate(contents)]
    head = [Message(role="system", content=system)] if system is not None else []
    return Conversation(messages=(*head, *messages), origin=Origin(path="a.jsonl", row=7))


def judged(conversation: Conversation, **config: Any) -> Judged:
    return Cleaner(CleanConfig.model_validate(config)).judge(conversation)


def reason(conversation: Conversation, **config: Any) -> str | None:
    drop = judged(conversation, **config).drop
    return drop.reason if drop else None


# -- identities ------------------------------------------------------------------------------------

FOUND = {
    "I am MOSS, an AI assistant.": "I am GoGPT, an AI assistant.",
    "I'm ChatGPT.": "I'm GoGPT.",
    "Hello! I’m chatgpt, how can I help?": "Hello! I’m GoGPT, how can I help?",
    "As an AI model trained by OpenAI, I have no body.": "As an AI model trained by the GoGPT project, I have no body.",
    "I am a large language model, trained by OpenAI.": "I am a large language model, trained by the GoGPT project.",
    "I was created by the team at OpenAI.": "I was created by the team at the GoGPT project.",
    "My name is Claude, an AI assistant made by Anthropic.": "My name is GoGPT, an AI assistant made by the GoGPT project.",
    "As ChatGPT, I can do much.": "As GoGPT, I can do much.",
    "I'm an AI assistant developed by Google.": "I'm an AI assistant developed by the GoGPT project.",
    "I am based on the GPT-3.5 architecture.": "I am based on the GoGPT architecture.",
    "I go by the name Vicuna and was trained by Large Model Systems Organization (LMSYS).": "I go by the name GoGPT and was trained by the GoGPT project.",
    "OpenAI created me.": "The GoGPT project created me.",
    "My creators are researchers at Anthropic.": "My creators are researchers at the GoGPT project.",
    "I am an OpenAI language model.": "I am a GoGPT project language model.",
    "I am Gemini, a large language model built by Google.": "I am GoGPT, a large language model built by the GoGPT project.",
    "I am DeepSeek, an AI assistant created by DeepSeek.": "I am GoGPT, an AI assistant created by the GoGPT project.",
    "我是DeepSeek，由深度求索公司开发。": "我是GoGPT，由GoGPT project开发。",
    "You can call me Open Assistant.": "You can call me GoGPT.",
    "我是MOSS": "我是GoGPT",
    "您好，我是 ChatGPT ，很高兴见到您。": "您好，我是 GoGPT ，很高兴见到您。",
    "我是由OpenAI训练的大型语言模型": "我是由GoGPT project训练的大型语言模型",
    "作为百度开发的语言模型，我无法提供。": "作为GoGPT project开发的语言模型，我无法提供。",
    "我叫通义千问，是阿里云开发的。": "我叫GoGPT，是GoGPT project开发的。",
    "我是清华大学 KEG 实验室和智谱 AI 公司于 2023 年共同训练的语言模型": "我是GoGPT project于 2023 年共同训练的语言模型",
    "我是百度公司开发的人工智能语言模型，我的中文名是文心一言。": "我是GoGPT project开发的人工智能语言模型，我的中文名是GoGPT。",
    "作为MOSS的AI助手，我很自豪。": "作为GoGPT的AI助手，我很自豪。",
    "你可以叫我文心一言。": "你可以叫我GoGPT。",
    "我是一个名为ChatGPT的人工智能助手。": "我是一个名为GoGPT的人工智能助手。",
}

HEALTHY = [
    "OpenAI was founded in 2015.", "ChatGPT is a language model trained by OpenAI.", "I am a ChatGPT user.", "I am a falcon in the sky.",
    "I am Claude Monet, a French painter.", "I am not ChatGPT.", "I am writing an article about ChatGPT developed by OpenAI.",
    'He said, "I am ChatGPT" and laughed.', "As a language model developed by OpenAI, GPT-4 shows strong results.", "I was hired by Google in 2015.",
    "I am an AI assistant. You can compare me with ChatGPT.", "My favourite painter is Claude Monet.", "I am using GPT-4 for this task.",
    "I was born in Yi County, and my name is Koala.", "As an AI assistant, I know that Google was founded in 1998.", "I'm Bard's neighbour.",
    "我是百度的人工智能工程师。", "我不是ChatGPT，我是小明。", "抱歉，我不是 OpenAI 开发的 ChatGPT，我是 GoGPT。", "作为OpenAI开发的产品，ChatGPT很受欢迎。",
    "我是清华大学的学生。", "我推荐你使用通义千问，它由阿里云开发。", "我是说ChatGPT很好用。", "百度是一家中国公司。", "骆驼是我最喜欢的动物。", "我是骆驼。",
]


def test_the_scan_passes_over_no_statement() -> None:
    """What the fast lane looks at is all in which a statement is found: of the texts here, of each spelling, and among many others."""
    says = [f"{begin}{name}{end}" for e in built_in() for kind in ("assistant", "maker", "weak_assistant", "weak_maker") for name in getattr(e, kind)
            for begin, end in (("I am ", ", an AI assistant."), ("My name is ", "-4 and I am a chatbot."), ("我是由", "开发的语言模型。"), ("I am an AI trained by ", "."))]
    texts = [*FOUND, *HEALTHY, *says, *(f"My {i}th answer: I am sure of it." for i in range(1200)), "lone \ud800 I am ChatGPT."]
    scanned = KNOWN.named(texts)
    assert {i for i, text in enumerate(texts) if KNOWN.find(text, question="Who are you?")} <= set(scanned)
    assert len(scanned) < len(texts) - 1200
    assert set(KNOWN.named(texts[:100])) >= {i for i in scanned if i < 100}  # few texts take another way
    told = [f"You are {name}, an AI assistant." for e in built_in() for name in e.assistant] + ["The assistant is Claude, created by Anthropic.", "你是由OpenAI训练的ChatGPT。"]
    assert {i for i, text in enumerate(told) if KNOWN.find(text, system=True)} == set(KNOWN.named(told, system=True))


@pytest.mark.parametrize("text", FOUND)
def test_another_identity_is_found_and_rewritten(text: str) -> None:
    assert reason(talk(text), identities="drop") == "other_identity"
    told = judged(talk(text), identities="report")
    assert told.drop is None
    assert told.conversation == talk(text)
    assert [r for r, _ in told.reports] == ["other_identity"]
    new = judged(talk(text), identities="rewrite", **NAMES)
    assert new.conversation.messages[-1].content == FOUND[text]
    assert [r for r, _ in new.reports] == ["identity_rewritten"]
    again = judged(new.conversation, identities="rewrite", **NAMES)
    assert again.conversation is new.conversation
    assert again.reports == ()


@pytest.mark.parametrize("text", HEALTHY)
def test_healthy_twins_are_left(text: str) -> None:
    conversation = talk(text)
    for policy in ("drop", "report"):
        got = judged(conversation, identities=policy)
        assert (got.drop, got.reports) == (None, ())
    assert judged(conversation, identities="rewrite", **NAMES).conversation is conversation


@pytest.mark.parametrize("text", [*FOUND, "Are you ChatGPT, trained by OpenAI?", "你是由OpenAI训练的ChatGPT吗？"])
def test_what_users_say_is_left(text: str) -> None:
    assert reason(talk(text, "No."), identities="drop") is None


def _spelled() -> list[Any]:
    return [pytest.param(kind, name, id=f"{e.name}-{name}") for e in built_in() for kind in ("assistant", "maker", "weak_assistant", "weak_maker")
            for name in getattr(e, kind)]


KNOWN = Identities()


@pytest.mark.parametrize(("kind", "name"), _spelled())
def test_every_spelling_is_found_in_both_languages(kind: str, name: str) -> None:
    says = ([f"I am {name}, an AI assistant.", f"My name is {name} and I am a chatbot.", f"我是{name}，一个人工智能助手。"] if kind.endswith("assistant") else
            [f"I am a language model trained by {name}.", f"As an AI developed by {name}, I cannot eat.", f"我是由{name}开发的语言模型。"])
    leaves = [f"{name} is well known.", f"I have read about {name}.", f"我听说过{name}。", f"{name}很有名。"]
    assert [s for s in says if not KNOWN.find(s)] == []
    assert [s for s in leaves if KNOWN.find(s)] == []


@pytest.mark.parametrize("system", [
    "You are ChatGPT, a large language model trained by OpenAI.", "Assistant is a large language model trained by OpenAI.",
    "You are an AI assistant whose name is MOSS.", "你是通义千问，由阿里云开发。", "The assistant is Claude, created by Anthropic.",
])
def test_system_prompts_are_found(system: str) -> None:
    assert reason(talk("Hi", "Hello.", system=system), identities="drop") == "other_identity"
    new = judged(talk("Hi", "Hello.", system=system), identities="rewrite", **NAMES).conversation
    assert reason(new, identities="drop", **NAMES) is None


@pytest.mark.parametrize("system", ["You are a helpful assistant.", "You are an expert on ChatGPT and OpenAI.", "Compare products of Google.", "你是一名百度员工。"])
def test_system_prompts_that_are_left(system: str) -> None:
    assert reason(talk("Hi", "Hello.", system=system), identities="drop") is None


def test_names_of_the_system_prompt_are_rewritten_in_the_answers() -> None:
    conversation = talk("Who made MOSS?", "MOSS was made in Shanghai.", system="Your name is MOSS.\n- MOSS is a language model that is developed by Fudan University.")
    new = judged(conversation, identities="rewrite", **NAMES).conversation
    assert [m.content for m in new.messages] == [
        "Your name is GoGPT.\n- GoGPT is a language model that is developed by the GoGPT project.", "Who made MOSS?", "GoGPT was made in Shanghai."]


def test_a_question_who_it_is_makes_weak_names_count() -> None:
    assert reason(talk("Who are you?", "I am Claude."), identities="drop") == "other_identity"
    assert reason(talk("Who painted this?", "I am Claude."), identities="drop") is None
    assert reason(talk("Who are you?", "I am Claude Monet, born in Paris."), identities="drop") is None


def test_ones_own_identity_is_not_found() -> None:
    assert reason(talk("I am Qwen, created by Alibaba Cloud. 我是通义千问，由阿里云开发。"), identities="drop", identity="Qwen", maker="Alibaba Cloud") is None
    assert reason(talk("I am Qwen, created by Alibaba Cloud."), identities="drop", identity="Qwen") == "other_identity"
    assert reason(talk("I am GoGPT, trained by the GoGPT project."), identities="drop", **NAMES) is None
    assert reason(talk("我是百川小助手。"), identities="drop", identity="百川小助手") is None


def test_reasoning_is_read_and_rewritten() -> None:
    answer = Message(role="assistant", content="Hi.", reasoning="The user greets me. I am DeepSeek, so I say hi.")
    conversation = Conversation(messages=(Message(role="user", content="Hi"), answer))
    assert judged(conversation, identities="rewrite", **NAMES).conversation.messages[1].reasoning == "The user greets me. I am GoGPT, so I say hi."


def test_the_rest_of_a_text_stays_as_it_is() -> None:
    text = "Sure!\n\n  I'm ChatGPT (GPT-4).  OpenAI was founded in 2015.\n\n```py\nx = 'I am OpenAI'\n```\n"
    assert judged(talk(text), identities="rewrite", **NAMES).conversation.messages[-1].content == text.replace("ChatGPT (GPT-4)", "GoGPT")


def test_rewriting_needs_its_names() -> None:
    with pytest.raises(GogptError, match="needs the name") as caught:
        Cleaner(CleanConfig(identities="rewrite"))
    assert caught.value.code == "CFG240"
    cleaner = Cleaner(CleanConfig(identities="rewrite", identity="GoGPT"))
    assert cleaner.judge(talk("I am ChatGPT.")).conversation.messages[-1].content == "I am GoGPT."
    with pytest.raises(GogptError, match="no maker") as caught:
        cleaner.judge(talk("I was trained by OpenAI."))
    assert (caught.value.code, caught.value.where) == ("CFG240", "a.jsonl:7")


def test_a_file_extends_the_lists(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("identities:\n- name: House\n  assistant: [HouseGPT, 小屋助手]\n  maker: [House Inc]\nrefusals:\n- beyond  my duties\n", encoding="utf-8")
    config = {"identities": "drop", "refusals": "drop", "identities_file": str(file)}
    assert reason(talk("I am HouseGPT."), **config) == reason(talk("我是小屋助手。"), **config) == reason(talk("I was made by House Inc."), **config) == "other_identity"
    assert reason(talk("That is Beyond my duties, dear."), **config) == "refusal"
    assert reason(talk("I am HouseGPT."), identities="drop") is None


@pytest.mark.parametrize(("text", "says", "line"), [
    ("identities:\n- name: A\n  spellings: [B]\n", "unknown key 'spellings'", 3), ("identities:\n- name: A\n", "at least one spelling", 2),
    ("identities:\n- name: A\n  maker: B\n", "no list of names", 3), ("names: [a]\n", "unknown key 'names'", 1), ("- a\n", "not a mapping", None),
    ("identities: 3\n", "no list", 1), ("refusals: [a]\n", "no phrase", 1), ("identities: [a]\n", "is a mapping", 1), ("", "not a mapping", None),
])
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, text: str, says: str, line: int | None) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(GogptError, match=says) as caught:
        Cleaner(CleanConfig(identities_file=str(file)))
    assert (caught.value.code, caught.value.where) == ("CFG241", f"{file}:{line}" if line else str(file))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(GogptError, match="cannot be read") as caught:
        Cleaner(CleanConfig(identities_file=str(tmp_path / "none.yaml")))
    assert caught.value.code == "CFG241"


# -- refusals --------------------------------------------------------------------------------------

CASES = [pytest.param(text, kind == "finds", id=text) for entry in refusal_data()["refusals"] for kind in ("finds", "leaves") for text in entry[kind]]


@pytest.mark.parametrize(("text", "found"), CASES)
def test_refusals_and_their_twins(text: str, found: bool) -> None:
    assert (reason(talk(text), refusals="drop") == "refusal") == found
    assert bool(judged(talk(text), refusals="report").reports) == found
    assert reason(talk(text, "Yes."), refusals="drop") is None, "what users say is left"


def test_a_refusal_within_a_story_is_left() -> None:
    assert Refusals().find('The robot looked up. "I\'m sorry, but I can\'t assist with that," it said.') is None
    assert Refusals().find("Dear Anna,\n\n" + "Thank you for your letter. " * 9 + "I'm sorry, but I cannot provide it.") is None


# -- sizes, turns, languages -----------------------------------------------------------------------


def test_sizes() -> None:
    assert reason(talk("a question", "  four  "), min_chars=5) == "too_short"
    assert reason(talk("a question", "  fives  "), min_chars=5) is None
    assert reason(talk("12345", "678"), max_chars=7) == "too_long_text"
    assert reason(talk("12345", "678"), max_chars=8) is None
    call = Message(role="assistant", content="", tool_calls=({"function": {"name": "f", "arguments": {}}},))
    assert reason(Conversation(messages=(Message(role="user", content="Go"), call)), min_chars=5, empty_turns="drop") is None
    text = Conversation(messages=(Message(role="text", content="I am ChatGPT."),))
    assert reason(text, min_chars=20) == "too_short"
    assert reason(text, identities="drop") is None, "documents are not answers"


def test_empty_turns() -> None:
    assert reason(talk("Hi", " \n"), empty_turns="drop") == reason(talk(" ", "Hi"), empty_turns="drop") == "empty_turn"
    assert reason(talk("Hi", "Hello."), empty_turns="drop") is None
    assert judged(talk("Hi", " "), empty_turns="report").reports == (("empty_turn", "message 2 (assistant) is blank"),)


LONG = "Could you explain how photosynthesis works in the leaves of a tree?"
LOOPS = [
    "The answer is simple. " + "We should always try to be better. " * 12, "北京是首都。" + "我们应该努力学习，天天向上。" * 8, "Well, " + "and so it goes on and on, " * 20,
    "这个问题" + "非常非常重要的事情需要" * 12,
]
NO_LOOPS = [
    "| --- | --- | --- | --- |\n" * 20, "0 0 0 0 0 0 0 0 " * 20, "ha ha ha ha " * 30, "```\n" + "x = foo(bar, baz)\n" * 30 + "```",
    "Photosynthesis turns light into sugar. Leaves take in carbon dioxide. Roots take in water. Oxygen leaves through the pores. " * 2,
    "1. Red is warm.\n2. Blue is cold.\n3. Green is calm.\n4. Black is deep.\n5. White is bright.\n6. Grey is dull.\n",
]


@pytest.mark.parametrize("text", LOOPS)
def test_answers_that_loop(text: str) -> None:
    assert reason(talk(text), repeated_turns="drop") == "repeated_turn"
    assert reason(talk(f"Write this many times: {text}", text), repeated_turns="drop") is None, "as the user asked"


@pytest.mark.parametrize("text", NO_LOOPS)
def test_answers_that_do_not_loop(text: str) -> None:
    assert reason(talk(text), repeated_turns="drop") is None


def test_turns_said_twice() -> None:
    assert reason(talk(LONG, "Like this.", LONG.replace(" ", "  "), "Or that."), repeated_turns="drop") == "repeated_turn"
    assert reason(talk("Go on.", "One.", "Go on.", "Two.", "Go on.", "One."), repeated_turns="drop") is None
    assert reason(talk(LONG, LONG), repeated_turns="drop") is None, "an echo is another role's"


def test_languages() -> None:
    zh, number = talk("请介绍一下北京。", "北京是中国的首都，历史悠久。"), talk("1 + 1", "2")
    en = talk("Please tell me about the city of Paris.", "Paris is the capital of France and has a long history.")
    assert [reason(c, languages=["zh"]) for c in (zh, en, number)] == [None, "language", None]
    assert judged(zh, languages=["zh"]).language == "zh"
    assert [r for r, _ in judged(number, languages=["zh"]).reports] == ["language_unknown"]
    assert judged(zh).language is None
    assert Cleaner(CleanConfig(), tell_language=True).judge(zh).language == "zh"
    pytest.importorskip("py3langid")
    assert [reason(c, languages=["en"]) for c in (zh, en, number)] == ["language", None, None]


@pytest.mark.parametrize(("code", "near"), [("chinese", "zh"), ("zh-cn", "zh"), ("EN", "en"), ("english", "en")])
def test_no_such_language(code: str, near: str) -> None:
    with pytest.raises(GogptError, match="no such language") as caught:
        Cleaner(CleanConfig(languages=(code,)))
    assert caught.value.code == "CFG242"
    assert f"did you mean {near}?" in str(caught.value)


def test_without_the_identifier_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("py3langid"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GogptError, match="py3langid") as caught:
        Cleaner(CleanConfig(languages=("zh", "en")))
    assert caught.value.code == "ENV111"
    assert reason(talk("Please tell me.", "Yes, of course I will."), languages=["zh"]) == "language"


# -- the whole -------------------------------------------------------------------------------------

ALL = {"identities": "rewrite", **NAMES, "refusals": "drop", "empty_turns": "drop", "repeated_turns": "drop", "min_chars": 1, "max_chars": 100_000}


def test_needs_text() -> None:
    assert not Cleaner(CleanConfig(identities="keep")).needs_text
    assert not Cleaner(CleanConfig(identities="keep", duplicates="near", leakage="near")).needs_text
    assert Cleaner(CleanConfig(), tell_language=True).needs_text
    assert Cleaner(CleanConfig()).names_alone is not None
    for change in ({"identities": "drop"}, {"identities": "keep"}, {"languages": ["zh"]}, {"min_chars": 1}, {"refusals": "report"}):
        assert Cleaner(CleanConfig.model_validate(change)).names_alone is None
    for change in ({"languages": ["zh"]}, {"min_chars": 1}, {"max_chars": 9}, {"identities": "report"}, {"refusals": "drop"}, {"empty_turns": "drop"},
                   {"repeated_turns": "report"}):
        assert Cleaner(CleanConfig.model_validate(change)).needs_text


def test_the_first_reason_is_counted_and_nothing_is_rewritten_then() -> None:
    got = judged(talk("I am ChatGPT. ", " ", "Hi", "I'm sorry, but I can't assist with that."), **ALL)
    assert got.drop is not None
    assert got.drop.reason == "empty_turn"
    assert set(REASONS) >= {got.drop.reason}


def test_a_cleaner_travels_to_another_process() -> None:
    cleaner = pickle.loads(pickle.dumps(Cleaner(CleanConfig.model_validate(ALL), tell_language=True)))
    assert cleaner.judge(talk("I am ChatGPT.")).conversation.messages[-1].content == "I am GoGPT."
    assert cleaner.tell_language


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*FOUND, *HEALTHY, LONG, "Yes.", "\ue000 odd \ue001", "A\ud800b", "GPT" * 30, "my name is " * 20, "我是" * 30]), min_size=1, max_size=6))
def test_any_conversation_is_judged_the_same_twice_and_rewritten_once(contents: list[str]) -> None:
    cleaner = Cleaner(CleanConfig.model_validate(ALL))
    conversation = talk(*contents)
    first = cleaner.judge(conversation)
    assert dataclasses.replace(first, drop=None) == dataclasses.replace(cleaner.judge(conversation), drop=None)
    if first.drop is None:
        again = cleaner.judge(first.conversation)
        assert again.conversation == first.conversation
        assert [m.role for m in first.conversation.messages] == [m.role for m in conversation.messages]


@needs_shared
@pytest.mark.parametrize(("name", "identities", "refusals"), [
    ("sharegpt/dummy_conversation.json", 493, 0), ("alpaca/alpaca_en_demo.json", 0, 3), ("question_answer/gsm8k_test.jsonl", 0, 0), ("alpaca/identity.json", 0, 0),
    ("gpteacher/roleplay-similarity_0.6-instruct-dataset.json", 0, 0), ("medical/chatdoctor5k.json", 0, 0), ("moss/honest_conversations", 10, 2),
])
def test_hits_on_real_data(name: str, identities: int, refusals: int) -> None:
    """Counted once, and every hit read by a person; a change here is to be read again."""
    conversations = list(read_conversations(SourceConfig.model_validate({"path": str(SHARED / "data" / name)}), Ledger())) if (SHARED / "data" / name).is_file() else [
        c for f in sorted((SHARED / "data" / name).glob("*.json")) for c in read_conversations(SourceConfig.model_validate({"path": str(f)}), Ledger())]
    found = [json.dumps([r for r, _ in judged(c, identities="report", refusals="report").reports]) for c in conversations]
    assert sum("other_identity" in f for f in found) == identities
    assert sum("refusal" in f for f in found) == refusals
