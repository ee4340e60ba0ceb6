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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from wmlib.checkpoint import file_hash, read_json, write_atomically, write_json
from wmlib.config import resolve

# What numpy and zipfile raise on a file whose bytes were changed or lost.
DAMAGE = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, RuntimeError, KeyError, ValueError, EOFError, OSError)
CHUNK_STEPS = 300  # batches drawn from the same few episodes, so that reading costs a twentieth of training


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
        _check_lengths(len(self.action), observations=len(self.obs), rewards=len(self.reward))

    def __len__(self) -> int:
        return len(self.action)


@dataclass
class EncodedEpisode:
    """The same drive as V sees it: mu and logvar float32 (T+1, Z) instead of observations."""

    mu: np.ndarray
    logvar: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool

    def __post_init__(self):
        _check_lengths(len(self.action), mu=len(self.mu), logvar=len(self.logvar), rewards=len(self.reward))

    def __len__(self) -> int:
        return len(self.action)


def _check_lengths(T: int, **lengths: int) -> None:
    for name, number in lengths.items():
        needed = T if name == "rewards" else T + 1
        if number != needed:
            raise ValueError(f"an episode of {T} actions needs {needed} {name}, got {number}")


Kind = TypeVar("Kind", Episode, EncodedEpisode)
REMEDIES = {  # what brings a damaged file back
    Episode: "delete it and run python -m wmlib collect again, or train with --skip-damaged",
    EncodedEpisode: "delete it and run python -m wmlib train-mdnrnn again",
}


class EpisodeStore:
    """A folder of episodes of one kind, one compressed file each; a file is there whole or not at all."""

    def __init__(self, folder: Path, kind: type[Episode | EncodedEpisode] = Episode):
        self.folder, self.kind = Path(folder), kind

    def path(self, index: int) -> Path:
        """Where episode `index` is kept."""
        return self.folder / f"{index:06d}.npz"

    def paths(self) -> list[Path]:
        """All episodes there are, in order; FileNotFoundError if there are none."""
        paths = sorted(self.folder.glob("[0-9]*.npz"))
        if not paths:
            stage = "collect" if self.kind is Episode else "train-mdnrnn"
            raise FileNotFoundError(f"{self.folder} holds no episodes; run python -m wmlib {stage} first")
        return paths

    def save(self, index: int, episode: Episode | EncodedEpisode) -> None:
        """Keep an episode under its index, atomically: an npz, deflated at the level that costs less than driving."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name, value in vars(episode).items():
                with file.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, np.asarray(value), allow_pickle=False)
        write_atomically(self.path(index), content.getvalue())


def load_episode(path: Path, kind: type[Kind] = Episode) -> Kind:  # type: ignore[assignment]  # a default for Kind
    """The episode, of that kind, in a file; ValueError names a damaged one and what to run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {field.name: file[field.name] for field in fields(kind)}
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        return kind(**values | scalars)
    except DAMAGE as error:
        raise ValueError(f"{path} is no whole episode ({error}); {REMEDIES[kind]}") from None


def load_episodes(paths: list[Path], skip_damaged: bool = False) -> Iterator[Episode]:
    """The episodes in some files; a damaged one is a ValueError or, if it is to be skipped, a warning that names it."""
    for path in paths:
        try:
            yield load_episode(path)
        except ValueError as error:
            if not skip_damaged:
                raise
            warnings.warn(f"skipped: {error}", stacklevel=2)


def open_latents(folder: str | Path) -> EpisodeStore:
    """The store of a run's encoded episodes, bound to its V by the hash of V's weights; a new store is bound here.

    Raises FileNotFoundError without a V, ValueError when the latents, or the M trained on them, are of another one.
    """
    folder = resolve(folder)
    store, meta, vae = EpisodeStore(folder / "latents", EncodedEpisode), folder / "latents" / "meta.json", _v_of(folder)
    fresh = not meta.exists() and not any(store.folder.glob("*.npz"))
    if not fresh and (not meta.exists() or read_json(meta) != vae):
        raise ValueError(OTHER_V.format(folder=folder, part="latents"))
    check_memory(folder)
    if fresh:
        write_json(meta, vae)
    return store


def check_memory(folder: Path) -> None:
    """ValueError when a run's M was trained on the codes of another V than the one that is there."""
    meta = folder / "mdnrnn" / "meta.json"
    trained_on = read_json(meta).get("vae_sha256") if meta.exists() else None  # an older M does not say
    if trained_on not in (None, _v_of(folder)["vae_sha256"]):
        raise ValueError(OTHER_V.format(folder=folder, part="mdnrnn"))


OTHER_V = (
    "{folder}/{part} belongs to another V than the one in {folder}/vae; delete latents, mdnrnn and controller there, "
    "then run python -m wmlib train-mdnrnn again"
)


def _v_of(folder: Path) -> dict[str, str]:
    meta = folder / "vae" / "meta.json"
    if not meta.exists():
        raise FileNotFoundError(f"{meta} is missing; run python -m wmlib train-vae first")
    return {"vae_sha256": read_json(meta).get("weights_sha256", "")}


def data_hash(paths: list[Path]) -> str:
    """One hash over the names and hashes of the files that a model was trained on."""
    return hashlib.sha256("".join(path.name + file_hash(path) for path in paths).encode()).hexdigest()


def _chosen(paths: list[Path], seed: int, step: int, number: int) -> list[Path]:
    """The few episodes that are in memory at a step."""
    order = np.random.default_rng([seed, step // CHUNK_STEPS, 0]).permutation(len(paths))
    return [paths[index] for index in order[:number]]


def frame_batches(
    paths: list[Path], batch_size: int, seed: int, first_step: int = 0, skip_damaged: bool = False
) -> Iterator[np.ndarray]:
    """Random batches of frames, uint8 (B, 64, 64, 3), forever.

    A few episodes at a time are in memory; for some hundred steps the batches come from those. Batch number `step`
    is the same whatever `first_step` is, so a training resumes on the frames that it would have seen.
    """
    for step in range(first_step, 2**62):
        if step == first_step or step % CHUNK_STEPS == 0:
            chosen = _chosen(paths, seed, step, number=32)
            drives = [episode.obs for episode in load_episodes(chosen, skip_damaged)]
            if not drives:
                lost = f"all {len(chosen)} episodes drawn from {paths[0].parent} are damaged"
                raise ValueError(f"{lost}; delete them and run python -m wmlib collect again")
            frames = np.concatenate(drives)
        rows = np.random.default_rng([seed, step, 1]).integers(len(frames), size=batch_size)
        yield frames[rows]


class Sequences(NamedTuple):
    """Pieces of episodes, each of at most T steps; shorter ones are filled up with zeros, where `mask` is False.

    z float32 (B, T+1, Z); action float32 (B, T, A) leads from z[:, t] to z[:, t+1]; reward float32 (B, T);
    terminated bool (B, T), True at the step that ended an episode; mask bool (B, T). As arrays, or as tensors.
    """

    z: Any
    action: Any
    reward: Any
    terminated: Any
    mask: Any


def sequence_batches(
    paths: list[Path], batch_size: int, length: int, seed: int, first_step: int = 0
) -> Iterator[Sequences]:
    """Random pieces, of `length` steps or as long as their episode, from the files of encoded episodes, forever.

    z is drawn anew from N(mu, exp(logvar)) for every batch (paper, A.2). A few hundred episodes at a time are in
    memory. Batch number `step` is the same whatever `first_step` is.
    """
    for step in range(first_step, 2**62):
        if step == first_step or step % CHUNK_STEPS == 0:
            drives = [load_episode(path, EncodedEpisode) for path in _chosen(paths, seed, step, number=256)]
        yield _draw_pieces(drives, batch_size, length, np.random.default_rng([seed, step, 1]))


def _draw_pieces(drives: list[EncodedEpisode], B: int, length: int, rng: np.random.Generator) -> Sequences:
    """B pieces. A window of `length` steps slides over each episode, from before its start to behind its end.

    All its places are equally likely, and where it hangs over it is moved inside: so ends are seen often.
    """
    pieces = []
    places = np.cumsum([len(drive) + length - 1 for drive in drives])
    for place in rng.integers(places[-1], size=B):
        index = np.searchsorted(places, place, side="right")
        drive = drives[index]
        start = np.clip(len(drive) - (places[index] - place), 0, max(0, len(drive) - length))
        pieces.append((drive, start, min(length, len(drive))))
    T, Z, A = max(steps for _, _, steps in pieces), drives[0].mu.shape[1], drives[0].action.shape[1]
    z, action, reward = (np.zeros((B, *shape), np.float32) for shape in ((T + 1, Z), (T, A), (T,)))
    terminated, mask = np.zeros((B, T), bool), np.zeros((B, T), bool)
    for row, (drive, start, steps) in enumerate(pieces):
        window, codes = slice(start, start + steps), slice(start, start + steps + 1)
        noise = rng.standard_normal((steps + 1, Z), dtype=np.float32)
        z[row, : steps + 1] = drive.mu[codes] + np.exp(0.5 * drive.logvar[codes]) * noise
        action[row, :steps], reward[row, :steps] = drive.action[window], drive.reward[window]
        terminated[row, steps - 1] = drive.terminated and window.stop == len(drive)
        mask[row, :steps] = True
    return Sequences(z, action, reward, terminated, mask)
