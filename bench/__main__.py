"""python -m bench NAME runs main() of bench/NAME.py; with --save its numbers go to data/results/bench_NAME.json."""

import argparse
import importlib
import platform
from pathlib import Path

import torch

from wmlib import checkpoint, parallel
from wmlib.config import resolve

if __name__ == "__main__":  # the workers that a benchmark starts import this file too
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    description = "Measures a part of wmlib against named peers, in one run."
    parser = argparse.ArgumentParser(prog="python -m bench", description=description)
    parser.add_argument("name", choices=names)
    parser.add_argument("--save", action="store_true", help="keep the numbers in data/results/")
    args = parser.parse_args()
    results = importlib.import_module(f"bench.{args.name}").main()
    if args.save:
        machine = {
            "machine": platform.machine(),
            "processor": torch.cpu.get_capabilities().get("cpu_name", ""),
            "system": platform.system(),
            "cores": parallel.cores(),
            "python": platform.python_version(),
        }
        about = {
            "command": f"python -m bench {args.name}",
            "commit": checkpoint.commit(),
            **machine,
        }
        checkpoint.write_json(resolve(f"data/results/bench_{args.name}.json"), about | results)
