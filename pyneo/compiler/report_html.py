# SPDX-License-Identifier: Apache-2.0
"""The compile report as one HTML page, with a picture of the arena over the steps. No script, no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyneo.compiler.report import Report, Span

_WIDTH, _HEIGHT = 1000, 400
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em;max-width:1040px}table{border-collapse:collapse}"
    "td,th{padding:2px 10px;text-align:left;border-bottom:1px solid #ddd}td.n{text-align:right}"
    "svg{border:1px solid #999;width:100%}rect{stroke:#fff;stroke-width:.4}.ref{color:#b00}"
)


def render(report: Report) -> str:
    """A page that stands alone: totals, the memory plan, and every step."""
    title = f"{escape(report.model)} for {escape(report.target)}"
    totals = [
        ("tier", report.tier),
        ("steps", f"{len(report.steps)}, {len(report.reference_steps)} of them on the reference kernel"),
        ("weights", f"{report.weights_bytes:,} bytes"),
        ("arena", f"{report.arena_bytes:,} bytes; lower bound {report.arena_lower_bound:,}"),
        ("layout changes", str(report.reorders)),
        ("views", f"{report.views} nodes need no step"),
    ]
    rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in totals)
    steps = "".join(
        f"<tr><td class=n>{i}</td><td>{escape(s.op)}</td>"
        f"<td class={'k' if s.kernel else 'ref'}>{escape(s.kernel or 'reference')}</td>"
        f"<td>{escape(str(list(s.output_shape)))}</td><td class=n>{s.cost_us:.1f}</td>"
        f"<td>{escape(s.name)}</td></tr>"
        for i, s in enumerate(report.steps)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><table>{rows}</table>"
        f"<h2>The arena over the steps</h2><p>Left to right: steps. Bottom to top: bytes of the arena. "
        f"Point at a buffer for its name.</p>{_picture(report)}"
        f"<h2>Steps</h2><table><tr><th>#</th><th>operator</th><th>kernel</th><th>output</th>"
        f"<th>estimated us</th><th>node</th></tr>{steps}</table></html>\n"
    )


def _picture(report: Report) -> str:
    """Each buffer is a box: as wide as it lives, as high as it is large, at its offset."""
    columns = max([len(report.steps), *(s.last + 1 for s in report.memory)], default=1) or 1
    top = max(report.arena_bytes, 1)
    boxes = "".join(_box(s, i, _WIDTH / columns, _HEIGHT / top) for i, s in enumerate(report.memory))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" height="{_HEIGHT}">{boxes}</svg>'
    )


def _box(span: Span, index: int, x_scale: float, y_scale: float) -> str:
    # The golden angle spreads the hues of neighbours as far apart as it can.
    hue = index * 137.508 % 360
    first = max(span.first, 0)
    x, width = first * x_scale, (span.last - first + 1) * x_scale
    height = span.bytes * y_scale
    y = _HEIGHT - span.offset * y_scale - height
    words = escape(f"{span.name}: {span.bytes:,} bytes at {span.offset:,}, steps {span.first} to {span.last}")
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill="hsl({hue:.0f} 60% 60%)"><title>{words}</title></rect>'
    )
