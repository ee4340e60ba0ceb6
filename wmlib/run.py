"""A run: its configuration, its parts and the base that it goes on from. Only this knows folders.

A round of data, training and search is one configuration in one folder. What it `keeps` is its
base's; all else is its own. A part is a folder with weights or episodes in it.
"""

import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from wmlib.checkpoint import read_json, write_json
from wmlib.config import Config, OutcomeConfig, resolve
from wmlib.config_json import differences, from_dict, to_dict
from wmlib.data import EncodedEpisode, EpisodeStore
from wmlib.presets import PRESETS, get_preset


@dataclass(frozen=True)
class Run:
    """A folder and the configuration in it; `open_run` and `claim_run` give one."""

    folder: Path
    config: Config

    @property
    def base(self) -> "Run | None":
        """The run that this one goes on from; FileNotFoundError where it is missing."""
        folder = base_folder(self.folder, self.config)
        if folder is None:
            return None
        if (folder / "config.json").exists():
            return open_run(folder)
        lost = f"{self.folder} goes on from {folder}, which holds no run"
        inside = folder.parent == self.folder
        remedy = f"run {self.command('agent')}" if inside else "restore it, or correct `after`"
        raise FileNotFoundError(f"{lost}; {remedy}")

    def kept_from(self, part: str) -> "Run | None":
        """The base, where it has this part and the run keeps it."""
        kind = part.partition("_")[0]
        if kind == "outcome":
            base = self.kept_from(part.replace("outcome", "mdnrnn"))
            same = base and _outcome(base.config) == _outcome(self.config)
            return base if same else None
        if kind not in self.config.keeps:
            return None
        base = self.base
        return base if base and (part == kind or part in base.memories) else None

    def owner(self, part: str) -> "Run":
        """The run in whose folder a part lies: this one, or one that it goes on from."""
        base = self.kept_from(part)
        return base.owner(part) if base else self

    def check_base(self, used: Collection[str]) -> None:
        """ValueError when the base's weights are others than when this run first used them.

        used: the parts of the base that the run is about to use.
        """
        base = self.base if used else None
        if base is None:
            return
        path = self.folder / "base.json"
        before = read_json(path) if path.exists() else {}
        kept = [part for part in self.config.keeps if part != "episodes"]
        hashes = {part: base.weights_hash(part) for part in sorted({*before, *kept, *used})}
        if any(before.get(part, hashes[part]) != hashes[part] for part in hashes):
            changed = f"{base.folder} was changed since {self.folder} went on from it"
            raise ValueError(f"{changed}; restore it, or start another run")
        if before != hashes:
            write_json(path, hashes)

    def part(self, name: str) -> Path:
        """The folder of a part: vae, mdnrnn, mdnrnn_1, outcome, controller, ..."""
        return self.owner(name).folder / name

    def has(self, part: str) -> bool:
        """Whether a part's weights are there; they come when its training has ended."""
        folder = self.part(part)
        return all((folder / name).exists() for name in ("weights.safetensors", "meta.json"))

    def weights_hash(self, part: str) -> str:
        """The hash of a part's weights; FileNotFoundError names the command that makes them."""
        meta = self.part(part) / "meta.json"
        if not meta.exists():
            stage = {"vae": "train-vae", "controller": "evolve"}.get(part, "train-mdnrnn")
            make = self.owner(part).command(stage)
            raise FileNotFoundError(f"{meta} is missing; run {make} first")
        return read_json(meta).get("weights_sha256", "")

    @property
    def generations_done(self) -> int:
        """How far the evolution of C has come."""
        return self._meta("controller").get("generation", 0)

    @property
    def memories(self) -> list[str]:
        """The parts that hold Ms: the agent's own, then those that dream in its place."""
        if self.config.mdnrnn is None:
            return []
        dreams = self.config.evolve.world == "dream"
        dreamers = self.config.evolve.dream.dreamers if dreams else 0
        return ["mdnrnn", *(f"mdnrnn_{number}" for number in range(1, dreamers + 1))]

    @property
    def outcomes(self) -> list[str]:
        """The parts that hold what Ms say of reward and end, where that is trained after them."""
        outcome = _outcome(self.config)
        if outcome is None or outcome.trained == "with":
            return []
        return [part.replace("mdnrnn", "outcome") for part in self.memories]

    def input_hashes(self) -> dict[str, str]:
        """The hashes of all weights that this run's C is evolved on."""
        parts = ["vae", *self.memories]
        if self.config.evolve.world == "dream":
            parts += self.outcomes
        return {part: self.weights_hash(part) for part in parts}

    @property
    def first_episode(self) -> int:
        """The index of this run's first episode, behind those that it keeps."""
        base = self.kept_from("episodes")
        return base.first_episode + base.config.collect.total if base else 0

    @property
    def episodes(self) -> EpisodeStore:
        """The store of the episodes that this run adds."""
        return EpisodeStore(self.folder / "episodes")

    def episode_paths(self) -> list[Path]:
        """All episodes that this run trains on, the base's first; FileNotFoundError without any."""
        base = self.kept_from("episodes")
        paths = (base.episode_paths() if base else []) + self.episodes.find()
        if not paths:
            make = self.collector.command("collect")
            raise FileNotFoundError(f"{self.episodes.folder} holds no episodes; run {make} first")
        return paths

    @property
    def collector(self) -> "Run":
        """The run that collected this run's newest episodes."""
        base = self.kept_from("episodes")
        return base.collector if base and not self.config.collect.total else self

    @property
    def latents(self) -> EpisodeStore:
        """The store of episodes that this run encodes, bound to its V by the hash of V's weights.

        Raises FileNotFoundError without a V, ValueError when the latents are of another one.
        """
        store = EpisodeStore(self.folder / "latents", EncodedEpisode)
        meta = store.folder / "meta.json"
        bound = read_json(meta) if meta.exists() else None
        if bound != self._v and (bound or store.find()):
            raise ValueError(self._belongs_to_another_v("latents"))
        return store

    def bind_latents(self) -> None:
        """Note, before the first one is encoded, whose codes the latents are."""
        meta = self.latents.folder / "meta.json"
        if not meta.exists():
            write_json(meta, self._v)

    @property
    def _v(self) -> dict[str, str]:
        return {"vae_sha256": self.weights_hash("vae")}

    def latent_paths(self) -> list[Path]:
        """Where each encoded episode is, or is to be: the base's file, where it has one."""
        own = self.latents.folder
        base = self.kept_from("vae") and self.kept_from("episodes")
        found = [path for path in base.latent_paths() if path.exists()] if base else []
        there = {path.name: path for path in found}
        return [there.get(path.name, own / path.name) for path in self.episode_paths()]

    def check_memory(self, part: str = "mdnrnn") -> None:
        """ValueError when an M was trained on the codes of another V than the one that is there.

        Or when what is said of its outcome was trained on another M.
        """
        trained_on = self._meta(part).get("vae_sha256")  # an older M doesn't say
        if trained_on not in (None, self.weights_hash("vae")):
            raise ValueError(self._belongs_to_another_v(part))
        outcome = part.replace("mdnrnn", "outcome")
        learnt_on = self._meta(outcome).get("mdnrnn_sha256") if outcome in self.outcomes else None
        if learnt_on not in (None, self.weights_hash(part)):
            folder, owner = self.part(outcome), self.owner(outcome)
            odd = f"{folder} was trained on another M than the one in {self.part(part)}"
            raise ValueError(f"{odd}; delete it, then run {owner.command('train-mdnrnn')}")

    def _meta(self, part: str) -> dict:
        path = self.part(part) / "meta.json"
        return read_json(path) if path.exists() else {}

    def _belongs_to_another_v(self, part: str) -> str:
        odd = f"{self.part(part)} belongs to another V than the one in {self.part('vae')}"
        owner = self.owner(part)
        remedy = f"delete all but config.json, episodes and vae in {owner.folder}"
        return f"{odd}; {remedy}, then run {owner.command('train-mdnrnn')} again"

    def command(self, stage: str) -> str:
        """What a reader types to run a stage; a run that no preset made goes on by its own file."""
        name = self.config.preset
        preset = f"--preset {name} " if PRESETS.get(name) == self.config else ""
        return f"python -m wmlib {stage} {preset}--run {shlex.quote(str(self.folder))}"


def load_config(folder: str | Path) -> Config:
    """The configuration that a run was made with.

    Raises FileNotFoundError if the folder holds no run, ValueError if its file says what can't be.
    """
    path = resolve(folder) / "config.json"
    if not path.exists():
        make = f"make one with python -m wmlib collect --run {folder}"
        raise FileNotFoundError(f"{resolve(folder)} holds no run (no config.json); {make}")
    values = read_json(path)
    try:
        return from_dict(values)
    except ValueError as error:
        remedy = "update this package by git pull, or start another run"
        raise ValueError(f"{path}: {error}; {remedy}") from None


def base_folder(folder: Path, config: Config) -> Path | None:
    """Where the base of a run in `folder` lies: inside it by its preset's name, or at its path."""
    if config.after is None:
        return None
    is_name = len(Path(config.after).parts) == 1
    return folder / config.after if is_name else resolve(config.after)


def open_run(folder: str | Path) -> Run:
    """The run in a folder.

    Raises FileNotFoundError if there is none, ValueError for a damaged configuration or a circle.
    """
    folder = resolve(folder)
    run = Run(folder, load_config(folder))
    _check_circle(folder, run.config)
    return run


def claim_run(folder: str | Path, config: Config) -> Run:
    """Make a run's folder, its base's too where that is a preset's; or open what was made so before.

    Raises ValueError when the folder was made with another configuration, holds something else, or
    doesn't fit its base; FileNotFoundError when the base is missing. Then nothing is made.
    """
    folder = resolve(folder)
    for place, wanted in _checked_claims(folder, config):
        if not (place / "config.json").exists():
            write_json(place / "config.json", to_dict(wanted))
    return Run(folder, config)


def _checked_claims(folder: Path, config: Config) -> list[tuple[Path, Config]]:
    """The folders that a run needs, its own first, and what is to be in them."""
    if (folder / "config.json").exists():
        if differing := differences(load_config(folder), config):
            other = f"{folder} was made with another configuration ({'; '.join(differing[:3])})"
            raise ValueError(f"{other}; choose another --run or --preset")
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run; choose another --run")
    _check_circle(folder, config)
    base = base_folder(folder, config)
    if base is None:
        return [(folder, config)]
    inside = base.parent == folder
    is_new = inside and not (base / "config.json").exists()
    below = get_preset(base.name) if is_new else load_config(base)
    _check_fit(config, below, base)
    return [(folder, config)] + (_checked_claims(base, below) if inside else [])


def _check_circle(folder: Path, config: Config) -> None:
    """ValueError when a run goes on from itself, by whatever way."""
    seen = [folder]
    below = base_folder(folder, config)
    while below is not None:
        if below.resolve() in [one.resolve() for one in seen]:
            circle = " -> ".join(str(one) for one in [*seen, below])
            raise ValueError(f"this run goes on from itself: {circle}; correct `after` in one")
        if not (below / "config.json").exists():
            return
        seen.append(below)
        below = base_folder(below, load_config(below))


def _check_fit(config: Config, base: Config, folder: Path) -> None:
    """ValueError unless what a run keeps of its base is what its own configuration describes."""
    memory = base.mdnrnn
    trained = [outcome.trained for outcome in (_outcome(base), _outcome(config)) if outcome]
    if memory and "with" not in trained:  # then M's weights hold nothing of reward and end
        memory = replace(memory, outcome=_outcome(config))
    same = {
        "task": config.task == base.task,
        "vae": config.vae == base.vae,
        "mdnrnn": config.mdnrnn == memory,
    }
    for part in ("task", *config.keeps):
        if not same.get(part, True):
            odd = f"{part} is kept of the run in {folder}, but configured otherwise than there"
            raise ValueError(f"{odd}; take over its values, or don't keep it")
    if config.evolve.start == "base" and config.controller != base.controller:
        odd = f"C begins at the one of the run in {folder}, but reads or is built otherwise"
        raise ValueError(f"{odd}; take over its controller, or begin at zero")
    goes_on = config.collect.total > 0 or config.evolve.start == "base"
    if goes_on and config.seed == base.seed:
        raise ValueError(f"seed {config.seed} is the base's too, in {folder}; choose another")


def _outcome(config: Config) -> OutcomeConfig | None:
    return config.mdnrnn.outcome if config.mdnrnn else None
