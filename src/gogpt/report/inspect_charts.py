"""Bars as inline SVG, in the frame and with the ticks of ``charts``; complete without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gogpt.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, nice_ticks, tick_text

GAP = 2
"""Between two bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """``label`` stands below the bar (or, ``edge``, below its left edge); ``hint`` is shown when pointed at."""

    label: str
    value: float
    hint: str
    mark: str = ""
    """written above the bar"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """``edges``: labels are the bars' left edges, and ``last`` the right edge of the last one."""

    id: str
    title: str
    desc: str
    x_label: str
    y_label: str
    bars: Sequence[Bar]
    edges: bool = False
    last: str = ""


def bar_chart(chart: BarChart) -> str:
    """The chart as one ``<svg>`` element with title and description."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    ticks = [t for t in nice_ticks(0.0, max((b.value for b in chart.bars), default=0.0), whole=True) if t >= 0]
    top = ticks[-1]
    parts = [f'<text class="axis-label" x="4" y="14">{escape(chart.y_label)}</text>',
             f'<text class="axis-label" x="{right}" y="{HEIGHT - 6}" text-anchor="end">{escape(chart.x_label)}</text>']
    for value in ticks:
        y = bottom - (bottom - TOP) * value / top
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/><text class="tick" x="{LEFT - 7}" y="{y:.1f}" dy=".35em" '
                     f'text-anchor="end">{tick_text(value, ticks[1] - ticks[0])}</text>')
    step = (right - LEFT) / max(1, len(chart.bars))
    stride = -(-len(chart.bars) // 9) if chart.edges else 1
    for i, bar in enumerate(chart.bars):
        x, height = LEFT + i * step, (bottom - TOP) * bar.value / top
        # What is there is seen, however few of a great many it is.
        height = max(height, 1.5) if bar.value else 0.0
        parts.append(f'<g class="bar"><title>{escape(bar.hint)}</title><path class="ground" d="M{x:.1f} {TOP}h{step:.1f}V{bottom}h-{step:.1f}z"/>'
                     f'<path class="fill" d="M{x + GAP / 2:.1f} {bottom - height:.1f}h{step - GAP:.1f}V{bottom}h-{step - GAP:.1f}z"/></g>')
        if bar.mark:
            parts.append(f'<text class="tick" x="{x + step / 2:.1f}" y="{max(TOP + 4.0, bottom - height - 6):.1f}" text-anchor="middle">{escape(bar.mark)}</text>')
        if i % stride == 0:
            parts.append(_below(bar.label, x if chart.edges else x + step / 2, bottom))
    if chart.edges and chart.last and len(chart.bars) % stride == 0:
        parts.append(_below(chart.last, right, bottom))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{chart.id}-t {chart.id}-d">'
            f'<title id="{chart.id}-t">{escape(chart.title)}</title><desc id="{chart.id}-d">{escape(chart.desc)}</desc>{"".join(parts)}</svg>')


def _below(label: str, x: float, bottom: float) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{escape(label)}</text>'


def short(value: int) -> str:
    """1536 -> 1.5k, as fits below a bar: powers of two and their halves in units of 1024."""
    for unit, size in (("G", 2**30), ("M", 2**20), ("k", 2**10)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return str(value)
