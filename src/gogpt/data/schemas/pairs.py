"""One prompt and one answer, each under a key of its own: the schemas that differ by the names of their keys.

A table. An entry says under which keys the prompt, its input, the answer, the system message and earlier turns stand;
the first of several names that holds something counts. The order of the table is that of ``SCHEMAS``: the longer set
of keys comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import (
    finish,
    first_key,
    history_of,
    input_of,
    is_plain,
    system_messages,
    text_of,
)
from gogpt.data.shapes.marks import asked
from gogpt.errors import GogptError
from gogpt.records import Conversation, Message, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Where a row says what. ``needs``: one of these keys must be there as well."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    input: tuple[str, ...] = ()
    system: tuple[str, ...] = ("system", "system_prompt")
    history: tuple[str, ...] = ("history",)
    needs: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.prompt, *self.input, *self.answer, *self.system, *self.history, *self.needs)

    def fits(self, row: Row) -> bool:
        prompt, answer = first_key(row, self.prompt), first_key(row, self.answer)
        if prompt is None or answer is None or (self.needs and not any(k in row for k in self.needs)):
            return False
        said, answered = row[prompt], row[answer]
        return is_plain(said) and is_plain(answered) and not (said is None and answered is None)

    def convert(self, row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
        prompt_key, answer_key, extra_key = (first_key(row, keys) for keys in (self.prompt, self.answer, self.input))
        assert prompt_key is not None
        assert answer_key is not None
        prompt, answer = text_of(row[prompt_key], prompt_key), text_of(row[answer_key], answer_key)
        extra = input_of(row[extra_key], extra_key, note) if extra_key is not None else ""
        messages = system_messages(row, self.system)
        for key in self.history:
            messages += history_of(row.get(key), key)
        turns, marks = asked(prompt, extra, note)
        messages += turns
        if marks is not None:
            answer = marks.without_end(answer)
        messages.append(Message(role="assistant", content=answer))
        if row.get("skip_prompt_formatting") is True and marks is None:
            note("prompts that are formatted already (skip_prompt_formatting): read as the user's message")
        return finish(messages, origin)


def schema(name: str, pair: Pair, *, wants: str, doc: str, examples: tuple[Row, ...], not_mine: tuple[Row, ...] = ()) -> Schema:
    return Schema(name=name, wants=wants, doc=doc, keys=pair.keys, fits=pair.fits, to_conversation=pair.convert,
                  examples=examples, not_mine=not_mine)


PLACES = ("prompt", "input", "answer", "system", "history")


def key_map(spec: str, where: str | None = None) -> Schema:
    """A schema of a user's own keys: ``prompt=toy_input,answer=toy_output`` (also input, system, history).

    Raises GogptError DAT306.
    """
    places: dict[str, tuple[str, ...]] = {}
    for part in spec.split(","):
        place, _, key = (word.strip() for word in part.partition("="))
        if place not in PLACES or not key or place in places:
            raise GogptError("DAT306", "the keys of the schema cannot be read", where=where, got=spec,
                             expected="PLACE=KEY, parted by commas; the places: " + ", ".join(PLACES),
                             fix="as in schema: prompt=question,answer=reply")
        places[place] = (key,)
    if not {"prompt", "answer"} <= set(places):
        raise GogptError("DAT306", "the keys of the schema do not say where prompt and answer stand", where=where, got=spec,
                         expected="prompt=KEY and answer=KEY at least", fix="as in schema: prompt=question,answer=reply")
    pair = Pair(prompt=places["prompt"], answer=places["answer"], input=places.get("input", ()), system=places.get("system", ()),
                history=places.get("history", ()))
    return schema(spec, pair, wants=", ".join(dict.fromkeys(pair.keys)), doc="Keys named by the user.", examples=())


ALPACA = schema(
    "alpaca", Pair(prompt=("instruction",), input=("input",), answer=("output",)),
    wants="instruction, output (and input, system, history)",
    doc="Stanford Alpaca and its many children: one instruction, an optional input, one output. An instruction that is a dialogue "
    "so far (BELLE multi-turn) is taken apart into turns.",
    examples=(
        {"instruction": "Name a colour.", "input": "", "output": "Blue."},
        {"instruction": "Translate to German.", "input": "Good morning.", "output": "Guten Morgen."},
        {"instruction": "And then?", "output": "Tea.", "history": [["First?", "Water."]], "system": "Be short."},
        {"instruction": "Human:你好\nAssistant:你好！\nHuman:你会什么？\nAssistant:", "input": "Noinput", "output": "\n回答问题。"},
    ),
    not_mine=({"instruction": "Name a colour."}, {"instruction": "x", "output": ["a", "b"]},
              {"instruction": "x", "output": "y", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
)

COIG_TRANSLATED = schema(
    "coig_translated", Pair(prompt=("trans_instruction",), input=("trans_input",), answer=("trans_output",), history=()),
    wants="trans_instruction, trans_output (and trans_input)",
    doc="COIG, translated instructions: the translation is read, not the original beside it.",
    examples=({"instruction": "Name a colour.", "input": "", "output": "Blue.", "trans_instruction": "说出一种颜色。", "trans_input": "",
               "trans_output": "蓝色。", "task_name_in_eng": "colour"},
              {"trans_instruction": "译成英文。", "trans_input": "早上好", "trans_output": "Good morning."}),
    not_mine=({"instruction": "x", "output": "y"},),
)

DOLLY = schema(
    "dolly", Pair(prompt=("instruction",), input=("context",), answer=("response",), needs=("context",)),
    wants="instruction, context, response (and category)",
    doc="Databricks Dolly: the context is the input of the instruction.",
    examples=({"instruction": "Who is it about?", "context": "Ada wrote programs.", "response": "Ada.", "category": "closed_qa"},
              {"instruction": "Name a colour.", "context": "", "response": "Blue.", "category": "brainstorming"}),
    not_mine=({"instruction": "x", "response": "y", "category": "z"},),
)

AIROBOROS = schema(
    "airoboros", Pair(prompt=("instruction",), answer=("response",), needs=("category", "skip_prompt_formatting", "question_id")),
    wants="instruction, response, category (and system, skip_prompt_formatting)",
    doc="airoboros: gpt4-m2.0, and 2.x with a system message. A prompt that is a whole chat already (skip_prompt_formatting) is taken "
    "apart where it has USER: and ASSISTANT: marks, else it is the user's message.",
    examples=({"instruction": "Name a colour.", "response": "Blue.", "category": "general"},
              {"instruction": "Hi.", "response": "Ahoy!", "category": "rp", "system": "You are a sailor.", "skip_prompt_formatting": False},
              {"instruction": "A chat.\nUSER: Hi\nASSISTANT: Hello\nUSER: And?\nASSISTANT:", "response": "Fine.", "category": "chat", "system": "",
               "skip_prompt_formatting": True},
              {"instruction": "Anna looks up.\nAnna:", "response": "Who is there?", "category": "rp", "skip_prompt_formatting": True}),
    not_mine=({"instruction": "x", "input": "", "response": "y"},),
)

GPTEACHER = schema(
    "gpteacher", Pair(prompt=("instruction",), input=("input",), answer=("response",)),
    wants="instruction, response (and input, system)",
    doc="GPTeacher: General-Instruct, Roleplay, Codegen, Toolformer (whose calls are text).",
    examples=({"instruction": "Add.", "input": "1 and 2", "response": "3"}, {"instruction": "Say hi.", "input": "noinput", "response": "Hi."},
              {"instruction": "toolformer: enabled\ntoolformer access: clock\nWhat time is it?", "input": "", "response": "It is clock().", "example_input": ""}),
    not_mine=({"instruction": "x", "response": "y", "output": "y"}, {"instruction": "x", "context": "", "response": "y"}),
)

OPENORCA = schema(
    "openorca", Pair(prompt=("question",), answer=("response",), history=()),
    wants="question, response (and system_prompt)",
    doc="OpenOrca: a question under a system prompt, which may be blank.",
    examples=({"id": "flan.1", "system_prompt": "", "question": "2 + 2?", "response": "4"},
              {"id": "cot.2", "system_prompt": "Think first.", "question": "Why is the sky blue?", "response": "Because of scattering."}),
    not_mine=({"question": "x", "answer": "y"},),
)

QUERY_RESPONSE = schema(
    "query_response", Pair(prompt=("query",), answer=("response",)),
    wants="query, response (and system, history)",
    doc="ms-swift and Qwen: a query, its response, earlier turns.",
    examples=({"query": "And then?", "response": "Tea.", "history": [["First?", "Water."]], "system": "Be short."},
              {"query": "Hi", "response": "Hello"}, {"system": "", "query": "Hi", "response": "Hello", "history": ""}),
    not_mine=({"query": "x"}, {"response": "y"}),
)

QUESTION_ANSWER = schema(
    "question_answer", Pair(prompt=("question", "problem", "ask", "q"), input=("context",), answer=("solution", "answer", "a"), history=()),
    wants="question (or problem, ask, q), answer (or solution, a) (and context)",
    doc="Questions and answers: GSM8K, LIMO, tables of question and answer. A solution is read before the bare answer beside it.",
    examples=({"question": "2 + 2?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"}, {"department": "x", "title": "cough", "ask": "I cough.", "answer": "Rest."},
              {"question": "How many?", "context": "Two cats.", "answer": "Two."}, {"problem": "x + 1 = 2", "solution": "Subtract 1: x = 1.", "answer": "1"}),
    not_mine=({"question": "x", "answer": ["a", "b"]}, {"question": "x", "response_j": "a", "response_k": "b"}),
)

PROMPT_COMPLETION = schema(
    "prompt_completion", Pair(prompt=("prompt",), answer=("completion", "response", "answer", "chosen", "output", "target")),
    wants="prompt, completion (or response, answer, chosen without rejected, output) (and system, history)",
    doc="A prompt and its completion (OpenAI's old form, TRL, Yi). A prompt that is a dialogue so far is taken apart into turns.",
    examples=({"prompt": "2 + 2 =", "completion": " 4"}, {"prompt": "Hi", "response": "Hello"}, {"prompt": "Hi", "answer": "Hello", "system": "Be kind."},
              {"prompt": "Human: Hi Assistant:", "chosen": "Hello"}),
    not_mine=({"prompt": "x"}, {"prompt": "x", "chosen": "y", "rejected": "z"}, {"prompt": [], "completion": []}),
)

FIREFLY = schema(
    "firefly", Pair(prompt=("input",), answer=("target",), history=()),
    wants="input, target (and kind)",
    doc="Firefly: the prompt is under input; kind names the task. Also PromptCBLUE.",
    examples=({"kind": "Couplet", "input": "上联：春", "target": "下联：秋"}, {"input": "Is it a cough?", "target": "yes", "answer_choices": ["yes", "no"], "task_type": "cls"}),
    not_mine=({"input": "x", "output": "y"}, {"kind": "x", "input": "y"}),
)

INPUT_OUTPUT = schema(
    "input_output", Pair(prompt=("input",), answer=("output",)),
    wants="input, output (and system, history)",
    doc="An input that is the whole prompt, and its output: LongForm, H2O, Orca-like sets.",
    examples=({"input": "2 + 2?", "output": "4"}, {"system": "Be short.", "input": "Hi", "output": "Hello"}),
    not_mine=({"instruction": "x", "input": "y", "output": "z"}, {"input": ["x"], "output": ["y"]}),
)

CAMEL = schema(
    "camel", Pair(prompt=("message_1",), answer=("message_2",), history=()),
    wants="message_1, message_2 (and role_1, topic;, sub_topic)",
    doc="Camel-AI domain experts (maths, physics, chemistry, biology): message_1 asks, message_2 answers.",
    examples=({"role_1": "Physicist_RoleType.ASSISTANT", "topic;": "Optics", "sub_topic": "Lenses", "message_1": "What is a lens?",
               "message_2": "A piece of glass that bends light."}, {"message_1": "2 + 2?", "message_2": "4"}),
    not_mine=({"message_1": {"role_type": "USER", "content": "x"}, "message_2": {"role_type": "ASSISTANT", "content": "y"}},),
)

ADGEN = schema(
    "adgen", Pair(prompt=("content",), answer=("summary",), history=()),
    wants="content, summary",
    doc="ADGEN of ChatGLM: attributes, and the text that is written from them.",
    examples=({"content": "类型#裤*版型#宽松", "summary": "宽松的裤子。"}, {"content": "类型#裙", "summary": "一条裙子。"}),
    not_mine=({"content": "x"},),
)
