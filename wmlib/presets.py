"""Every hyperparameter of the course on one page: the presets, each value of PAPER with its source.

QUICK runs the whole chain in minutes, LAPTOP trains an agent that drives, PAPER is the published
setting: [P] Ha & Schmidhuber (2018), arXiv 1803.10122; [C] the code they released.
"""

from dataclasses import replace

from wmlib.config import (
    CollectConfig,
    Config,
    ControllerConfig,
    EvaluateConfig,
    EvolveConfig,
    MDNRNNConfig,
    VAEConfig,
)

QUICK = Config(
    preset="quick",
    seed=0,
    task="car_racing",
    collect=CollectConfig(episodes=24, max_steps=300, policy="brownian"),
    vae=VAEConfig(z_size=32, kl_tolerance=0.5, batch_size=32, learning_rate=1e-3, steps=350),
    mdnrnn=MDNRNNConfig(
        hidden_size=256,
        num_mixtures=5,
        batch_size=16,
        sequence_length=64,
        learning_rate=2e-3,
        gradient_clip=1.0,
        steps=200,
    ),
    evolve=EvolveConfig(
        popsize=16,
        tracks=2,
        generations=10,
        sigma0=0.1,
        sigma_end=0.05,
        decay=10,
        max_steps=300,
        select_every=4,
        select_tracks=8,
        patience=60,
    ),
    evaluate=EvaluateConfig(episodes=10),
)

LAPTOP_M = MDNRNNConfig(
    hidden_size=256,
    num_mixtures=5,
    batch_size=64,
    sequence_length=100,
    learning_rate=1e-2,
    learning_rate_end=0.0,
    gradient_clip=1.0,
    steps=2_400,
    look_ahead=8,
)

LAPTOP = Config(
    preset="laptop",
    seed=0,
    task="car_racing",
    after="first",
    collect=CollectConfig(
        episodes=350,
        max_steps=1_000,
        policy="brownian",
        agent_episodes=160,
    ),
    vae=VAEConfig(
        z_size=32,
        kl_tolerance=0.5,
        batch_size=50,
        learning_rate=1e-3,
        learning_rate_end=0.0,
        steps=5_000,
    ),
    mdnrnn=LAPTOP_M,
    controller=ControllerConfig(reads="mu h"),
    evolve=EvolveConfig(
        popsize=64,
        tracks=2,
        halving=(2, 6),
        generations=81,
        finish_from=51,
        sigma0=0.14,
        sigma_end=0.03,
        decay=36,
        first_steps=300,
        growth=12,
        max_steps=1_000,
        select_every=3,
        select_tracks=64,
        patience=100,
    ),
    evaluate=EvaluateConfig(episodes=100),
)

# The round before LAPTOP: its agent is rough, but it stays on the road for a while, which no random
# policy does.
FIRST = replace(
    LAPTOP,
    preset="first",
    seed=1,
    after=None,
    collect=CollectConfig(episodes=150, max_steps=1_000, policy="brownian"),
    vae=replace(LAPTOP.vae, steps=1_500),
    mdnrnn=replace(LAPTOP_M, steps=400),
    evolve=replace(
        LAPTOP.evolve,
        popsize=32,
        halving=(2, 4),
        generations=14,
        finish_from=None,
        sigma_end=0.07,
        decay=14,
        growth=14,
        select_every=14,
        select_tracks=16,
    ),
    evaluate=EvaluateConfig(episodes=10),
)

PAPER = Config(
    preset="paper",
    seed=0,
    task="car_racing",
    collect=CollectConfig(
        episodes=10_000,  # [P] 2.1 and 3.2: 10,000 rollouts of a random policy
        max_steps=1_000,  # [C] extract.py
        policy="random_network",  # [C] extract.py: V, M and C drawn afresh for each episode
    ),
    vae=VAEConfig(
        z_size=32,  # [P] 3.2
        kl_tolerance=0.5,  # [C] vae_train.py
        batch_size=100,  # [C] vae_train.py
        learning_rate=1e-4,  # [C] vae_train.py
        steps=100_000,  # [P] A.1: one epoch over 10 million frames
    ),
    mdnrnn=MDNRNNConfig(
        hidden_size=256,  # [P] A.2
        num_mixtures=5,  # [P] A.2
        batch_size=100,  # [C] rnn_train.py
        sequence_length=999,  # [C] rnn_train.py
        learning_rate=1e-3,  # [C] rnn_train.py
        learning_rate_end=9.6e-4,  # [C] rnn_train.py: 0.99999 of it after each step
        gradient_clip=1.0,  # [C] rnn_train.py
        steps=4_000,  # [C] rnn_train.py; [P] A.2 says 20 epochs
    ),
    evolve=EvolveConfig(
        popsize=64,  # [P] A.4
        tracks=16,  # [P] A.4
        generations=1_800,  # [P] 3.3
        sigma0=0.1,  # [C] train.py
        sigma_end=None,  # [P] A.4: CMA-ES's own step-size control
        decay=None,
        max_steps=1_000,  # [C]
        patience=None,  # [C]
        select_every=25,  # [P] A.4
        select_tracks=1_024,  # [P] A.4
    ),
    evaluate=EvaluateConfig(episodes=100),  # [P] 3.3
)

# The paper's car without M ([P] 3.3): C sees z alone, 99 parameters, on LAPTOP's V.
V_ONLY = replace(
    LAPTOP,
    preset="v-only",
    after="laptop",
    keeps=("episodes", "vae"),
    collect=replace(LAPTOP.collect, episodes=0, agent_episodes=0),
    mdnrnn=None,
    controller=ControllerConfig(reads="z"),
    evolve=replace(
        FIRST.evolve,
        generations=24,
        sigma0=0.1,
        sigma_end=0.03,
        decay=24,
        growth=12,
        select_every=8,
        select_tracks=64,
    ),
)

PRESETS = {config.preset: config for config in (QUICK, LAPTOP, PAPER, V_ONLY, FIRST)}


def get_preset(name: str) -> Config:
    """The preset of that name; ValueError names the ones there are."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
