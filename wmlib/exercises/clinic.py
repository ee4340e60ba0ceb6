"""A notebook's clinic: runs with one fault each, to be told from what they show.

What the patients of three of the four leave is kept in data/clinic; `python -m bench.clinics NAME` makes it again.
Letters: R rows of C frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wmlib.checkpoint import read_json, write_json
from wmlib.config import resolve

SIZE = 64  # of a frame
GAP = 2  # white pixels on each side of a frame
QUESTION = (
    "Before you answer, say for each patient which *one* observation speaks for your choice "
    "and which fault it rules out."
)


@dataclass(frozen=True)
class Clinic:
    """Faults, each with what is wrong and what that would show; and who has which.

    maker is the module of bench/clinics that makes the patients, curves the file for all that is numbers, picture the
    one for a patient's frames; a clinic that runs its patients when they are drawn has none of the three.
    """

    faults: dict[str, tuple[str, str]]
    patients: dict[str, str]
    maker: str = ""
    curves: str = ""
    picture: str = ""
    folder: Path = resolve("data/clinic")

    @property
    def everyone(self) -> dict[str, str]:
        """The patients behind a healthy one, each with its fault."""
        return {"healthy": ""} | self.patients

    @property
    def command(self) -> str:
        """What makes the patients again."""
        return f"python -m bench.clinics {self.maker}"

    def task(self, text: str) -> str:
        """An exercise's task: what is to be read, the faults to choose among, and what to say before answering."""
        faults = "\n".join(f"- `{fault}`: {wrong}" for fault, (wrong, _) in self.faults.items())
        return f"{text}\n{faults}\n\n{QUESTION}"

    def check(self, function: Callable) -> None:
        """Raise AssertionError, with what a wrongly named fault would show, unless each patient's is named."""
        found = function()
        *some, last = self.patients
        assert isinstance(found, dict) and found.keys() == self.patients.keys(), (
            f"expected a dict with a fault for each of {', '.join(some)} and {last}, got {found!r}"
        )
        for patient, fault in found.items():
            known = isinstance(fault, str) and fault in self.faults
            assert known, (
                f"{patient}: no fault is called {fault!r}; choose among {', '.join(self.faults)}"
            )
            shown = self.faults[fault][1]
            assert fault == self.patients[patient], (
                f"{patient}: with the fault '{fault}' {shown}. Look again"
            )

    def read_curves(self) -> dict:
        """The numbers that are kept of all."""
        return read_json(self.folder / self.curves)

    def keep_curves(self, found: dict) -> None:
        """Write them, behind the command that made them."""
        write_json(self.folder / self.curves, {"command": self.command} | found)

    def read_frames(self, name: str) -> np.ndarray:
        """The frames that are kept of one, uint8 (R, C, 64, 64, 3)."""
        sheet = np.asarray(Image.open(self._path(name)))
        height, width, _ = sheet.shape
        return sheet.reshape(height // SIZE, SIZE, width // SIZE, SIZE, 3).swapaxes(1, 2)

    def keep_frames(self, name: str, frames: np.ndarray) -> None:
        """Write them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_sheet(frames)).save(self._path(name), optimize=True)

    def _path(self, name: str) -> Path:
        return self.folder / self.picture.format(name.replace(" ", "_"))


def _sheet(frames: np.ndarray) -> np.ndarray:
    """One picture of frames (R, C, height, width, 3)."""
    R, C, height, width, _ = frames.shape
    return frames.swapaxes(1, 2).reshape(R * height, C * width, 3)


def draw_frames(ax, frames: np.ndarray, rows: Sequence = (), columns: Sequence = ()) -> None:
    """Frames (R, C, 64, 64, 3) with a little white between them; rows and columns are written beside them."""
    beside, between = (GAP, GAP), (GAP, GAP) if len(frames) > 1 else (0, 0)
    apart = np.pad(frames, ((0, 0), (0, 0), between, beside, (0, 0)), constant_values=255)
    pitch = SIZE + 2 * GAP
    ax.imshow(_sheet(apart))
    ax.set_yticks(pitch * np.arange(len(rows)) + pitch // 2, rows)
    ax.set_xticks(pitch * np.arange(len(columns)) + pitch // 2, columns)
    ax.spines[:].set_visible(False)
    ax.grid(False)


def label_rows(
    axes: np.ndarray,
    names: Sequence[str],
    titles: Sequence[str],
    below: Sequence[str],
    name_size: int = 12,
    title_size: int = 9,
) -> None:
    """Write each row's name before it, what a column shows above the first row, and its unit below the last."""
    for row, name in zip(axes, names):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=name_size)
        for ax in row:
            ax.tick_params(labelbottom=name == names[-1])
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, loc="center", fontsize=title_size)
    for ax, unit in zip(axes[-1], below):
        ax.set_xlabel(unit, fontsize=9)
