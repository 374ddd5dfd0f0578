"""The picture of the page: for each shape of message, CPU per message and relay rate as bars."""
from xml.sax.saxutils import escape

from suite.relays import TITLES
from suite.rows import Rows

COLOURS = {"smtpd": "#1f6f8b", "tools": "#9aa5b1", "bare": "#6b7785"}
OTHER = "#d08c60"
BAR, GAP, LABEL, WIDTH, SPACE, HEAD = 14, 4, 150, 330, 70, 40
STYLE = "text{font:12px sans-serif;fill:#222}.h{font-weight:bold}.s{font-size:11px;fill:#555}"


def label(who, sessions):
    return TITLES.get(who, who) + (f", {sessions} sessions" if sessions != 100 else "")


def bars(lines, left, top, number):
    """One column of bars; each is `value / most` of the width."""
    out = []
    most = max((value for _, _, value in lines if value), default=1)
    for index, (who, _, value) in enumerate(lines):
        y = top + index * (BAR + GAP)
        if value is None:
            out.append(f'<text class="s" x="{left}" y="{y + 11}">no figure</text>')
            continue
        width = max(1.0, value / most * WIDTH)
        out.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" '
                   f'fill="{COLOURS.get(who, OTHER)}"/>')
        out.append(f'<text class="s" x="{left + width + 4:.1f}" y="{y + 11}">{number(value)}</text>')
    return out


def shape(rows, what, top):
    """(lines of SVG, height)"""
    lines = rows.lines("relay", what)
    out = [f'<text class="h" x="10" y="{top + 14}">{escape(what)}</text>']
    for index, (who, sessions) in enumerate(lines):
        y = top + 24 + index * (BAR + GAP)
        out.append(f'<text x="10" y="{y + 11}">{escape(label(who, sessions))}</text>')
    for column, (key, number) in enumerate((("cpu_us", "{:.0f} us".format),
                                            ("relay", "{:.0f}/s".format))):
        values = [(who, sessions, rows.median("relay", key, what=what, who=who, sessions=sessions))
                  for who, sessions in lines]
        out += bars(values, LABEL + column * (WIDTH + SPACE), top + 24, number)
    return out, 24 + len(lines) * (BAR + GAP) + 14


def draw(result):
    rows = Rows(result["rows"])
    out, top = [], HEAD
    for what in rows.kinds("relay"):
        more, height = shape(rows, what, top)
        out += more
        top += height
    width = LABEL + 2 * (WIDTH + SPACE)
    heads = [f'<text class="h" x="{LABEL + column * (WIDTH + SPACE)}" y="20">{text}</text>'
             for column, text in enumerate(("CPU per message (shorter is better)",
                                            "messages relayed in a second (longer is better)"))]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" '
                      f'viewBox="0 0 {width} {top}">', f"<style>{STYLE}</style>",
                      f'<rect width="{width}" height="{top}" fill="#fff"/>', *heads, *out, "</svg>",
                      ""])


def write(path, result):
    with open(path, "w") as file:
        file.write(draw(result))
