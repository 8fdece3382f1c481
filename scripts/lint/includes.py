#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who includes whom: src/ as the table of src/README.md says; tools/ and examples/ the public headers and their own folder alone."""
import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
GENERATED = {"kernels_built.def", "machines.inc"}  # by cmake/kernels.cmake, cmake/machines.cmake


def rules():
    """{"format": {"base"}, ...} from the table in src/README.md."""
    table = {}
    for room, allowed in re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", Path("src/README.md").read_text(), re.M):
        table[room] = set() if allowed.strip() == "nothing of ours" else {name.strip() for name in allowed.split(",")}
    for room, allowed in table.items():
        if unknown := allowed - table.keys():
            sys.exit(f"src/README.md: the row of {room} names {', '.join(sorted(unknown))}, which have no row")
    return table


def main():
    table = rules()
    errors = [f"src/{folder.name}: no row in src/README.md" for folder in Path("src").iterdir() if folder.is_dir() and folder.name not in table]
    for path in sorted(p for root in ("src", "tools", "examples") for pattern in ("*.[ch]", "*.cu", "*.cuh") for p in Path(root).rglob(pattern)):
        for quote, target in INCLUDE.findall(path.read_text()):
            if quote == "<" or target in GENERATED:
                continue
            if path.parts[0] != "src":
                if not (path.parent / target).exists():
                    errors.append(f'{path}: includes "{target}"; only <nvfp4/...> and headers beside the file are allowed')
                continue
            own, other = path.parts[1], target.split("/")[0]
            if other == "nvfp4":
                errors.append(f'{path}: includes "{target}"; public headers are written <{target}>')
            elif other not in table:
                errors.append(f'{path}: includes "{target}"; write the path from src/, such as "{own}/{target}"')
            elif other != own and other not in table[own]:
                errors.append(f'{path}: includes "{target}"; {own} may include {", ".join(sorted(table[own])) or "nothing of ours"}')
    sys.exit("\n".join(errors) if errors else 0)


main()
