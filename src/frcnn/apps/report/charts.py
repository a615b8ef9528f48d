"""Charts as SVG, in colours that the page's style gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from frcnn.apps.report.markup import text

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34
_COLOURS = 6
_MOST = 1e300  # differences of what is larger may not be finite; NaN is not smaller
_LEAST_SPAN = 1e-300  # below it a float has too few digits to be cut into steps
_MOST_POINTS = 2000  # of a line


def line_chart(
    title: str,
    series: Mapping[str, Points],
    x_title: str,
    y_range: tuple[float, float] | None = None,
    even: bool = False,
) -> str:
    """Lines over one axis; what is not finite is left out.

    Args:
        title: above it.
        series: name -> points (x, y), by x.
        x_title: of the axis.
        y_range: of the other; default what holds all points, and 0 where that is near.
        even: draw the diagonal, too.
    """
    kept = {
        name: [p for p in thinned(points) if abs(p[0]) < _MOST and abs(p[1]) < _MOST]
        for name, points in series.items()
    }
    everything = [point for points in kept.values() for point in points]
    if not everything:
        return ""
    xs, ys = zip(*everything, strict=True)
    x_ticks = ticks(min(xs), max(xs))
    y_ticks = ticks(*(y_range or (min(*ys, 0) if min(ys) < max(ys) / 2 else min(ys), max(ys))))
    place = _Place((x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]))
    parts = _axes(place, x_ticks, y_ticks, x_title)
    if even:
        parts.append(_line([(0, 0), (1, 1)], place, "even"))
    for index, points in enumerate(kept.values()):
        if points:
            parts.append(_line(points, place, f"line s{index % _COLOURS}"))
    legend = "".join(
        f'<li class="s{index % _COLOURS}"><span>{text(name)}</span></li>'
        for index, name in enumerate(kept)
    )
    return _figure(title, parts) + f'<ul class="legend">{legend}</ul></figure>'


def bar_chart(title: str, values: Mapping[str, float]) -> str:
    """Horizontal bars from 0; what is not finite has none."""
    finite = {name: value if math.isfinite(value) else 0.0 for name, value in values.items()}
    most = max(finite.values(), default=0.0) or 1.0
    step = (_HEIGHT - 20) / max(len(finite), 1)
    parts = []
    for index, (name, value) in enumerate(finite.items()):
        y = 10 + index * step
        width = max(value, 0.0) / most * (_WIDTH - 190)
        middle = y + step / 2 + 4
        parts += [
            f'<text x="110" y="{middle:.1f}" text-anchor="end">{text(name)}</text>',
            f'<rect class="bar" x="118" y="{y + 3:.1f}" width="{width:.1f}" '
            f'height="{step - 6:.1f}"/>',
            f'<text x="{124 + width:.1f}" y="{middle:.1f}">{value:.3f}</text>',
        ]
    return _figure(title, parts) + "</figure>"


def _figure(title: str, parts: list[str]) -> str:
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(title)}">'
        f"{''.join(parts)}</svg>"
    )


def thinned(points: Points) -> Points:
    """At most 2,000 of the points, evenly spread, the last one among them."""
    step = -(-len(points) // _MOST_POINTS)
    if step <= 1:
        return points
    return [*points[:-1:step], points[-1]]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, about five, that hold both ends."""
    span = high - low
    largest = max(abs(low), abs(high))
    if not span > max(largest * 1e-9, _LEAST_SPAN):
        span = largest if largest > _LEAST_SPAN else 1.0
        low, high = low - span / 2, high + span / 2
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


class _Place:
    """From values to places on the picture."""

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float]):
        self.xs, self.ys = xs, ys

    def x(self, value: float) -> float:
        share = (value - self.xs[0]) / (self.xs[1] - self.xs[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.ys[0]) / (self.ys[1] - self.ys[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _axes(
    place: _Place, x_ticks: Sequence[float], y_ticks: Sequence[float], title: str
) -> list[str]:
    parts = []
    for value in y_ticks:
        y = place.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in x_ticks:
        x, y = place.x(value), _HEIGHT - _BOTTOM + 15
        parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{value:.4g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{text(title)}</text>')
    return parts


def _line(points: Points, place: _Place, kind: str) -> str:
    corners = [f"{place.x(x):.1f} {place.y(y):.1f}" for x, y in points]
    if len(corners) == 1:
        x, y = corners[0].split()
        return f'<circle class="{kind}" cx="{x}" cy="{y}" r="2.5"/>'
    return f'<path class="{kind}" d="M{"L".join(corners)}"/>'
