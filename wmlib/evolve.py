"""Stage 4: CMA-ES searches the controller's parameters; the log of fitness values is its checkpoint (paper, A.4).

Letters: P candidates, N parameters.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cma
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from wmlib.agent import Agent, load_config, load_world_model, new_models
from wmlib.checkpoint import append_line, describe, read_json, read_lines, save_weights, write_json
from wmlib.config import EVOLVE_SEEDS, SELECT_SEEDS, Config, EvolveConfig, to_dict, track_seeds
from wmlib.data import EpisodeStore, data_hash, open_latents
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.vector import VectorEnv
from wmlib.fast import has_bf16
from wmlib.parallel import run
from wmlib.rollout import Policy, returns

ENVS_PER_JOB = 32  # more would make V cheaper still, but each takes 14 MB in every worker
SCOUTED, HARD = 1_024, 32  # the tracks that the mean drives before the finish, and how many of them are hard: the worst


class Search:
    """CMA-ES over N parameters, started from 0, whose every draw belongs to (seed, generation).

    `fitness` is maximised. With `sigma_end` the step size follows a geometric decay and then stays, instead of
    CMA-ES's own control, which lets it grow when fitness is noisy. In the finish it falls to half of that.
    """

    def __init__(self, config: EvolveConfig, num_params: int, seed: int):
        self.config, self.seed, self.generation = config, seed, 0
        quiet = {"verbose": -9, "verb_log": 0, "signals_filename": ""}
        options = {"popsize": config.popsize, "seed": np.nan, "randn": self._randn, **quiet}
        with threadpool_limits(1):
            self.strategy = cma.CMAEvolutionStrategy(np.zeros(num_params), config.sigma0, options)

    def _randn(self, *shape: int) -> np.ndarray:
        """Noise turned by B, so that pycma's B D noise is C^(1/2) noise, whatever signs a LAPACK gives eigenvectors."""
        return self.rng.standard_normal(shape) @ self.strategy.sm.B

    def ask(self) -> np.ndarray:
        """The next generation's candidates: float64 (P, N)."""
        self.rng = np.random.default_rng([self.seed, self.generation])
        with threadpool_limits(1):
            return np.array(self.strategy.ask())

    def tell(self, candidates: np.ndarray, fitness: np.ndarray) -> None:
        """Move the distribution towards the candidates with high fitness (P,)."""
        with threadpool_limits(1):
            self.strategy.tell(list(candidates), list(-np.asarray(fitness)))
        self.generation += 1
        if self.config.sigma_end is not None and self.config.decay is not None:
            done = min(1, self.generation / self.config.decay)
            self.strategy.sigma = self.config.sigma0 * (self.config.sigma_end / self.config.sigma0) ** done
        begin, end = self.config.finish_from, self.config.generations
        if begin is not None and self.generation > begin:
            self.strategy.sigma *= 0.5 ** ((self.generation - begin) / (end - begin))

    @property
    def mean(self) -> np.ndarray:
        """The distribution's mean, float64 (N,): what is kept and scored, never the luckiest candidate."""
        return self.strategy.mean.copy()


def evolve(config: Config, folder: Path) -> Iterator[tuple[int, dict]]:
    """Evolve C on a run's V and M, on all cores, and keep the log and the mean in `folder`/controller.

    Kept is the newest mean and, once all generations are done, the one that scored best on the selection's tracks.

    Yields the number of generations done and the last one's row: fitness of every candidate, step size, norm of the
    mean and, every `select_every` generations, the mean's score on tracks of its own. A stopped evolution goes on where
    it was, by replaying its log. Raises ValueError when the log was made with another V or M.
    """
    log, meta = folder / "controller" / "generations.jsonl", folder / "controller" / "meta.json"
    _check_inputs(config, folder)
    started = time.time() - (read_json(meta)["duration_s"] if meta.exists() else 0)  # as if it had never stopped
    search = replay(config, folder)
    while search.generation < config.evolve.generations:
        generation, candidates = search.generation, search.ask()
        begin = config.evolve.finish_from
        hard = [] if begin is None or generation < begin else scout(config, folder)
        fitness, rounds = race(config, folder, candidates, generation, hard)
        if np.isnan(fitness).all():
            raise FloatingPointError(f"no candidate of generation {generation} has a return that is a number")
        _check_inputs(config, folder)  # V and M may have been changed meanwhile
        search.tell(candidates, standing(fitness, rounds))
        row = {"generation": generation, "fitness": _loggable(fitness), "rounds": rounds.tolist()}
        row |= {"step_size": search.strategy.sigma, "mean_norm": float(np.linalg.norm(search.mean))}
        if search.generation % config.evolve.select_every == 0 or search.generation == config.evolve.generations:
            seeds = track_seeds(SELECT_SEEDS, (config.seed,), config.evolve.select_tracks)
            row["selection"] = score_mean(config, folder, search.mean, seeds)
        append_line(log, row)
        _save_mean(config, folder, search, search.generation, started)
        yield search.generation, row
    scored = [row for row in read_lines(log) if "selection" in row]
    best = max(scored, key=lambda row: np.mean(row["selection"]))["generation"] + 1
    kept = read_json(meta) if meta.exists() else {}
    if (kept.get("generation"), kept.get("chosen")) != (search.generation, best):
        _save_mean(config, folder, replay(config, folder, best), search.generation, started)


def replay(config: Config, folder: Path, generations: int | None = None) -> Search:
    """The search as it stood after a log's first `generations` (all of them by default), with no episode driven.

    Raises ValueError at the first line whose mean the replay does not meet.
    """
    log = folder / "controller" / "generations.jsonl"
    search = Search(config.evolve, new_models(config)[2].num_params, config.seed)
    for row in read_lines(log)[:generations]:
        fitness, rounds = np.array(row["fitness"], float), np.array(row.get("rounds", 0))  # null is NaN
        search.tell(search.ask(), standing(fitness, rounds))
        met = np.isclose(row["mean_norm"], np.linalg.norm(search.mean), rtol=1e-6, atol=0)
        if row["generation"] != search.generation - 1 or not met:
            why = "it was edited, or written by another version of this package or of cma"
            lost = f"{log} can't be replayed from generation {row['generation']} on"
            raise ValueError(f"{lost}: {why}; restore it or start another run")
    return search


def scout(config: Config, folder: Path) -> list[int]:
    """The seeds of the hard tracks: out of SCOUTED ones those HARD on which the mean before the finish does worst.

    On most roads a late search's candidates are equals: they tell nothing. controller/scouted.jsonl keeps the returns.
    """
    path = folder / "controller" / "scouted.jsonl"
    seeds = track_seeds(EVOLVE_SEEDS, (config.seed, config.evolve.generations), SCOUTED)  # of no generation
    kept = [track for row in read_lines(path) for track in row["tracks"]]  # (seed, return)
    if len(kept) < SCOUTED:
        mean = replay(config, folder, config.evolve.finish_from).mean
        for first in range(len(kept), SCOUTED, 128):
            block = seeds[first : first + 128]
            kept += zip(block, score_mean(config, folder, mean, block))
            append_line(path, {"tracks": kept[first:]})
    return [seed for seed, _ in sorted(kept, key=lambda track: track[1])[:HARD]]


def race(
    config: Config, folder: Path, candidates: np.ndarray, generation: int, hard: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean return (P,) of each candidate (P, N), and the rounds (P,) that it drove after the first.

    All drive `tracks` tracks, the better half `halving[0]` more, the better half of those `halving[1]` more: successive
    halving. So those whose rank moves the mean are known by many tracks, and few are spent on the others. Where there
    are `hard` tracks, every second one of a generation is drawn from them.
    """
    settings = replace(config.evolve, max_steps=horizon(config.evolve, generation))
    stages = [settings.tracks, *settings.halving]
    seeds = track_seeds(EVOLVE_SEEDS, (config.seed, generation), sum(stages))
    if hard:
        rng = np.random.default_rng([config.seed, generation, 1])
        seeds[1::2] = rng.choice(hard, len(seeds[1::2]), replace=False).tolist()
    total, driven, rounds = np.zeros(len(candidates)), np.zeros(len(candidates)), np.zeros(len(candidates), int)
    racing = np.arange(len(candidates))
    for number, tracks in enumerate(stages):
        if number > 0:
            order = np.argsort(-total[racing] / driven[racing], kind="stable")  # NaN comes last
            racing = np.sort(racing[order[: (len(racing) + 1) // 2]])
        own = seeds[sum(stages[:number]) :][:tracks]
        scores = _score_round(replace(config, evolve=settings), folder, candidates[racing], own, generation, number)
        total[racing] += tracks * scores
        driven[racing] += tracks
        rounds[racing] = number
    return total / driven, rounds


def _score_round(config: Config, folder: Path, candidates, seeds, generation: int, number: int) -> np.ndarray:
    """`score_candidates`, kept until the next generation, so that a stop costs what one round had driven at most."""
    path = folder / "controller" / "rounds.json"
    kept = read_json(path) if path.exists() else {}
    rounds = kept["rounds"] if kept.get("generation") == generation else []
    if number >= len(rounds):
        scores = score_candidates(config, folder, candidates, seeds, generation, number).mean(axis=1)
        rounds = [*rounds, _loggable(scores)]
        write_json(path, {"generation": generation, "rounds": rounds})
    return np.array(rounds[number], float)


def _loggable(scores: np.ndarray) -> list[float | None]:
    """Scores as JSON holds them, which has no NaN."""
    return [None if np.isnan(score) else score for score in scores.tolist()]


def standing(fitness: np.ndarray, rounds: np.ndarray) -> np.ndarray:
    """What the candidates are ranked by, (P,): those who raced longer come first, then the fitter; NaN comes last."""
    lifted = fitness + rounds * (1 + np.nanmax(fitness) - np.nanmin(fitness))
    return np.nan_to_num(lifted, nan=np.nanmin(lifted) - 1)


def horizon(settings: EvolveConfig, generation: int) -> int:
    """The most steps that an episode of this generation may have."""
    if settings.first_steps is None or settings.growth is None:
        return settings.max_steps
    first, last = settings.first_steps, settings.max_steps
    return round(first + (last - first) * min(1.0, generation / settings.growth))


def score_candidates(
    config: Config, folder: Path, candidates: np.ndarray, seeds: list[int], noise: int, number: int = 0
) -> np.ndarray:
    """The return of each candidate (P, N) on each track, or dream, of `seeds`: (P, tracks); number: of the round."""
    pairs = math.ceil(len(candidates) * len(seeds) / ENVS_PER_JOB / 2)  # an even number of jobs, for two cores
    jobs, rounds = [], [number] if number else []
    for i, block in enumerate(np.array_split(candidates.astype(np.float32), min(2 * pairs, len(candidates)))):
        jobs.append((folder, config.evolve, block, seeds, (config.seed, noise, i, *rounds)))
    return np.concatenate(list(run(drive, jobs)))


def score_mean(config: Config, folder: Path, mean: np.ndarray, seeds: list[int]) -> list[float]:
    """The return of one policy on each real track of `seeds`, driven to its end."""
    settings, params = replace(config.evolve, world="real", patience=None), mean[None].astype(np.float32)
    jobs = [(folder, settings, params, seeds[i : i + 16], (config.seed, i)) for i in range(0, len(seeds), 16)]
    return np.concatenate([scores[0] for scores in run(drive, jobs)]).tolist()


def drive(
    folder: Path, settings: EvolveConfig, params: np.ndarray, seeds: list[int], noise: tuple[int, ...]
) -> np.ndarray:
    """The return of each policy of params (P, N) on each track, or dream, of `seeds`: (P, tracks).

    An episode that patience cut short is charged for the steps that were left, as if the car had stood still.
    """
    agent = _world_model(folder, *input_hashes(folder).values())
    agent.params = torch.from_numpy(params)
    env, policy = _open_world(agent, replace(settings, max_steps=1), len(params) * len(seeds), folder)
    env.max_steps = settings.max_steps  # it may grow with the generations, while a world is kept
    total, steps = returns(env, policy, seeds * len(params), int(np.random.SeedSequence(noise).generate_state(1)[0]))
    total -= agent.task.step_cost * np.where(env.stalled, settings.max_steps - steps, 0)
    return total.reshape(len(params), len(seeds))


def open_world(
    agent: Agent, settings: EvolveConfig, num_envs: int, store: EpisodeStore | None = None
) -> tuple[VectorEnv | DreamEnv, Policy]:
    """The world that candidates drive in and the agent as it drives there, real or dreamt.

    store: the encoded episodes at whose starts dreams begin. Nothing else of the evolution knows which world it is.
    """
    if settings.world == "real":
        return VectorEnv(agent.task.make, num_envs, settings.max_steps, settings.patience), agent
    if store is None:
        raise ValueError("a dream needs a store of encoded episodes to begin at; open_latents(folder) gives a run's")
    dream = DreamEnv.from_store(agent, store, num_envs, temperature=settings.temperature, max_steps=settings.max_steps)
    return dream, DreamPolicy(agent, dream)


@lru_cache(maxsize=1)
def _world_model(folder: Path, *hashes: str) -> Agent:
    """One agent a worker, loaded again only when its weights change."""
    agent = load_world_model(folder)
    if has_bf16(torch.device("cpu")):
        agent.vae.bfloat16()
    return agent


@lru_cache(maxsize=2)
def _open_world(agent: Agent, settings: EvolveConfig, num_envs: int, folder: Path):
    """A worker's last worlds, kept: a real one takes long to make."""
    return open_world(agent, settings, num_envs, open_latents(folder) if settings.world == "dream" else None)


def input_hashes(folder: Path) -> dict[str, str]:
    """The hashes of the weights that a run's C is evolved on: V's, and M's where there is one."""
    parts = ("vae", "mdnrnn") if load_config(folder).mdnrnn else ("vae",)
    return {part: read_json(folder / part / "meta.json")["weights_sha256"] for part in parts}


def _check_inputs(config: Config, folder: Path) -> None:
    load_world_model(folder)  # what is missing or damaged is reported before the work begins
    path, hashes = folder / "controller" / "inputs.json", input_hashes(folder)
    if config.evolve.world == "dream":
        hashes["latents"] = data_hash(open_latents(folder).paths())  # where dreams begin
    if not path.exists():
        write_json(path, hashes)
    elif read_json(path) != hashes:
        other = f"{folder}/controller was evolved on another V or M, or its dreams began elsewhere"
        raise ValueError(f"{other}; delete that folder or start another run")


def _save_mean(config: Config, folder: Path, search: Search, generation: int, started: float) -> None:
    """Keep the mean of a search, which may be an earlier one than the `generation` generations that are done."""
    done = {"generation": generation, "chosen": search.generation, **input_hashes(folder)}
    meta = describe(started, config=to_dict(config), seed=config.seed, **done)
    save_weights(folder / "controller", {"params": torch.from_numpy(search.mean).float()}, meta)
