"""An inspection of data as one HTML page that opens offline, in the look of the run report."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gogpt.data.inspection import Bin, Evidence, Inspection, Spread
from gogpt.report.charts import number
from gogpt.report.inspect_charts import Bar, BarChart, bar_chart, short
from gogpt.report.inspect_labels import LABELS
from gogpt.runfolder import disk_error, write_text

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_CHARS_SHOWN = 3000
"""of one message; what is left out is said"""
NUM_FILES = 50


def write_inspection(found: Inspection, target: Path, lang: str = "en") -> None:
    """Write the page, whole or not at all. Raises GogptError ENV110."""
    try:
        write_text(target, render_inspection(found, lang))
    except OSError as problem:
        raise disk_error(problem, target) from problem


def render_inspection(found: Inspection, lang: str = "en") -> str:
    """The page as text; ``lang`` is en or zh."""
    labels = LABELS.get(lang, LABELS["en"])

    def say(key: str, **values: Any) -> str:
        return labels.get(key, key).format(**{k: v if isinstance(v, str) else number(v) for k, v in values.items()})

    page = _environment().get_template("inspect.html.jinja").render(
        found=found, why=why, place=functools.partial(place, paths=tuple(f.path for f in found.files)), shape=shape, lang="zh" if lang == "zh" else "en", L=labels, say=say, style=_style(), name=_name(found), charts=_charts(found, say),
        files=found.files[:NUM_FILES], schemas=sorted({f.schema for f in found.files if f.schema}), samples=[_sample(s) for s in found.samples],
        only_texts=bool(found.texts) and found.texts == found.conversations,
    )
    # A lone surrogate (broken text in somebody's data) has no UTF-8 form.
    return page.encode("utf-8", errors="replace").decode("utf-8")


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    environment.filters |= {"number": number, "share": percent, "basename": lambda path: Path(path).name}
    return environment


@functools.cache
def _style() -> str:
    """The style sheet of the run report: the two pages look alike because there is only one."""
    found = re.search(r"<style>\n(.*?)</style>", Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1]


def shape(names: Sequence[str], read: Mapping[str, int]) -> list[str]:
    """Fields that stand together; of a list also what is read of its objects: ``messages (role, content)``."""
    inner = {name: [key.partition("[].")[2] for key in read if key.startswith(f"{name}[].")] for name in names}
    return [f"{name} ({', '.join(inner[name])})" if inner[name] else name for name in names]


def why(found: Evidence, say: Callable[..., str]) -> str:
    """The sentence that says on what grounds a file has its schema."""
    if not found.shapes or not found.shapes[0][0]:
        parts = [say("evidence", fits=found.fits, sampled=found.sampled), say("none_usable")]
    else:
        names, n = found.shapes[0]
        parts = [say("shape", n=n, sampled=found.sampled, fields=", ".join(shape(names, found.read)))]
        if found.fits != n:
            parts.insert(0, say("evidence", fits=found.fits, sampled=found.sampled))
    return say("semicolon").join([*parts, *(say("others", n=n, name=name) for name, n in found.others.items())])


def percent(part: int, whole: int) -> str:
    """``part`` of ``whole``, to a tenth of a percent."""
    return f"{part / whole:.1%}" if whole else "–"


def place(text: str, paths: Sequence[str]) -> str:
    """``folder/a.json:4`` -> ``a.json:4``: the folder stands once, at the top."""
    for path in sorted(paths, key=len, reverse=True):
        text = text.replace(f"{path}:", f"{Path(path).name}:")
    return text


def _name(found: Inspection) -> str:
    return Path(found.object["path"]).name or found.object["path"]


def _charts(found: Inspection, say: Any) -> list[dict[str, Any]]:
    """Histogram of characters, of tokens, and what is longer than each maximum length."""
    out = []
    if found.histogram:
        out.append(_histogram("characters", found.histogram, found.characters["conversation"], say))
    if found.tokens is not None and found.tokens.lengths is not None:
        out.append(_histogram("tokens", found.tokens.histogram, found.tokens.lengths, say))
        n = found.tokens.lengths.count
        bars = [Bar(label=f"{o.max_length:,}", value=o.count, hint=f"> {o.max_length:,}: {o.count:,} ({percent(o.count, n)})", mark=percent(o.count, n))
                for o in found.tokens.over]
        desc = say("over_desc", n=n)
        out.append({"title": say("over"), "desc": desc, "svg": bar_chart(BarChart(
            id="chart-over", title=say("over"), desc=desc, x_label=say("max_length"), y_label=say("conversations_axis"), bars=bars))})
    return out


def _histogram(unit: str, bins: Sequence[Bin], spread: Spread, say: Any) -> dict[str, Any]:
    total = sum(b.count for b in bins)
    title = say(f"histogram_{unit}")
    desc = say("chart_desc", n=spread.count, median=spread.median, p95=spread.p95, max=spread.max)
    bars = [Bar(label=short(b.low), value=b.count, hint=say("bar_title", low=b.low, high=b.high - 1, n=b.count, share=percent(b.count, total))) for b in bins]
    svg = bar_chart(BarChart(id=f"chart-{unit}", title=title, desc=desc, x_label=say(unit), y_label=say("conversations_axis"), bars=bars, edges=True,
                             last=short(bins[-1].high)))
    return {"title": title, "desc": desc, "svg": svg}


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation with its long messages cut, and every key that the page asks for."""
    messages = [{"role": m["role"], "content": m["content"][:MAX_CHARS_SHOWN], "length": len(m["content"]), "trained": m.get("train", True),
                 "reasoning": m.get("reasoning_content") or "", "calls": m.get("tool_calls", [])} for m in sample["messages"]]
    return {"origin": sample["origin"], "messages": messages, "tools": sample.get("tools", []), "length": sum(m["length"] for m in messages)}
