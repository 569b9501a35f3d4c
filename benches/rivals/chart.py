"""A bar chart as SVG, readable on light and dark: ratio and decode speed of the rivals of a pair."""

from xml.sax.saxutils import escape

ROW, LABEL, BAR, GAP, TOP = 22, 210, 210, 70, 58

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.small { font-size: 11px; }
.bar { fill: #9aa4af; }
.own { fill: #1f6feb; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .bar { fill: #6e7681; }
  .own { fill: #58a6ff; }
}
"""


def bars(x, title, rows, field, form):
    """One column of bars; `rows` are (name, figures)."""
    most = max(figures[field] for _, figures in rows)
    parts = [f'<text class="title" x="{x}" y="{TOP - 14}">{escape(title)}</text>']
    for n, (name, figures) in enumerate(rows):
        number, y = figures[field], TOP + n * ROW
        kind = "own" if name.startswith("sparse") else "bar"
        width = max(1.0, BAR * number / most)
        size = f'width="{width:.1f}" height="{ROW - 7}"'
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" {size}/>')
        place = f'x="{x + width + 5:.1f}" y="{y + 12}"'
        parts.append(f'<text class="small" {place}>{form.format(number)}</text>')
    return parts


def chart(title, rows):
    """`rows`: (name, {"ratio", "decode"}), drawn with the smallest ratio first."""
    rows = sorted(rows, key=lambda row: row[1]["ratio"])
    width = LABEL + 2 * (BAR + GAP)
    height = TOP + len(rows) * ROW + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="title" x="0" y="18">{escape(title)}</text>',
    ]
    for n, (name, _) in enumerate(rows):
        parts.append(f'<text x="0" y="{TOP + n * ROW + 12}">{escape(name)}</text>')
    parts += bars(LABEL, "stored / plain (shorter is better)", rows, "ratio", "{:.4f}")
    right = LABEL + BAR + GAP
    parts += bars(right, "GB/s out of a core (longer is better)", rows, "decode", "{:.2f}")
    return "\n".join(parts) + "\n</svg>\n"
