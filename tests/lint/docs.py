#!/usr/bin/env python3
"""The pages say what the tables in the code say. Fails with what is missing or differs:

  docs/protocol.md     every status with its HTTP status, close code, action and text; every close code; every path
                       and op
  docs/operations.md   every metric, with its type
  all pages            each `section.key` in backticks is an option; each relative link leads somewhere
"""
import pathlib, re, sys

STRING = r'"((?:[^"\\]|\\.)*)"'
STATUS = re.compile(r"PL_STATUS\(\w+, -?\d+, (\d+), (\d+), (\w+), " + STRING + ", " + STRING + r"\)$")
METRIC = re.compile(r"PL_METRIC\(\w+, (\w+), " + STRING + ", " + STRING + r"\)$")
OPTION = re.compile(r"PL_OPTION\((\w+), (\w+), ")
ROUTE = re.compile(r'\{"(/[^"]*)", (\w+), (\w+), \w+\}')
OP = re.compile(r'\[PL_OP_\w+\] = \{PL_LIT\("(\w+)"\)')
NOT_OURS = {"1001", "1005", "1006", "1009"}  # close codes that come from the network, a proxy or the browser
PAGES = ("README.md", "docs/*.md", "docs/decisions/*.md")

def rows(root, path, start, pattern):
    """Every row of a .def file. One this cannot read is an error, not one less to check."""
    lines = [line for line in (root / path).read_text().splitlines() if line.startswith(start)]
    for line in lines:
        match = pattern.match(line)
        if not match:
            sys.exit(f"{path}: not understood: {line}")
        yield match.groups()

def table(text, heading):
    """The rows of the first table below a heading, as lists of cells."""
    found = []
    for line in text.split(f"\n## {heading}\n", 1)[-1].splitlines():
        if line.startswith("## "):
            break
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
        elif found:
            break
    return found[2:]

def check_statuses(root, text):
    want = [(f"`{code}`", http, close, client.lower(), meaning)
            for http, close, client, code, meaning in rows(root, "protocol/status.def", "PL_STATUS(", STATUS) if code != "ok"]
    have = [tuple(row) for row in table(text, "Errors")]
    for row in want:
        if row not in have:
            yield "docs/protocol.md, Errors: missing or different: | " + " | ".join(row) + " |"
    for row in have:
        if row not in want:
            yield "docs/protocol.md, Errors: not in status.def: | " + " | ".join(row) + " |"

def check_closes(root, text):
    actions = {}
    for _, close, client, *_ in rows(root, "protocol/status.def", "PL_STATUS(", STATUS):
        actions.setdefault(close, client.lower())
    seen = set()
    for closes, _, action in table(text, "Close codes"):
        for close in closes.split(", "):
            seen.add(close)
            if close not in NOT_OURS and actions.get(close) != action:
                yield f"docs/protocol.md, Close codes: {close} {action}: status.def says {actions.get(close)}"
    yield from (f"docs/protocol.md, Close codes: {close} is missing" for close in sorted(set(actions) - seen))

def check_paths(root, text):
    source = (root / "server/api/routes.c").read_text()
    for path, methods, who in ROUTE.findall(source):
        if who != "DEV" and not re.search(rf"`{methods} {path}[`?]|\(also `{path}`\)", text):
            yield f"docs/protocol.md: `{methods} {path}` is missing"
    if len(ROUTE.findall(source)) < 10:
        yield "server/api/routes.c: the table of paths is not understood"

def check_ops(root, text):
    ops = OP.findall((root / "protocol/request.c").read_text())
    if not ops:
        yield "protocol/request.c: the table of ops is not understood"
    yield from (f"docs/protocol.md: op `{op}` is missing" for op in ops if f"\n| `{op}` |" not in text)

def check_metrics(root, text):
    shown = {"MICROSECONDS": "counter", "SIZES": "histogram"}
    want = {(f"`{name}`", shown.get(kind, kind.lower())) for kind, name, _ in rows(root, "server/base/metrics.def", "PL_METRIC(", METRIC)}
    have = {(row[0], row[1]) for row in table(text, "Metrics")}
    yield from (f"docs/operations.md, Metrics: {name} ({kind}) is missing" for name, kind in sorted(want - have))
    yield from (f"docs/operations.md, Metrics: {name} ({kind}) is not in metrics.def" for name, kind in sorted(have - want))

def check_page(root, page, options):
    sections = {option.split(".")[0] for option in options}
    where, text = page.relative_to(root), page.read_text()
    for name in re.findall(r"`(\w+\.\w+)(?: = [^`]*|=[^`]*)?`", text):
        if name.split(".")[0] in sections and name not in options:
            yield f"{where}: `{name}` is no option"
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link and not (page.parent / link).exists():
            yield f"{where}: the link {link} leads nowhere"
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        headings = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)]
        if anchor not in headings:
            yield f"{where}: the link #{anchor} leads nowhere"

def check(root):
    protocol = (root / "docs/protocol.md").read_text()
    for part in (check_statuses, check_closes, check_paths, check_ops):
        yield from part(root, protocol)
    yield from check_metrics(root, (root / "docs/operations.md").read_text())
    options = {f"{s}.{k}" for s, k in rows(root, "server/base/config.def", "PL_OPTION(", OPTION)}
    for page in sorted(p for pattern in PAGES for p in root.glob(pattern)):
        yield from check_page(root, page, options)

if __name__ == "__main__":
    problems = list(check(pathlib.Path(sys.argv[1])))
    print("\n".join(problems) or "docs: ok")
    sys.exit(bool(problems))
