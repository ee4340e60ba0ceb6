"""python -m bench NAME runs main() of bench/NAME.py; --save keeps its numbers in data/results/.

What is kept names its code: the commit, and a hash over the sources of wmlib and bench.
"""

import argparse
import importlib
import platform
import sys
from pathlib import Path

import torch

from wmlib import checkpoint, parallel
from wmlib.config import resolve

CODE = ("wmlib", "bench")


def names() -> list[str]:
    """The benches that there are: modules with a main."""
    modules = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [path.stem for path in modules if "\ndef main(" in path.read_text(encoding="utf-8")]


def about(name: str) -> dict:
    """What a result says of how it came about."""
    return {
        "command": f"python -m bench {name}",
        "commit": checkpoint.commit(),
        "code_sha256": checkpoint.code_hash(*CODE),
        "machine": platform.machine(),
        "processor": torch.cpu.get_capabilities().get("cpu_name", ""),
        "system": platform.system(),
        "cores": parallel.cores(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Run the bench that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures a part of wmlib against named peers, in one run.",
    )
    parser.add_argument("name", choices=names())
    parser.add_argument("--save", action="store_true", help="keep the numbers in data/results/")
    args = parser.parse_args()
    if args.save and (changed := checkpoint.uncommitted(*CODE)):
        listed = ", ".join(changed[:3])
        sys.exit(f"a saved result names its code, but {listed} is not committed; commit it first")
    made_by = about(args.name)  # before the hours in which the code may change
    results = importlib.import_module(f"bench.{args.name}").main()
    if args.save:
        path = resolve(f"data/results/bench_{args.name}.json")
        checkpoint.write_json(path, made_by | results)


if __name__ == "__main__":  # the workers that a benchmark starts import this file too
    main()
