#!/usr/bin/env python3
"""conf/parley.conf documents every option of server/base/config.def: in its section, in the table's order,
commented out, with its default, under a comment of its own. Fails with what is missing or differs.
"""
import re, sys, pathlib

STRING = r'"((?:[^"\\]|\\.)*)"'
ROW = re.compile(r"PL_OPTION\((\w+), (\w+), (\w+), " + STRING + r", (\d+), (\d+), (LIVE|START), " + STRING + r"\)$")

def options(text):
    """(section, key, default) of every row. A row this cannot read is an error, not one less to check."""
    rows = [line for line in text.splitlines() if line.startswith("PL_OPTION(")]
    for row in rows:
        match = ROW.match(row)
        if not match:
            sys.exit(f"config.def: not understood: {row}")
        yield match[1], match[2], match[4].replace('\\"', '"')

def documented(text):
    """(line, section, key, value, explained) of every '#key = value'; prose is '# ' with a blank."""
    section, explained = "", False
    for number, line in enumerate(text.splitlines(), 1):
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section, explained = heading[1], False
        elif option := re.fullmatch(r"#(\w+) =(?: (.*))?", line):
            yield number, section, option[1], option[2] or "", explained
            explained = False
        elif line == "":
            explained = False
        elif line.startswith("# ") or line == "#":
            explained = True
        else:
            yield number, section, line, None, True

def check(root):
    expected = {(s, k): d for s, k, d in options((root / "server/base/config.def").read_text())}
    found, bad = [], []
    for number, section, key, value, explained in documented((root / "conf/parley.conf").read_text()):
        where = f"conf/parley.conf:{number}: {section}.{key}"
        if value is None:
            bad.append(f"{where}: neither a comment, a [section] nor '#key = default'")
        elif (section, key) not in expected:
            bad.append(f"{where}: not in config.def")
        elif (section, key) in found:
            bad.append(f"{where}: a second time")
        elif value != expected[section, key]:
            bad.append(f"{where} = {value}: the default is {expected[section, key]!r}")
        elif not explained:
            bad.append(f"{where}: no comment above it")
        found.append((section, key))
    bad += [f"conf/parley.conf: {s}.{k} is missing" for s, k in expected if (s, k) not in found]
    if not bad and found != list(expected):
        bad.append("conf/parley.conf: not in the order of config.def")
    return bad

if __name__ == "__main__":
    problems = check(pathlib.Path(sys.argv[1]))
    print("\n".join(problems) or "conf: ok")
    sys.exit(bool(problems))
