#!/usr/bin/python3
"""Measures Parley beside its peers: scenarios/*.toml, each with every server it names, in turns, several times.

Prints one table of medians and the goals, and writes results/results.json and a chart for every sweep. Servers run on
one CPU and the load generator on another; what a delivery costs is CPU time of the server's processes. What a scenario
file may say:

  title, about, shows          a line each; the figures that are printed, by their path in the load generator's report
  load                         its arguments (load/load.c); those of a server go before
  [servers]                    column = { kind, deflate, redis, nodes, options, and arguments of the load }
  quick                        what --quick changes, also of a server; a scenario without it, and a server with false, is left out
  sweep                        numbers of clients, a row for each
  [[goals]]                    what; value and of = "column figure"; at_most or at_least (of the quotient, if there is an of)
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import tomllib

import chart
import page
import peers

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
OF_SERVER = ("kind", "deflate", "redis", "nodes", "options")
QUICK_RUNS, RUNS = 1, 5


def scenarios(wanted, quick):
    for name in sorted(os.listdir(os.path.join(HERE, "scenarios"))):
        short = name.removesuffix(".toml")
        with open(os.path.join(HERE, "scenarios", name), "rb") as f:
            scenario = {"name": short, **tomllib.load(f)}
        if wanted and not any(short.startswith(w) or w in short for w in wanted):
            continue
        if quick and "quick" not in scenario and not wanted:
            continue
        yield scenario


def arguments(load):
    for key, value in load.items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{key}={item}"


def measure(scenario, column, tools, quick, clients=None):
    """One server, started, measured and stopped: the load generator's report."""
    server = dict(scenario["servers"][column])
    load = {**scenario["load"], **(scenario.get("quick", {}) if quick else {})}
    of_quick = server.pop("quick", {})
    kind = server.get("kind", column)
    load.update({k: v for k, v in server.items() if k not in OF_SERVER})
    load.update(of_quick if quick else {})
    if clients:
        load["clients"] = str(clients)
    about = {k: v for k, v in server.items() if k in OF_SERVER and k != "kind"}
    with peers.KINDS[kind](tools, **about) as running:
        command = [tools["load"], *running.arguments(), *arguments(load)]
        if load.get("feed"):
            command.append(f"publish={running.redis_port}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=300,
                              preexec_fn=peers.on_cpu(peers.LOAD_CPU))
        if done.returncode:
            raise RuntimeError(f"{scenario['name']}, {column}: {done.stderr.strip() or 'counts are wrong'}\n"
                               f"{done.stdout[-1500:]}\n{running.logs()}")
        return json.loads(done.stdout)


def figure(report, path):
    for key in path.split("."):
        report = report[key]
    return report


class Results:
    """Per scenario, row and column the figures of every run."""

    def __init__(self):
        self.scenarios, self.failures = {}, []

    def add(self, scenario, row, column, report):
        kept = self.scenarios.setdefault(scenario["name"], {
            "title": scenario["title"], "about": scenario["about"], "shows": scenario["shows"], "cells": {}})
        cell = kept["cells"].setdefault(row, {}).setdefault(column, {})
        for path in {*scenario["shows"], "load_cpu_share" if "load_cpu_share" in report else "bytes_per_client"}:
            cell.setdefault(path, []).append(figure(report, path))

    def median(self, name, row, column, path):
        values = self.scenarios[name]["cells"].get(row, {}).get(column, {}).get(path)
        return statistics.median(values) if values else None

    def goals(self, scenario):
        for goal in scenario.get("goals", ()):
            value, of = (self.median(scenario["name"], "", *goal[key].rsplit(" ", 1)) if key in goal else None
                         for key in ("value", "of"))
            if value is None or ("of" in goal and not of):
                continue
            reached = value / of if of else value
            limit, most = goal.get("at_most", goal.get("at_least")), "at_most" in goal
            yield {"what": goal["what"], "goal": limit, "at_most": most, "reached": reached,
                   "met": reached <= limit if most else reached >= limit,
                   "value": value, "of": of}


def jobs(args, chosen):
    """What is measured in one run, in this order: a scenario, a row of it or None, a column."""
    for scenario in chosen:
        for row in scenario.get("sweep", [None]):
            for column, server in scenario["servers"].items():
                left_out = args.quick and server.get("quick") is False
                if not left_out and (not args.servers or server.get("kind", column) in args.servers):
                    yield scenario, row, column


def run(args, tools):
    """Medians are of what there is when it is interrupted."""
    results, chosen = Results(), list(scenarios(args.scenarios, args.quick))
    try:
        for number in range(args.runs):
            for scenario, row, column in jobs(args, chosen):
                print(f"\r\033[Krun {number + 1} of {args.runs}: {scenario['name']} {row or ''} {column}",
                      end="", file=sys.stderr, flush=True)
                try:
                    results.add(scenario, str(row or ""), column, measure(scenario, column, tools, args.quick, row))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"\n{error}", file=sys.stderr)
                    results.failures.append(f"{scenario['name']}, {column}: {str(error).splitlines()[0]}")
    except KeyboardInterrupt:
        results.failures.append("interrupted: figures are of fewer runs")
    print("\r\033[K", end="", file=sys.stderr)
    return results, [goal for scenario in chosen for goal in results.goals(scenario)]


def micro(args, tools):
    """The steps of a delivery, unless only some scenarios are wanted."""
    if args.scenarios and "micro" not in args.scenarios:
        return {}
    done = subprocess.run([tools["micro"]], capture_output=True, check=True, preexec_fn=peers.on_cpu(peers.SERVER_CPU))
    return json.loads(done.stdout)


def tools_of(build):
    tools = {**{name: os.path.join(build, "bench", name) for name in ("load", "bare", "micro")},
             "parleyd": os.environ.get("PARLEYD") or os.path.join(build, "parleyd")}
    for path in tools.values():
        if not os.path.exists(path):
            sys.exit(f"{path} is missing: make bench builds it")
    return tools


def machine():
    return f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, {platform.machine()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, help=f"medians of so many ({RUNS}; with --quick {QUICK_RUNS})")
    parser.add_argument("--quick", action="store_true", help="the scenarios that have a short version, about a minute")
    parser.add_argument("--servers", type=lambda s: s.split(","), help=f"only these, of {','.join(peers.KINDS)}")
    parser.add_argument("--build", default=os.path.join(peers.ROOT, "build", "release"), help="tree of parleyd and bench")
    parser.add_argument("--out", default=RESULTS, help="where results.json and the charts go")
    parser.add_argument("--page", action="store_true", help="only writes docs/performance.md anew from results.json")
    parser.add_argument("scenarios", nargs="*", help="parts of their names, or micro; all if none is named")
    args = parser.parse_args()
    path = os.path.join(args.out, "results.json")
    if args.page:
        with open(path) as f:
            return page.write(json.load(f))
    args.runs = args.runs or (QUICK_RUNS if args.quick else RUNS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    tools, begun, load = tools_of(args.build), time.time(), os.getloadavg()
    results, goals = run(args, tools)
    out = {"begun": int(begun), "seconds": round(time.time() - begun), "runs": args.runs, "quick": args.quick,
           "machine": machine(), "cpus": os.cpu_count(), "load_before": load, "scenarios": results.scenarios,
           "goals": goals, "micro": micro(args, tools), "failures": results.failures}
    os.makedirs(args.out, exist_ok=True)
    with open(path, "w") as f:
        json.dump(out, f, indent=1)
    chart.write(out, args.out)
    print("\n".join(page.text(out)))
    print(f"\nmedians of {args.runs} runs, {out['seconds']} s, load before {load[0]:.1f}; {path}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
