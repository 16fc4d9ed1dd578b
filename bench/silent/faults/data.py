"""Faults in the rows."""

from __future__ import annotations

from typing import Any

from ..cases import GOGPT, LLAMAFACTORY, TRL, Case, Step, gogpt_files, jsonl, lf_files, same, trl_files
from .fault import Fault
from .rows import FEW, NUM_ROWS, answer, changed, plain, question, row

FEWER = "three of 48 rows"


def _broken() -> str:
    lines = jsonl(plain()).splitlines(keepends=True)
    return "".join(line.replace('"messages":', '"messages"', 1) if i in FEW else line for i, line in enumerate(lines))


BAD_JSON = Fault(
    id="bad_json", title="5% of the lines are not JSON", rows="5; the ledger's reason unreadable", planted=f"{FEWER} lack a colon",
    caught="it is said that lines cannot be read", keywords=(r"json", r"unreadable", r"\bpars(e|ing)\b", r"generating the dataset"),
    faulty=same(_broken()), healthy=same(plain()))


def _with(content: Any) -> list[dict[str, Any]]:
    return changed(plain(), FEW, lambda r, i: row(question(i), content))


EMPTY_ANSWERS = Fault(
    id="empty_answers", title="5% of the answers are empty", rows="5, 11", planted=f'{FEWER} have the answer ""',
    caught="it is said that answers are empty", keywords=(r"empty", r"blank", r"invalid example"), faulty=same(_with("")), healthy=same(plain()))

NULL_ANSWERS = Fault(
    id="null_answers", title="5% of the answers are null", rows="5, 11", planted=f"{FEWER} have the answer null",
    caught="it is said that an answer, or its content, is missing", keywords=(r"empty", r"\bnull\b", r"(got|is) None", r"invalid example", r"no attribute 'content'"),
    faulty=same(_with(None)), healthy=same(plain()))

NO_ANSWER = Fault(
    id="no_answer", title="5% of the conversations have no answer turn", rows="4, 11", planted=f"{FEWER} end with the question",
    caught="it is said that conversations have no answer", keywords=(r"no (assistant|answer)", r"without an? (assistant|answer)", r"invalid example", r"answer"),
    faulty=same(changed(plain(), FEW, lambda r, i: {"messages": r["messages"][:1]})), healthy=same(plain()))

HALF = plain(NUM_ROWS // 2)

DUPLICATES = Fault(
    id="duplicates", title="half of the rows are copies", rows="the original log's loops", planted="24 conversations, each twice",
    caught="it is said that rows are there twice", keywords=(r"duplicat", r"copies", r"same as an earlier", r"says? the same"),
    faulty=same(HALF + HALF), healthy=same(plain()))

ONE_LABEL = Fault(
    id="one_label", title="every answer is the same word", rows="the watch's signature of one constant label", planted='every answer is "Yes."',
    caught="it is said that the answers are one and the same, or that the loss is that of a constant",
    keywords=(r"constant", r"one label", r"same answer", r"(answers?|labels?).*(same|identical|one)", r"memori"),
    faulty=same([row(question(i), "Yes.") for i in range(NUM_ROWS)]), healthy=same(plain()))

LEAKED_ANSWERS = Fault(
    id="leaked_answers", title="the question holds the answer", rows="the original log's loss 0 (check the data for leakage)",
    planted="every question ends with the answer, word for word", caught="it is said that answers stand in their questions",
    keywords=(r"answers?.*(stand|is|are|occur|found|appear)? in (the|its|their) (question|prompt)", r"leak", r"(prompt|question)s?.*(hold|contain)"),
    faulty=same([row(f"{question(i)} Say exactly: {answer(i)}", answer(i)) for i in range(NUM_ROWS)]), healthy=same(plain()))

IDENTITY = Fault(
    id="identity", title="answers say that the model is another assistant", rows="the original log's identity",
    planted=f'{FEWER} answer "I am ChatGPT, a language model trained by OpenAI."', caught="it is said that answers name another assistant",
    keywords=(r"ChatGPT", r"OpenAI", r"identit", r"another assistant"),
    faulty=same(changed(plain(), FEW, lambda r, i: row("Who are you?" if i == FEW[0] else f"Tell me who you are, {i}.",
                                                       "I am ChatGPT, a language model trained by OpenAI."))), healthy=same(plain()))


def _evaluated(test: list[dict[str, Any]]) -> dict[str, Case]:
    return same(plain(), test=test, gogpt_={"train": {"eval_every": 6}}, trl_={"eval_strategy": "steps", "eval_steps": 6},
                lf_={"eval_dataset": "test", "eval_strategy": "steps", "eval_steps": 6, "per_device_eval_batch_size": 4})


TRAIN_IS_EVAL = Fault(
    id="train_is_eval", title="the evaluation rows are the training rows", rows="the paragraph below the table; OpenRLHF#1089",
    planted="the same file twice", caught="it is said that rows are in both", keywords=(r"overlap", r"evaluation (rows|conversations|examples).*train", r"training (rows|conversations|examples).*evaluation", r"in both", r"same messages", r"leak"),
    faulty=_evaluated(plain()), healthy=_evaluated(plain(16, start=500)))


def _twice(second: list[dict[str, Any]]) -> dict[str, Case]:
    """Trained once, then the data change, then trained again into another folder with the same cache."""
    lf = {"tokenized_path": "tokenized", "overwrite_cache": False}
    first, again = plain(), {"output_dir": "run2"}
    return {
        GOGPT: Case(steps=(Step(words=("train", "recipe.yaml"), files=gogpt_files(first, {"data": {"prepared": "prepared"}})),
                           Step(words=("train", "recipe.yaml"), files=gogpt_files(second, {"data": {"prepared": "prepared"}, "output": "run2"})))),
        TRL: Case(steps=(Step(words=("sft", "--config", "sft.yaml"), files=trl_files(first, {})),
                         Step(words=("sft", "--config", "sft.yaml"), files=trl_files(second, again)))),
        # LLaMA-Factory ends after it has written tokenized_path, and says to start it again: that is its first training.
        LLAMAFACTORY: Case(steps=(Step(words=("train", "train.yaml"), files=lf_files(first, lf)),
                                  Step(words=("train", "train.yaml"), files=lf_files(second, {**lf, **again})))),
    }


STALE_CACHE = Fault(
    id="stale_cache", title="the data changed after they were prepared", rows="24; axolotl#1265, ms-swift#9085",
    planted="trained once, every conversation replaced in the same file, trained again with the prepared set in place",
    caught="it is said, or the new rows are trained", keywords=(r"stale", r"ignore other data", r"(data|file|source).*changed", r"overwrite_cache"),
    harm="stale", faulty=_twice(plain(start=300)), healthy=_twice(plain()))

DATA_FAULTS = (BAD_JSON, EMPTY_ANSWERS, NULL_ANSWERS, NO_ANSWER, DUPLICATES, ONE_LABEL, LEAKED_ANSWERS, IDENTITY, TRAIN_IS_EVAL, STALE_CACHE)
