"""What was measured as tables: for the terminal, and for docs/performance.md."""

import contextlib
import os
import re
import statistics

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "performance.md")
CHARTS = os.path.join(ROOT, "docs", "performance")

# By its path in the load generator's report: what a figure is called.
FIGURES = {
    "bytes_per_client": "memory per client, idle [bytes]",
    "bytes_per_client_after": "memory per client, after events [bytes]",
    "cpu_us_per_delivery": "CPU per delivery [µs]",
    "cpu_us_per_event": "CPU per event [µs]",
    "helper_cpu_us_per_event": "CPU of Redis per event [µs]",
    "cpu_share": "CPU used [share of one]",
    "load_cpu_share": "CPU of the load generator [share of one]",
    "deliveries_per_s": "deliveries a second",
    "events_per_s": "events a second",
    "events_per_message": "events per message",
    "latency_ms.p50": "latency, median [ms]",
    "latency_ms.p99": "latency, p99 [ms]",
    "answer_ms.p50": "answer to a publish, median [ms]",
    "answer_ms.p99": "answer to a publish, p99 [ms]",
    "opening.per_s": "connects a second",
    "opening.cpu_us": "CPU per connect [µs]",
    "resume.per_s": "resumes a second",
    "caught_up.seconds": "all caught up after [s]",
    "caught_up.cpu_us": "CPU per client [µs]",
}


def number(value):
    if abs(value) >= 10000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell(values):
    """The median, and the range if it says something."""
    if not values:
        return ""
    low, high, median = min(values), max(values), statistics.median(values)
    wide = len(values) > 2 and high - low > 0.1 * abs(median)
    return number(median) + (f" ({number(low)}..{number(high)})" if wide else "")


def rows(scenario):
    """The table of one scenario: its head, and a list of cells for each row."""
    columns = list(dict.fromkeys(c for row in scenario["cells"].values() for c in row))
    yield ["", *columns]
    for path in scenario["shows"]:
        for row, cells in scenario["cells"].items():
            name = FIGURES.get(path, path) + (f", {number(int(row))} clients" if row else "")
            yield [name, *(cell(cells.get(c, {}).get(path)) for c in columns)]


def goal_rows(goals):
    yield ["goal", "", "reached", "factor", ""]
    for goal in goals:
        factor = goal["reached"] / goal["goal"] if goal["at_most"] else goal["goal"] / goal["reached"]
        yield [goal["what"], ("≤ " if goal["at_most"] else "≥ ") + number(goal["goal"]), number(goal["reached"]),
               f"{factor:.2f}", "" if goal["met"] else "missed"]


def aligned(table):
    table = list(table)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        yield "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()


def markdown(table):
    head, *body = table
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in body)


def text(results):
    if results["quick"]:
        yield "A quick run: fewer clients, and for a shorter time, than the titles say."
    for scenario in results["scenarios"].values():
        yield ""
        yield scenario["title"]
        yield from aligned(rows(scenario))
    if results.get("micro"):
        yield ""
        yield from aligned(micro_rows(results["micro"]))
    if results["goals"]:
        yield ""
        yield from aligned(goal_rows(results["goals"]))
    for failure in results["failures"]:
        yield f"failed: {failure}"


def sections(results):
    of = f"Medians of {results['runs']} runs" if results["runs"] > 1 else "One run"
    yield (f"{of} on {results['cpus']} CPUs, {results['machine']}. In brackets the range, where runs differ by more than a "
           "tenth. A factor is by how much a goal was missed, or below 1 what is left to it.")
    yield ""
    yield from markdown(goal_rows(results["goals"]))
    for name, scenario in results["scenarios"].items():
        yield ""
        yield f"### {scenario['title']}"
        yield ""
        yield scenario["about"]
        yield ""
        yield from markdown(rows(scenario))
        if os.path.exists(os.path.join(CHARTS, f"{name}.svg")):
            yield ""
            yield f"![{scenario['title']}](performance/{name}.svg)"


    if results.get("micro"):
        yield ""
        yield "### The steps of a delivery, without a network"
        yield ""
        yield from markdown(micro_rows(results["micro"]))
    import fleet
    with contextlib.suppress(KeyError):  # not all that it needs was measured
        table = list(fleet.table(results))
        yield ""
        yield "### Fleets, by simulation"
        yield ""
        yield ("The fewest cores that bring 99 of 100 deliveries of one channel's events to its viewers within 250 ms. Replicas are of "
               "Redis, for announcing in its place, which Parley does not do yet. " + fleet.assumed(results))
        yield ""
        yield from markdown(table)


def micro_rows(micro):
    yield ["step", "CPU [ns]"]
    yield from ([name, number(ns)] for name, ns in micro.items())


def write(results):
    """Puts the tables between the page's two marks, and the charts beside it."""
    import chart
    os.makedirs(CHARTS, exist_ok=True)
    chart.write(results, CHARTS)
    with open(PAGE) as f:
        page = f.read()
    new, count = re.subn(r"(<!-- results -->\n).*?(<!-- end of results -->)",
                         lambda m: m[1] + "\n".join(sections(results)) + "\n" + m[2], page, flags=re.S)
    if count != 1:
        raise SystemExit(f"{PAGE}: where are the marks <!-- results --> and <!-- end of results -->?")
    with open(PAGE, "w") as f:
        f.write(new)
    return 0
