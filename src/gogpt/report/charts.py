"""Numbers for reading, and line charts of them as inline SVG: pure functions from numbers to text.

A chart brings no script, no font and no colour of its own: the page's style sheet paints the classes
(``raw``, ``smooth``, ``plan``, ...), in light, dark and print.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Point = tuple[float, float]

WIDTH, HEIGHT = 540, 290
LEFT, RIGHT, TOP, BOTTOM = 62, 26, 26, 44
STRIP = 30
"""height of the strip above the plot in which one kind of non-finite value is marked"""
MAX_POINTS = 1500
DOTS_UP_TO = 60
"""a line of so few points shows each of them"""
DRAWN = 1e300
"""beyond it, a scale's arithmetic would overflow; such a value runs off the chart"""
LOG_FROM = 50.0
"""the axis becomes logarithmic where the highest value is this many times the median"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """``points`` are (x, y) in order of x; y may be NaN or infinite. ``shape`` is line, dot, diamond or ring;
    diamonds are joined by a line, rings are not. ``style`` is a class of the style sheet."""

    label: str
    points: Sequence[Point]
    style: str
    shape: str = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``zero``: the y axis begins at 0. ``non_finite(kind, first x, count)`` words the mark of such values."""

    id: str
    title: str
    desc: str
    x_label: str
    y_label: str
    log_label: str
    empty: str
    series: Sequence[Series]
    non_finite: Callable[[str, int, int], str]
    zero: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """From data to pixels: ``low`` -> ``start``, ``high`` -> ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def to_float(value: Any) -> float | None:
    """A number of a JSON document, None for anything else. NaN and infinities may be spelled out."""
    spelled = isinstance(value, str) and value.lower().lstrip("+-") in ("nan", "inf", "infinity")
    if not spelled and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def kind_of(value: float) -> str:
    """``NaN``, ``+Inf``, ``-Inf``, or nothing for a finite value."""
    if math.isnan(value):
        return "NaN"
    return "" if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


def number(value: Any, digits: int = 4) -> str:
    """Whole numbers in full, others to ``digits`` significant digits; a dash for what is no number or text."""
    x = to_float(value)
    if x is None:
        return str(value) if isinstance(value, (str, bool)) else "–"
    if kind_of(x):
        return kind_of(x)
    if isinstance(value, int) or (x == int(x) and abs(x) < 1e6):
        return f"{int(value):,}"
    if not 1e-3 <= abs(x) < 1e15:
        mantissa, _, exponent = f"{x:.{digits - 1}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


def size(value: Any) -> str:
    """Bytes in the unit that fits."""
    x = to_float(value)
    if x is None or kind_of(x):
        return number(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(x) < 1024:
            return f"{number(x, 3)} {unit}"
        x /= 1024
    return f"{number(x, 3)} TiB"


def share(part: Any, whole: Any) -> str:
    """``part`` of ``whole`` in percent."""
    a, b = to_float(part), to_float(whole)
    return "–" if a is None or not b or kind_of(a / b) else f"{number(100 * a / b, 3)}%"


def nice_ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """About ``count`` multiples of 1, 2 or 5 times a power of ten that enclose ``low .. high``.

    ``whole``: no tick between whole numbers (for steps). A range of one value is widened.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = 1.0 if whole else abs(low) * 0.1
        low, high = (low - pad, high + pad) if pad else (0.0, 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose ``low .. high`` (both above 0), thinned to at most eight."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    stride = math.ceil((last - first) / 7)
    last = first + math.ceil((last - first) / stride) * stride
    return [10.0 ** k for k in range(first, last + 1, stride)]


def tick_text(value: float, step: float) -> str:
    """A tick's label, with just the digits that tell it from its neighbours: ``0.25``, ``1,500``, ``2e-4``."""
    if abs(value) < step * 1e-6:
        return "0"
    if step < 5e-4 or abs(value) >= 1e6:
        digits = max(0, math.floor(math.log10(abs(value)) + 1e-9) - math.floor(math.log10(step) + 1e-9))
        mantissa, exponent = f"{value:.{digits}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def downsample(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most ``limit`` of the points (finite, in order of x): first, last, and the lowest and highest of each
    bucket between, so that no spike is lost."""
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    buckets = max(1, (limit - 2) // 2)
    kept = [points[0]]
    for b in range(buckets):
        bucket = inner[b * len(inner) // buckets : (b + 1) * len(inner) // buckets]
        if bucket:
            ends = {min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])}
            kept += sorted(ends)
    return [*kept, points[-1]]


def smooth(points: Sequence[Point], span: int) -> list[Point]:
    """Mean over about ``span`` points around each, weighted by a two-sided exponential, so that the line does
    not lag behind; unbiased at the ends. Non-finite points are left out."""
    keep = 1 - 2 / (span + 1)  # the weights then add up to span
    finite = _finite(points)
    sums, weights = [0.0] * len(finite), [-1.0] * len(finite)
    for order in (range(len(finite)), range(len(finite) - 1, -1, -1)):
        total = weight = 0.0
        for i in order:
            total, weight = total * keep + finite[i][1], weight * keep + 1
            sums[i], weights[i] = sums[i] + total, weights[i] + weight
    return _finite([(x, (s - y) / w) for (x, y), s, w in zip(finite, sums, weights, strict=True)])


def differences(points: Sequence[Point], plan: Mapping[float, float], tolerance: float) -> tuple[int, list[Point]]:
    """How many points have their x in the plan, and those of them that are off by more than ``tolerance`` of
    its highest value."""
    allowed = tolerance * max(plan.values(), default=0.0)
    both = [p for p in points if p[0] in plan]
    return len(both), [(x, y) for x, y in both if not abs(y - plan[x]) <= allowed]  # NaN is off, too


def figure(key: str, unit: str, zero: bool, note: str, series: list[Series], say: Callable[..., str]) -> dict[str, Any]:
    """What the page needs of a chart: title, description, legend and drawing, worded by ``say``."""
    shown = next((s.points for s in series if s.points), ())
    finite = _finite(shown)
    desc = say("nothing")
    if finite:
        low, high = min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])
        desc = say("chart_desc", n=len(shown), first=shown[0][1], last=shown[-1][1], low=low[1], low_at=int(low[0]),
                   high=high[1], high_at=int(high[0]))

    def mark(kind: str, first: int, count: int) -> str:
        return say("mark_one" if count == 1 else "mark_many", kind=kind, step=first, n=count)

    chart = Chart(id=f"chart-{key}", title=say(key), desc=desc, x_label=say("step_axis"), y_label=unit,
                  log_label=say("log"), empty=say("no_finite") if shown else say("nothing"), series=series,
                  non_finite=mark, zero=zero)
    return {"title": say(key), "desc": desc, "note": note, "svg": line_chart(chart), "legend": legend(series),
            "shown": bool(shown)}


def legend(series: Sequence[Series]) -> str:
    """An HTML list that names each series beside a sample of its line."""
    items = []
    for s in series:
        if s.points:
            line = "" if s.shape == "ring" else f'<path class="line {s.style}" d="M1 6H25"/>'
            mark = "" if s.shape == "line" else _mark(s, 13, 6)
            items.append(f'<li><svg class="key" viewBox="0 0 26 12" aria-hidden="true">{line}{mark}</svg>'
                         f"{escape(s.label)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def line_chart(chart: Chart) -> str:
    """The chart as one ``<svg>`` element with title and description, complete without a script.

    Non-finite values are crosses in a strip above the plot, one strip for each kind (NaN, +Inf, -Inf), with
    the step of the first and their number in words. ``data-hover`` holds the points for a readout.
    """
    kinds = _non_finite(chart.series)
    top = TOP + STRIP * len(kinds)
    xs = [x for s in chart.series for x, _ in s.points] or [0.0]
    x_ticks = nice_ticks(min(xs), max(xs), 6, whole=True)
    low, high = min(xs), max(xs)
    x = _Scale(low=low, high=high if high > low else low + 1, start=LEFT, end=WIDTH - RIGHT)
    y, y_ticks = _y_scale(chart, top)
    parts = [_axes(chart, x, [t for t in x_ticks if low <= t <= x.high], y, y_ticks, top)]
    if y_ticks:
        parts += [_series(s, x, y) for s in chart.series]
    else:
        parts.append(f'<text class="empty" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{(top + HEIGHT - BOTTOM) / 2:.0f}" '
                     f'text-anchor="middle">{escape(chart.empty)}</text>')
    for i, (kind, where) in enumerate(kinds.items()):
        parts.append(_strip(chart.non_finite(kind, int(where[0]), len(where)), where, x, TOP + STRIP * i))
    hover = {"low": x.low, "high": x.high, "left": LEFT, "right": WIDTH - RIGHT, "width": WIDTH, "x": chart.x_label,
             "series": [[s.label, _hover(s.points)] for s in chart.series]}
    data = escape(json.dumps(hover, ensure_ascii=False, separators=(",", ":")))
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{chart.id}-t {chart.id}-d" '
            f'data-hover="{data}"><title id="{chart.id}-t">{escape(chart.title)}</title>'
            f'<desc id="{chart.id}-d">{escape(chart.desc)}</desc>{"".join(parts)}'
            f'<path class="cursor" d="M0 {top}V{HEIGHT - BOTTOM}"/></svg>')


def _non_finite(series: Sequence[Series]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for s in series:
        for x, y in s.points:
            if kind_of(y):
                found.setdefault(kind_of(y), []).append(x)
    return {kind: sorted(set(where)) for kind, where in found.items()}


def _finite(points: Sequence[Point]) -> list[Point]:
    return [p for p in points if math.isfinite(p[1])]


def _hover(points: Sequence[Point]) -> list[list[float | str]]:
    shown = downsample(_finite(points)) + [p for p in points if kind_of(p[1])]
    return [[x, kind_of(y) or float(f"{y:.6g}")] for x, y in sorted(shown, key=lambda p: p[0])]


def _y_scale(chart: Chart, top: float) -> tuple[_Scale, list[float]]:
    """The y scale and its ticks; no ticks where no value is finite."""
    values = [y for s in chart.series for _, y in _finite(s.points)]
    if not values:
        return _Scale(low=0, high=1, start=HEIGHT - BOTTOM, end=top), []
    low, high = (max(-DRAWN, min(DRAWN, v)) for v in (min(values), max(values)))
    log = low > 0 and high > LOG_FROM * statistics.median(values)
    ticks = log_ticks(low, high) if log else nice_ticks(min(0.0, low) if chart.zero else low, high)
    return _Scale(low=ticks[0], high=ticks[-1], start=HEIGHT - BOTTOM, end=top, log=log), ticks


def _axes(chart: Chart, x: _Scale, x_ticks: Sequence[float], y: _Scale, y_ticks: Sequence[float], top: float) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    label = f"{chart.y_label} ({chart.log_label})" if y.log else chart.y_label
    out = [f'<text class="axis-label" x="4" y="14">{escape(label)}</text>',
           f'<text class="axis-label" x="{right}" y="{HEIGHT - 6}" text-anchor="end">{escape(chart.x_label)}</text>']
    for value in y_ticks:
        at = y(value)
        step = value if y.log else y_ticks[1] - y_ticks[0]
        out.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/><text class="tick" x="{LEFT - 7}" '
                   f'y="{at:.1f}" dy=".35em" text-anchor="end">{tick_text(value, step)}</text>')
    out.append(f'<path class="axis" d="M{LEFT} {top}V{bottom}H{right}"/>')
    step = x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else 1.0
    for value in x_ticks:
        at = x(value)
        out.append(f'<path class="axis" d="M{at:.1f} {bottom}v5"/><text class="tick" x="{at:.1f}" y="{bottom + 19}" '
                   f'text-anchor="middle">{tick_text(value, step) if value < 1e6 else f"{value:.3g}"}</text>')
    return "".join(out)


def _series(series: Series, x: _Scale, y: _Scale) -> str:
    """Line and marks of a series. The line breaks where a value is not finite."""
    runs: list[list[Point]] = [[]]
    for p in series.points:
        if math.isfinite(p[1]):
            runs[-1].append(p)
        elif runs[-1]:
            runs.append([])
    number = sum(len(run) for run in runs)
    drawn = [downsample(run, max(4, MAX_POINTS * len(run) // max(number, 1))) for run in runs if run]
    out = []
    if series.shape != "ring":
        d = "".join("M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in run) for run in drawn)
        out.append(f'<path class="line {series.style}" d="{d}"/>' if d else "")
    # A point alone between two gaps has no line to be seen by.
    shown = drawn if series.shape != "line" and (series.shape != "dot" or number <= DOTS_UP_TO) else [
        run for run in drawn if len(run) == 1]
    out += [_mark(series, x(a), y(b)) for run in shown for a, b in run]
    return f'<g class="series">{"".join(out)}</g>'


def _mark(series: Series, x: float, y: float) -> str:
    if series.shape == "diamond":
        return f'<path class="mark {series.style}" d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z"/>'
    radius = 5 if series.shape == "ring" else 2.2
    return f'<circle class="{"ring" if series.shape == "ring" else "mark"} {series.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _strip(label: str, where: Sequence[float], x: _Scale, top: float) -> str:
    """Crosses at the places ``where``, below a label that begins (or ends) at the first."""
    at = x(where[0])
    anchor = "start" if at < (x.start + x.end) / 2 else "end"
    places = {round(x(p) / 3): x(p) for p in reversed(where)}
    crosses = "".join(f"M{p - 3.5:.1f} {top + 14}l7 7m0 -7l-7 7" for p in sorted(places.values()))
    return (f'<g class="non-finite"><text x="{at:.1f}" y="{top + 8}" text-anchor="{anchor}">{escape(label)}</text>'
            f'<path class="cross" d="{crosses}"/><path class="drop" d="M{at:.1f} {top + 24}V{HEIGHT - BOTTOM}"/></g>')
