"""Tool calls are trained, tool results never; reasoning is trained where the template carries it."""

from __future__ import annotations

import pytest

from conftest import make_tokenizer
from gogpt.errors import RowError
from gogpt.records import IGNORE_INDEX, Conversation, Message
from gogpt.templates import ChatTemplate, pick_template
from gogpt.tokenize import Tokenizer, encode

TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}},)
CALL = ({"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},)
TALK = Conversation(tools=TOOLS, messages=(
    Message(role="user", content="Is it warm in Rome?"),
    Message(role="assistant", content="", tool_calls=CALL),
    Message(role="tool", content="eighteen degrees and cloudy", tool_call_id="1"),
    Message(role="assistant", content="It is mild."),
))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tools")
    make_tokenizer(folder)
    return Tokenizer(folder)


def trained(tokenizer: Tokenizer, name: str, train_on: str) -> str:
    out = []
    for rendering in pick_template(name, tokenizer).render(TALK, train_on):
        for e in encode(rendering, tokenizer):
            out.append(tokenizer.decode(e.input_ids[e.labels != IGNORE_INDEX].tolist()))
    return "|".join(out)


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3"])
@pytest.mark.parametrize("train_on", ["assistant", "all"])
def test_calls_are_trained_and_results_never(tokenizer: Tokenizer, name: str, train_on: str) -> None:
    text = trained(tokenizer, name, train_on)
    assert '"city": "Rome"' in text
    assert "It is mild." in text
    assert "eighteen" not in text
    assert ("Is it warm" in text) == (train_on == "all")


def test_a_result_that_the_template_rewrites_is_not_trained_by_accident() -> None:
    template = ChatTemplate("{{- tools | tojson -}}{%- for m in messages -%}{{- m.tool_calls | default('') -}}{{- m.role ~ ': ' ~ (m.content | upper) ~ '<|im_end|>' -}}{%- endfor -%}", stop=("<|im_end|>",))
    with pytest.raises(RowError, match="tool_result_not_found"):
        template.render(TALK, "all")


def test_reasoning_is_trained_where_the_template_carries_it(tokenizer: Tokenizer) -> None:
    talk = Conversation(messages=(Message(role="user", content="2+2?"), Message(role="assistant", content="4", reasoning="two and two")))
    (rendering,) = pick_template("qwen3", tokenizer).render(talk)
    assert [s.text for s in rendering.segments if s.train] == ["<think>\ntwo and two\n</think>\n\n4<|im_end|>"]
    with pytest.raises(RowError, match="reasoning_not_in_template"):
        pick_template("alpaca", tokenizer).render(talk)


def test_a_template_without_tools_refuses_them(tokenizer: Tokenizer) -> None:
    """The tokenizer's own, which never names them: what was asked of the tools would be trained without them."""
    own = pick_template("auto", tokenizer)
    for conversation, why in ((Conversation(tools=TOOLS, messages=TALK.messages[:1]), "writes no tools"), (Conversation(messages=TALK.messages), "writes no calls")):
        with pytest.raises(RowError, match=why):
            own.render(conversation)
    assert own.render(Conversation(messages=(TALK.messages[0], TALK.messages[3])))
