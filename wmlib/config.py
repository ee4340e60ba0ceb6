"""The schema of a run: one frozen dataclass per stage. Their values stand in presets.py."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

# Track seeds that never meet: what one stage has seen, no other stage is scored on.
COLLECT_SEEDS = range(0, 10_000_000)
EVOLVE_SEEDS = range(10_000_000, 20_000_000)
SELECT_SEEDS = range(20_000_000, 30_000_000)
EVALUATE_SEEDS = range(50_000_000, 60_000_000)

RANDOM_POLICIES = ("uniform", "brownian", "random_network")
INPUTS = ("mu", "z", "h", "c")  # what C may read
KEEPABLE = ("episodes", "vae", "mdnrnn")  # what a run may take from its base

# What no preset changes. Batches and noise depend on it, so another value makes another run.
CHUNK_STEPS = 300  # batches drawn from the same few episodes: reading costs a twentieth of training
FRAME_EPISODES = 32  # episodes in memory at a time while V trains
SEQUENCE_EPISODES = 256  # and while M trains
AGENT_BLOCK = 8  # episodes that an agent drives in one job, so that V sees a batch
CANDIDATE_BLOCK = 32  # episodes of candidates in one job: more make V cheaper, but each takes 14 MB
SELECT_BLOCK = 16  # episodes of the mean in one job
SCOUT_BLOCK = 128  # episodes between two lines of the scouting's log
EVALUATE_BLOCK = 5  # official episodes in one job
BROWNIAN_MEMORY = 0.95  # the part of a raw action that the Brownian policy's next step keeps


def _check(holds: bool, complaint: str) -> None:
    """Refuse a configuration that contradicts itself before anything is made with it."""
    if not holds:
        raise ValueError(complaint)


@dataclass(frozen=True)
class CollectConfig:
    """Real episodes, the data of V and M, and who drives them (paper, section 5)."""

    episodes: int  # of a random policy
    max_steps: int
    policy: str  # one of RANDOM_POLICIES
    agent_episodes: int = 0  # so many more, which the base's agent drives

    def __post_init__(self):
        counts = self.episodes, self.agent_episodes
        _check(min(counts) >= 0, f"numbers of episodes are 0 or more, got {counts}")
        known = ", ".join(RANDOM_POLICIES)
        _check(self.policy in RANDOM_POLICIES, f"no policy {self.policy!r}; choose one of {known}")

    @property
    def total(self) -> int:
        """All episodes that the run adds."""
        return self.episodes + self.agent_episodes


@dataclass(frozen=True)
class VAEConfig:
    """V and its training."""

    z_size: int
    kl_tolerance: float  # floor under the summed KL, in nats per latent
    batch_size: int
    learning_rate: float
    steps: int
    learning_rate_end: float | None = None  # the rate falls evenly towards it; None: it stays

    def __post_init__(self):
        least = min(self.z_size, self.batch_size, self.steps)
        _check(least >= 1, f"V's z_size, batch_size and steps are at least 1: {self}")


@dataclass(frozen=True)
class OutcomeConfig:
    """What M says of a step besides the next z: its reward, and whether it ends the episode."""

    trained: str = "with"  # "with" M; or "after" it, from its finished memory, M untouched
    units: int = 64  # hidden units between h and the two outputs; 0 for a linear layer
    end_weight: float = 10.0  # an end counts so many times (paper's code, Take Cover); see DreamEnv
    learning_rate: float = 1e-3  # of a training after M, down to 0
    steps: int = 2_000  # of a training after M, on batches as M's

    def __post_init__(self):
        known = self.trained in ("with", "after")
        _check(known, f"the outcome is trained 'with' M or 'after' it, got {self.trained!r}")
        _check(self.units >= 0 and self.end_weight > 0 and self.steps >= 1, f"odd numbers: {self}")


@dataclass(frozen=True)
class MDNRNNConfig:
    """M and its training."""

    hidden_size: int
    num_mixtures: int
    batch_size: int
    sequence_length: int
    learning_rate: float
    gradient_clip: float  # largest absolute value of a gradient's entry
    steps: int
    outcome: OutcomeConfig | None = None  # None: M predicts the next z alone
    learning_rate_end: float | None = None  # the rate falls evenly towards it; None: it stays
    look_ahead: int | None = None  # steps to a further z that M predicts while it trains; or None

    def __post_init__(self):
        fits = self.look_ahead is None or 2 <= self.look_ahead <= self.sequence_length
        _check(fits, f"look_ahead is at least 2 and within sequence_length, got {self.look_ahead}")
        sizes = self.hidden_size, self.num_mixtures, self.batch_size, self.steps
        _check(min(sizes) >= 1, f"M's sizes and its steps are at least 1: {self}")


@dataclass(frozen=True)
class ControllerConfig:
    """C. In the game M reads the same code of a frame as C does, though M was trained on draws."""

    reads: str = "z h"  # the parts of C's input in their order, out of INPUTS
    hidden_size: int = 0  # tanh units between input and action; 0 for one linear layer
    bias: bool = True

    def __post_init__(self):
        parts = self.parts
        known = 0 < len(parts) == len(set(parts)) and set(parts) <= set(INPUTS)
        choice = f"C reads each of {', '.join(INPUTS)} at most once, and something"
        _check(known, f"{choice}; got reads={self.reads!r}")
        _check(not {"mu", "z"} <= set(parts), "C reads mu or z, a draw around it, not both")
        size = self.hidden_size
        _check(size >= 0, f"a hidden layer has 0 units or more, got hidden_size={size}")

    @property
    def parts(self) -> list[str]:
        """`reads`, taken apart."""
        return self.reads.split()


@dataclass(frozen=True)
class DreamConfig:
    """The dreams in which candidates drive where `world` is "dream"."""

    temperature: float = 1.0
    begin: str = "first"  # at stored episodes' "first" frames; or at random "moments" of them
    starts: int = 1_000  # places to begin; of first frames there is one an episode at most
    dreamers: int = 0  # further Ms, trained to dream in place of the agent's own; 0: that dreams
    dropout: float = 0.0  # the share of h that M's outputs don't see, another at each dreamt step

    def __post_init__(self):
        heat = self.temperature
        _check(0 < heat < math.inf, f"temperature must be a positive number, got {heat}")
        known = self.begin in ("first", "moments")
        _check(known, f"dreams begin at 'first' frames or at 'moments', got {self.begin!r}")
        _check(self.starts >= 1, f"dreams need 1 place to begin or more, got starts={self.starts}")
        _check(self.dreamers >= 0, f"dreamers are 0 or more, got {self.dreamers}")
        _check(0 <= self.dropout < 1, f"dropout is a share from 0 to below 1, got {self.dropout}")


@dataclass(frozen=True)
class EvolveConfig:
    """CMA-ES, and the world in which it lets the candidates drive."""

    popsize: int
    tracks: int  # episodes per candidate; all candidates of a generation drive the same tracks
    generations: int
    sigma0: float
    sigma_end: float | None  # step size held to a geometric decay from sigma0; None: CMA-ES's own
    decay: int | None  # generations that the decay takes; None with sigma_end alone
    max_steps: int
    select_every: int  # generations between two scorings of the distribution's mean
    select_tracks: int  # tracks it is scored on, the same ones each time
    patience: int | None  # real steps without a success after which an episode is cut; None never
    start: str = "zero"  # where the mean begins: at "zero", or at the "base"'s controller
    world: str = "real"  # or "dream": what candidates drive in; the mean is scored in the real one
    dream: DreamConfig = DreamConfig()
    halving: tuple[int, ...] = ()  # further tracks for the better half, for its better half, ...
    first_steps: int | None = None  # an episode's limit in generation 0; grows evenly to max_steps
    growth: int | None = None  # generations that this takes; None with first_steps alone
    finish_from: int | None = None  # from then on half of the tracks are hard; the step size falls
    scouted: int = 1_024  # tracks that the mean drives before the finish
    hard: int = 32  # how many of them are hard: those where it did worst

    def __post_init__(self):
        end, decay = self.sigma_end, self.decay
        together = (end is None) == (decay is None) and (decay is None or decay >= 1)
        _check(together, f"sigma_end and decay go together: got sigma_end={end}, decay={decay}")
        first, growth = self.first_steps, self.growth
        grows = (first is None) == (growth is None) and (growth is None or growth >= 1)
        found = f"got first_steps={first}, growth={growth}"
        _check(grows, f"first_steps and growth go together: {found}")
        inside = first is None or 1 <= first <= self.max_steps
        _check(inside, f"first_steps lies between 1 and max_steps: {found}")
        patient = self.patience is None or self.patience >= 1
        _check(patient, f"patience is 1 step or more, or None, got {self.patience}")
        rungs = min(self.halving, default=1) >= 1
        _check(rungs, f"each rung of halving has 1 track or more, got {self.halving}")
        driven = min(self.tracks, self.generations, self.max_steps)
        selected = min(self.select_every, self.select_tracks)
        enough = self.popsize >= 2 and driven >= 1 and selected >= 1
        _check(enough, f"popsize is at least 2, every other number at least 1: {self}")
        self._check_finish()
        positive = self.sigma0 > 0 and (end is None or end > 0)
        _check(positive, f"step sizes are positive: {self}")
        _check(self.world in ("real", "dream"), f"no world {self.world!r}; choose real or dream")
        _check(self.start in ("zero", "base"), f"no start {self.start!r}; choose zero or base")
        _check(0 < self.hard <= self.scouted, f"hard tracks are some of those scouted: {self}")

    def _check_finish(self) -> None:
        if self.finish_from is None:
            return
        fits = self.sigma_end and self.world == "real" and 0 < self.finish_from < self.generations
        _check(bool(fits), f"a finish needs sigma_end, the real world and an end: {self}")
        needed = (self.tracks + sum(self.halving)) // 2
        enough = needed <= self.hard
        _check(enough, f"a generation of the finish drives {needed} hard tracks, hard={self.hard}")


@dataclass(frozen=True)
class EvaluateConfig:
    """Scoring of the distribution's mean on tracks that no stage has seen."""

    episodes: int

    def __post_init__(self):
        _check(self.episodes >= 1, f"evaluation takes 1 episode or more, got {self.episodes}")


@dataclass(frozen=True)
class Config:
    """One whole run: one round of data, training and search (paper, section 5)."""

    preset: str
    seed: int
    task: str  # its name in envs.task.TASKS
    collect: CollectConfig
    vae: VAEConfig
    mdnrnn: MDNRNNConfig | None  # None: an agent without M
    evolve: EvolveConfig
    evaluate: EvaluateConfig
    controller: ControllerConfig = ControllerConfig()
    after: str | None = None  # the base: a preset, made within this run's folder, or a run's path
    keeps: tuple[str, ...] = ()  # what is the base's instead of made here, out of KEEPABLE

    def __post_init__(self):
        self._check_base()
        remembers = {"h", "c"} & set(self.controller.parts)
        lacking = f"C reads {self.controller.reads!r}, but there is no M: mdnrnn is None"
        _check(self.mdnrnn is not None or not remembers, lacking)
        pays = self.mdnrnn is not None and self.mdnrnn.outcome is not None
        blind = "without reward and end there is nothing to learn from"
        dreams = self.evolve.world == "dream"
        _check(pays or not dreams, f"world='dream' needs an M with an outcome: {blind}")

    def _check_base(self) -> None:
        known = set(self.keeps) <= set(KEEPABLE)
        _check(known, f"a run keeps some of {', '.join(KEEPABLE)}, got {self.keeps}")
        asks = self.keeps or self.collect.agent_episodes or self.evolve.start == "base"
        lonely = "keeps, agent_episodes and start='base' need a run to go on from: name it in after"
        _check(self.after is not None or not asks, lonely)
        codes = "an M reads the codes of the V that it was trained on: keep vae with mdnrnn"
        _check("mdnrnn" not in self.keeps or "vae" in self.keeps, codes)
        _check("mdnrnn" not in self.keeps or self.mdnrnn is not None, "keeps an M and has none")
        has_data = self.collect.total > 0 or "episodes" in self.keeps
        trains = "vae" not in self.keeps or (self.mdnrnn is not None and "mdnrnn" not in self.keeps)
        _check(has_data or not trains, "nothing to train on: collect episodes, or keep the base's")
        dreams = self.evolve.world == "dream"
        _check(has_data or not dreams, "dreams begin at episodes: collect some, or keep the base's")


def track_seeds(seeds: range, key: tuple[int, ...], count: int) -> list[int]:
    """`count` track seeds out of the range `seeds`, the same ones for the same key."""
    return np.random.default_rng(key).integers(seeds.start, seeds.stop, count).tolist()


def resolve(path: str | Path) -> Path:
    """The path itself if absolute, else under the repository's root, whatever the working directory."""
    return ROOT / Path(path)
