"""python -m bench NAME runs main() of bench/NAME.py."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":  # the workers that a benchmark starts import this file too
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        wanted = " ".join(sys.argv[1:]) or "named"
        sys.exit(f"no benchmark {wanted}: run python -m bench NAME, with NAME one of {', '.join(names)}")
    importlib.import_module(f"bench.{sys.argv[1]}").main()
