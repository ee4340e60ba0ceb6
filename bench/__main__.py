"""python -m bench NAME runs main() of bench/NAME.py; with --save its numbers go to data/results/bench_NAME.json."""

import argparse
import importlib
import platform
import sys
from pathlib import Path

import torch

from wmlib import checkpoint, parallel
from wmlib.config import ROOT


def benches() -> list[str]:
    """The modules beside this one that have a main(); the others are what several share."""
    paths = Path(__file__).parent.glob("[a-z]*.py")
    return sorted(path.stem for path in paths if "\ndef main(" in path.read_text("utf-8"))


def describe(name: str, root: Path) -> dict:
    """By what code and where a result is measured.

    Raises ValueError where that code is in no commit: nobody could look it up.
    """
    if changed := checkpoint.uncommitted(root):
        odd = f"{', '.join(changed[:3])} {'is' if len(changed) == 1 else 'are'} not as committed"
        raise ValueError(f"{odd}, so the result's code could not be looked up; commit first")
    return {
        "command": f"python -m bench {name}",
        "commit": checkpoint.commit(root),
        "code_sha256": checkpoint.code_hash(root),
        "machine": platform.machine(),
        "processor": torch.cpu.get_capabilities().get("cpu_name", ""),
        "system": platform.system(),
        "cores": parallel.cores(),
        "python": platform.python_version(),
    }


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Run one bench; returns the exit status: 0, or 2 where its result can't be saved."""
    description = "Measures a part of wmlib against named peers, in one run."
    parser = argparse.ArgumentParser(prog="python -m bench", description=description)
    parser.add_argument("name", choices=benches())
    parser.add_argument("--save", action="store_true", help="keep the numbers in data/results/")
    args = parser.parse_args(argv)
    about = {}
    if args.save:
        try:
            about = describe(args.name, root)  # of the code that is about to run
        except ValueError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
    results = importlib.import_module(f"bench.{args.name}").main()
    if args.save:
        path = root / "data" / "results" / f"bench_{args.name}.json"
        checkpoint.write_json(path, about | results)
    return 0


if __name__ == "__main__":  # the workers that a benchmark starts import this file too
    sys.exit(main())
