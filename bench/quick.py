"""QUICK's whole chain by the commands that a reader types, stage by stage: the clock's time, and the processor's.

The processor's time is what all processes of a stage have used together, on however many cores. Other work on the
machine lengthens the clock's, hardly the processor's. V and M train with one thread: a second one that waits for the
first uses the processor too.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

STAGES = ("collect", "train-vae", "train-mdnrnn", "evolve", "evaluate")


def main() -> dict:
    """Print each stage's two times, and the score."""
    clock, processor, last = {}, {}, {}
    busy, environment = os.getloadavg()[0], os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for stage in STAGES:
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "wmlib",
                stage,
                "--preset",
                "quick",
                "--run",
                folder,
                "--json",
            ]
            run = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env=environment
            )
            last = json.loads(run.stdout.splitlines()[-1])
            clock[stage] = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor[stage] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"{stage:14}{clock[stage]:7.0f} s on the clock, {processor[stage]:7.0f} s of processors"
            )
    score = last.get("agent", last)
    print(
        f"scored {score['mean']:.0f} on {score['episodes']} tracks; the machine's load at the start was {busy:.1f}"
    )
    kept = {name: score[name] for name in ("episodes", "mean", "std")}
    return {"load_at_start": busy, "clock_s": clock, "processor_s": processor, "score": kept}
