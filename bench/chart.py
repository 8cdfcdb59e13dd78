"""Charts of what was measured, as SVG written by hand: lines for a sweep, bars for the rest; readable in light and dark."""

import html
import math
import os
import statistics

import page

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 64, 150, 46, 44
COLOURS = ("#2f6fdf", "#d9822b", "#3a9d5d", "#a05cc4", "#c74a5a", "#5b8a8f", "#8a7a3d")
STYLE = """<style>
text { font: 12px sans-serif; fill: #24292f } .t { font-size: 15px; font-weight: bold }
.g { stroke: #8886 } .a { stroke: #888 } line, path { fill: none; stroke-width: 2 } .g, .a { stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #d6dbe1 } }
</style>"""


def steps(low, high):
    """Where to draw lines on a logarithmic axis: 1, 2, 5, 10 …"""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            if low <= digit * 10 ** exponent <= high:
                yield digit * 10 ** exponent


def place(value, low, high, begin, end):
    return begin + (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low) or 1) * (end - begin)


def element(name, content=None, **attributes):
    joined = " ".join(f'{k.rstrip("_").replace("_", "-")}="{v}"' for k, v in attributes.items())
    return f"<{name} {joined}/>" if content is None else f"<{name} {joined}>{html.escape(content)}</{name}>"


def frame(title, width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-label="{html.escape(title)}">\n{STYLE}\n'
            + element("text", title, x=LEFT if width == WIDTH else 12, y=22, class_="t") + "\n" + "\n".join(body) + "\n</svg>\n")


def lines(title, unit, series):
    """series: {name: [(x, y), …]}, both axes logarithmic."""
    points = [point for values in series.values() for point in values]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys) / 1.3, max(ys) * 1.3
    right, bottom, body = WIDTH - RIGHT, HEIGHT - BOTTOM, []
    for y in steps(low_y, high_y):
        at = place(y, low_y, high_y, bottom, TOP)
        body += [element("line", x1=LEFT, x2=right, y1=f"{at:.1f}", y2=f"{at:.1f}", class_="g"),
                 element("text", page.number(y), x=LEFT - 8, y=f"{at + 4:.1f}", text_anchor="end")]
    for x in sorted(set(xs)):
        at = place(x, low_x, high_x, LEFT, right)
        body += [element("line", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=bottom, y2=bottom + 5, class_="a"),
                 element("text", page.number(x), x=f"{at:.1f}", y=bottom + 20, text_anchor="middle")]
    body += [element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="a"),
             element("text", unit, x=LEFT, y=TOP - 6), element("text", "clients", x=right, y=bottom + 38, text_anchor="end")]
    ends, taken = sorted((place(values[-1][1], low_y, high_y, bottom, TOP), name) for name, values in series.items()), TOP - 20
    label_at = {}
    for at, name in ends:
        taken = label_at[name] = max(at, taken + 16)
    for colour, (name, values) in zip(COLOURS, series.items()):
        path = " L".join(f"{place(x, low_x, high_x, LEFT, right):.1f} {place(y, low_y, high_y, bottom, TOP):.1f}" for x, y in values)
        body += [element("path", d="M" + path, stroke=colour),
                 element("text", name, x=right + 10, y=f"{label_at[name] + 4:.1f}", style=f"fill:{colour}")]
    return frame(title, WIDTH, HEIGHT, body)


def bars(title, values):
    """values: {name: number}, from zero; each with its figure."""
    most, body, top = max(values.values()) or 1, [], 40
    for i, (name, value) in enumerate(values.items()):
        y, length = top + i * 30, max(1, 370 * value / most)
        body += [element("text", name, x=230, y=y + 15, text_anchor="end"),
                 element("rect", x=240, y=y, width=f"{length:.1f}", height=20, rx=2, fill=COLOURS[i % len(COLOURS)]),
                 element("text", page.number(value), x=f"{248 + length:.1f}", y=y + 15)]
    return frame(title, 720, top + 30 * len(values) + 10, body)


def write(results, folder):
    for name, scenario in results["scenarios"].items():
        path, columns = scenario["shows"][0], list(dict.fromkeys(c for row in scenario["cells"].values() for c in row))
        figures = {c: [(int(row or 0), statistics.median(cells[c][path])) for row, cells in scenario["cells"].items() if c in cells]
                   for c in columns}
        title = f"{scenario['title']}: {page.FIGURES.get(path, path)}"
        if len(scenario["cells"]) > 1:
            svg = lines(scenario["title"], page.FIGURES.get(path, path), figures)
        elif len(columns) > 1:
            svg = bars(title, {c: values[0][1] for c, values in figures.items()})
        else:
            continue
        with open(os.path.join(folder, f"{name}.svg"), "w") as f:
            f.write(svg)
