"""Small H.264 films."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: int = 50) -> None:
    """Write frames, uint8 (H, W, 3) with even H and W, as an mp4 that browsers play; whole or not at all."""
    frames = iter(frames)
    first = next(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.mp4")
    coding = {
        "codec": "libx264",
        "quality": None,
        "output_params": ["-crf", "28", "-preset", "slow"],
    }
    writer = imageio_ffmpeg.write_frames(
        str(temporary), first.shape[1::-1], fps=fps, macro_block_size=2, **coding
    )
    try:
        writer.send(None)
        for frame in itertools.chain([first], frames):
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        temporary.replace(path)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)
