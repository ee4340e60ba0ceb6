"""python -m bench.clinics NAME runs main() of bench/clinics/NAME.py."""

import argparse
import importlib
from pathlib import Path

import torch

if __name__ == "__main__":
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    description = "Makes the patients of a clinic and keeps what they show in data/clinic."
    parser = argparse.ArgumentParser(prog="python -m bench.clinics", description=description)
    parser.add_argument("name", choices=names)
    torch.set_num_threads(1)
    importlib.import_module(f"bench.clinics.{parser.parse_args().name}").main()
