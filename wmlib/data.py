"""Episodes: in memory, on disk, and as the random batches that V and M train on.

An episode has T+1 observations and T actions and rewards; action[t] leads from obs[t] to obs[t+1].
Letters: B batch, T time, Z latents, A action.
"""

import io
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wmlib.checkpoint import write_atomically


# What numpy and zipfile raise on a file whose bytes were changed or lost.
DAMAGE = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, RuntimeError, KeyError, ValueError, EOFError, OSError)


@dataclass
class Episode:
    """One drive.

    obs uint8 (T+1, 64, 64, 3); action float32 (T, A), squashed, in the environment's units; reward float32 (T,);
    terminated: whether the environment ended it (else a time limit did); seed: the track's.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    seed: int

    def __post_init__(self):
        T = len(self.action)
        if len(self.obs) != T + 1 or len(self.reward) != T:
            raise ValueError(f"an episode of {T} actions needs {T + 1} observations and {T} rewards, got {len(self.obs)} and {len(self.reward)}")

    def __len__(self) -> int:
        return len(self.action)


class EpisodeStore:
    """A folder of episodes, one compressed file each; a file is there whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def path(self, index: int) -> Path:
        """Where episode `index` is kept."""
        return self.folder / f"{index:06d}.npz"

    def paths(self) -> list[Path]:
        """All episodes there are, in order; FileNotFoundError if there are none."""
        paths = sorted(self.folder.glob("[0-9]*.npz"))
        if not paths:
            raise FileNotFoundError(f"{self.folder} holds no episodes; run python -m wmlib collect first")
        return paths

    def save(self, index: int, episode: Episode) -> None:
        """Keep an episode under its index, atomically: an npz, deflated at the level that costs less time than driving."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name, value in vars(episode).items():
                with file.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, np.asarray(value), allow_pickle=False)
        write_atomically(self.path(index), content.getvalue())


def load_episode(path: Path) -> Episode:
    """The episode in a file; ValueError names a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in ("obs", "action", "reward", "terminated", "seed")}
        return Episode(**values | {"terminated": bool(values["terminated"]), "seed": int(values["seed"])})
    except DAMAGE as error:
        raise ValueError(f"{path} is no whole episode ({error}); delete it and run python -m wmlib collect again, or train with --skip-damaged") from None


def load_episodes(paths: list[Path], skip_damaged: bool = False) -> Iterator[Episode]:
    """The episodes in some files; a damaged one is a ValueError or, where that is asked for, a warning that names it."""
    for path in paths:
        try:
            yield load_episode(path)
        except ValueError as error:
            if not skip_damaged:
                raise
            warnings.warn(f"skipped: {error}", stacklevel=2)


def frame_batches(
    paths: list[Path], batch_size: int, seed: int, first_step: int = 0, skip_damaged: bool = False
) -> Iterator[np.ndarray]:
    """Random batches of frames, uint8 (B, 64, 64, 3), forever.

    A few episodes at a time are in memory; for some hundred steps the batches come from those. Batch number `step`
    is the same whatever `first_step` is, so a training resumes on the frames that it would have seen.
    """
    chunk_steps, chunk_episodes = 300, min(32, len(paths))  # reading is then a twentieth of V's training
    for step in range(first_step, 2**62):
        if step == first_step or step % chunk_steps == 0:
            chosen = np.random.default_rng([seed, step // chunk_steps, 0]).permutation(len(paths))[:chunk_episodes]
            drives = [episode.obs for episode in load_episodes([paths[index] for index in chosen], skip_damaged)]
            if not drives:
                raise ValueError(f"all {len(chosen)} episodes drawn from {paths[0].parent} are damaged; delete them and run python -m wmlib collect again")
            frames = np.concatenate(drives)
        rows = np.random.default_rng([seed, step, 1]).integers(len(frames), size=batch_size)
        yield frames[rows]


@dataclass
class Latents:
    """A data set as V sees it: for each episode mu and logvar (T+1, Z) and action (T, A), float32."""

    mu: list[np.ndarray]
    logvar: list[np.ndarray]
    action: list[np.ndarray]

    def save(self, path: Path) -> None:
        """One file, all episodes end to end, atomically."""
        content = io.BytesIO()
        arrays = {name: np.concatenate(getattr(self, name)) for name in ("mu", "logvar", "action")}
        np.savez(content, lengths=np.array([len(action) for action in self.action]), **arrays)
        write_atomically(path, content.getvalue())

    @staticmethod
    def load(path: Path) -> "Latents":
        """The inverse of `save`; ValueError on a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                steps = np.cumsum(file["lengths"])[:-1]
                obs = np.cumsum(file["lengths"] + 1)[:-1]
                return Latents(np.split(file["mu"], obs), np.split(file["logvar"], obs), np.split(file["action"], steps))
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and run python -m wmlib train-mdnrnn again") from None


def sequence_batches(
    latents: Latents, batch_size: int, length: int, seed: int, first_step: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random pieces of episodes: z (B, length+1, Z) and action (B, length, A), forever.

    z is drawn anew from N(mu, exp(logvar)) for every batch (paper, A.2). Every piece lies inside one episode, so nothing
    is padded; ValueError if no episode is that long. Batch number `step` is the same whatever `first_step` is.
    """
    starts = np.array([max(0, len(action) - length + 1) for action in latents.action])  # pieces that fit, per episode
    if not starts.any():
        raise ValueError(f"no episode has {length} steps; the longest has {max(map(len, latents.action))}: lower sequence_length")
    ends = np.cumsum(starts)
    for step in range(first_step, 2**62):
        rng = np.random.default_rng([seed, step])
        pieces = rng.integers(ends[-1], size=batch_size)
        episodes = np.searchsorted(ends, pieces, side="right")
        first = pieces - (ends - starts)[episodes]
        mu = np.stack([latents.mu[e][t : t + length + 1] for e, t in zip(episodes, first)])
        logvar = np.stack([latents.logvar[e][t : t + length + 1] for e, t in zip(episodes, first)])
        action = np.stack([latents.action[e][t : t + length] for e, t in zip(episodes, first)])
        noise = rng.standard_normal(mu.shape, dtype=np.float32)
        yield mu + np.exp(0.5 * logvar) * noise, action
