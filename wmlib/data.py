"""Episodes: in memory, on disk, and as the random batches that V and M train on.

An episode has T+1 observations and T actions and rewards; action[t] leads from obs[t] to obs[t+1].
Letters: B batch, T time, Z latents, A action.
"""

import hashlib
import io
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from wmlib.checkpoint import file_hash, write_atomically
from wmlib.config import CHUNK_STEPS, FRAME_EPISODES, SEQUENCE_EPISODES

# What numpy and zipfile raise on a file whose bytes were changed or lost.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    RuntimeError,
    KeyError,
    ValueError,
    EOFError,
    OSError,
)


@dataclass
class Episode:
    """One episode, real or dreamt; index t belongs to obs[t].

    obs uint8 (T+1, 64, 64, 3); action float32 (T, A), squashed, in the environment's units; reward
    float32 (T,); terminated: whether the environment ended it (else a time limit did); seed: the
    track's; driver: who chose the actions.

    A recorded one has more, which no file keeps. mu, logvar and z (T, Z): the code of each frame,
    as far as the policy has one; h and c (T+1, H): M's memory before frame t, as C read it.
    telemetry: what no frame shows of a real world, by name, each (T+1, ...). pictures: the
    renderer's, where the environment has one; 0.7 MB a step in CarRacing.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    seed: int
    driver: str = ""
    mu: np.ndarray | None = None
    logvar: np.ndarray | None = None
    z: np.ndarray | None = None
    h: np.ndarray | None = None
    c: np.ndarray | None = None
    telemetry: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: np.ndarray | None = None

    def __post_init__(self):
        _check_lengths(len(self.action), observations=len(self.obs), rewards=len(self.reward))

    def __len__(self) -> int:
        return len(self.action)

    @property
    def place(self) -> np.ndarray:
        """Where the car was, (T+1, 2), in world units."""
        return self.telemetry["place"]

    @property
    def speed(self) -> np.ndarray:
        """How fast it was, (T+1,), in world units a second."""
        return self.telemetry["speed"]

    @property
    def turning(self) -> np.ndarray:
        """How fast it turned, (T+1,), in radians a second."""
        return self.telemetry["turning"]


@dataclass
class EncodedEpisode:
    """An episode as V sees it: mu and logvar float32 (T+1, Z) instead of observations."""

    mu: np.ndarray
    logvar: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool

    def __post_init__(self):
        lengths = {"mu": len(self.mu), "logvar": len(self.logvar), "rewards": len(self.reward)}
        _check_lengths(len(self.action), **lengths)

    def __len__(self) -> int:
        return len(self.action)


def _check_lengths(T: int, **lengths: int) -> None:
    for name, number in lengths.items():
        needed = T if name == "rewards" else T + 1
        if number != needed:
            raise ValueError(f"an episode of {T} actions needs {needed} {name}, got {number}")


Kind = TypeVar("Kind", Episode, EncodedEpisode)
STORED: dict[type, list[str]] = {  # what a file keeps of each kind
    Episode: ["obs", "action", "reward", "terminated", "seed", "driver"],
    EncodedEpisode: [entry.name for entry in fields(EncodedEpisode)],
}
LATER = {"driver": ""}  # what older files lack
REMEDIES = {  # what brings a damaged file back
    Episode: "delete it and run python -m wmlib collect again, or train with --skip-damaged",
    EncodedEpisode: "delete it and run python -m wmlib train-mdnrnn again",
}


class EpisodeStore:
    """A folder of episodes of one kind, one compressed file each; a file is there whole or not."""

    def __init__(self, folder: Path, kind: type[Episode | EncodedEpisode] = Episode):
        self.folder = Path(folder)
        self.kind = kind

    def path(self, index: int) -> Path:
        """Where episode `index` is kept."""
        return self.folder / f"{index:06d}.npz"

    def find(self) -> list[Path]:
        """All episodes there are, in order."""
        return sorted(self.folder.glob("[0-9]*.npz"))

    def paths(self) -> list[Path]:
        """All episodes there are, in order; FileNotFoundError if there are none."""
        paths = self.find()
        if not paths:
            stage = "collect" if self.kind is Episode else "train-mdnrnn"
            empty = f"{self.folder} holds no episodes"
            raise FileNotFoundError(f"{empty}; run python -m wmlib {stage} first")
        return paths

    def save(self, index: int, episode: Episode | EncodedEpisode) -> None:
        """Keep an episode under its index, atomically: an npz, deflated cheaper than driving is."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name in STORED[self.kind]:
                with file.open(f"{name}.npy", "w") as entry:
                    value = np.asarray(getattr(episode, name))
                    np.lib.format.write_array(entry, value, allow_pickle=False)
        write_atomically(self.path(index), content.getvalue())


def load_episode(path: Path, kind: type[Kind] = Episode) -> Kind:  # type: ignore[assignment]
    """The episode, of that kind, in a file; ValueError names a damaged one and what to run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in STORED[kind] if name in file or name not in LATER]
            values = {name: file[name] for name in names}
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        return kind(**values | scalars)
    except DAMAGE as error:
        raise ValueError(f"{path} is no whole episode ({error}); {REMEDIES[kind]}") from None


def load_episodes(paths: list[Path], skip_damaged: bool = False) -> Iterator[Episode]:
    """The episodes in some files; a damaged one is a ValueError or, if skipped, a named warning."""
    for path in paths:
        try:
            yield load_episode(path)
        except ValueError as error:
            if not skip_damaged:
                raise
            warnings.warn(f"skipped: {error}", stacklevel=2)


def data_hash(paths: list[Path]) -> str:
    """One hash over the names and hashes of the files that a model was trained on."""
    return hashlib.sha256(
        "".join(path.name + file_hash(path) for path in paths).encode()
    ).hexdigest()


def _chosen(paths: list[Path], seed: int, step: int, number: int) -> list[Path]:
    """The few episodes that are in memory at a step."""
    order = np.random.default_rng([seed, step // CHUNK_STEPS, 0]).permutation(len(paths))
    return [paths[index] for index in order[:number]]


def frame_batches(
    paths: list[Path], batch_size: int, seed: int, first_step: int = 0, skip_damaged: bool = False
) -> Iterator[np.ndarray]:
    """Random batches of frames, uint8 (B, 64, 64, 3), forever.

    A few episodes at a time are in memory; for some hundred steps the batches come from those.
    Batch number `step` is the same whatever `first_step` is, so a training resumes on the frames
    that it would have seen.
    """
    for step in range(first_step, 2**62):
        if step == first_step or step % CHUNK_STEPS == 0:
            chosen = _chosen(paths, seed, step, FRAME_EPISODES)
            loaded = [episode.obs for episode in load_episodes(chosen, skip_damaged)]
            if not loaded:
                lost = f"all {len(chosen)} episodes drawn from {paths[0].parent} are damaged"
                raise ValueError(f"{lost}; delete them and run python -m wmlib collect again")
            frames = np.concatenate(loaded)
        rows = np.random.default_rng([seed, step, 1]).integers(len(frames), size=batch_size)
        yield frames[rows]


class Sequences(NamedTuple):
    """Pieces of episodes, each of at most T steps; shorter ones end in zeros, where `mask` is False.

    z float32 (B, T+1, Z); action float32 (B, T, A) leads from z[:, t] to z[:, t+1]; reward float32
    (B, T); terminated bool (B, T), True at the step that ended an episode; mask bool (B, T). As
    arrays, or as tensors.
    """

    z: Any
    action: Any
    reward: Any
    terminated: Any
    mask: Any


def sequence_batches(
    paths: list[Path], batch_size: int, length: int, seed: int, first_step: int = 0
) -> Iterator[Sequences]:
    """Random pieces, of `length` steps or as long as their episode, from encoded episodes, forever.

    z is drawn anew from N(mu, exp(logvar)) for every batch (paper, A.2). A few hundred episodes at a
    time are in memory. Batch number `step` is the same whatever `first_step` is.
    """
    for step in range(first_step, 2**62):
        if step == first_step or step % CHUNK_STEPS == 0:
            chosen = _chosen(paths, seed, step, SEQUENCE_EPISODES)
            loaded = [load_episode(path, EncodedEpisode) for path in chosen]
        rng = np.random.default_rng([seed, step, 1])
        yield _draw_pieces(loaded, batch_size, length, rng)


def _draw_pieces(
    loaded: list[EncodedEpisode], B: int, length: int, rng: np.random.Generator
) -> Sequences:
    """B pieces. A window of `length` steps slides over each episode, beyond its start and its end.

    All its places are equally likely, and where it hangs over it is moved inside: so ends are seen
    often.
    """
    pieces = []
    places = np.cumsum([len(episode) + length - 1 for episode in loaded])
    for place in rng.integers(places[-1], size=B):
        index = np.searchsorted(places, place, side="right")
        episode = loaded[index]
        last = max(0, len(episode) - length)
        start = np.clip(len(episode) - (places[index] - place), 0, last)
        pieces.append((episode, start, min(length, len(episode))))
    T = max(steps for _, _, steps in pieces)
    Z = loaded[0].mu.shape[1]
    A = loaded[0].action.shape[1]
    batch = Sequences(
        z=np.zeros((B, T + 1, Z), np.float32),
        action=np.zeros((B, T, A), np.float32),
        reward=np.zeros((B, T), np.float32),
        terminated=np.zeros((B, T), bool),
        mask=np.zeros((B, T), bool),
    )
    for row, (episode, start, steps) in enumerate(pieces):
        window = slice(start, start + steps)
        codes = slice(start, start + steps + 1)
        noise = rng.standard_normal((steps + 1, Z), dtype=np.float32)
        batch.z[row, : steps + 1] = episode.mu[codes] + np.exp(0.5 * episode.logvar[codes]) * noise
        batch.action[row, :steps] = episode.action[window]
        batch.reward[row, :steps] = episode.reward[window]
        ends = episode.terminated and window.stop == len(episode)
        batch.terminated[row, steps - 1] = ends
        batch.mask[row, :steps] = True
    return batch
