"""Every hyperparameter of the course on one page: one frozen dataclass per stage, and the presets.

QUICK runs the whole chain in minutes, LAPTOP trains an agent that drives, PAPER is the published setting.
Sources of PAPER's values: [P] Ha & Schmidhuber (2018), arXiv 1803.10122; [C] the code they released.
"""

import json
import math
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_origin

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

# Track seeds that never meet: what one stage has seen, no other stage is scored on.
COLLECT_SEEDS = range(0, 10_000_000)
EVOLVE_SEEDS = range(10_000_000, 20_000_000)
SELECT_SEEDS = range(20_000_000, 30_000_000)
EVALUATE_SEEDS = range(50_000_000, 60_000_000)

RANDOM_POLICIES = ("uniform", "brownian", "random_network")
INPUTS = ("mu", "z", "h", "c")  # what C may read


def _check(holds: bool, complaint: str) -> None:
    """Refuse a configuration that contradicts itself before anything is made with it."""
    if not holds:
        raise ValueError(complaint)


@dataclass(frozen=True)
class CollectConfig:
    """Real episodes, the data of V and M, and who drives them; two rounds: iterative training (paper, section 5)."""

    episodes: int
    max_steps: int
    policy: str  # one of RANDOM_POLICIES
    first_round: str | None = None  # the preset of the agent in RUN/first that drives a second round:
    agent_episodes: int = 0  # so many more

    def __post_init__(self):
        together = (self.first_round is None) == (self.agent_episodes == 0)
        _check(together and self.agent_episodes >= 0, f"first_round and agent_episodes go together: {self}")
        _check(self.policy in RANDOM_POLICIES, f"no policy {self.policy!r}; choose one of {', '.join(RANDOM_POLICIES)}")


@dataclass(frozen=True)
class VAEConfig:
    """V and its training."""

    z_size: int
    kl_tolerance: float  # floor under the summed KL, in nats per latent
    batch_size: int
    learning_rate: float
    steps: int
    learning_rate_end: float | None = None  # reached evenly at the last step; None keeps learning_rate


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
    outcome: bool = False  # whether M predicts reward and end as well
    learning_rate_end: float | None = None  # reached evenly at the last step; None keeps learning_rate
    look_ahead: int | None = None  # steps to a further z that M predicts while it trains; None: the next z alone

    def __post_init__(self):
        fits = self.look_ahead is None or 2 <= self.look_ahead <= self.sequence_length
        _check(fits, f"look_ahead is at least 2 and within sequence_length, got {self.look_ahead}")


@dataclass(frozen=True)
class ControllerConfig:
    """C. In the game M reads the same code of a frame as C does, mu or z; it is trained on draws in either case."""

    reads: str = "z h"  # the parts of C's input in their order, out of INPUTS
    hidden_size: int = 0  # tanh units between input and action; 0 for one linear layer
    bias: bool = True

    def __post_init__(self):
        known = 0 < len(self.parts) == len(set(self.parts)) and set(self.parts) <= set(INPUTS)
        _check(known, f"C reads each of {', '.join(INPUTS)} at most once, and something; got reads={self.reads!r}")
        _check(not {"mu", "z"} <= set(self.parts), "C reads mu or z, a draw around it, not both")
        _check(self.hidden_size >= 0, f"a hidden layer has 0 units or more, got hidden_size={self.hidden_size}")

    @property
    def parts(self) -> list[str]:
        """`reads`, taken apart."""
        return self.reads.split()


@dataclass(frozen=True)
class EvolveConfig:
    """CMA-ES, and the world in which it lets the candidates drive."""

    popsize: int
    tracks: int  # episodes per candidate; all candidates of a generation drive the same tracks
    generations: int
    sigma0: float
    sigma_end: float | None  # step size held to a geometric decay from sigma0; None leaves it to CMA-ES
    decay: int | None  # generations that the decay takes; after them the step size stays; None with sigma_end alone
    max_steps: int
    select_every: int  # generations between two scorings of the distribution's mean
    select_tracks: int  # tracks it is scored on, the same ones each time
    patience: int | None  # steps in the real world without a success after which an episode is cut; None never cuts
    world: str = "real"  # or "dream": what candidates drive in; the mean is always scored in the real one
    temperature: float = 1.0  # the dream's
    halving: tuple[int, ...] = ()  # further tracks for the better half, then for the better half of those, and so on
    first_steps: int | None = None  # an episode's limit in generation 0, from where it grows evenly to max_steps
    growth: int | None = None  # generations that this takes; None with first_steps alone
    finish_from: int | None = None  # from then on half of the tracks are hard ones, and the step size falls to half

    def __post_init__(self):
        together = (self.sigma_end is None) == (self.decay is None) and (self.decay is None or self.decay >= 1)
        _check(together, f"sigma_end and decay go together: got sigma_end={self.sigma_end}, decay={self.decay}")
        grows = (self.first_steps is None) == (self.growth is None) and (self.growth is None or self.growth >= 1)
        _check(grows, f"first_steps and growth go together: got first_steps={self.first_steps}, growth={self.growth}")
        _check(min(self.halving, default=1) >= 1, f"each round of halving has 1 track or more, got {self.halving}")
        counts = self.tracks, self.generations, self.max_steps, self.select_every, self.select_tracks
        _check(self.popsize >= 2 and min(counts) >= 1, f"popsize is at least 2, every other number at least 1: {self}")
        fits = self.sigma_end and self.world == "real" and 0 < (self.finish_from or 0) < self.generations
        _check(self.finish_from is None or bool(fits), f"a finish needs sigma_end, the real world and an end: {self}")
        _check(self.sigma0 > 0 and (self.sigma_end is None or self.sigma_end > 0), f"step sizes are positive: {self}")
        _check(self.world in ("real", "dream"), f"no world {self.world!r}; choose real or dream")
        _check(0 < self.temperature < math.inf, f"temperature must be a positive number, got {self.temperature}")


@dataclass(frozen=True)
class EvaluateConfig:
    """Scoring of the distribution's mean on tracks that no stage has seen."""

    episodes: int


@dataclass(frozen=True)
class Config:
    """One whole run."""

    preset: str
    seed: int
    collect: CollectConfig
    vae: VAEConfig
    mdnrnn: MDNRNNConfig | None  # None: an agent without M
    evolve: EvolveConfig
    evaluate: EvaluateConfig
    controller: ControllerConfig = ControllerConfig()
    task: str = "car_racing"  # its name in envs.task.TASKS

    def __post_init__(self):
        remembers, dreams = {"h", "c"} & set(self.controller.parts), self.evolve.world == "dream"
        lacking = f"C reads {self.controller.reads!r}, but there is no M: mdnrnn is None"
        _check(self.mdnrnn is not None or not remembers, lacking)
        blind = "world='dream' needs an M with outcome=True: without reward and end there is nothing to learn from"
        _check(not dreams or (self.mdnrnn is not None and self.mdnrnn.outcome), blind)


QUICK = Config(
    preset="quick", seed=0,
    collect=CollectConfig(episodes=24, max_steps=300, policy="brownian"),
    vae=VAEConfig(z_size=32, kl_tolerance=0.5, batch_size=32, learning_rate=1e-3, steps=350),
    mdnrnn=MDNRNNConfig(
        hidden_size=256, num_mixtures=5, batch_size=16, sequence_length=64,
        learning_rate=2e-3, gradient_clip=1.0, steps=200,
    ),
    evolve=EvolveConfig(
        popsize=16, tracks=2, generations=10, sigma0=0.1, sigma_end=0.05, decay=10, max_steps=300,
        select_every=4, select_tracks=8, patience=60,
    ),
    evaluate=EvaluateConfig(episodes=10),
)  # fmt: skip

LAPTOP_M = MDNRNNConfig(
    hidden_size=256, num_mixtures=5, batch_size=64, sequence_length=100,
    learning_rate=1e-2, learning_rate_end=0.0, gradient_clip=1.0, steps=2_400, look_ahead=8,
)  # fmt: skip

LAPTOP = Config(
    preset="laptop", seed=0,
    collect=CollectConfig(episodes=350, max_steps=1_000, policy="brownian", first_round="first", agent_episodes=160),
    vae=VAEConfig(z_size=32, kl_tolerance=0.5, batch_size=50, learning_rate=1e-3, steps=5_000, learning_rate_end=0.0),
    mdnrnn=LAPTOP_M,
    controller=ControllerConfig(reads="mu h"),
    evolve=EvolveConfig(
        popsize=64, tracks=2, halving=(2, 6), generations=81, finish_from=51, sigma0=0.14, sigma_end=0.03, decay=36,
        first_steps=300, growth=12, max_steps=1_000, select_every=3, select_tracks=64, patience=100,
    ),
    evaluate=EvaluateConfig(episodes=100),
)  # fmt: skip

# The agent of LAPTOP's first round: rough, but it stays on the road for a while, which no random policy does.
FIRST = replace(
    LAPTOP, preset="first", seed=1, collect=CollectConfig(episodes=150, max_steps=1_000, policy="brownian"),
    vae=replace(LAPTOP.vae, steps=1_500), mdnrnn=replace(LAPTOP_M, steps=400), evaluate=EvaluateConfig(episodes=10),
    evolve=replace(
        LAPTOP.evolve, popsize=32, halving=(2, 4), generations=14, sigma_end=0.07, decay=14, growth=14,
        finish_from=None, select_every=14, select_tracks=16,
    ),
)  # fmt: skip

PAPER = Config(
    preset="paper", seed=0,
    collect=CollectConfig(
        episodes=10_000,  # [P] 2.1 and 3.2: 10,000 rollouts of a random policy
        max_steps=1_000,  # [C] extract.py
        policy="random_network",  # [C] extract.py: V, M and C drawn afresh for each episode
    ),
    vae=VAEConfig(
        z_size=32,  # [P] 3.2
        kl_tolerance=0.5, batch_size=100, learning_rate=1e-4,  # [C] vae_train.py
        steps=100_000,  # [P] A.1: one epoch over 10 million frames
    ),
    mdnrnn=MDNRNNConfig(
        hidden_size=256, num_mixtures=5,  # [P] A.2
        batch_size=100, sequence_length=999, learning_rate=1e-3,  # [C] rnn_train.py
        learning_rate_end=9.6e-4,  # [C] rnn_train.py: 0.99999 of it after each step
        gradient_clip=1.0,  # [C] rnn_train.py
        steps=4_000,  # [C] rnn_train.py; [P] A.2 says 20 epochs
    ),
    evolve=EvolveConfig(
        popsize=64, tracks=16,  # [P] A.4
        generations=1_800,  # [P] 3.3
        sigma0=0.1,  # [C] train.py
        sigma_end=None, decay=None,  # [P] A.4: CMA-ES's own step-size control
        max_steps=1_000, patience=None,  # [C]
        select_every=25,  # [P] A.4
        select_tracks=1_024,  # [P] A.4
    ),
    evaluate=EvaluateConfig(episodes=100),  # [P] 3.3
)  # fmt: skip

# The paper's car without M ([P] 3.3): C sees z alone, 99 parameters. Its V is LAPTOP's.
V_ONLY = replace(
    LAPTOP, preset="v-only", mdnrnn=None, controller=ControllerConfig(reads="z"),
    evolve=replace(
        FIRST.evolve, generations=24, sigma0=0.1, sigma_end=0.03, decay=24, growth=12, select_every=8, select_tracks=64
    ),
)  # fmt: skip

PRESETS = {config.preset: config for config in (QUICK, LAPTOP, PAPER, V_ONLY, FIRST)}


def get_preset(name: str) -> Config:
    """The preset of that name; ValueError names the ones there are."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def to_dict(config: Config) -> dict:
    """The configuration as plain nested dicts, as JSON holds it."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(values: dict) -> Config:
    """The inverse of `to_dict`. What a run of an older version lacks means what it meant then.

    ValueError names an entry that is unknown, one that is missing and has no default, or a contradiction.
    """
    if isinstance(values, dict):
        evolve = values.get("evolve")
        if isinstance(evolve, dict) and evolve.get("sigma_end") and "decay" not in evolve:
            values = values | {"evolve": evolve | {"decay": evolve.get("generations")}}  # it decayed to the last one
        if values.get("mdnrnn", ...) is None and "controller" not in values:
            values = values | {"controller": {"reads": "z"}}
    return _build(Config, values)


def _build(cls, values: dict):
    _check(isinstance(values, dict), f"a configuration of another version: {cls.__name__} is no object: {values!r}")
    kinds = {field.name: field.type for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    for what, odd in {"unknown": set(values) - set(kinds), "missing": needed - set(values)}.items():
        if odd:
            names = ", ".join(sorted(odd))
            raise ValueError(f"a configuration of another version: {cls.__name__} has {what} entries: {names}")
    try:
        return cls(**{name: _entry(kinds[name], value) for name, value in values.items()})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a configuration of another version: {cls.__name__} has an odd entry ({error})") from None


def _entry(kind, value):
    if get_origin(kind) is tuple:  # a list in JSON
        return tuple(value)
    kinds = get_args(kind) or (kind,)  # `MDNRNNConfig | None` is two
    if not is_dataclass(kinds[0]) or (value is None and len(kinds) == 2):
        return value
    return _build(kinds[0], value)


def differences(one: Config, other: Config) -> list[str]:
    """The entries in which two configurations differ, as `vae.steps: 500 != 4000`."""
    a, b = _flat(to_dict(one)), _flat(to_dict(other))
    return [f"{name}: {a.get(name)} != {b.get(name)}" for name in a | b if a.get(name) != b.get(name)]


def _flat(values: dict, prefix: str = "") -> dict:
    flat: dict = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def track_seeds(seeds: range, key: tuple[int, ...], count: int) -> list[int]:
    """`count` track seeds out of the range `seeds`, the same ones for the same key."""
    return np.random.default_rng(key).integers(seeds.start, seeds.stop, count).tolist()


def resolve(path: str | Path) -> Path:
    """The path itself if absolute, else under the repository's root, whatever the working directory."""
    return ROOT / Path(path)
