"""Draws the dashboard beside this file from what a Prometheus has, as an SVG on standard output.

    deploy/grafana/picture.py http://127.0.0.1:9090 900 > deploy/grafana/dashboard.svg

The second argument is how many seconds of the past are shown. Places, titles, queries and legends are
those of the dashboard; colours and letters are not Grafana's, which is not needed for this.
"""

import html
import json
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

COLUMN, ROW, GAP = 60, 26, 6
STEPS = 120
COLOURS = ["#5794f2", "#73bf69", "#ff9830", "#f2495c", "#b877d9", "#fade2a", "#37872d", "#8ab8ff", "#c4162a", "#ffb357"]


def ask(base, path, **query):
    url = f"{base}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)["data"]["result"]


def expression(target, interval):
    text = target["expr"].replace("$__rate_interval", f"{interval}s")
    return text.replace("$job", "procring").replace("$instance", ".*")


def shown(value, unit):
    if value != value:
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * factor >= 1 or name == "µs":
                return f"{value * factor:.3g} {name}"
    if unit in ("bytes", "Bps"):
        names = ["B", "KiB", "MiB", "GiB", "TiB"]
        at = 0
        while value >= 1024 and at < 4:
            value, at = value / 1024, at + 1
        return f"{value:.3g} {names[at]}" + ("/s" if unit == "Bps" else "")
    end = {"ops": "/s", "reqps": "/s"}.get(unit, "")
    return (f"{value:.0f}" if value == int(value) and value < 1e5 else f"{value:.3g}") + end


def name(target, labels):
    form = target.get("legendFormat") or ""
    if not form or form == "__auto":
        return ", ".join(f"{value}" for value in labels.values()) or target["expr"][:24]
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), form)


class Drawing:
    def __init__(self):
        self.parts = []

    def text(self, x, y, text, size=11, colour="#ccccdc", anchor="start", weight="normal"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{html.escape(text)}</text>'
        )

    def add(self, part):
        self.parts.append(part)


def stat(drawing, panel, base, interval, box):
    x, y, width, height = box
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    values = []
    for target in panel["targets"]:
        for series in ask(base, "query", query=expression(target, interval)):
            values.append((name(target, series["metric"]), float(series["value"][1])))
    for at, (label, value) in enumerate(values):
        middle = x + width * (at + 0.5) / len(values)
        drawing.text(middle, y + height * 0.62, shown(value, unit), 24, "#73bf69", "middle", "bold")
        if len(values) > 1:
            drawing.text(middle, y + height * 0.85, label, 11, "#9a9aa8", "middle")


def graph(drawing, panel, base, interval, end, seconds, box):
    x, y, width, height = box
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    step = max(1, seconds // STEPS)
    lines = []
    for target in panel["targets"]:
        query = expression(target, interval)
        for series in ask(base, "query_range", query=query, start=end - seconds, end=end, step=step):
            points = [(float(at), float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf")]
            if points:
                lines.append((name(target, series["metric"]), points))
    left, right, top = x + 62, x + width - 10, y + 28
    legend_rows = min(3, (len(lines) + 1) // 2) or 1
    bottom = y + height - 24 - 14 * legend_rows
    most = max((value for _, points in lines for _, value in points), default=0) * 1.05 or 1
    for part in range(4):
        value, at = most * part / 3, bottom - (bottom - top) * part / 3
        drawing.add(f'<path d="M{left} {at:.1f}H{right}" stroke="#2c3235"/>')
        drawing.text(left - 6, at + 4, shown(value, unit), 10, "#9a9aa8", "end")
    for part in range(4):
        at = end - seconds + seconds * part / 3
        anchor = ("start", "middle", "middle", "end")[part]
        clock = time.strftime("%H:%M", time.gmtime(at))
        drawing.text(left + (right - left) * part / 3, bottom + 13, clock, 10, "#9a9aa8", anchor)
    for at, (label, points) in enumerate(lines):
        colour = COLOURS[at % len(COLOURS)]
        across = lambda moment: left + (right - left) * (moment - end + seconds) / seconds
        path, before = "", None
        for moment, value in points:
            # No line where nothing was measured.
            begins = before is None or moment - before > 2.5 * step
            path += f'{"M" if begins else "L"}{across(moment):.0f} {bottom - (bottom - top) * value / most:.1f}'
            before = moment
        drawing.add(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3" stroke-linejoin="round"/>')
        if at < 2 * legend_rows:
            lx, ly = left - 40 + (at % 2) * (right - left + 40) / 2, bottom + 28 + 14 * (at // 2)
            drawing.add(f'<rect x="{lx:.1f}" y="{ly - 7:.1f}" width="10" height="3" fill="{colour}"/>')
            room = int((right - left + 40) / 2 / 5.6)
            drawing.text(lx + 14, ly, label if len(label) <= room else label[: room - 1] + "…", 10, "#b8b8c6")


def main():
    base, seconds = sys.argv[1].rstrip("/"), int(sys.argv[2])
    dashboard = json.loads(pathlib.Path(__file__).with_name("procring.json").read_text())
    end, interval = time.time(), max(4, seconds // 60)
    drawing = Drawing()
    lowest = 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        box = (
            place["x"] * COLUMN + GAP,
            place["y"] * ROW + GAP,
            place["w"] * COLUMN - GAP,
            place["h"] * ROW - GAP,
        )
        x, y, width, height = box
        lowest = max(lowest, y + height)
        if panel["type"] == "row":
            drawing.text(x + 2, y + 15, panel["title"], 14, "#ffffff", weight="bold")
            continue
        drawing.add(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="#181b1f" stroke="#2c3235"/>')
        drawing.text(x + 8, y + 16, panel["title"], 12, weight="bold")
        if panel["type"] == "stat":
            stat(drawing, panel, base, interval, box)
        else:
            graph(drawing, panel, base, interval, end, seconds, box)
    width, height = 24 * COLUMN + GAP, lowest + GAP
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="Inter, Helvetica, Arial, sans-serif">'
        f'<rect width="{width}" height="{height}" fill="#111217"/>' + "\n".join(drawing.parts) + "</svg>"
    )


main()
