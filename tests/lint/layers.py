#!/usr/bin/env python3
"""Who may include whom. Fails with file:line for each include that breaks the rule.

MAY     folder -> folders of ours it may include (itself is always allowed)
HOME    third-party header prefix -> the only files that may include it
*_priv.h is for its own folder only. Our includes are spelled from the repository root.
"""
import re, sys, pathlib

MAY = {
    "server/base": set(),
    "protocol": {"server/base"},
    "server/core": {"server/base", "protocol"},
    "server/auth": {"server/base", "protocol"},
    "server/net": {"server/base", "protocol"},
    "server/bus": {"server/base", "protocol", "server/core"},
    "server/transport": {"server/base", "protocol", "server/core", "server/net", "server/auth"},
    "server/api": {"server/base", "protocol", "server/core", "server/net", "server/auth", "server/transport"},
    "server/cli": {"server/base", "protocol", "server/auth", "server/bus"},
}
MAY["server/app"] = set(MAY) - {"server/cli"}  # wires everything else together
FREE = ("tests/", "bench/")                    # may include anything of ours
HOME = {
    "libwebsockets.h": ("server/net/", "server/cli/"),
    "uv.h": ("server/net/", "server/app/", "server/bus/redis_conn.c"),
    "uv/": ("server/net/", "server/app/"),
    "hiredis/": ("server/bus/", "server/cli/redis.c"),
    "msgpack": ("protocol/msgpack.c",),
    "zlib.h": ("protocol/deflate.c",),
    "jansson.h": ("protocol/json.c", "server/auth/jwt.c"),
    "jwt.h": ("server/auth/jwt.c",),
    "ini.h": ("server/base/config_file.c",),
}
SKIP = {"build", "node_modules", ".git"}

def sources(root):
    """Every .c, .h and .def that the rules are about."""
    for p in sorted(root.rglob("*")):
        rel = p.relative_to(root)
        if p.suffix in (".c", ".h", ".def") and not SKIP & set(rel.parts) and not rel.as_posix().startswith(FREE):
            yield p

def check(root):
    bad = []
    for p in sources(root):
        rel = p.relative_to(root).as_posix()
        folder = "protocol" if rel.startswith("protocol/") else "/".join(rel.split("/")[:2])
        if folder not in MAY:
            bad.append(f"{rel}:1: {folder} is not a layer: add it to tests/lint/layers.py")
            continue
        for n, line in enumerate(p.read_text(errors="replace").splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not m:
                continue
            quote, inc = m.groups()
            if quote == "<":
                for third, homes in HOME.items():
                    if inc.startswith(third) and not rel.startswith(homes):
                        bad.append(f"{rel}:{n}: <{inc}> belongs in {', '.join(homes)}")
                continue
            target = "protocol" if inc.startswith("protocol/") else "/".join(inc.split("/")[:2])
            if target not in MAY:
                bad.append(f"{rel}:{n}: \"{inc}\" is not spelled from the root, or names an unknown layer")
            elif target != folder and target not in MAY.get(folder, set()):
                bad.append(f"{rel}:{n}: {folder} may not include {target}")
            elif target != folder and inc.endswith("_priv.h"):
                bad.append(f"{rel}:{n}: {inc} is private to {target}")
    return bad

if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    found = check(root) or ([] if any(sources(root)) else [f"{root}: no sources here"])
    print("\n".join(found) or "layers: ok")
    sys.exit(bool(found))
