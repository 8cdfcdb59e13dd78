#!/usr/bin/env python3
"""The client's table of errors against the server's. Fails with one line for each row that differs.

protocol/status.def    PL_STATUS(name, value, http, close, CLIENT, "code", "text")
client-js/src/codes.js code: [http, close, 'client'],
"""
import re, sys, pathlib

def server_rows(root):
    text = (root / "protocol/status.def").read_text()
    rows = re.findall(r'^PL_STATUS\(\w+, -?\d+, (\d+), (\d+), (\w+), "(\w+)"', text, re.M)
    if len(rows) != len(re.findall(r"^PL_STATUS\(", text, re.M)):
        sys.exit("protocol/status.def: a row is not in the form this lint reads")
    return {code: (int(http), int(close), client.lower()) for http, close, client, code in rows}

def client_rows(root):
    text = (root / "client-js/src/codes.js").read_text()
    table = re.search(r"^export const ERRORS = \{\n(.*?)^\};", text, re.M | re.S)
    if not table:
        sys.exit("client-js/src/codes.js: no ERRORS table")
    rows = [re.fullmatch(r"\s*(\w+): \[(\d+), (\d+), '(\w+)'\],", line) for line in table[1].splitlines() if line.strip()]
    if None in rows:
        sys.exit("client-js/src/codes.js: a row is not in the form this lint reads")
    return {code: (int(http), int(close), client) for code, http, close, client in (row.groups() for row in rows)}

def check(root):
    server, client = server_rows(root), client_rows(root)
    bad = [f"client-js/src/codes.js: {code} is missing: {server[code]}" for code in server if code not in client]
    bad += [f"client-js/src/codes.js: {code} is not in protocol/status.def" for code in client if code not in server]
    bad += [f"client-js/src/codes.js: {code} is {client[code]}, protocol/status.def says {server[code]}"
            for code in server if code in client and server[code] != client[code]]
    # A close code without a known error code follows its first row: the order of those rows matters too.
    if not bad and list(server) != list(client):
        bad.append("client-js/src/codes.js: the rows are not in the order of protocol/status.def")
    return bad

if __name__ == "__main__":
    found = check(pathlib.Path(sys.argv[1]))
    print("\n".join(found) or "codes: ok")
    sys.exit(bool(found))
