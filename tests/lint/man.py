#!/usr/bin/env python3
"""The manual pages in docs/man say what the tables in the code say, and are well-formed. Fails with what differs.

  parley.conf.5   between its markers, every option of server/base/config.def (--fix writes them)
  parley.1        every command of server/cli/main.c
  parleyd.8       every argument of server/app/main.c
  all             what mandoc has to say, if it is installed
"""
import pathlib, re, shutil, subprocess, sys, textwrap

STRING = r'"((?:[^"\\]|\\.)*)"'
OPTION = re.compile(r"PL_OPTION\((\w+), (\w+), \w+, " + STRING + r", \d+, \d+, (LIVE|START), " + STRING + r"\)$")
BLOCK = re.compile(r'(?<=\n\.\\" options: written by tests/lint/man\.py --fix\n).*?(?=\.\\" options end\n)', re.S)

def escaped(text):
    return text.replace('\\"', '"').replace("\\", "\\e").replace("-", "\\-")

def options(root):
    """The list, in mdoc. A row this cannot read is an error, not one less to write."""
    section, out = None, []
    for line in (root / "server/base/config.def").read_text().splitlines():
        if not line.startswith("PL_OPTION("):
            continue
        match = OPTION.match(line)
        if not match:
            sys.exit(f"config.def: not understood: {line}")
        if match[1] != section:
            out += [".El"] * bool(out) + [f".Ss Section {match[1]}", ".Bl -tag -width Ds"]
            section = match[1]
        out.append(f".It Ic {match[2]} No = Ar {escaped(match[3])}".removesuffix(" Ar ") + " *" * (match[4] == "START"))
        lines = textwrap.wrap(escaped(match[5]) + ".", 79, break_long_words=False, break_on_hyphens=False)
        out += ["\\&" * line.startswith((".", "'")) + line for line in lines]
    return "\n".join(out + [".El", ""])

def check_options(root, fix):
    page = root / "docs/man/parley.conf.5"
    text, want = page.read_text(), options(root)
    if not BLOCK.search(text):
        yield f"{page.name}: the markers are missing"
    elif BLOCK.search(text)[0] != want and fix:
        page.write_text(BLOCK.sub(lambda _: want, text))
    elif BLOCK.search(text)[0] != want:
        have, lines = BLOCK.search(text)[0].splitlines(), want.splitlines()
        yield f"{page.name} (tests/lint/man.py --fix): missing " + "; ".join(line for line in lines if line not in have)[:400] \
            + ", not in config.def: " + "; ".join(line for line in have if line not in lines)[:400]

def check_words(root, page, source, pattern, form):
    words = re.findall(pattern, (root / source).read_text(), re.M)
    if len(words) < 5:
        yield f"{source}: its table is not understood"
    text = (root / "docs/man" / page).read_text()
    yield from (f"{page}: {word} is missing" for word in words if form.format(word) not in text)

def check_form(root):
    if shutil.which("mandoc"):
        pages = sorted(map(str, (root / "docs/man").iterdir()))
        # Pages of other packages and of one's own that is not installed yet cannot be looked up.
        lint = subprocess.run(["mandoc", "-T", "lint", "-W", "style", *pages], capture_output=True, text=True).stdout
        yield from (line for line in lint.splitlines() if "referenced manual not found" not in line)

def check(root, fix):
    yield from check_options(root, fix)
    yield from check_words(root, "parley.1", "server/cli/main.c", r'^    \{"([\w-]+)", "', ".It Cm {}\n")
    yield from check_words(root, "parleyd.8", "server/app/main.c", r'strcmp\(argv\[i\], "--([\w-]+)"\)', "Fl -{}")
    yield from check_form(root)

if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--fix"]
    problems = list(check(pathlib.Path(arguments[0] if arguments else "."), "--fix" in sys.argv))
    print("\n".join(problems) or "man: ok")
    sys.exit(bool(problems))
