"""A tokenizer's own chat template (or a .jinja file), rendered as transformers renders it.

The environment is the one of ``transformers.utils.chat_template_utils``: sandboxed and immutable,
trim_blocks, lstrip_blocks, loop controls, ``raise_exception``, ``strftime_now``, and the
``{% generation %}`` marks, which print nothing here. Which text is trained is found from renderings, not from
those marks, since most templates have none:

- the prompt of an answer is the rendering of what is before it, with the generation prompt;
- it must be a prefix of the rendering of the whole conversation; where it is not (Qwen 3 strips reasoning
  from earlier turns), every answer becomes a rendering of its own, because that is what inference will see;
- the answer ends at the last stop token of what the template writes for it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gogpt.errors import GogptError, RowError
from gogpt.templates.template import Rendering, merge_segments, text_rendering, trained_answers

if TYPE_CHECKING:
    from gogpt.records import Conversation, Message

TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|return|>", "<|call|>",
    "<|end_of_text|>", "<|endoftext|>", "</s>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>", "<eos>", "<|eos|>", "[EOS]", "<|user|>",
)
"""Texts that end a turn in known templates, tried beside the tokenizer's EOS and the stop tokens of
generation_config.json."""


class ChatTemplate:
    """``source`` is the Jinja text. ``tokens`` are the names that templates may use (``bos_token``...).
    ``stop`` are texts that can end an answer, the likeliest first; ``special`` all special token texts.
    ``one_per_answer``: every answer is a rendering of its own, whether or not the template rewrites history."""

    def __init__(
        self,
        source: str,
        *,
        name: str = "auto",
        tokens: Mapping[str, str] | None = None,
        stop: Sequence[str] = (),
        special: Sequence[str] = (),
        eos: str | None = None,
        one_per_answer: bool = False,
    ) -> None:
        self.source = source
        self.name = name
        self.tokens = dict(tokens or {})
        self.eos = eos or ""
        self.one_per_answer = one_per_answer
        known = [s for s in stop if s] + [s for s in TURN_ENDS if s in set(special)]
        self._candidates = tuple(dict.fromkeys(known))

    def __getstate__(self) -> dict[str, Any]:
        """What is compiled stays here: it cannot be pickled, and another process compiles its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}

    @cached_property
    def _compiled(self) -> Any:
        return compile_chat_template(self.source)

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """The marker that this template really writes after an answer comes first."""
        from gogpt.records import Message

        probe = (Message(role="user", content="1"), Message(role="assistant", content="2"))
        try:
            text = self._text(probe, (), prompt=False)
            at, marker = self._last_stop(text, text.rfind("2") + 1)
        except RowError:
            return self._candidates[:1]
        if at < 0:
            return ()
        return (marker, *(s for s in self._candidates if s == self.eos and s != marker))

    @property
    def control(self) -> tuple[str, ...]:
        return self.stop

    def _last_stop(self, text: str, start: int) -> tuple[int, str]:
        """End and text of the last stop marker at or after ``start``; (-1, "") without one."""
        best = (-1, "")
        for marker in self._candidates:
            at = text.rfind(marker, start)
            if at >= 0 and at + len(marker) > best[0]:
                best = (at + len(marker), marker)
        return best

    def _text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, prompt: bool) -> str:
        # A template that never names them leaves them out without a word.
        if tools and not re.search(r"\btools\b", self.source):
            raise RowError("tools_not_in_template", f"{self.name} writes no tools")
        if any(m.tool_calls for m in messages) and not re.search(r"\btool_calls?\b", self.source):
            raise RowError("tools_not_in_template", f"{self.name} writes no calls of tools")
        dicts = [_for_jinja(m) for m in messages]
        compiled = self._compiled  # a syntax error is the template's, not the row's
        try:
            text = compiled.render(
                messages=dicts, tools=[dict(t) for t in tools] or None, documents=None,
                add_generation_prompt=prompt, **self.tokens,
            )
        except Exception as problem:  # a template may raise anything; the row is told with its words
            raise RowError("template_refused", str(problem)) from problem
        return str(text)

    def render(self, conversation: Conversation, train_on: str = "assistant") -> tuple[Rendering, ...]:
        if conversation.is_text:
            return text_rendering(conversation, self.eos)
        messages, tools = conversation.messages, conversation.tools
        whole = self._text(messages, tools, prompt=False)
        if train_on == "all":
            return (merge_segments(_without_results(whole, messages)),)
        trained = trained_answers(messages, train_on)
        if self.one_per_answer and any(trained):
            return self._one_per_answer(messages, tools, trained)
        spans: list[tuple[int, int]] = []
        for i, train in enumerate(trained):
            if not train:
                continue
            prompt = self._text(messages[:i], tools, prompt=True)
            upto = whole if i == len(messages) - 1 else self._text(messages[: i + 1], tools, prompt=False)
            shared = _shared(upto, whole)
            end, _ = self._last_stop(whole[:shared], len(prompt))
            stable = whole.startswith(prompt) and shared >= len(prompt) and (end >= 0 or shared == len(upto))
            if not stable:
                return self._one_per_answer(messages, tools, trained)
            spans.append((len(prompt), end if end >= 0 else shared))
        return (_split(whole, spans),)

    def _one_per_answer(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], trained: Sequence[bool]
    ) -> tuple[Rendering, ...]:
        out = []
        for i, train in enumerate(trained):
            if not train:
                continue
            prompt = self._text(messages[:i], tools, prompt=True)
            whole = self._text(messages[: i + 1], tools, prompt=False)
            if not whole.startswith(prompt):
                at = _shared(prompt, whole)
                raise RowError("prompt_not_prefix", f"the generation prompt of message {i + 1} is no prefix of "
                               f"the rendering with its answer: they part at character {at}")
            end, _ = self._last_stop(whole, len(prompt))
            out.append(_split(whole, [(len(prompt), end if end >= 0 else len(whole))]))
        return tuple(out)

    def generation(self, conversation: Conversation) -> Rendering:
        text = self._text(conversation.messages, conversation.tools, prompt=True)
        return merge_segments([(text, False, False)])

    def jinja(self) -> str:
        return self.source


def _shared(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning."""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _without_results(text: str, messages: Sequence[Message]) -> list[tuple[str, bool, bool]]:
    """The whole text trained, but for what tools returned: the model must never learn to make results up."""
    pieces: list[tuple[str, bool, bool]] = []
    at = done = 0
    for number, message in enumerate(messages, start=1):
        content = message.content.strip()
        found = text.find(content, at) if content else at
        if message.role == "tool" and content:
            if found < 0:
                raise RowError("tool_result_not_found", f"message {number}: the template writes the tool's result in another form, "
                               "which train_on: all would train")
            pieces += [(text[done:found], True, False), (text[found : found + len(content)], False, False)]
            done = found + len(content)
        at = found + len(content) if found >= 0 else at
    return [*pieces, (text[done:], True, False)]


def _split(text: str, spans: Sequence[tuple[int, int]]) -> Rendering:
    pieces: list[tuple[str, bool, bool]] = []
    at = 0
    for start, end in spans:
        pieces += [(text[at:start], False, False), (text[start:end], True, True)]
        at = end
    pieces.append((text[at:], False, False))
    return merge_segments(pieces)


def _for_jinja(message: Message) -> dict[str, Any]:
    out = message.to_dict()
    out.pop("train", None)
    calls = []
    for call in message.tool_calls:
        call = json.loads(json.dumps(call))
        function = call.get("function", call)
        # OpenAI's API writes arguments as a JSON string; chat templates want the object.
        if isinstance(function.get("arguments"), str):
            with contextlib.suppress(ValueError):
                function["arguments"] = json.loads(function["arguments"])
        calls.append(call)
    if calls:
        out["tool_calls"] = calls
    return out


def compile_chat_template(source: str) -> Any:
    """A Jinja template as transformers compiles it. Raises GogptError TOK421 on a syntax error."""
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}  # noqa: RUF012 (jinja2 wants a class attribute)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def strftime_now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    try:
        return env.from_string(source)
    except jinja2.exceptions.TemplateSyntaxError as problem:
        raise GogptError(
            "TOK421", f"the chat template is not valid Jinja: {problem.message}",
            where=f"chat template line {problem.lineno}", fix="correct the template, or name a declared one",
        ) from problem
