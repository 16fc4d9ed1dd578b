"""What a model says of itself: statements that name another assistant or another maker, and answers that refuse.

The names are data (identities.yaml), the ways to state them are here. A name alone is never enough: "OpenAI was founded in 2015" says
nothing of the speaker, "I am a language model trained by OpenAI" does. Names that are also words or people's names (``weak``) count only
beside words that say that an AI speaks, or in answer to a question who it is.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gogpt.errors import GogptError
from gogpt.yaml12 import Where, parse_yaml

KEYS = ("name", "assistant", "maker", "weak_assistant", "weak_maker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One entry of identities.yaml."""

    name: str
    assistant: tuple[str, ...] = ()
    maker: tuple[str, ...] = ()
    weak_assistant: tuple[str, ...] = ()
    weak_maker: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """``start:end`` of the sentence in which a model says who it is; the entries named as assistant and as maker, by number."""

    start: int
    end: int
    assistants: frozenset[int]
    makers: frozenset[int]
    text: str


# -- the lists -------------------------------------------------------------------------------------


@functools.cache
def built_in() -> tuple[Identity, ...]:
    """The entries of identities.yaml."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where libyaml is there: 30 ms less in every command that reads data
    data = yaml.load(Path(__file__).with_name("identities.yaml").read_text(encoding="utf-8"), Loader=loader)
    return tuple(_identity(entry) for entry in data["identities"])


def _identity(entry: Mapping[str, Any]) -> Identity:
    lists = {key: tuple(str(x).strip() for x in entry.get(key, ())) for key in KEYS[1:]}
    return Identity(name=str(entry["name"]), **lists)


def read_identities(path: str) -> tuple[tuple[Identity, ...], tuple[str, ...]]:
    """(entries, phrases that refuse) of a user's file. Raises GogptError CFG241 (with the line), CFG201 (YAML)."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "not UTF-8"
        raise GogptError("CFG241", f"the file of identities cannot be read: {said}", where=path, fix="correct data.clean.identities_file") from problem
    data, where = parse_yaml(text, path)
    expected = "identities: [{name: ..., assistant: [...], maker: [...]}], refusals: [...]"
    if not isinstance(data, dict) or not data or set(data) - {"identities", "refusals"}:
        unknown = [k for k in data if k not in ("identities", "refusals")] if isinstance(data, dict) else []
        place = where.get((unknown[0],), path) if unknown else path
        raise _bad(f"unknown key {unknown[0]!r}" if unknown else "not a mapping of lists", place, expected)
    entries, phrases = data.get("identities") or [], data.get("refusals") or []
    for key, value in (("identities", entries), ("refusals", phrases)):
        if not isinstance(value, list):
            raise _bad(f"{key} is no list", where[(key,)], expected)
    for i, phrase in enumerate(phrases):
        if not isinstance(phrase, str) or len(phrase.strip()) < 4:
            raise _bad(f"no phrase: {phrase!r}", where.get(("refusals", i), path), "text of at least 4 characters")
    return tuple(_entry(entry, i, where, path) for i, entry in enumerate(entries)), tuple(p.strip() for p in phrases)


def _entry(entry: Any, i: int, where: Where, path: str) -> Identity:
    here = ("identities", i)
    if not isinstance(entry, Mapping):
        raise _bad("an identity is a mapping", where.get(here, path), ", ".join(KEYS))
    for key, value in entry.items():
        place = where.get((*here, str(key)), path)
        if key not in KEYS:
            raise _bad(f"unknown key {key!r}", place, ", ".join(KEYS))
        if key == "name":
            if not isinstance(value, (str, int)) or not str(value).strip():
                raise _bad("name is no text", place, "a name")
        elif not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            raise _bad(f"{key} is no list of names", place, f"{key}: [one, another]")
    if "name" not in entry or len(entry) < 2:
        raise _bad("an identity needs a name and at least one spelling", where.get(here, path), ", ".join(KEYS))
    return _identity(entry)


def _bad(message: str, where: str, expected: str) -> GogptError:
    return GogptError("CFG241", message, where=where, expected=expected, fix="correct the line")


# -- names as expressions --------------------------------------------------------------------------

_VERSION = r"(?:[- ]?v?\d+(?:\.\d+)*(?:[bBkKoO]\b)?(?!\s*(?:years?|tokens|%|年|岁|个|月))(?:[- ](?:[Tt]urbo|[Oo]pus|[Ss]onnet|[Hh]aiku|[Pp]ro|[Pp]lus|[Uu]ltra|[Mm]ini))?|-(?:[Tt]urbo|[Cc]hat|[Ii]nstruct))?"
_FIRM = r"(?:,? Inc\b\.?|\s?科技有限公司|\s?有限公司|\s?公司|\s?集团)?"


def _spelling(text: str, tail: str) -> str:
    pattern = r"[\s-]?".join(re.escape(part) for part in re.split(r"[\s-]+|(?<=[A-Za-z])(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])(?=[A-Za-z])", text))
    if re.match(r"[A-Za-z0-9]", text):
        pattern = r"(?<![A-Za-z0-9])" + pattern
    if re.search(r"[A-Za-z0-9]$", text):
        pattern += tail + r"(?![A-Za-z0-9])"
    return pattern


def _names(strong: Sequence[str], weak: Sequence[str], tail: str) -> str:
    """An expression for any of the names, longest first; the strong ones in any case."""
    kinds = [(text, True) for text in strong] + [(text, False) for text in weak]
    groups: dict[str, list[str]] = {}
    for text, any_case in sorted(kinds, key=lambda k: (-len(k[0]), k)):
        groups.setdefault(text[0].lower(), []).append(f"(?i:{_spelling(text, tail)})" if any_case else _spelling(text, tail))
    # By first letter, so that most places are left after a look at one character.
    letters = {first: "(?=[" + re.escape(first) + re.escape(first.upper()) + "])(?:" + "|".join(parts) + ")" for first, parts in groups.items()}
    latin, other = ("|".join(x for first, x in letters.items() if first.isascii() == kind) for kind in (True, False))
    han = "".join(first for first in letters if not first.isascii())
    return f"(?:(?<![A-Za-z0-9])(?=[A-Za-z0-9])(?:{latin or '(?!)'})" + (f"|(?=[{han}])(?:{other}))" if han else ")")


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


# -- statements ------------------------------------------------------------------------------------

_MADE = (r"(?:trained|created|developed|built|made|designed|programmed|engineered|produced|fine-?tuned|coded|invented|owned|maintained|operated|"
         r"launched|introduced|released|provided|powered|pre-?trained|constructed)")
_WORD = (r"(?:an?|the|your|large|small|big|language|languages|model|models|AI|A\.I\.|LLM|artificial|intelligence|assistant|chat|chatbot|bot|virtual|digital|"
         r"conversational|computer|program|system|neural|network|machine|learning|based|text|text-based|AI-based|AI-powered|helpful|friendly|generative|"
         r"pre-?trained|pretrained|transformer|NLP|natural|processing|advanced|powerful|state-of-the-art|open-source|and|that|which|who|was|is|been|has|have|I|am|"
         r"I[’']m|called|named|known|as|also|just|only|simply|actually|personal|new|type|kind|form|version|of|latest|not\s+an?\s+(?:human(?:\s+being)?|person)|\w+ly|" + _MADE + r")")
_BY = (r"(?:\s+(?:the|an?|team|teams|company|group|people|engineers|researchers|scientists|developers|experts|folks|organi[sz]ation|research|lab|laboratory|at|of|from|"
       r"called|named|AI|artificial|intelligence|startup|firm|talented|tech|technology|giant))*\s+")
_ZWORD = (r"(?:一个|一款|一名|一种|一位|个|款|的|由|被|是|叫|做|名为|名字|基于|你|您|来自|人工智能|AI|语言|大型|大规模|大|超|模型|助手|助理|智能|聊天|机器人|对话|程序|系统|虚拟|"
          r"在线|新一代|预训练|自然语言处理|自然语言|生成式|生成|机器学习|深度学习|先进|高级|高度|开源|中文|所|公司|团队|训练|开发|研发|专业|可以|全能|[，,、“”\"「」\s\\])")
_ZMADE = r"(?:开发|训练|研发|创建|创造|打造|设计|推出|提供|制作|制造|发布|构建|培训|研制|编程|培养)"
_ZBY = r"(?:公司|团队|的?(?:研究|科研|技术)?(?:人员|团队|实验室|科学家|工程师)|和|与|及|、|所|共同|联合|自主|独立|精心|倾力|(?:于|在)?\s?\d{4}\s?年|[，,\s])"
_NOT_ONE = (r"(?![’']s\b)(?!\s+(?:users?|fans?|developers?|engineers?|experts?|subscribers?|researchers?|employees?|enthusiasts?|plugins?|customers?|specialists?|"
            r"Plus|prompts?|expert|trainer|from\s+the\s+(?:film|game|series)))(?!\s*的?(?:用户|粉丝|使用者|开发者|创始人|员工|忠实|朋友|工程师|产品经理|学生|老师|教授|研究员|爱好者))")
_SAYS_AI = re.compile(r"\b(?:AI|A\.I\.|artificial intelligence|language model|LLM|assistant|chat ?bot|bot|neural network|machine learning|virtual)\b|"
                      r"人工智能|语言模型|大模型|助手|机器人|(?<![A-Za-z])AI(?![A-Za-z])|智能|模型", re.I)
_ASKS_WHO = re.compile(r"\b(?:who|what) are you\b|\byour name\b|\bintroduce yourself\b|\bwho (?:made|created|developed|trained|built|owns) you\b|\bare you\b|"
                       r"你是谁|您是谁|你叫什么|你是什么|你的名字|你叫啥|介绍(?:一下)?(?:你|您)?自己|自我介绍|谁(?:开发|创造|训练|研发|制造)了?(?:的)?(?:你|您)|你是.{0,20}吗", re.I)
A, M, AM, OWN = "\ue000", "\ue001", "\ue002", "\ue003"
"""Stand for a name of an assistant, of a maker, of both, and for what may be said; private characters, which no text holds for a reason."""
_END = re.compile(r"[.!?](?=[\s\"”’')]|$)|[。！？\n]")
_BEGIN = re.compile(r"[.!?]\s|[。！？\n]")


@functools.cache
def _statements(*, system: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Every way in which a model says of itself (``system``: is told) that it is another or another's: those that begin with
    words about oneself, and those that begin with a maker's name, which are looked for only where they can end. In the text that they
    are tried on, each name is one character: A, M, or AM where it names both."""
    a, m = f"[{A}{AM}]", f"[{M}{AM}]"
    if system:
        be = r"(?:\b(?:[Yy]ou|[Yy]our\s+name)(?:\s+are|[’']re|\s+were|\s+is|\s+have\s+been)|\b[Tt]he\s+(?:AI\s+)?assistant\s+is|\bAssistant\s+is|" + a + r"\s+(?:is|was))"
        me, my, i, wo = "you", r"(?:[Yy]our|whose)", r"[Yy]ou", "(?:你|您)"
    else:
        be = r"\bI(?:\s+am|[’']m|\s+was|[’']ve\s+been|\s+have\s+been)"
        me, my, i, wo = "me", "[Mm]y", "I", r"(?:我|本(?:助手|模型|AI|机器人|产品|系统))"
    gap = r"(?:[\s,(\-–—\"“]+(?:" + _WORD + "|" + OWN + "|" + a + r"|" + m + r"(?:[’']s)?)[,)]?){0,16}?[\s,(\-–—\"“]+"
    made = _MADE + r"(?:(?:,|\s+and|\s+or|,\s+and)\s+" + _MADE + r")*(?:\s+specifically)?\s+by" + _BY + m
    noun = r"(?:model|assistant|AI|chatbot|bot|LLM|program|system)"
    zgap = r"(?:" + _ZWORD + "|" + OWN + "|" + a + "|" + m + r"){0,16}?"
    znoun = r"(?:模型|助手|助理|机器人|AI|人工智能)(?!\s*的?(?:工程师|研究|专家|产品|部门|团队|负责|训练师|领域|公司|用户))"
    ways = [
        be + gap + a + _NOT_ONE,
        be + gap + made,
        be + gap + noun + r"\s+(?:from|of|by|at)" + _BY + m,
        be + gap + m + r"(?:[’']s)?(?:\s+" + _WORD + r"){0,5}?\s+" + noun + r"\b" + _NOT_ONE,
        be + r"\s+(?:based|built|powered|running)\s+(?:on|by|upon)\s+(?:(?:the|an?|top|of|large|" + m + r"(?:[’']s)?)\s+){0,4}" + a,
        r"\b" + my + r"\s+name(?:\s+is|[’']s|\s+was)(?:\s+also)?\s+[\"“]?" + a + _NOT_ONE,
        r"\b(?:call|to)\s+" + me + r"\s+(?:as\s+)?[\"“]?" + a, r"\b" + i + r"\s+(?:go|goes)\s+by\s+(?:the\s+name\s+)?(?:of\s+)?[\"“]?" + a,
        r"\b[Aa]s(?:\s+like|" + gap[:-len(r"[\s,(\-–—\"“]+")] + r")(?:\s+like)?\s+" + a + r"(?:,?\s+" + _WORD + r"){0,8}?,?\s+" + i + r"\b",
        r"\b[Aa]s" + gap + made + r"[^.!?\n]{0,200}?\b(?:" + i + r"|" + my + r"|" + me + r")\b",
        r"\b" + my + r"\s+(?:creators?|developers?|makers?|trainers?|designers?|builders?|programmers?|parent\s+company)(?:,|\s+is|\s+are|\s+was|\s+were|\s+at|\s+from)" + _BY + m,
        wo + r"(?:的(?:中文|英文)?(?:名字|名称|名|代号))?(?:就|也|其实|只)?(?:是|叫|为|乃|：)" + zgap + a + _NOT_ONE,
        r"(?:叫|称呼?)" + wo + r"(?:为|做)?" + zgap + a, r"名(?:为|叫|字(?:是|叫))[“\"\\「\s]*" + a,
        r"(?:作为|身为)" + zgap + a + r"(?:" + _ZWORD + r"){0,8}?" + wo,
        wo + r"(?:就|也)?(?:是|由|被|乃)" + zgap + m + r"(?:" + _ZBY + "|" + m + r"){0,8}?" + _ZMADE,
        r"(?:作为|身为)" + zgap + m + r"(?:" + _ZBY + "|" + m + r"){0,8}?" + _ZMADE + r"(?:出来)?的" + zgap + r"[^。！？\n]{0,30}?(?:" + wo + r"|无法|不能|没有)",
        wo + r"的(?:开发者|创造者|训练者|设计者|研发者|开发团队|研发团队|开发公司|研发公司|母公司)们?(?:是|为|来自)" + zgap + m,
        wo + r"(?:是|来自)" + zgap + m + r"(?:的|" + _ZWORD + r"){1,8}?" + znoun,
    ]
    by_maker = [m + r"\s+(?:has\s+|have\s+)?(?:" + _MADE + r")(?:\s+and\s+" + _MADE + r")?\s+" + me + r"\b",
                m + r"(?:" + _ZBY + r"){0,4}" + _ZMADE + r"(?:并\w{2})?了?" + wo + r"(?!们|国|家|的)"]
    return re.compile("|".join(ways)), re.compile("|".join(by_maker))


_FRAMES = ("i am", "i'm", "i’m", "i was", "i've been", "i’ve been", "i have been", "my name", "my creat", "my develop", "my maker", "my train", "my design", "my parent",
           "my build", "my program", "call me", "to me as", "i go by", "as a", "as your", "as the", "ed me", "made me", "built me",
           "我", "作为", "身为", "本助手", "本模型", "本ai", "本机器人", "本产品", "本系统", "名")
_BEFORE, _AFTER = 320, 60
"""Characters around a name in which those words stand, longer than any statement's gap."""
_MAKES_ME = re.compile(r"(?:" + _MADE + r")\s+(?:me|you)\b|" + _ZMADE + r"(?:并\w{2})?了?(?:我|本|你|您)")
_I = r"\bI\b|\b[Mm]y\b|\bme\b|我|名[为叫字]|[作身]为|本[助模AI机产系]"
_YOU = r"\b[Yy]our?\b|\bwhose\b|[Aa]ssistant|\bis\b|\bwas\b|[你您]|名[为叫字]|[作身]为"
"""Of every statement of ``_statements`` some part, for RE2: one look at each byte, by an automaton that is small and so three times as fast as
that of the names."""
MANY = 1000
"""Texts from which it pays to compile the expression of the names, which takes 5 ms, rather than to look at the words of each, which takes 6 us."""
_COMMON = frozenset({"ai", "z", "r", "le", "organization", "technology", "assistant", "intelligence", "research", "university", "group", "inc", "open", "chinese",
                     "command", "instant", "model", "large", "systems", "text", "new", "chat", "cloud", "lab", "laboratory"})
_LETTERS = bytes(b if 97 <= b <= 122 else 32 for b in range(256))


@functools.lru_cache(maxsize=4)
def known_identities(more: tuple[Identity, ...] = (), own_identity: str | None = None, own_maker: str | None = None) -> Identities:
    """``Identities``, made once: its expressions take 30 ms to build."""
    return Identities(more, own_identity, own_maker)


class Identities:
    """Finds and rewrites statements. ``own_identity`` and ``own_maker`` name what may be said."""

    def __init__(self, more: Sequence[Identity] = (), own_identity: str | None = None, own_maker: str | None = None) -> None:
        self.entries = (*built_in(), *more)
        self.identity, self.maker = own_identity, own_maker
        allowed_a, allowed_m = self._own(own_identity, "assistant"), self._own(own_maker, "maker")
        strong_a = [x for i, e in enumerate(self.entries) if i not in allowed_a for x in e.assistant]
        weak_a = [x for i, e in enumerate(self.entries) if i not in allowed_a for x in e.weak_assistant]
        strong_m = [x for i, e in enumerate(self.entries) if i not in allowed_m for x in e.maker]
        weak_m = [x for i, e in enumerate(self.entries) if i not in allowed_m for x in e.weak_maker]
        own = [own_identity or "", own_maker or ""]
        own += [x for i in allowed_a for x in (*self.entries[i].assistant, *self.entries[i].weak_assistant)]
        own += [x for i in allowed_m for x in (*self.entries[i].maker, *self.entries[i].weak_maker)]
        assistants, makers = {_plain(x) for x in (*strong_a, *weak_a)}, {_plain(x) for x in (*strong_m, *weak_m)}
        # "Baichuan Inc" is no assistant called Baichuan: makers that begin with an assistant's name come first.
        first = [x for x in strong_m if (plain := _plain(x)) not in assistants and plain.startswith(tuple(assistants))]
        self._name = re.compile("|".join((
            f"(?P<own>{_names([x for x in own if x], [], _VERSION)})", f"(?P<first>{_names(first, [], '')})", f"(?P<a>{_names(strong_a, weak_a, _VERSION)})",
            f"(?P<m>{_names(strong_m, weak_m, '')}){_FIRM}")))
        self._maker_too = makers & assistants
        self._weak = {_plain(x) for x in (*weak_a, *weak_m)} - {_plain(x) for x in (*strong_a, *strong_m)}
        self._by_plain = {"assistant": self._index("assistant"), "maker": self._index("maker")}
        spelled = [x.lower() for x in (*strong_a, *weak_a, *strong_m, *weak_m)]
        latin = [[w for w in re.split(r"[^a-z]+", x) if w] for x in spelled if x.isascii()]
        # The longest word of a name is its rarest, common ones aside; a name of common ones alone is looked for as a whole.
        self._words: dict[bytes, set[str]] = {}
        for name, words in zip([x for x in spelled if x.isascii()], latin, strict=True):
            rare = sorted(set(words) - _COMMON, key=len)[-1:]
            met = [(w, w) for w in ["".join(words), *rare] if w and w not in _COMMON] + ([] if rare else [(max(words, key=len), name)] if words else [])
            for word, part in met:
                self._words.setdefault(word.encode(), set()).add(part)
        han = {x for x in spelled if not x.isascii()}
        self._han = re.compile("|".join(sorted(x for x in han if not any(y != x and y in x for y in han))))

    def _own(self, text: str | None, kind: str) -> set[int]:
        """Entries that are the configured one under another spelling."""
        return {i for i, e in enumerate(self.entries) if text and any(
            re.search(_spelling(x, _VERSION), text, re.I) for x in (*getattr(e, kind), *getattr(e, f"weak_{kind}")))}

    def _index(self, kind: str) -> list[tuple[str, int]]:
        pairs = [(_plain(x), i) for i, e in enumerate(self.entries) for x in (*getattr(e, kind), *getattr(e, f"weak_{kind}"))]
        return sorted(pairs, key=lambda p: (-len(p[0]), p[1]))

    def _number(self, text: str, kind: str) -> int:
        plain = _plain(text)
        return next(i for spelled, i in self._by_plain[kind] if plain.startswith(spelled))

    def suspicious(self, text: str, *, system: bool = False) -> bool:
        """Whether a message may hold a statement: a name, in an answer near words with which one speaks of oneself. Most cost a look at their words."""
        lower = text.lower()
        # Words of ASCII letters in C: everything else becomes a space.
        words = self._words.keys() & lower.encode("ascii", "replace").translate(_LETTERS).split()
        if not words and (lower.isascii() or not self._han.search(lower)):
            return False
        names = {name for word in words for name in self._words[word]}.union(self._han.findall(lower))
        if system:
            return any(name in lower for name in names)
        for name in names:
            at = lower.find(name)
            while at >= 0:
                near = lower[max(0, at - _BEFORE) : at + len(name) + _AFTER]
                if any(frame in near for frame in _FRAMES) or "as " in lower[max(0, at - 14) : at]:
                    return True
                at = lower.find(name, at + 1)
        return False

    @functools.cached_property
    def _scan(self) -> str:
        """The names as one expression of RE2, which looks at each byte once: what ``suspicious`` needs to be true, and little more. A name
        in which another stands is found by that."""
        end = r"(?:[^A-UW-Za-uw-z]|$)"  # a version may follow: GPT4, Qwenv2
        out: list[tuple[str, re.Pattern[str]]] = []  # expression for RE2, expression for here
        spelled = [(x, "i") for e in self.entries for x in (*e.assistant, *e.maker)] + [(x, "-i") for e in self.entries for x in (*e.weak_assistant, *e.weak_maker)]
        for text, case in sorted(set(spelled), key=lambda s: (len(s[0]), s)):
            parts = re.split(r"[\s-]+|(?<=[A-Za-z])(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])(?=[A-Za-z])", text)
            name = r"[\s-]?".join(re.escape(part) for part in parts) + (end if re.search(r"[A-Za-z0-9]$", text) else "")
            forms = ["".join(parts), " ".join(parts), "-".join(parts)]
            if not any(all(known.search(form) for form in forms) for kind, known in out if kind.startswith("(?i") or case == "-i"):
                out.append((f"(?{case}:{name})", re.compile(name, re.I if case == "i" else 0)))
        return "|".join(name for name, _ in out)

    def named(self, texts: Sequence[str], *, system: bool = False) -> list[int]:
        """Places of the texts in which somebody speaks of oneself and some name stands: all in which ``find`` can find anything."""
        import pyarrow as pa
        import pyarrow.compute as pc

        # Not pa.array(texts), which would import pandas; a lone surrogate is no UTF-8.
        said = [text.encode("utf-8", "replace") for text in texts]
        ends = np.cumsum([0, *map(len, said)], dtype=np.int64)
        array = pa.LargeStringArray.from_buffers(len(said), pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(said)))
        places = pc.indices_nonzero(pc.match_substring_regex(array, _YOU if system else _I))
        if len(places) > MANY:
            places = places.take(pc.indices_nonzero(pc.match_substring_regex(array.take(places), self._scan)))
        return [i for i in places.to_pylist() if self.suspicious(texts[i], system=system)]

    def find(self, text: str, *, system: bool = False, question: str = "") -> tuple[Statement, ...]:
        """Statements of one message, in order. ``question``: what the user said before it."""
        if not self.suspicious(text, system=system):
            return ()
        out: dict[tuple[int, int], Statement] = {}
        first, by_maker = _statements(system=system)
        short, names = self._shortened(text)
        if not names:
            return ()
        places = [n.at for n in names]
        ways = [first, by_maker] if _MAKES_ME.search(text) else [first]
        for found in (x for way in ways for x in way.finditer(short)):
            low, high = bisect.bisect_left(places, found.start()), bisect.bisect_left(places, found.end())
            said = [n for n in names[low:high] if n.kind != OWN]
            # Where the statement stands in the text itself.
            begin, stop = _place(names[low - 1 : low], found.start()), _place(names[high - 1 : high], found.end())
            start, end = _sentence(text, begin, stop)
            if not said or _quoted(text, begin):
                continue
            if all(self._is_weak(n.text) for n in said) and not self._evidence(text, start, (begin, stop), end, question, system):
                continue
            assistants = [n.text for n in said if not _is_maker(text, n)]
            makers = [n.text for n in said if _is_maker(text, n)]
            old = out.get((start, end))
            out[start, end] = Statement(
                start=start, end=end, text=" ".join(text[start:end].split()),
                assistants=frozenset({self._number(x, "assistant") for x in assistants} | (old.assistants if old else set())),
                makers=frozenset({self._number(x, "maker") for x in makers} | (old.makers if old else set())))
        return tuple(out[place] for place in sorted(out))

    def _is_weak(self, name: str) -> bool:
        plain = _plain(name)
        return any(plain.startswith(w) and len(plain) - len(w) <= 3 for w in self._weak)

    def _shortened(self, text: str) -> tuple[str, list[_Named]]:
        """The text with each name as one character, and the names in order."""
        out, names, at = [], [], 0
        size = 0
        for x in self._name.finditer(text):
            kind = OWN if x["own"] else M if x["a"] is None else AM if _plain(x.group()) in self._maker_too else A
            out += [text[at : x.start()], kind]
            size += x.start() - at
            names.append(_Named(kind=kind, text=x.group(), start=x.start(), end=x.end(), at=size))
            size += 1
            at = x.end()
        return "".join(out) + text[at:], names

    def _evidence(self, text: str, start: int, found: tuple[int, int], end: int, question: str, system: bool) -> bool:
        """Words that say that an AI speaks, beside the names; or a question who it is, plainly answered."""
        around, rest = self._name.sub(" ", text[start : end + 80]), text[found[1] :]
        asked = len(question) <= 200 and _ASKS_WHO.search(question) is not None and re.match(r"[\s.,!。，！”\"\\)]|$", rest) is not None
        return _SAYS_AI.search(around) is not None or (asked and not system and re.match(r"\s+[A-Z]", rest) is None)

    # -- rewriting ---------------------------------------------------------------------------------

    def rewrite(self, text: str, statements: Sequence[Statement], assistants: frozenset[int] = frozenset()) -> tuple[str, bool]:
        """(text with other names replaced, whether a maker was named). Assistants that the statements (or ``assistants``) name are replaced
        in the whole text, makers in the sentences of the statements. Where there is no own maker, makers stay."""
        named = assistants.union(*(s.assistants for s in statements))
        spans: list[tuple[int, int, str]] = []
        has_maker = False
        for n in self._shortened(text)[1]:
            inside = [x for x in statements if x.start <= n.start < x.end]
            if n.kind == OWN:
                continue
            if not _is_maker(text, n):
                if self._number(n.text, "assistant") in named:
                    spans.append((n.start, n.end, self.identity or ""))
            elif any(self._number(n.text, "maker") in x.makers | x.assistants for x in inside):
                has_maker = True
                if self.maker is not None:
                    spans.append((n.start, n.end, self.maker))
        return _replace(text, sorted(spans)), has_maker


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A name at ``start:end`` of a text, and at ``at`` where each name is one character."""

    kind: str
    text: str
    start: int
    end: int
    at: int


_BEFORE_MAKER = re.compile(r"(?:\b(?:by|from|at|of)\s+(?:the\s+)?|由|被|来自)\s*$")
_AFTER_MAKER = re.compile(r"(?:[’']s)?\s*(?:公司|团队)?(?:所|自主)?" + _ZMADE + r"|\s+(?:has\s+)?" + _MADE + r"\s+(?:me|you)\b|[’']s\b")


def _is_maker(text: str, name: _Named) -> bool:
    """Whether a name stands for who made the assistant; one that is both, by the words around it."""
    if name.kind != AM:
        return name.kind == M
    return _BEFORE_MAKER.search(text[max(0, name.start - 20) : name.start]) is not None or _AFTER_MAKER.match(text, name.end) is not None


def _place(before: Sequence[_Named], at: int) -> int:
    """Place in the text itself of a place in the shortened one; ``before``: the last name before it, if there is one."""
    return before[0].end + (at - before[0].at - 1) if before else at


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """The sentences that hold ``start:end``."""
    before = [x.end() for x in _BEGIN.finditer(text, max(0, start - 400), start)]
    after = _END.search(text, end)
    return (before[-1] if before else max(0, start - 400)), after.end() if after else len(text)


def _quoted(text: str, start: int) -> bool:
    """Whether someone else's words begin here: a quotation that is not the whole text."""
    head = text[:start].rstrip()
    return bool(head.strip("\"“「『 ")) and (head[-1:] in "“「『" or (head[-1:] == '"' and head.count('"') % 2 == 1))


_JOINT = re.compile(r"\s*(?:[/、,，&(（]|和|与|及|以及|\band\b|的)?\s*", re.I)


def _replace(text: str, spans: Sequence[tuple[int, int, str]]) -> str:
    out, at = "", 0
    merged: list[tuple[int, int, str]] = []
    for start, end, new in spans:  # "X and X", "X (X)" -> X
        if merged and merged[-1][2] == new and (joint := text[merged[-1][1] : start]) and _JOINT.fullmatch(joint):
            closed = end + 1 if joint.strip() in ("(", "（") and text[end : end + 1] in (")", "）") else end
            merged[-1] = (merged[-1][0], closed, new)
        else:
            merged.append((start, end, new))
    for start, end, new in merged:
        before = text[at:start]
        article = re.search(r"\b(an?|the)(\s+)$", before, re.I)
        beside = text[start - 1 : start] + text[end : end + 1]
        if re.match(r"the\s", new, re.I) and (article or re.search(r"[\u4e00-\u9fff]", beside)):
            new = new[4:].lstrip()
        if article and article[1].lower() != "the":
            word = ("an" if re.match(r"[aeiouAEIOU]", new) else "a") if article[1][0].islower() else ("An" if re.match(r"[aeiouAEIOU]", new) else "A")
            before = before[: article.start()] + word + article[2]
        if new[:1].islower() and re.search(r"(?:^|[.!?]\s+|\n)$", out + before):
            new = new[0].upper() + new[1:]
        out += before + new
        at = end
    return out + text[at:]


# -- refusals --------------------------------------------------------------------------------------

_R_STEMS = ("sorry", "apolog", "unfortunately", "regrettabl", " ai", "a.i.", "artificial", "language model", "llm", "assistant", "chatbot", "machine learning", "i cannot",
            "i can't", "i can’t", "i can not", "i must decline", "i have to decline", "i refuse", "i will not", "i won", "i am not", "i am unable", "i'm not", "i’m not",
            "i'm unable", "i’m unable", "i do not", "i don", "against", "violate")
_R_ZSTEMS = ("作为", "身为", "抱歉", "对不起", "遗憾", "不好意思", "只是", "我是")
_R_HEAD, _R_INNER = 300, 160
"""Characters of an answer in which a refusal is looked for where the answer begins, and in the sentences after."""


class Refusals:
    """Answers that refuse. ``more``: plain phrases beside those of refusals.yaml; case and white space do not matter."""

    def __init__(self, more: Sequence[str] = ()) -> None:
        data = refusal_data()
        anchored: list[str] = []
        inner: list[str] = []
        for entry in data["refusals"]:
            pattern = entry["pattern"]
            for _ in range(2):
                for name, part in data["parts"].items():
                    pattern = pattern.replace("{" + name + "}", part)
            (anchored if pattern.startswith("^") else inner).append(pattern.removeprefix("^"))
        self._start = re.compile("|".join(f"(?:{p})" for p in anchored), re.I)
        self._inner = re.compile(r"(?:\A|[.!?。！？\n，,;；:：]\s*)(?:" + "|".join(f"(?:{p})" for p in inner) + ")", re.I)
        self._more = tuple(re.compile(r"\s+".join(map(re.escape, phrase.split())), re.I) for phrase in more)

    def find(self, text: str) -> str | None:
        """How the answer refuses, or None."""
        for pattern in self._more:
            if found := pattern.search(text):
                return found.group()
        head = text[:_R_HEAD].lstrip()
        lower = head.lower()
        if not any(s in lower for s in _R_STEMS) and (head.isascii() or not any(s in head for s in _R_ZSTEMS)):
            return None
        found = self._start.match(head) or self._inner.search(head[:_R_INNER])
        if found is None or _quoted(head, found.start()):
            return None
        return found.group().strip(" \n.。，,;；:：!！?？")


@functools.cache
def refusal_data() -> dict[str, Any]:
    """refusals.yaml as it stands: parts, and refusals with what each finds and leaves."""
    data: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("refusals.yaml").read_text(encoding="utf-8"))
    return data
