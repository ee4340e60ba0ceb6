"""Formats for stored frames, on the same drives: bytes on disk, how fast they are written and read; and V's batches.

PNG holds an episode's frames in one tall picture. HDF5 and Zarr, where installed, compress an episode as one chunk, or
each frame by itself, so that single frames can be read. Zarr compresses with Zstandard, HDF5 and npz with deflate.
"""

import statistics
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from bench.common import timed
from wmlib.data import EpisodeStore, frame_batches
from wmlib.envs.car_racing import CAR_RACING
from wmlib.envs.vector import VectorEnv
from wmlib.policies import BrownianPolicy
from wmlib.presets import LAPTOP
from wmlib.rollout import episodes
from wmlib.train import train_vae
from wmlib.vae import VAE

EPISODES, STEPS = 32, 1_000
BATCH, BATCHES = LAPTOP.vae.batch_size, 300
FRAME = (1, 64, 64, 3)


def write_deflate(path, frames, level):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as file:
        with file.open("frames.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, frames)


def read_npz(path):
    with np.load(path) as file:
        return file["frames"]


def write_png(path, frames):
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    path.write_bytes(
        cv2.imencode(".png", frames.reshape(-1, *frames.shape[2:]), settings)[1].tobytes()
    )


def read_png(path):
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED).reshape(
        -1, 64, 64, 3
    )


def formats():
    """How each format writes an episode's frames, and reads all of them or the given rows, by name."""
    found = {
        "npz, level 6": (lambda path, frames: write_deflate(path, frames, 6), read_npz, None),
        "npz, level 1": (lambda path, frames: write_deflate(path, frames, 1), read_npz, None),
        "npy, raw": (np.save, np.load, lambda path, rows: np.load(path, mmap_mode="r")[rows]),
        "png": (write_png, read_png, None),
    }
    try:
        import h5py

        def write_hdf5(path, frames, chunks):
            with h5py.File(path, "w") as file:
                file.create_dataset(
                    "frames", data=frames, chunks=chunks, compression="gzip", compression_opts=1
                )

        def read_hdf5(path, rows=slice(None)):
            with h5py.File(path) as file:
                return file["frames"][rows]

        found["hdf5, episodes"] = (
            lambda path, frames: write_hdf5(path, frames, frames.shape),
            read_hdf5,
            None,
        )
        found["hdf5, frames"] = (
            lambda path, frames: write_hdf5(path, frames, FRAME),
            read_hdf5,
            read_hdf5,
        )
    except ImportError:
        print("h5py is not installed: left out")
    try:
        import zarr

        def write_zarr(path, frames, chunks):
            shards = frames.shape if chunks == FRAME else None
            array = zarr.create_array(
                str(path), shape=frames.shape, dtype=frames.dtype, chunks=chunks, shards=shards
            )
            array[:] = frames

        def read_zarr(path, rows=slice(None)):
            return zarr.open_array(str(path)).oindex[rows]

        found["zarr, episodes"] = (
            lambda path, frames: write_zarr(path, frames, frames.shape),
            read_zarr,
            None,
        )
        found["zarr, frames"] = (
            lambda path, frames: write_zarr(path, frames, FRAME),
            read_zarr,
            read_zarr,
        )
    except ImportError:
        print("zarr is not installed: left out")
    return found


def size(path):
    return (
        sum(file.stat().st_size for file in path.rglob("*"))
        if path.is_dir()
        else path.stat().st_size
    )


def main():
    """Print a line for each format, then what the store's own batches reach."""
    env, policy = VectorEnv(CAR_RACING.make, 1, STEPS), BrownianPolicy(CAR_RACING)
    drives = [episodes(env, policy, [seed], seed)[0] for seed in range(EPISODES)]
    found = formats()
    rows: dict[str, dict] = {name: {"write": [], "read": [], "bytes": 0} for name in found}
    frames = sum(len(drive.obs) for drive in drives)
    with tempfile.TemporaryDirectory() as folder:
        for index, drive in enumerate(drives):  # every format takes its turn at every episode
            for name, (write, read, read_rows) in found.items():
                path = Path(folder) / f"{name}{index}{'.npy' if 'npy' in name else ''}"
                rows[name]["write"].append(len(drive.obs) / timed(write, path, drive.obs)[0])
                seconds, back = timed(read, path)
                assert np.array_equal(back, drive.obs), f"{name} lost something"
                rows[name]["read"].append(len(drive.obs) / seconds)
                rows[name]["bytes"] += size(path)
                if read_rows:  # one frame from here and there, as a batch needs it
                    chosen = np.sort(
                        np.random.default_rng(index).choice(len(drive.obs), 5, replace=False)
                    )
                    rows[name].setdefault("rows", []).append(5 / timed(read_rows, path, chosen)[0])
        store = EpisodeStore(Path(folder) / "store")
        for index, drive in enumerate(drives):
            store.save(index, drive)
        batches = frame_batches(store.paths(), BATCH, seed=0)
        seconds, _ = timed(lambda: sum(len(next(batches)) for _ in range(BATCHES)))
        vae, kept = VAE(), [next(batches)] * 30
        training, _ = timed(
            lambda: list(train_vae(replace(LAPTOP.vae, steps=len(kept)), vae, iter(kept)))
        )
    table: dict[str, dict] = {}
    for name, row in rows.items():
        speeds = {
            what: statistics.median(row[what]) for what in ("write", "read", "rows") if what in row
        }
        table[name] = {"bytes_per_frame": row["bytes"] / frames}
        table[name] |= {f"{what}_frames_per_s": speed for what, speed in speeds.items()}
    print(
        f"{'':16}{'bytes a frame':>14}{'written a second':>18}{'read a second':>15}{'single frames a second':>24}"
    )
    for name, row in table.items():
        single = f"{row['rows_frames_per_s']:,.0f}" if "rows_frames_per_s" in row else "-"
        whole = f"{row['write_frames_per_s']:18,.0f}{row['read_frames_per_s']:15,.0f}"
        print(f"{name:16}{row['bytes_per_frame']:14.0f}{whole}{single:>24}")
    batched, trained = BATCH * BATCHES / seconds, BATCH * len(kept) / training
    print(f"the store's random batches: {batched:,.0f} frames/s; V trains on {trained:,.0f}")
    return {"formats": table, "batches_frames_per_s": batched, "training_frames_per_s": trained}
