"""Packed = unpacked; one pass over a conversation = one example per turn. In logits and in gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from gogpt.batches import tensors_of
from gogpt.loss import summed_loss
from gogpt.model import forward_inputs
from gogpt.packing import batch_rows, pack
from gogpt.records import IGNORE_INDEX, Conversation, Example, Message, Origin, paint
from gogpt.templates import pick_template
from gogpt.tokenize import Tokenizer, encode


def example(ids: list[int], trained_from: int = 1) -> Example:
    marks = [i >= trained_from for i in range(len(ids))]
    return Example(input_ids=np.asarray(ids, dtype=np.int32), labels=paint(ids, marks), origin=Origin(path="x", row=1))


def tensors(batch) -> dict[str, torch.Tensor]:
    return tensors_of(batch)


def documents(seed: int, count: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [example(rng.integers(5, 400, int(rng.integers(2, 40))).tolist(), int(rng.integers(1, 10))) for _ in range(count)]


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request, tiny):
    return AutoModelForCausalLM.from_pretrained(tiny, attn_implementation=request.param).eval()


def test_packed_logits_are_unpacked_logits(model):
    docs = documents(0, 9)
    bins = pack([d.num_tokens for d in docs], 96)
    assert len(bins) > 1
    batch = batch_rows([[docs[i] for i in b] for b in bins], pad_id=0)
    with torch.no_grad():
        packed = model(**forward_inputs(tensors(batch), torch.float32, model.config._attn_implementation)).logits
        for row, b in enumerate(bins):
            at = 0
            for i in b:
                alone = model(torch.from_numpy(docs[i].input_ids[None].astype(np.int64))).logits[0]
                assert float((packed[row, at : at + docs[i].num_tokens] - alone).abs().max()) < 1e-5
                at += docs[i].num_tokens


def test_a_document_does_not_see_its_neighbours(model):
    """Change every token of the first document: not a bit of the others' logits moves."""
    docs = documents(1, 4)
    other = [example([(t + 7) % 390 + 5 for t in docs[0].input_ids.tolist()]), *docs[1:]]
    results = []
    for row in (docs, other):
        with torch.no_grad():
            inputs = forward_inputs(tensors(batch_rows([row], pad_id=0)), torch.float32, model.config._attn_implementation)
            results.append(model(**inputs).logits[0, docs[0].num_tokens :])
    assert torch.equal(results[0], results[1])


def test_without_the_mask_documents_do_leak(model):
    """The planted fault that the two tests above are there to catch: the trap of transformers' default cache."""
    docs = documents(1, 4)
    other = [example([(t + 7) % 390 + 5 for t in docs[0].input_ids.tolist()]), *docs[1:]]
    results = []
    for row in (docs, other):
        batch = tensors(batch_rows([row], pad_id=0))
        with torch.no_grad():
            results.append(model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=True).logits[0, docs[0].num_tokens :])
    assert not torch.allclose(results[0], results[1], atol=1e-4)


def gradients(model, batches) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total, count = 0.0, 0
    for batch in batches:
        loss, n = summed_loss(model, tensors(batch), torch.float32)
        loss.backward()
        total, count = total + float(loss.detach()), count + n
    return total / count, {n: p.grad.clone() / count for n, p in model.named_parameters()}


def assert_equal_gradients(model, one, two) -> None:
    (loss_a, a), (loss_b, b) = gradients(model, one), gradients(model, two)
    assert loss_a == pytest.approx(loss_b, abs=1e-6)
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=1e-4, msg=name)


def test_packed_gradients_are_unpacked_gradients(model):
    docs = documents(2, 8)
    bins = pack([d.num_tokens for d in docs], 80)
    packed = [batch_rows([[docs[i] for i in b] for b in bins], pad_id=3)]
    alone = [batch_rows([[d]], pad_id=3) for d in docs]
    assert_equal_gradients(model, packed, alone)


@pytest.mark.parametrize("name", ["chatml", "alpaca", "llama3"])
def test_multi_turn_once_is_one_example_per_turn(model, tiny, name):
    """One pass with every answer trained gives the gradient of one example per answer."""
    tokenizer = Tokenizer(tiny)
    template = pick_template(name, tokenizer)
    said = ["What is red?", "A colour.", "And blue?", "Another colour, like red.", "And 你好?", "That is a greeting."]
    messages = tuple(Message(role="user" if i % 2 == 0 else "assistant", content=text) for i, text in enumerate(said))

    def encoded(upto: int, train_on: str) -> Example:
        (e,) = encode(template.render(Conversation(messages=messages[:upto]), train_on)[0], tokenizer)
        return Example(input_ids=e.input_ids, labels=e.labels, origin=Origin(path="x", row=upto))

    once = [batch_rows([[encoded(6, "assistant")]], pad_id=0)]
    turns = [batch_rows([[encoded(n, "last")]], pad_id=0) for n in (2, 4, 6)]
    assert sum(int((b.labels != IGNORE_INDEX).sum()) for b in turns) == int((once[0].labels != IGNORE_INDEX).sum())
    assert_equal_gradients(model, once, turns)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 100), max_size=200), st.integers(100, 150))
def test_pack_loses_nothing(lengths, capacity):
    bins = pack(lengths, capacity)
    assert sorted(i for b in bins for i in b) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in b) <= capacity for b in bins)
    # Best fit: no two rows could be one.
    sums = sorted(sum(lengths[i] for i in b) for b in bins)
    assert len(sums) < 2 or sums[0] + sums[1] > capacity


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_batches_hold_exactly_the_examples(seed, count):
    docs = documents(seed, count)
    bins = pack([d.num_tokens for d in docs], 64)
    batch = batch_rows([[docs[i] for i in b] for b in bins], pad_id=0)
    for row, b in enumerate(bins):
        for d, i in enumerate(b):
            mine = batch.document_ids[row] == d
            assert batch.input_ids[row][mine].tolist() == docs[i].input_ids.tolist()
            assert batch.labels[row][mine].tolist() == docs[i].labels.tolist()
            assert batch.position_ids[row][mine].tolist() == list(range(docs[i].num_tokens))
    assert (batch.labels[batch.document_ids < 0] == IGNORE_INDEX).all()


def test_pack_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="101 tokens does not fit rows of 100"):
        pack([5, 101], 100)
