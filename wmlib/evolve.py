"""Stage 4: CMA-ES searches the controller's parameters; its log is its checkpoint (paper, A.4).

Letters: P candidates, N parameters.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import cma
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from wmlib.agent import Agent, load_world_model, new_models
from wmlib.checkpoint import (
    append_line,
    describe,
    read_json,
    read_lines,
    save_weights,
    write_json,
)
from wmlib.config import EVOLVE_SEEDS, SCOUT_BLOCK, SELECT_SEEDS, EvolveConfig, track_seeds
from wmlib.config_json import to_dict
from wmlib.run import Run
from wmlib.scoring import score_candidates, score_mean
from wmlib.train import encode_episodes
from wmlib.world import run_starts


class Search:
    """CMA-ES over N parameters, whose every draw belongs to (seed, generation).

    It starts from `start` (N,), 0 by default. `fitness` is maximised. With `sigma_end` the step size
    follows a geometric decay and then stays, instead of CMA-ES's own control, which lets it grow when
    fitness is noisy. In the finish it falls to half of that.
    """

    def __init__(
        self, config: EvolveConfig, num_params: int, seed: int, start: np.ndarray | None = None
    ):
        self.config = config
        self.seed = seed
        self.generation = 0
        options = {
            "popsize": config.popsize,
            "seed": np.nan,
            "randn": self._randn,
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": "",
        }
        mean = np.zeros(num_params) if start is None else start
        with threadpool_limits(1):
            self.strategy = cma.CMAEvolutionStrategy(mean, config.sigma0, options)

    def _randn(self, *shape: int) -> np.ndarray:
        """Noise turned by B, so that pycma's B D noise is C^(1/2) noise.

        Then it doesn't matter which signs a LAPACK gives eigenvectors.
        """
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
            self.strategy.sigma = (
                self.config.sigma0 * (self.config.sigma_end / self.config.sigma0) ** done
            )
        begin, end = self.config.finish_from, self.config.generations
        if begin is not None and self.generation > begin:
            self.strategy.sigma *= 0.5 ** ((self.generation - begin) / (end - begin))

    @property
    def mean(self) -> np.ndarray:
        """The distribution's mean, float64 (N,): what is kept and scored, never a lucky candidate."""
        return self.strategy.mean.copy()


def evolve(run: Run) -> Iterator[tuple[int, dict]]:
    """Evolve C on a run's V and M, on all cores, and keep the log and the mean.

    Kept is the newest mean and, once all generations are done, the one that scored best on the
    selection's tracks. Yields the number of generations done and the last one's row: fitness of
    every candidate, step size, norm of the mean and, every `select_every` generations, the mean's
    score on tracks of its own. A stopped evolution goes on where it was, by replaying its log.
    Raises ValueError when the log was made with another V or M.
    """
    settings = run.config.evolve
    folder = run.part("controller")
    meta = folder / "meta.json"
    if settings.world == "dream" and not run.has("starts"):
        for _ in encode_episodes(run):  # those that no M here was trained on, at which dreams begin
            pass
    _check_inputs(run)
    before = read_json(meta)["duration_s"] if meta.exists() else 0
    started = time.time() - before  # as if it had never stopped
    search = replay(run)
    while search.generation < settings.generations:
        row = _next_generation(run, search)
        if (
            search.generation % settings.select_every == 0
            or search.generation == settings.generations
        ):
            seeds = track_seeds(SELECT_SEEDS, (run.config.seed,), settings.select_tracks)
            row["selection"] = score_mean(run, search.mean, seeds)
        append_line(folder / "generations.jsonl", row)
        if search.generation < settings.generations:
            _save_mean(run, search, search.generation, started)
        else:  # a run whose meta.json names its last generation has its best mean
            _save_best(run, started)
        yield search.generation, row
    kept = read_json(meta) if meta.exists() else {}
    if kept.get("generation") != settings.generations or kept.get("chosen") != _best(run):
        _save_best(run, started)


def _next_generation(run: Run, search: Search) -> dict:
    """Score a generation's candidates and move the distribution; returns the log's row."""
    generation = search.generation
    candidates = search.ask()
    begin = run.config.evolve.finish_from
    hard = [] if begin is None or generation < begin else scout(run)
    fitness, rungs = race(run, candidates, generation, hard)
    if np.isnan(fitness).all():
        odd = f"no candidate of generation {generation} has a return that is a number"
        raise FloatingPointError(odd)
    _check_inputs(run)  # V and M may have been changed meanwhile
    search.tell(candidates, rank_values(fitness, rungs))
    return {
        "generation": generation,
        "fitness": _loggable(fitness),
        "rungs": rungs.tolist(),
        "step_size": search.strategy.sigma,
        "mean_norm": float(np.linalg.norm(search.mean)),
    }


def replay(run: Run, generations: int | None = None) -> Search:
    """The search as it stood after a log's first `generations` (all by default), nothing driven.

    Raises ValueError at the first line whose mean the replay does not meet.
    """
    log = run.part("controller") / "generations.jsonl"
    search = new_search(run)
    for row in read_lines(log)[:generations]:
        fitness = np.array(row["fitness"], float)  # null is NaN
        rungs = np.array(row.get("rungs", row.get("rounds", 0)))  # as an older log calls them
        search.tell(search.ask(), rank_values(fitness, rungs))
        met = np.isclose(row["mean_norm"], np.linalg.norm(search.mean), rtol=1e-6, atol=0)
        if row["generation"] != search.generation - 1 or not met:
            why = "it was edited, or written by another version of this package or of cma"
            lost = f"{log} can't be replayed from generation {row['generation']} on"
            raise ValueError(f"{lost}: {why}; restore it or start another run")
    return search


def new_search(run: Run) -> Search:
    """A run's search before its first generation: at 0, or where the base's controller stands.

    Raises ValueError when the base's controller has another size.
    """
    num_params = new_models(run.config)[2].num_params
    base = run.base if run.config.evolve.start == "base" else None
    if base is None:
        return Search(run.config.evolve, num_params, run.config.seed)
    start = Agent.load(base.folder).params[0].double().numpy()
    if len(start) != num_params:
        sizes = f"{len(start)} parameters, this run's has {num_params}"
        raise ValueError(f"the controller of {base.folder} has {sizes}; begin at zero")
    return Search(run.config.evolve, num_params, run.config.seed, start)


def scout(run: Run) -> list[int]:
    """The seeds of the hard tracks: those on which the mean before the finish does worst.

    On most roads a late search's candidates are equals: they tell nothing. The returns are kept in
    the controller's scouted.jsonl.
    """
    settings = run.config.evolve
    path = run.part("controller") / "scouted.jsonl"
    key = (run.config.seed, settings.generations)  # of no generation
    seeds = track_seeds(EVOLVE_SEEDS, key, settings.scouted)
    kept = [track for row in read_lines(path) for track in row["tracks"]]  # (seed, return)
    if len(kept) < settings.scouted:
        mean = replay(run, settings.finish_from).mean
        for first in range(len(kept), settings.scouted, SCOUT_BLOCK):
            block = seeds[first : first + SCOUT_BLOCK]
            kept += zip(block, score_mean(run, mean, block))
            append_line(path, {"tracks": kept[first:]})
    worst = sorted(kept, key=lambda track: track[1])[: settings.hard]
    return [seed for seed, _ in worst]


def race(
    run: Run, candidates: np.ndarray, generation: int, hard: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean return (P,) of each candidate (P, N), and the rungs (P,) that it climbed.

    All drive `tracks` tracks, the better half `halving[0]` more, the better half of those
    `halving[1]` more: successive halving. So those whose rank moves the mean are known by many
    tracks, and few are spent on the others. Where there are `hard` tracks, every second one of a
    generation is drawn from them.
    """
    settings = run.config.evolve
    numbers = [settings.tracks, *settings.halving]
    seeds = track_seeds(EVOLVE_SEEDS, (run.config.seed, generation), sum(numbers))
    if hard:
        rng = np.random.default_rng([run.config.seed, generation, 1])
        seeds[1::2] = rng.choice(hard, len(seeds[1::2]), replace=False).tolist()
    total = np.zeros(len(candidates))
    driven = np.zeros(len(candidates))
    rungs = np.zeros(len(candidates), int)
    racing = np.arange(len(candidates))
    for rung, tracks in enumerate(numbers):
        if rung > 0:
            order = np.argsort(-total[racing] / driven[racing], kind="stable")  # NaN comes last
            racing = np.sort(racing[order[: (len(racing) + 1) // 2]])
        own = seeds[sum(numbers[:rung]) :][:tracks]
        total[racing] += tracks * _score_rung(run, candidates[racing], own, generation, rung)
        driven[racing] += tracks
        rungs[racing] = rung
    return total / driven, rungs


def _score_rung(
    run: Run, candidates: np.ndarray, seeds: list[int], generation: int, rung: int
) -> np.ndarray:
    """The candidates' mean returns, kept until the next generation.

    So a stop costs what one rung had driven at most.
    """
    path = run.part("controller") / "rungs.json"
    kept = read_json(path) if path.exists() else {}
    rungs = kept["rungs"] if kept.get("generation") == generation else []
    if rung >= len(rungs):
        limit = horizon(run.config.evolve, generation)
        settings = replace(run.config.evolve, max_steps=limit)
        scores = score_candidates(run, settings, candidates, seeds, generation, rung)
        rungs = [*rungs, _loggable(scores.mean(axis=1))]
        write_json(path, {"generation": generation, "rungs": rungs})
    return np.array(rungs[rung], float)


def _loggable(scores: np.ndarray) -> list[float | None]:
    """Scores as JSON holds them, which has no NaN."""
    return [None if np.isnan(score) else score for score in scores.tolist()]


def rank_values(fitness: np.ndarray, rungs: np.ndarray) -> np.ndarray:
    """What the candidates are ranked by, (P,): the higher rung first, then fitness; NaN last."""
    lifted = fitness + rungs * (1 + np.nanmax(fitness) - np.nanmin(fitness))
    return np.nan_to_num(lifted, nan=np.nanmin(lifted) - 1)


def horizon(settings: EvolveConfig, generation: int) -> int:
    """The most steps that an episode of this generation may have."""
    if settings.first_steps is None or settings.growth is None:
        return settings.max_steps
    way = settings.max_steps - settings.first_steps
    return round(settings.first_steps + way * min(1.0, generation / settings.growth))


def _check_inputs(run: Run) -> None:
    load_world_model(run)  # what is missing or damaged is reported before the work begins
    path = run.part("controller") / "inputs.json"
    hashes = run.input_hashes()
    if run.config.evolve.world == "dream":
        run_starts(run)
        hashes["starts"] = run.weights_hash("starts")
    if not path.exists():
        write_json(path, hashes)
    elif read_json(path) != hashes:
        other = f"{path.parent} was evolved on another V or M, or its dreams began elsewhere"
        raise ValueError(f"{other}; delete that folder or start another run")


def _best(run: Run) -> int:
    """After how many generations the mean scored best."""
    rows = read_lines(run.part("controller") / "generations.jsonl")
    scored = [row for row in rows if "selection" in row]
    return max(scored, key=lambda row: np.mean(row["selection"]))["generation"] + 1


def _save_best(run: Run, started: float) -> None:
    """Keep the mean that scored best, once all generations are done."""
    _save_mean(run, replay(run, _best(run)), run.config.evolve.generations, started)


def _save_mean(run: Run, search: Search, generation: int, started: float) -> None:
    """Keep the mean of a search, which may be an earlier one than the generations that are done."""
    done = {"generation": generation, "chosen": search.generation, **run.input_hashes()}
    meta = describe(started, config=to_dict(run.config), seed=run.config.seed, **done)
    params = torch.from_numpy(search.mean).float()
    save_weights(run.part("controller"), {"params": params}, meta)
