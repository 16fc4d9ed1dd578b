"""Training render = inference render = exported chat template, over random conversations, in bytes and in ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, make_tokenizer, needs_shared
from gogpt.errors import GogptError, RowError
from gogpt.model import save_tokenizer, stop_token_ids
from gogpt.records import IGNORE_INDEX, Conversation, Message
from gogpt.templates import TEMPLATES, ChatTemplate, declared, pick_template
from gogpt.tokenize import Tokenizer, encode, encode_prompt

NAMES = [t.name for t in TEMPLATES]

# Pieces that go wrong at borders: white space, marks of the templates, Jinja and format signs, accents, emoji.
PIECES = ["", " ", "\n", "\n\n", "\t", "a", "Hello", "world.", "你好", "。", "é", "e\u0301", "😀", "{x}", "{{ y }}", "{% if %}", "'", '"',
          "\\n", "### Response:", "[INST]", "[/INST]", "<<SYS>>", "user", "assistant", "<", "|im", "42", "0", "%s", "\u200d", "</ s>"]
text = st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | st.text(max_size=12)


@st.composite
def conversations(draw, max_turns: int = 20, inputs: bool = False) -> Conversation:
    messages = []
    if draw(st.booleans()):
        messages.append(Message(role="system", content=draw(text)))
    for _ in range(draw(st.integers(1, max_turns))):
        asked = draw(text)
        extra = draw(text) if inputs and draw(st.booleans()) else ""
        messages.append(Message(role="user", content=f"{asked}\n{extra}", input=extra) if extra else Message(role="user", content=asked))
        messages.append(Message(role="assistant", content=draw(text)))
    return Conversation(messages=tuple(messages))


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=150)
@given(conversation=conversations(inputs=True))
def test_exported_jinja_renders_the_same_bytes(name, conversation):
    template = declared(name)
    exported = ChatTemplate(template.jinja(), stop=template.stop, special=template.stop)
    (ours,) = template.render(conversation)
    assert exported._text(conversation.messages, (), prompt=False) == ours.text
    asked = Conversation(messages=conversation.messages[:-1])
    prompt = template.generation(asked).text
    assert exported.generation(asked).text == prompt
    # The prompt of the last answer is a prefix, and the last answer begins where it ends.
    assert ours.text.startswith(prompt)
    before_last = "".join(s.text for s in ours.segments[: ours.answers[-1]])
    assert before_last == prompt


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(conversation=conversations())
def test_every_answer_and_its_stop_marker_is_trained(name, conversation):
    template = declared(name)
    said = [m.content for m in conversation.messages if m.role == "assistant"]
    for train_on, count in (("assistant", len(said)), ("last", 1)):
        (rendering,) = template.render(conversation, train_on)
        trained = [s.text for s in rendering.segments if s.train]
        assert len(trained) == len(rendering.answers) == count
        for answer, segment in zip(said[-count:], trained, strict=True):
            assert segment.endswith(template.stop[0])
            assert answer.strip() in segment
    (everything,) = template.render(conversation, "all")
    assert all(s.train for s in everything.segments)


@pytest.mark.parametrize("name", NAMES)
def test_message_flags_win_over_the_policy(name):
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b", train=False),
             Message(role="user", content="c"), Message(role="assistant", content="d"))
    (rendering,) = declared(name).render(Conversation(messages=turns), "assistant")
    assert [s.text.strip()[0] for s in rendering.segments if s.train] == ["d"]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_template_refuses_its_export_refuses(name):
    template = declared(name)
    exported = ChatTemplate(template.jinja())
    bad = [
        Conversation(messages=(Message(role="user", content="a"), Message(role="tool", content="b"))),
        Conversation(messages=(Message(role="user", content="a"), Message(role="system", content="b"))),
        Conversation(messages=(Message(role="user", content="a"),), tools=({"type": "function"},)),
    ]
    if template.alternating:
        bad.append(Conversation(messages=(Message(role="assistant", content="a"),)))
        bad.append(Conversation(messages=(Message(role="user", content="a"), Message(role="user", content="b"))))
    for conversation in bad:
        with pytest.raises(RowError):
            template.render(conversation)
        with pytest.raises(RowError):
            exported.render(conversation)


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_oracle(name):
    """Byte for byte the forms of the models' own authors."""
    oracle = json.loads((SHARED / "oracles" / "templates.json").read_text(encoding="utf-8"))
    template = declared(name)
    seen = 0
    for key, expected in oracle["templates"][name]["renders"].items():
        source = oracle["conversations"][key]
        messages = [Message(role="system", content=source["system"])] if source["system"] is not None else []
        messages += [Message(role=m["role"], content=m["content"], input=source.get("input") if m["role"] == "user" else None)
                     for m in source["messages"]]
        (rendering,) = template.render(Conversation(messages=tuple(messages)))
        assert rendering.text == expected["training"]
        assert [[s.text, s.train] for s in rendering.segments] == expected["segments"]
        assert template.generation(Conversation(messages=tuple(messages[:-1]))).text == expected["generation"]
        seen += 1
    assert seen >= 9


# A few of the oracle's renders, so that a clone without it still holds the forms to them.
KNOWN = {
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
              "### Instruction:\nName a prime number.\n\n### Response:7</s>\n\n### Instruction:\nAnd the next one?\n\n### Response:11</s>",
    "llama2": "<s>[INST] Name a prime number. [/INST] 7 </s><s>[INST] And the next one? [/INST] 11 </s>",
    "chatml": "<|im_start|>user\nName a prime number.<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n"
              "<|im_start|>user\nAnd the next one?<|im_end|>\n<|im_start|>assistant\n11<|im_end|>\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nName a prime number.<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n7<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
              "And the next one?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n11<|eot_id|>",
}


@pytest.mark.parametrize("name", NAMES)
def test_known_render(name):
    turns = [("user", "Name a prime number."), ("assistant", "7"), ("user", "And the next one?"), ("assistant", "11")]
    (rendering,) = declared(name).render(Conversation(messages=tuple(Message(role=r, content=c) for r, c in turns)))
    assert rendering.text == KNOWN[name]


# -- in ids, through transformers itself ------------------------------------------------------------


@pytest.fixture(scope="module", params=["byte-level", "dummy-prefix"])
def saved(request, tmp_path_factory):
    """Each template saved with a tokenizer, as a run saves it; and the same loaded by transformers."""
    from transformers import AutoTokenizer

    base = tmp_path_factory.mktemp("base")
    make_tokenizer(base, dummy_prefix=request.param == "dummy-prefix", bos=request.param == "dummy-prefix", eos="</s>")
    tokenizer = Tokenizer(base)
    out = {}
    for name in NAMES:
        template = pick_template(name, tokenizer)
        folder = tmp_path_factory.mktemp(name)
        save_tokenizer(tokenizer, template, folder, ["Hello world. 你好", " two  spaces\n"])
        out[name] = (tokenizer, template, AutoTokenizer.from_pretrained(folder))
    return out


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(conversation=conversations(max_turns=4))
def test_served_ids_are_trained_ids(saved, name, conversation):
    """What transformers (and vLLM, which asks it) encodes for a chat equals what was trained, prompt and all."""
    tokenizer, template, served = saved[name]
    special = tokenizer.special_pattern
    if any(special.search(m.content) or any(c in m.content for c in template.control) for m in conversation.messages):
        return  # such rows are refused or dropped by policy
    dicts = [m.to_dict() for m in conversation.messages]
    (rendering,) = template.render(conversation)
    asked = Conversation(messages=conversation.messages[:-1])
    prompt = served.apply_chat_template(dicts[:-1], add_generation_prompt=True)["input_ids"]
    assert prompt == encode_prompt(template.generation(asked), tokenizer)
    encoded = encode(rendering, tokenizer)
    # Training sees, before the last answer, exactly the ids of that prompt.
    last = encoded[-1]
    first_trained = len(prompt)
    assert last.input_ids[:first_trained].tolist() == prompt
    assert last.labels[first_trained] == last.input_ids[first_trained]
    if len(encoded) == 1 and not last.cut:
        assert served.apply_chat_template(dicts)["input_ids"] == last.input_ids.tolist()
    # No answer is lost, whichever way it was encoded, and each ends with the stop token where it is one.
    stop = stop_token_ids(template, tokenizer)
    trained = [e.input_ids[e.labels != IGNORE_INDEX].tolist() for e in encoded]
    ends = [e.input_ids[end - 1] for e in encoded for end in e.answer_ends]
    assert len(ends) == sum(m.role == "assistant" for m in conversation.messages)
    if len(tokenizer.ids(template.stop[0])) == 1:
        assert all(end == stop[0] for end in ends)
    assert all(trained)


@pytest.mark.parametrize("name", NAMES)
def test_exported_generation_marks_are_the_labels(saved, name):
    """transformers' assistant mask, made from the exported marks, marks the trained tokens."""
    tokenizer, template, served = saved[name]
    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four, five.")]
    conversation = Conversation(messages=tuple(Message(role=r, content=c) for r, c in turns))
    (encoded,) = encode(template.render(conversation)[0], tokenizer)
    out = served.apply_chat_template([m.to_dict() for m in conversation.messages], return_dict=True, return_assistant_tokens_mask=True)
    assert out["input_ids"] == encoded.input_ids.tolist()
    assert [bool(x) for x in out["assistant_masks"]] == (encoded.labels != IGNORE_INDEX).tolist()


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


def test_template_errors(tmp_path: Path):
    with pytest.raises(GogptError, match="no template is named 'chatlm'") as problem:
        declared("chatlm")
    assert "chatml" in str(problem.value.fix)
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for m in messages %}")
    with pytest.raises(GogptError) as problem:
        pick_template(str(broken)).render(Conversation(messages=(Message(role="user", content="a"),)))
    assert problem.value.code == "TOK421"
