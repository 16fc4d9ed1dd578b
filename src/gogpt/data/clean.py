"""One conversation judged: what stays out of the data, what is told, and what is rewritten.

A Cleaner sees one conversation at a time and remembers nothing, so rows may be judged in any order and in several processes.
What needs the other conversations (duplicates, leakage) is in duplicates.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import Counter
from dataclasses import dataclass

from gogpt.config import CleanConfig
from gogpt.data.identities import Identities, Refusals, Statement, known_identities, read_identities
from gogpt.data.languages import LANGUAGES, OWN, UNKNOWN, Identifier, make_identifier
from gogpt.errors import GogptError, RowError
from gogpt.records import Conversation, Message

REASONS = ("empty_turn", "too_short", "too_long_text", "language", "repeated_turn", "refusal", "other_identity")
"""Why a conversation goes, in the order in which they are looked for; the first one found is the one counted."""
NOTES = ("language_unknown", "identity_rewritten")
"""What is reported beside the reasons: a language that cannot be told (kept), a conversation that was rewritten (kept)."""

NUM_DETAIL = 120
MIN_BYTES = 60
"""UTF-8 bytes (20 characters of Chinese) from which a turn said twice is no "continue" or "thank you"."""
NUM_LOOPS = 5
"""Times in a row, or sentences in an answer, from which an answer repeats itself."""
LOOP_SHARE = 0.3
"""Share of the answer that the repeated part must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of a conversation. ``drop``: None where it stays; ``reports``: (reason, detail) of what was found and kept;
    ``language``: ISO 639 code (``und``: cannot be told), None where nobody asked."""

    conversation: Conversation
    drop: RowError | None = None
    reports: tuple[tuple[str, str], ...] = ()
    language: str | None = None


class Cleaner:
    """Judges conversations by ``data.clean``. It can be pickled.

    ``tell_language``: give each conversation's language even where ``clean.languages`` is empty (for ``mix.languages``).
    Raises GogptError CFG240 (rewrite without an identity), CFG241, CFG201 (identities_file), CFG242 (no such language), ENV111 (a language
    that shares its script, and no identifier installed).
    """

    def __init__(self, config: CleanConfig, *, tell_language: bool = False) -> None:
        self.config = config
        self.tell_language = tell_language or bool(config.languages)
        if config.identities == "rewrite" and config.identity is None:
            raise GogptError("CFG240", "data.clean.identities: rewrite needs the name to write", where="recipe", got="no data.clean.identity",
                             expected="data.clean.identity, and data.clean.maker where answers name who made the assistant",
                             fix="set data.clean.identity, or data.clean.identities: drop")
        more, phrases = read_identities(config.identities_file) if config.identities_file else ((), ())
        self._identities = known_identities(more, config.identity, config.maker) if config.identities != "keep" else None
        self._refusals = Refusals(phrases) if config.refusals != "keep" else None
        self._identifier = _identifier(config.languages) if self.tell_language else None

    def __reduce__(self) -> tuple[object, ...]:
        return (_make, (self.config, self.tell_language))

    @property
    def needs_text(self) -> bool:
        """False where nothing is looked for in a single conversation: ``judge`` would give each one back as it is."""
        c = self.config
        return bool(self.tell_language or c.min_chars or c.max_chars is not None
                    or any(policy != "keep" for policy in (c.identities, c.refusals, c.empty_turns, c.repeated_turns)))

    @property
    def names_alone(self) -> Identities | None:
        """Where nothing is looked for but other assistants' names, and these are only told: a conversation without a name needs no judging."""
        c = self.config
        others = self.tell_language or c.min_chars or c.max_chars is not None or any(p != "keep" for p in (c.refusals, c.empty_turns, c.repeated_turns))
        return self._identities if c.identities == "report" and not others else None

    def judge(self, conversation: Conversation) -> Judged:
        """What becomes of one conversation. Depends on nothing but it and the configuration.

        Raises GogptError CFG240 where a maker must be rewritten and ``clean.maker`` is missing.
        """
        reports: list[tuple[str, str]] = []
        language = None
        try:
            if self.config.empty_turns != "keep":
                self._look(self.config.empty_turns, "empty_turn", _empty_turn(conversation), reports)
            self._sizes(conversation)
            if self._identifier is not None:
                language = self._language(conversation, self._identifier, reports)
            if self.config.repeated_turns != "keep":
                self._look(self.config.repeated_turns, "repeated_turn", _repeated(conversation), reports)
            if self._refusals is not None:
                self._look(self.config.refusals, "refusal", _refusal(conversation, self._refusals), reports)
            if self._identities is not None and not conversation.is_text:
                conversation = self._identity(conversation, self._identities, reports)
        except RowError as drop:
            return Judged(conversation=conversation, drop=drop, reports=tuple(reports), language=language)
        return Judged(conversation=conversation, reports=tuple(reports), language=language)

    def _look(self, policy: str, reason: str, detail: str | None, reports: list[tuple[str, str]]) -> None:
        if detail is None:
            return
        if policy == "drop":
            raise RowError(reason, _short(detail))
        reports.append((reason, _short(detail)))

    def _sizes(self, conversation: Conversation) -> None:
        c = self.config
        if c.min_chars:
            size = sum(len(m.content.strip()) for m in conversation.messages if m.role in ("assistant", "text"))
            # An answer that calls a tool says what it says by the call.
            if size < c.min_chars and not any(m.tool_calls for m in conversation.messages):
                raise RowError("too_short", f"answers of {size} characters, min_chars is {c.min_chars}")
        if c.max_chars is not None and (size := sum(len(m.content) + len(m.reasoning or "") for m in conversation.messages)) > c.max_chars:
            raise RowError("too_long_text", f"{size} characters, max_chars is {c.max_chars}")

    def _language(self, conversation: Conversation, identifier: Identifier, reports: list[tuple[str, str]]) -> str:
        """Of what is said by users and answers together; the script that says most decides first (see languages.py)."""
        name = identifier.name("\n".join(m.content for m in conversation.messages if m.role in ("user", "assistant", "text")))
        code = OWN.get(name, name)
        if self.config.languages:
            if code == UNKNOWN:
                reports.append(("language_unknown", ""))
            elif code not in self.config.languages:
                raise RowError("language", f"{code}, not {' or '.join(self.config.languages)}")
        return code

    def _identity(self, conversation: Conversation, known: Identities, reports: list[tuple[str, str]]) -> Conversation:
        found: dict[int, tuple[tuple[Statement, ...], tuple[Statement, ...]]] = {}
        question = ""
        for i, m in enumerate(conversation.messages):
            if m.role == "user":
                question = m.content
            elif m.role in ("assistant", "system"):
                said = known.find(m.content, system=m.role == "system", question=question)
                thought = known.find(m.reasoning, question=question) if m.reasoning else ()
                if said or thought:
                    found[i] = (said, thought)
        if not found:
            return conversation
        first = next(iter(next(x for x in found.values())[0] or next(x for x in found.values())[1]))
        if self.config.identities != "rewrite":
            self._look(self.config.identities, "other_identity", first.text, reports)
            return conversation
        # Who the system message says it is, it is in every answer.
        told = frozenset(a for i, (said, _) in found.items() if conversation.messages[i].role == "system" for s in said for a in s.assistants)
        messages = tuple(self._rewrite(m, found.get(i, ((), ())), told, known, conversation) for i, m in enumerate(conversation.messages))
        reports.append(("identity_rewritten", _short(first.text)))
        return dataclasses.replace(conversation, messages=messages)

    def _rewrite(self, m: Message, found: tuple[tuple[Statement, ...], tuple[Statement, ...]], told: frozenset[int], known: Identities,
                 conversation: Conversation) -> Message:
        if m.role not in ("assistant", "system") or not (told or any(found)):
            return m
        content, maker = known.rewrite(m.content, found[0], told)
        reasoning, also = known.rewrite(m.reasoning, found[1], told) if m.reasoning is not None else (None, False)
        if (maker or also) and self.config.maker is None:
            said = next(s for s in (*found[0], *found[1]))
            raise GogptError("CFG240", "an answer names who made the assistant, and there is no maker to put in its place",
                             where=str(conversation.origin) if conversation.origin else None, got=_short(said.text),
                             expected="data.clean.maker", fix="set data.clean.maker, or data.clean.identities: drop")
        if content == m.content and reasoning == m.reasoning:
            return m
        return dataclasses.replace(m, content=content, reasoning=reasoning)


def _make(config: CleanConfig, tell_language: bool) -> Cleaner:
    return Cleaner(config, tell_language=tell_language)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= NUM_DETAIL else text[: NUM_DETAIL - 3] + "..."


def _identifier(languages: tuple[str, ...]) -> Identifier:
    known = sorted({*LANGUAGES, *OWN.values()} - {"zxx"})
    named = {"chinese": "zh", "english": "en", "japanese": "ja", "korean": "ko", "german": "de", "french": "fr", "spanish": "es", "russian": "ru", "中文": "zh",
             "英文": "en", "cn": "zh", "jp": "ja", "kr": "ko", "zh-cn": "zh", "zho": "zh", "eng": "en"}
    for code in languages:
        if code not in known:
            near = named.get(code.lower()) or next(iter(difflib.get_close_matches(code.lower(), known, n=1)), None)
            raise GogptError("CFG242", f"data.clean.languages: no such language: {code}", where="recipe", expected=f"one of {', '.join(known)}",
                             fix=f"did you mean {near}?" if near else "use codes of ISO 639-1, such as zh, en, ja")
    identifier = make_identifier()
    shared = [code for code in languages if code not in OWN.values()]
    if shared and identifier.method == "script":
        raise GogptError("ENV111", f"to tell {', '.join(shared)} from others in the same script needs the package py3langid", where="recipe: data.clean.languages",
                         fix="pip install 'gogpt[clean]', or name languages with a script of their own only: " + ", ".join(sorted(OWN.values())))
    return identifier


# -- what is looked for ----------------------------------------------------------------------------


def _empty_turn(conversation: Conversation) -> str | None:
    """A blank turn of user, assistant or text. Tools may well answer nothing, and a call says what it says."""
    for i, m in enumerate(conversation.messages):
        if m.role in ("user", "assistant", "text") and not m.content.strip() and not m.tool_calls:
            return f"message {i + 1} ({m.role}) is blank"
    return None


def _refusal(conversation: Conversation, refusals: Refusals) -> str | None:
    return next((said for m in conversation.messages if m.role == "assistant" and (said := refusals.find(m.content))), None)


_SENTENCES = re.compile(r"[.!?。！？\n;；]+")
_LOOP = re.compile(r"(\S.{5,150}?)(?:\s*\1){" + str(NUM_LOOPS - 1) + r",}", re.S)
_CODE = re.compile(r"```.*?(?:```|\Z)", re.S)
_GRAM = 8


def _repeated(conversation: Conversation) -> str | None:
    seen: set[tuple[str, str]] = set()
    asked = ""
    for i, m in enumerate(conversation.messages):
        text = " ".join(m.content.split())
        if m.role in ("user", "assistant") and not m.tool_calls and len(text.encode("utf-8", "surrogatepass")) >= MIN_BYTES:
            if (m.role, text) in seen:
                return f"message {i + 1} ({m.role}) says again: {text}"
            seen.add((m.role, text))
        if m.role == "assistant" and (part := _loop(m.content)) and part.lower() not in asked.lower():
            return f"message {i + 1} repeats: {part}"
        asked += "\n" + text if m.role == "user" else ""
    return None


def _loop(text: str) -> str | None:
    """The part that an answer says over and over, or None. Code is left aside, and so are lines and numbers."""
    if len(text) < 80:
        return None
    grams = len({text[i : i + _GRAM] for i in range(len(text) - _GRAM)})
    if grams > 0.7 * len(text):  # nearly everything is said once
        return None
    text = _CODE.sub(" ", text)
    for part, count in Counter(s.strip() for s in _SENTENCES.split(text)).most_common(3):
        if count >= NUM_LOOPS and len(part.encode("utf-8", "surrogatepass")) >= 12 and count * len(part) >= LOOP_SHARE * len(text) and _says(part):
            return part
    for found in _LOOP.finditer(text[:20_000]):
        if found.end() - found.start() >= LOOP_SHARE * len(text) and _says(found[1]):
            return found[1].strip()
    return None


def _says(part: str) -> bool:
    """Whether it is made of words: not a ruled line, a row of numbers, or laughter."""
    return len({c for c in part.lower() if c.isalpha()}) >= 4
