"""`make agent` from nothing, killed once in the middle of each stage and started again: when each stage was done.

What it has seen is kept beside the run, so that the bench itself may be stopped and goes on. The clock runs only while
the command does.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmlib import chain
from wmlib.checkpoint import read_json, write_json
from wmlib.config import ROOT, resolve
from wmlib.presets import get_preset
from wmlib.run import Run, claim_run
from wmlib.train import memory_steps

RUN = resolve("runs/bench_agent")
PRESET = "laptop"
GOAL = 900  # the score of the mean on selection tracks whose moment is asked for


def lines(path: Path) -> list[dict]:
    """The whole lines of a log that another process is writing."""
    return (
        [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
    )


def share(run: Run, stage: str) -> float:
    """How much of a stage is done, 1 when it has finished."""
    if chain.is_done(run, stage):
        return 1.0
    if stage == "collect":
        return len(run.episodes.find()) / run.config.collect.total
    if stage == "evolve":
        done = len(lines(run.part("controller") / "generations.jsonl"))
        return min(0.99, done / run.config.evolve.generations)
    steps = memory_steps(run) if stage == "train-mdnrnn" else {"vae": run.config.vae.steps}
    done = 0
    for part in steps:
        history = lines(run.part(part) / "history.jsonl")
        done += history[-1]["step"] if history else 0
    return min(0.99, done / sum(steps.values()))


def stages(run: Run) -> Iterator[tuple[str, Run, str]]:
    """All stages of both rounds in their order: a name, the run, the stage."""
    base = run.base
    assert base is not None
    for label, one in (("first round: ", base), ("", run)):
        for stage in chain.stages(one):
            yield label + stage, one, stage


def watch(seen: dict) -> None:
    """Start the command, note what is done, and kill it in the middle of a stage that was not interrupted yet."""
    command = [sys.executable, "-m", "wmlib", "agent", "--preset", PRESET, "--run", str(RUN)]
    run = claim_run(RUN, get_preset(PRESET))
    process, last = subprocess.Popen(command, cwd=ROOT), time.time()
    try:
        while process.poll() is None:
            time.sleep(1)
            seen["seconds"] += time.time() - last
            last = time.time()
            for name, one, stage in stages(run):
                done = share(one, stage)
                if done == 1:
                    seen["done"].setdefault(name, seen["seconds"])
                elif 0.4 < done < 0.9 and name not in seen["killed"]:
                    process.kill()
                    seen["killed"].append(name)
            for row in lines(run.part("controller") / "generations.jsonl"):
                if "selection" in row and str(row["generation"] + 1) not in seen["scores"]:
                    found = np.array(row["selection"])
                    about = {"mean": found.mean(), "std": found.std(), "worst": found.min()}
                    seen["scores"][str(row["generation"] + 1)] = {
                        "seconds": seen["seconds"],
                        **about,
                    }
            write_json(RUN.with_name("bench_agent.json"), seen)
    finally:
        process.kill()
    if process.returncode not in (0, -9):
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")


def main() -> dict:
    """Print when each stage was done and when the mean reached GOAL."""
    kept = RUN.with_name("bench_agent.json")
    seen: dict = (
        read_json(kept)
        if RUN.exists() and kept.exists()
        else {"seconds": 0.0, "done": {}, "killed": [], "scores": {}}
    )
    while not (RUN / "evaluate.json").exists():
        watch(seen)
    seen["done"].setdefault("evaluate", seen["seconds"])
    reached = [row["seconds"] for row in seen["scores"].values() if row["mean"] >= GOAL]
    for name, seconds in seen["done"].items():
        print(f"{name:28}{seconds / 60:6.1f} minutes")
    when = f"after {reached[0] / 60:.1f} minutes" if reached else "never"
    print(f"a mean of {GOAL} on the selection's tracks: {when}")
    agent = read_json(RUN / "evaluate.json")["agent"]
    return seen | {
        "goal": GOAL,
        "seconds_to_goal": reached[0] if reached else None,
        "evaluate": agent,
    }
