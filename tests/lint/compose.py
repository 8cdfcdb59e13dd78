#!/usr/bin/env python3
"""What can be checked of conf/compose.yaml and conf/Dockerfile without an engine: each PARLEY_ variable is an option, what a
service depends on is one, what it mounts by name is a volume, and what the Dockerfile copies is in the repository.
"""
import pathlib, re, sys

import yaml

def options(root):
    rows = re.findall(r"^PL_OPTION\((\w+), (\w+),", (root / "server/base/config.def").read_text(), re.M)
    return {f"PARLEY_{section}_{key}".upper() for section, key in rows}

def check_compose(root, known):
    compose = yaml.safe_load((root / "conf/compose.yaml").read_text())
    services, volumes = compose["services"], compose.get("volumes", {})
    for name, service in services.items():
        where = f"conf/compose.yaml: {name}"
        yield from (f"{where}: {variable} is no option" for variable in service.get("environment", {})
                    if variable.startswith("PARLEY_") and variable not in known)
        yield from (f"{where}: depends on {other}, which is no service" for other in service.get("depends_on", [])
                    if other not in services)
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if not source.startswith(".") and source not in volumes:
                yield f"{where}: {source} is no volume"
        build = service.get("build")
        if build and not (root / "conf" / build["context"] / build["dockerfile"]).exists():
            yield f"{where}: no {build['dockerfile']}"
    if len(services) < 5:
        yield "conf/compose.yaml: not understood"

def check_dockerfile(root, known):
    text = (root / "conf/Dockerfile").read_text()
    variables = re.findall(r"\b(PARLEY_\w+)=", text)
    yield from (f"conf/Dockerfile: {variable} is no option" for variable in variables if variable not in known)
    for source in re.findall(r"^COPY (?!--)(\S+) ", text, re.M):
        if not (root / source).exists():
            yield f"conf/Dockerfile: no {source}"
    if not variables or "\nUSER " not in text:
        yield "conf/Dockerfile: no options, or no user"

if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    known = options(root)
    problems = [*check_compose(root, known), *check_dockerfile(root, known)]
    print("\n".join(problems) or "compose: ok")
    sys.exit(bool(problems))
