"""python -m wmlib STAGE: the stages as commands, each resumable, each with a progress bar."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from wmlib import chain, checkpoint, parallel
from wmlib.agent import Agent
from wmlib.collect import collect
from wmlib.config import EVALUATE_SEEDS, resolve
from wmlib.envs.task import get_task
from wmlib.envs.vector import VectorEnv
from wmlib.evaluate import evaluate, evaluate_random, summarise
from wmlib.evolve import evolve
from wmlib.presets import PRESETS, get_preset
from wmlib.rollout import rollout
from wmlib.run import Run, claim_run, load_config, open_run
from wmlib.train import mdnrnn_stage, memory_steps, vae_stage
from wmlib.video import write_mp4

WATCH_FOLDER = resolve("runs")

STAGES = {
    "collect": "let a random policy, and the base's agent where there is one, play; store the episodes",
    "train-vae": "train V on the episodes",
    "train-mdnrnn": "train M on the episodes as V sees them",
    "evolve": "evolve C on V and M with CMA-ES",
    "evaluate": "score an agent on unseen official tracks",
    "watch": "watch an agent drive, in a window or, without a display, as an mp4",
    "agent": "all of collect, train-vae, train-mdnrnn, evolve and evaluate",
}


def main(argv: list[str] | None = None) -> int:
    """Run one stage; returns the exit status: 0, 2 after a mistake in the input, 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        if args.cluster:
            parallel.use_cluster(args.cluster)
        result = _run(args)
    except KeyboardInterrupt:
        return _fail("stopped; the same command continues", 130)
    except (ValueError, FileNotFoundError, FloatingPointError, RuntimeError) as error:
        return _fail(str(error), 2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _fail("the disk is full; make room, then the same command continues", 2)
    finally:
        parallel.stop()
    if args.json:
        print(json.dumps(result))
    return 0


def _fail(message: str, status: int) -> int:
    print(f"\nwmlib: {message}" if status == 130 else f"wmlib: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m wmlib", description=__doc__)
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    for name, text in STAGES.items():
        add = stages.add_parser(name, help=text, description=text).add_argument
        add(
            "--preset",
            help=f"{', '.join(PRESETS)}: see wmlib/presets.py (default: what the run was made with, "
            "or quick)",
        )
        add("--run", help="the folder of the run (default: runs/PRESET)")
        add(
            "--device",
            choices=["auto", "cpu", "cuda", "mps"],
            default="auto",
            help="where V and M are trained",
        )
        add(
            "--cluster",
            metavar="ADDRESS",
            help="a Ray cluster that shares the work (default: this machine's cores)",
        )
        add("--json", action="store_true", help="print one JSON object last")
        if name in ("train-vae", "train-mdnrnn", "agent"):
            add(
                "--skip-damaged",
                action="store_true",
                help="leave damaged episodes out, with a warning",
            )
        if name in ("evaluate", "watch"):
            add("--agent", help="the folder of an agent, instead of --run")
            first = "the first track's seed (default: %(default)s)"
            add("--first-seed", type=int, default=EVALUATE_SEEDS.start, help=first)
        if name == "evaluate":
            add("--episodes", type=int, help="how many tracks (default: the preset's)")
    return parser


def _run(args: argparse.Namespace) -> dict:
    preset = get_preset(args.preset or "quick")
    folder = resolve(args.run or f"runs/{preset.preset}")
    if args.stage in ("evaluate", "watch"):
        agent = resolve(args.agent) if args.agent else folder
        if args.stage == "watch":
            return run_watch(agent, args.first_seed)
        return run_evaluate(agent, args.first_seed, args.episodes, keep=not args.agent)
    config = preset
    if args.preset is None and (folder / "config.json").exists():
        config = load_config(folder)  # a run that is there goes on as it began
    get_task(config.task)
    run = claim_run(folder, config)
    skip_damaged = getattr(args, "skip_damaged", False)
    if args.stage != "agent":
        return run_stage(run, args.stage, args.device, skip_damaged)
    results: dict = {}
    for one, stage in chain.plan(run):
        result = run_stage(one, stage, args.device, skip_damaged)
        results |= {stage: result} if one == run else {}
    return results | {"evaluate": run_evaluate(folder)}


def run_stage(run: Run, stage: str, device: str, skip_damaged: bool = False) -> dict:
    """Run a stage behind its progress bar; returns its last metrics."""
    if stage not in chain.stages(run):
        made = f"the stages of {run.folder} are {', '.join(chain.stages(run))}"
        raise ValueError(f"{stage} has nothing to make there: {made}")
    device = pick_device(device)
    config = run.config
    loops = {  # generators, of which only one is ever begun
        "collect": (collect(run), config.collect.total, "episode"),
        "train-vae": (vae_stage(run, device, skip_damaged), config.vae.steps, "step"),
        "train-mdnrnn": (
            mdnrnn_stage(run, device, skip_damaged),
            sum(memory_steps(run).values()),
            "step",
        ),
        "evolve": (evolve(run), config.evolve.generations, "generation"),
    }
    chain.require(run, stage)
    return with_bar(stage, *loops[stage])


def with_bar(label: str, loop: Iterator[tuple[int, Any]], total: int, unit: str) -> Any:
    """Walk a stage's generator behind a progress bar; returns the last metrics, or list of scores, that it gave."""
    metrics: Any = {}
    with tqdm(total=total, desc=label, unit=unit, dynamic_ncols=True) as bar:
        for done, metrics in loop:
            bar.update(done - bar.n)
            bar.set_postfix_str(_short(metrics), refresh=False)
        bar.update(total - bar.n)
    return metrics


def _short(metrics: dict | list) -> str:
    if isinstance(metrics, list):
        return f"mean return {sum(metrics) / len(metrics):.1f}"
    values = {name: value for name, value in metrics.items() if isinstance(value, float)}
    if "fitness" in metrics:
        fitness = [
            value for value in metrics["fitness"] if value is not None
        ]  # a return that was no number
        values = {"mean": sum(fitness) / len(fitness), "best": max(fitness)} | values
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def pick_device(name: str) -> str:
    """auto: cuda, else mps, else cpu; ValueError for one that this machine lacks."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, found in there.items() if found)
    if not there[name]:
        raise ValueError(f"no {name} device here; use --device cpu or auto")
    return name


def run_evaluate(
    folder: Path, first: int = EVALUATE_SEEDS.start, episodes: int | None = None, keep=True
) -> dict:
    """Score an agent and white noise on the same tracks; a run's result is kept in its evaluate.json."""
    run = open_run(folder)
    config = run.config
    episodes = episodes or config.evaluate.episodes
    task, total = run.config.task, episodes
    random = with_bar("random policy", evaluate_random(task, total, first), total, "episode")
    scores = with_bar("agent", evaluate(folder, total, first), total, "episode")
    result: dict = {
        "agent": summarise(scores),
        "random_policy": summarise(random),
        "first_seed": first,
        "weights_sha256": run.input_hashes() | {"controller": run.weights_hash("controller")},
        "commit": checkpoint.commit(),
        "code_sha256": checkpoint.code_hash(),
    }
    for name in ("random_policy", "agent"):
        found, (low, high) = result[name], result[name]["interval"]
        score = f"{found['mean']:7.1f} ± {found['std']:.1f} over {episodes} unseen tracks"
        print(f"{name.replace('_', ' '):14} {score} (mean within {low:.1f} to {high:.1f})")
    if keep:
        checkpoint.write_json(folder / "evaluate.json", result)
    return result


def run_watch(folder: Path, seed: int) -> dict:
    """Drive in the game's own window, or write an mp4 where there is no display."""
    agent = Agent.load(folder)
    torch.set_num_threads(1)  # a batch of one frame is too small to share
    window = sys.platform in ("win32", "darwin") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))
    )
    env = VectorEnv(
        partial(agent.task.make, "human" if window else "rgb_array"), 1, agent.task.max_steps
    )
    total, frames = 0.0, []
    with tqdm(total=agent.task.max_steps, desc="watch", unit="step", dynamic_ncols=True) as bar:
        for tick in rollout(env, agent, [seed], seed):
            total += tick.reward[0]
            bar.update()
            bar.set_postfix_str(f"return {total:.1f}")
            if not window:
                frames.append(env.view()["pictures"][0])
    env.close()
    result: dict = {"seed": seed, "return": float(total)}
    if not window:
        path = WATCH_FOLDER / f"watch_{folder.name}_{seed}.mp4"
        write_mp4(path, frames, agent.task.fps)
        print(f"no display here: the drive is in {path}")
        result["video"] = str(path)
    print(f"return {total:.1f} on track {seed}")
    return result
