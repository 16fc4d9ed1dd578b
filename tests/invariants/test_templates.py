"""Training render = inference render = exported chat template, over random conversations, in bytes and in ids; and
all of it the forms of the models' own authors (the oracle)."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, make_tokenizer, needs_shared
from gogpt.errors import GogptError, RowError
from gogpt.model import save_tokenizer, stop_token_ids
from gogpt.records import IGNORE_INDEX, Conversation, Message
from gogpt.templates import TEMPLATES, ChatTemplate, Rendering, declared, pick_template
from gogpt.tokenize import Tokenizer, encode, encode_prompt
from templates_cases import (
    BASES,
    FIXTURE,
    IN_FIXTURE,
    NAMES,
    ORACLE,
    PIECES,
    conversations,
    expected,
    is_program,
    joined,
    messages_of,
    plain,
    segments_of,
    text,
    tool_conversations,
)

NEVER_STOPS = ("yayi/llamafactory", "qwen/qwen1.5_first_release", "ziya/llamafactory", "tigerbot/fastchat", "solar/jinja", "falcon/falcon_180b")
"""Forms that others trained without a stop token after the last answer. They are declared to be known, not to be used."""

WITH_TOOLS = [t.name for t in TEMPLATES if t.form.tools]

IN_IDS = ("alpaca", "llama2", "chatml", "llama3", "zephyr", "firefly", "mistral_v1", "mistral_v3", "gemma", "deepseek_r1", "qwen3", "qwen2.5",
          "guanaco", "chatglm2", "chatglm3", "starchat", "baichuan2", "phi4_mini", "codellama_70b", "atom")
"""One of each kind, for the tests that go through transformers."""


@cache
def export_of(name: str) -> ChatTemplate:
    template = declared(name)
    return ChatTemplate(template.jinja(), stop=template.stop, special=template.stop)


def rendered(name: str, messages: tuple[Message, ...]) -> tuple[Rendering, ...]:
    return declared(name).render(Conversation(messages=messages))


# -- here and in the exported Jinja ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(conversation=conversations(inputs=True))
def test_exported_jinja_renders_the_same_bytes(name, conversation):
    template, exported = declared(name), export_of(name)
    renderings = template.render(conversation)
    answers = [i for i, m in enumerate(conversation.messages) if m.role == "assistant"]
    ends = answers if len(renderings) > 1 else answers[-1:]
    for end, ours in zip(ends, renderings, strict=True):
        seen = conversation.messages[: end + 1]
        assert exported._text(seen, (), prompt=False) == ours.text
        asked = Conversation(messages=seen[:-1])
        prompt = template.generation(asked).text
        assert exported.generation(asked).text == prompt
        # The prompt of the last answer is a prefix, and the last answer begins where it ends.
        assert ours.text.startswith(prompt)
        if conversation.messages[end].content or name not in NEVER_STOPS:
            assert "".join(s.text for s in ours.segments[: ours.answers[-1]]) == prompt


ROLES = st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=8)


@pytest.mark.parametrize("name", [t.name for t in TEMPLATES if not t.form.alternating and t.base is None])
@settings(deadline=None, max_examples=30)
@given(roles=ROLES, data=st.data())
def test_turns_in_any_order(name, roles, data):
    """Where user and assistant need not alternate, the export still says the same; and refuses where we do."""
    messages = tuple(Message(role=role, content=data.draw(text)) for role in roles)
    template, exported = declared(name), export_of(name)
    assert template.generation(Conversation(messages=messages)).text == exported.generation(Conversation(messages=messages)).text
    if not is_program(template):
        assert template.render(Conversation(messages=messages))[-1].text == exported._text(messages, (), prompt=False)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=20)
@given(conversation=conversations(max_turns=5))
def test_every_answer_and_its_stop_marker_is_trained(name, conversation):
    template = declared(name)
    count = sum(m.role == "assistant" for m in conversation.messages)
    ends_in_history = is_program(template) or template.form.answer_in_history is None or template.form.answer_in_history.endswith("{stop}")
    for train_on, wanted in (("assistant", count), ("last", 1)):
        renderings = template.render(conversation, train_on)
        trained = [s.text for r in renderings for s in r.segments if s.train]
        assert len(trained) == sum(len(r.answers) for r in renderings)
        if name in NEVER_STOPS:
            continue
        last = renderings[-1].segments[renderings[-1].answers[-1]].text
        assert last.endswith((template.stop[0], template.eos))
        if ends_in_history:
            assert len(trained) == wanted
            assert all(t.endswith((template.stop[0], template.eos)) for t in trained)
    (everything,) = template.render(conversation, "all")
    assert all(s.train for s in everything.segments)


@pytest.mark.parametrize("name", NAMES)
def test_message_flags_win_over_the_policy(name):
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b", train=False),
             Message(role="user", content="c"), Message(role="assistant", content="d"))
    (rendering,) = rendered(name, turns)
    (trained,) = [s.text for s in rendering.segments if s.train]
    assert "d" in trained
    assert "b" not in trained.replace("<｜end▁of▁sentence｜>", "")
    untrained = declared(name).render(Conversation(messages=(*turns[:3], replace(turns[3], train=False))))
    assert [s for r in untrained for s in r.segments if s.train] == []
    assert untrained[0].text.startswith(declared(name).generation(Conversation(messages=turns[:3])).text)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_template_refuses_its_export_refuses(name):
    template, exported = declared(name), export_of(name)
    user, answer = Message(role="user", content="a"), Message(role="assistant", content="b")
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    bad = [Conversation(messages=(user, Message(role="system", content="b"), answer))]
    if not template.form.tools:
        bad += [Conversation(messages=(user, Message(role="tool", content="b"), answer)), Conversation(messages=(user, answer), tools=({"type": "function"},)),
                Conversation(messages=(user, replace(answer, tool_calls=(call,))))]
    if not template.form.reasoning:
        bad.append(Conversation(messages=(user, replace(answer, reasoning="because"))))
    if template.form.alternating:
        bad += [Conversation(messages=(answer, user)), Conversation(messages=(user, user, answer))]
    for conversation in bad:
        for ask in (template.render, template.generation, exported.render, exported.generation):
            with pytest.raises(RowError):
                ask(conversation)
    with pytest.raises(RowError) as problem:
        template.render(bad[1] if len(bad) > 1 else bad[0])
    assert problem.value.reason == ("turn_order" if template.form.tools and template.form.reasoning else
                                    "reasoning_not_in_template" if template.form.tools else "tools_not_in_template")


def test_known_names():
    assert len(BASES) == 83
    assert len(NAMES) == len(set(NAMES)) == 83 + 76
    for template in TEMPLATES:
        assert template.notes.endswith((".", ")")), template.name
        assert template.verified in ("A", "A*", "B", "B*", "C")
        assert template.name == (f"{template.base}/{template.short_name}" if template.base else template.short_name)
        assert template.base is None or template.base in BASES


def test_no_template_asks_for_today():
    for template in TEMPLATES:
        assert "strftime" not in template.jinja()
        assert "26 Jul" in template.jinja() or "Today Date" not in template.jinja()


# -- the tokenizer's own BOS and EOS ---------------------------------------------------------------

LLAMA_LIKE = {"<s>", "</s>"}


@pytest.mark.parametrize("name", NAMES)
def test_bound_to_a_tokenizer(name):
    """Forms that say EOS take the tokenizer's; literal marks stay."""
    template = declared(name)
    bound = template.bind("<BOS>", "<EOS>")
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b"), Message(role="user", content="c"), Message(role="assistant", content="d"))
    (*_, plain), (*_, ours) = (t.render(Conversation(messages=turns)) for t in (template, bound))
    if not template.eos_is_tokenizers:
        assert bound == template
        return
    assert {template.bos or "<s>", template.eos} == LLAMA_LIKE
    assert ours.text == plain.text.replace("<s>", "<BOS>").replace("</s>", "<EOS>")
    assert bound.stop == tuple("<EOS>" if s == "</s>" else s for s in template.stop)
    assert ChatTemplate(bound.jinja())._text(turns, (), prompt=False) == ours.text
    without = template.bind(None, None)
    assert without.eos == "</s>"
    assert without.render(Conversation(messages=turns))[-1].text == plain.text.replace("<s>", "")


def test_literal_marks_are_those_of_no_llama():
    literal = {t.name for t in TEMPLATES if not t.eos_is_tokenizers and t.base is None}
    generic = {t.name for t in TEMPLATES if t.eos_is_tokenizers and t.base is None}
    assert generic >= {"alpaca", "llama2", "vicuna", "zephyr", "mistral_v1", "mistral_v3", "internlm2", "yayi", "aquila"}
    assert literal >= {"chatml", "llama3", "gemma", "deepseek", "phi3", "olmo", "xverse", "falcon", "glm4", "gpt_oss", "codellama_70b"}


# -- the oracle ------------------------------------------------------------------------------------


@cache
def oracle() -> dict[str, Any]:
    return json.loads(ORACLE.read_text(encoding="utf-8"))


@cache
def wanted() -> dict[str, tuple[Any, Any]]:
    return {name: (about, renders) for name, about, renders in expected(oracle())}


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_oracle(name):
    """Byte for byte the forms of the models' own authors: text, prompt, trained spans, one example per answer."""
    template = declared(name)
    about, renders = wanted()[name]
    assert len(renders) >= 10
    for key, want in renders.items():
        messages = messages_of(oracle()["conversations"][key])
        whole = template.render(Conversation(messages=tuple(messages)))
        assert whole[-1].text == want["training"], key
        assert segments_of(whole[-1]) == want["segments"], key
        assert template.generation(Conversation(messages=tuple(messages[:-1]))).text == want["generation"], key
        if "stop_trained" in about:
            last = [s.text for s in whole[-1].segments if s.train][-1]
            assert last.endswith(template.stop[0]) == about["stop_trained"], key
            assert (name in NEVER_STOPS) != about["stop_trained"]
        answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
        for number, (at, example) in enumerate(zip(answers, want.get("examples", ()), strict=False)):
            one = template.render(Conversation(messages=tuple(messages[: at + 1])), "last")[-1]
            assert one.text == example["training"], key
            assert segments_of(one) == example["segments"], key
            assert template.generation(Conversation(messages=tuple(messages[:at]))).text == example["generation"], key
            if len(whole) > 1:
                assert joined(segments_of(whole[number])) == example["segments"], key


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_oracle_says_of_it(name):
    template, (about, _) = declared(name), wanted()[name]
    assert template.family == about["family"]
    assert template.source == about["source"]
    assert template.model == about["model"]
    assert template.verified == about["verified"]
    # llama2/empty_system: its default text is "", but no render of it without a system message has the block.
    assert template.default_system == (None if name == "llama2/empty_system" else about["default_system"])
    if template.base is None:
        assert (template.bos, template.eos, template.bos_in_text) == (about["bos"], about["eos"], about["bos_in_text"])
        assert list(template.stop) == about["stop"]
        assert template.drops_system == (about["system_supported"] is False)
        if about["prefix"] is False:
            assert template.rewrites_history


@needs_shared
def test_nothing_of_the_oracle_is_missing():
    assert sorted(wanted()) == sorted(NAMES)
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))
    assert fixture["conversations"] == {key: oracle()["conversations"][key] for key in IN_FIXTURE}
    for name, (about, renders) in wanted().items():
        assert fixture["segments"][name] == {key: renders[key]["segments"] for key in IN_FIXTURE if key in renders}
        if "/" not in name:
            assert fixture["marks"][name] == {key: about[key] for key in ("bos", "eos", "bos_in_text", "stop")}


@pytest.mark.parametrize("name", NAMES)
def test_fixture(name):
    """The same for a clone with nothing beside it, on some of the oracle's conversations."""
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))
    template = declared(name)
    renders = fixture["segments"][name]
    assert len(renders) >= 3
    for key, segments in renders.items():
        messages = messages_of(fixture["conversations"][key])
        assert segments_of(template.render(Conversation(messages=tuple(messages)))[-1]) == segments
        before = "".join(text for text, _ in segments[: max(i for i, (_, train) in enumerate(segments) if train)])
        assert template.generation(Conversation(messages=tuple(messages[:-1]))).text == before
    if template.base is None:
        marks = fixture["marks"][name]
        assert (template.bos, template.eos, template.bos_in_text, list(template.stop)) == (marks["bos"], marks["eos"], marks["bos_in_text"], marks["stop"])


# -- tools and reasoning ---------------------------------------------------------------------------


@needs_shared
@settings(deadline=None, max_examples=200)
@given(conversation=tool_conversations(reasoning=True))
def test_qwen3_is_its_hub_template(conversation):
    """With tools, calls, results and reasoning: every prompt, and every text that ends with the answer just given."""
    hub, ours = hub_template("qwen3-bpe-151k"), declared("qwen3")
    messages = conversation.messages
    renderings = iter(ours.render(conversation))
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before, after = (replace(conversation, messages=messages[:end]) for end in (i, i + 1))
        assert ours.generation(before).text == hub.generation(before).text
        whole = next(renderings)
        assert whole.text == hub._text(after.messages, after.tools, prompt=False)
        (trained,) = [s.text for s in whole.segments if s.train]
        assert whole.text == hub.generation(before).text + trained + "\n"


@cache
def hub_template(folder: str, before: str = "") -> ChatTemplate:
    config = json.loads((SHARED / "tokenizers" / folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = {key: value["content"] if isinstance(value, dict) else value for key in ("bos_token", "eos_token") if (value := config.get(key))}
    return ChatTemplate(before + config["chat_template"], stop=("<|im_end|>",), tokens=tokens)


@needs_shared
@pytest.mark.parametrize(("folder", "name"), [("smollm2-bpe-49k", "smollm2"), ("deepseek-v3-bpe-128k", "deepseek_v3")])
@settings(deadline=None, max_examples=50)
@given(conversation=conversations(max_turns=4))
def test_hub_templates_that_lie_beside(folder, name, conversation):
    hub, asked = hub_template(folder), replace(conversation, messages=conversation.messages[:-1])
    assert declared(name).render(conversation)[-1].text == hub._text(conversation.messages, (), prompt=False)
    assert declared(name).generation(asked).text == hub.generation(asked).text


@needs_shared
@settings(deadline=None, max_examples=100)
@given(conversation=tool_conversations(reasoning=False, text=plain))
def test_qwen3_without_thinking_asks_as_its_hub_template(conversation):
    """(Where the data has no reasoning: the hub template keeps that of the steps since the last question.)"""
    hub = hub_template("qwen3-bpe-151k", "{%- set enable_thinking = false -%}")
    ours = declared("qwen3/no_think")
    for rendering, i in zip(ours.render(conversation), [i for i, m in enumerate(conversation.messages) if m.role == "assistant"], strict=True):
        asked = replace(conversation, messages=conversation.messages[:i])
        assert ours.generation(asked).text == hub.generation(asked).text
        assert rendering.text.startswith(hub.generation(asked).text)


@pytest.mark.parametrize("name", WITH_TOOLS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_tools_are_in_the_export(name, data):
    template, exported = declared(name), export_of(name)
    conversation = data.draw(tool_conversations(reasoning=template.form.reasoning))
    whole = template.render(conversation)[-1]
    assert exported._text(conversation.messages, conversation.tools, prompt=False) == whole.text
    asked = replace(conversation, messages=conversation.messages[:-1])
    assert exported.generation(asked).text == template.generation(asked).text
    assert whole.text.startswith(template.generation(asked).text)


TOOL_TURNS = (
    Message(role="user", content="Weather in Rome?"),
    Message(role="assistant", content="", reasoning=None, tool_calls=({"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rom, 罗马"}'}},)),
    Message(role="tool", content="18 C"),
    Message(role="assistant", content="18 degrees."),
)
TOOL_TEXT = (
    '<|im_start|>user\nWeather in Rome?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rom, 罗马"}}\n</tool_call>'
    "<|im_end|>\n<|im_start|>user\n<tool_response>\n18 C\n</tool_response><|im_end|>\n<|im_start|>assistant\n18 degrees.<|im_end|>\n"
)
TOOLS_TEXT = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within "
    '<tools></tools> XML tags:\n<tools>\n{"type": "function", "function": {"name": "weather"}}\n</tools>\n\nFor each function call, return a json '
    'object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": '
    "<args-json-object>}\n</tool_call><|im_end|>\n"
)


@pytest.mark.parametrize(("name", "system"), [
    ("qwen2.5", "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n"), ("qwen3_2507", "<|im_start|>system\n")])
def test_tools_of_qwen(name, system):
    """The published form, written out: Qwen2.5-Instruct, Qwen3-Instruct-2507."""
    conversation = Conversation(messages=TOOL_TURNS, tools=({"type": "function", "function": {"name": "weather"}},))
    (rendering,) = declared(name).render(conversation)
    assert rendering.text == system + TOOLS_TEXT + TOOL_TEXT
    assert [s.text for s in rendering.segments if s.train] == [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rom, 罗马"}}\n</tool_call><|im_end|>', "18 degrees.<|im_end|>"]
    both = (replace(TOOL_TURNS[1], content="Let me see."), TOOL_TURNS[2])
    text = declared(name).render(Conversation(messages=(TOOL_TURNS[0], *both, TOOL_TURNS[3])))[-1].text
    assert "Let me see.\n<tool_call>" in text


@pytest.mark.parametrize(("name", "said"), [
    ("qwen3", "<think>\nbecause\n</think>\n\nb<|im_end|>"), ("deepseek_r1", "because\n</think>\n\nb<｜end▁of▁sentence｜>"),
    ("deepseek_r1/first_release", "<think>\nbecause\n</think>\n\nb<｜end▁of▁sentence｜>"), ("glm4_5", "\n<think>because</think>\nb<|user|>"),
    ("gpt_oss", "<|channel|>analysis<|message|>because<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>")])
def test_reasoning_is_carried(name, said):
    """As a field of its own, or as a think block in the content: the same text; and none of it in the history."""
    apart = Message(role="assistant", content="b", reasoning="because")
    inside = Message(role="assistant", content="<think>\nbecause\n</think>\n\nb")
    question = Message(role="user", content="a")
    for answer in (apart, inside):
        renderings = rendered(name, (question, answer, question, answer))
        assert [s.text for r in renderings for s in r.segments if s.train] == [said, said]
        assert renderings[1].text.count("because") == 1


# -- in ids ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_tokenizers(tmp_path_factory) -> dict[str, Tokenizer]:
    out = {}
    for kind, options in {"byte-level": {}, "dummy-prefix": {"dummy_prefix": True, "bos": True, "eos": "</s>"}}.items():
        folder = tmp_path_factory.mktemp(kind)
        make_tokenizer(folder, **options)
        out[kind] = Tokenizer(folder)
    return out


BORDERS = (("Hello", "world."), (" a\n", "\n\nb "), ("你好。", "42"), ("end\n\n", " 😀"))


@pytest.mark.parametrize("kind", ["byte-level", "dummy-prefix"])
@pytest.mark.parametrize("name", NAMES)
def test_the_ids_before_an_answer_are_those_of_its_prompt(tiny_tokenizers, name, kind):
    """For every form and every answer, whatever stands at the border; and what is trained decodes to the answer."""
    tokenizer = tiny_tokenizers[kind]
    template = pick_template(name, tokenizer)
    messages = [Message(role="system", content="Be brief.")]
    for asked, said in BORDERS:
        messages += [Message(role="user", content=asked), Message(role="assistant", content=said)]
    for train_on in ("assistant", "last"):
        renderings = template.render(Conversation(messages=tuple(messages)), train_on)
        trained = [(e, end) for r in renderings for e in encode(r, tokenizer) for end in e.answer_ends]
        answers = [s.text for r in renderings for i, s in enumerate(r.segments) if i in r.answers]
        places = [i for i, m in enumerate(messages) if m.role == "assistant"][-len(answers):]
        assert len(trained) == len(answers) == (4 if train_on == "assistant" else 1)
        for (e, end), answer, place in zip(trained, answers, places, strict=True):
            if len(renderings) > 1 or train_on == "last":
                prompt = encode_prompt(template.generation(Conversation(messages=tuple(messages[:place]))), tokenizer)
                assert e.input_ids[: len(prompt)].tolist() == prompt
                assert (e.labels[: len(prompt)] == IGNORE_INDEX).all()
                got = tokenizer.decode(e.input_ids[:end].tolist())[len(tokenizer.decode(prompt)):]
                # After a special token, SentencePiece writes its space once more: so it does where the model is served. Its
                # sign for a space is in DeepSeek's marks, which such a tokenizer cannot spell.
                assert got == answer or (kind == "dummy-prefix" and got.split() == answer.replace("▁", " ").split())


# -- in ids, through transformers itself -----------------------------------------------------------


@pytest.fixture(scope="module", params=["byte-level", "dummy-prefix"])
def saved(request, tmp_path_factory):
    """Each template saved with a tokenizer, as a run saves it; and the same loaded by transformers."""
    from transformers import AutoTokenizer

    base = tmp_path_factory.mktemp("base")
    make_tokenizer(base, dummy_prefix=request.param == "dummy-prefix", bos=request.param == "dummy-prefix", eos="</s>")
    tokenizer = Tokenizer(base)
    out = {}
    for name in IN_IDS:
        template = pick_template(name, tokenizer)
        folder = tmp_path_factory.mktemp(name)
        save_tokenizer(tokenizer, template, folder, ["Hello world. 你好", " two  spaces\n"])
        out[name] = (tokenizer, template, AutoTokenizer.from_pretrained(folder))
    return out


@pytest.mark.parametrize("name", IN_IDS)
@settings(deadline=None, max_examples=25)
@given(conversation=conversations(max_turns=4, text=plain))
def test_served_ids_are_trained_ids(saved, name, conversation):
    """What transformers (and vLLM, which asks it) encodes for a chat equals what was trained, prompt and all."""
    tokenizer, template, served = saved[name]
    special = tokenizer.special_pattern
    if any(special.search(m.content) or any(c in m.content for c in template.control) for m in conversation.messages):
        return  # such rows are refused or dropped by policy
    dicts = [m.to_dict() for m in conversation.messages]
    renderings = template.render(conversation)
    asked = Conversation(messages=conversation.messages[:-1])
    prompt = served.apply_chat_template(dicts[:-1], add_generation_prompt=True)["input_ids"]
    assert prompt == encode_prompt(template.generation(asked), tokenizer)
    encoded = encode(renderings[-1], tokenizer)
    # Training sees, before the last answer, exactly the ids of that prompt.
    last = encoded[-1]
    first_trained = len(prompt)
    assert last.input_ids[:first_trained].tolist() == prompt
    assert last.labels[first_trained] == last.input_ids[first_trained]
    if len(encoded) == 1 and not last.cut:
        assert served.apply_chat_template(dicts)["input_ids"] == last.input_ids.tolist()
    # No answer is lost, whichever way it was encoded, and each ends with the stop token where it is one.
    every = [e for r in renderings for e in encode(r, tokenizer)]
    answers = sum(m.role == "assistant" for m in conversation.messages)
    assert sum(len(e.answer_ends) for e in every) == sum(len(r.answers) for r in renderings) <= answers
    stop = stop_token_ids(template, tokenizer)
    if len(tokenizer.ids(template.stop[0])) == 1:
        assert last.input_ids[last.answer_ends[-1] - 1] == stop[0]
    assert all((e.labels != IGNORE_INDEX).any() for e in every)


@pytest.mark.parametrize("name", IN_IDS)
def test_exported_generation_marks_are_the_labels(saved, name):
    """transformers' assistant mask, made from the exported marks, marks the trained tokens."""
    tokenizer, template, served = saved[name]
    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four, five.")]
    messages = [Message(role=r, content=c) for r, c in turns]
    renderings = template.render(Conversation(messages=tuple(messages)))
    ends = [3, 5] if len(renderings) > 1 else [5]
    for end, rendering in zip(ends, renderings, strict=True):
        encoded = encode(rendering, tokenizer)
        if len(encoded) > 1 or encoded[0].cut:
            continue  # a token would cover both sides: the ids were cut on purpose, and no mask can say that
        out = served.apply_chat_template([m.to_dict() for m in messages[:end]], return_dict=True, return_assistant_tokens_mask=True)
        assert out["input_ids"] == encoded[0].input_ids.tolist()
        assert [bool(x) for x in out["assistant_masks"]] == (encoded[0].labels != IGNORE_INDEX).tolist()


# -- chat templates of others, and errors ----------------------------------------------------------


def test_a_template_that_rewrites_history_is_one_rendering_per_answer():
    """Qwen 3's form in small: reasoning is stripped from earlier turns, so each answer is trained as it is asked."""
    source = (
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}"
        "{{- m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' and not loop.last else m.content -}}"
        "{{- '<|im_end|>\\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )
    template = ChatTemplate(source, stop=("<|im_end|>",))
    turns = [("user", "a"), ("assistant", "<think>\nt1\n</think>\n\nb"), ("user", "c"), ("assistant", "<think>\nt2\n</think>\n\nd")]
    first, second = template.render(Conversation(messages=tuple(Message(role=r, content=c) for r, c in turns)))
    assert [s.text for s in first.segments if s.train] == ["<think>\nt1\n</think>\n\nb<|im_end|>"]
    assert [s.text for s in second.segments if s.train] == ["<think>\nt2\n</think>\n\nd<|im_end|>"]
    assert "t1" not in second.text
    # A conversation that it does not rewrite stays one rendering.
    plain = [(r, c.split("</think>")[-1].strip()) for r, c in turns]
    (one,) = template.render(Conversation(messages=tuple(Message(role=r, content=c) for r, c in plain)))
    assert len(one.answers) == 2


@pytest.mark.parametrize(("said", "meant"), [
    ("chatlm", "chatml"), ("Qwen-2.5", "qwen2.5"), ("lama3", "llama3"), ("alpaca/fastchart", "alpaca/fastchat"), ("alpaca/nothing_like_it", "alpaca"),
    ("vicuna/firefli", "vicuna/firefly"), ("mistral-v3/system-first", "mistral_v3/system_first"), ("qwen3_instruct", "qwen3"), ("gogpt_v1", "llama2/gogpt_v1"),
    ("zefyr", "zephyr"), ("deepseek_r2", "deepseek_r1")])
def test_mistyped_names_find_what_was_meant(said, meant):
    with pytest.raises(GogptError) as problem:
        declared(said)
    assert problem.value.code == "TOK420"
    assert repr(meant) in str(problem.value.fix)


def test_template_errors(tmp_path: Path):
    with pytest.raises(GogptError, match="no template is named 'zzz'") as problem:
        declared("zzz")
    assert problem.value.fix == "gogpt template list"
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for m in messages %}")
    with pytest.raises(GogptError) as problem:
        pick_template(str(broken)).render(Conversation(messages=(Message(role="user", content="a"),)))
    assert problem.value.code == "TOK421"


def test_marks_inside_contents_are_text():
    """Format signs and marks in what people write are never looked into."""
    for piece in PIECES:
        messages = (Message(role="user", content=f"q{piece}q"), Message(role="assistant", content=f"a{piece}a"))
        assert f"<|im_start|>user\nq{piece}q<|im_end|>" in rendered("chatml", messages)[0].text
        assert f"q{piece}q" in rendered("alpaca", messages)[0].text
