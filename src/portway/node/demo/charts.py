"""Charts as inline SVG, from numbers. Pure, drawn on the server; colours come from the page's style (`page.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 1000, 210
_LEFT, _BOTTOM, _TOP = 36, 24, 8


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what stands under it, and a count per series from the bottom up."""

    label: str
    parts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.parts)


def histogram(bars: Sequence[Bar], series: Sequence[str]) -> str:
    """Stacked bars over time; `series` names the colours (CSS variables) from the bottom up."""
    if not bars:
        return '<p class="soft">Nothing matches.</p>'
    top = nice_ceiling(max(bar.total for bar in bars))
    step = (_WIDTH - _LEFT) / len(bars)
    drawn = [_grid(top)]
    for index, bar in enumerate(bars):
        drawn.append(_stack(bar, series, _LEFT + index * step, step, top))
        if index % max(1, len(bars) // 8) == 0:
            drawn.append(f'<text x="{_LEFT + index * step:.1f}" y="{_HEIGHT - 6}">{escape(bar.label)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="log lines over time">{"".join(drawn)}</svg>'


def ranking(rows: Sequence[tuple[str, int, str]]) -> str:
    """Horizontal bars: (label, count, link); the longest fills the width."""
    if not rows:
        return '<p class="soft">Nothing matches.</p>'
    longest = max(count for _, count, _ in rows) or 1
    drawn = []
    for index, (label, count, link) in enumerate(rows):
        y, width = index * 30, 300 * count / longest
        drawn.append(
            f'<a href="{escape(link)}"><text x="0" y="{y + 17}">{escape(label)}</text>'
            f'<rect x="90" y="{y + 4}" width="{max(width, 1):.1f}" height="18" rx="3" fill="var(--accent)"/></a>'
            f'<text x="{96 + width:.1f}" y="{y + 17}">{count}</text>'
        )
    return f'<svg viewBox="0 0 430 {len(rows) * 30}" role="img" aria-label="counts">{"".join(drawn)}</svg>'


def nice_ceiling(value: int) -> int:
    """The next of 4, 8, 20, 40, 80, 200 …: scales whose quarters are whole numbers."""
    if value < 0:
        raise ValueError("a count is not negative")
    power = 4
    while True:
        for factor in (1, 2, 5):
            if power * factor >= value:
                return power * factor
        power *= 10


def _grid(top: int) -> str:
    lines = []
    for quarter in range(5):
        y = _y(top * quarter / 4, top)
        lines.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * quarter // 4}</text>'
        )
    return "".join(lines)


def _stack(bar: Bar, series: Sequence[str], x: float, step: float, top: int) -> str:
    drawn, below = [], 0
    for count, colour in zip(bar.parts, series, strict=True):
        if count:
            upper, lower = _y(below + count, top), _y(below, top)
            drawn.append(
                f'<rect x="{x + 1.5:.1f}" y="{upper:.1f}" width="{max(step - 3, 1):.1f}" height="{lower - upper:.1f}"'
                f' fill="var(--{colour})"/>'
            )
        below += count
    return f"<g><title>{escape(bar.label)}: {bar.total}</title>{''.join(drawn)}</g>"


def _y(value: float, top: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / top
