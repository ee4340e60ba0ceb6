"""The clinic: short trainings with one fault each, to be diagnosed from what they leave in data/clinic.

`python -m bench clinic` trains the patients again.
"""

import numpy as np
from PIL import Image

from wmlib.config import resolve
from wmlib.exercises import exercise, expect_diagnosis

FOLDER, STEPS, SHOWN = resolve("data/clinic"), 500, 8
FAULTS = {  # what is wrong, and what it would show
    "averaged error": (
        "the squared error is averaged over the pixels beside a summed KL without a floor",
        "the KL would fall to nothing and stay there, and every frame would be painted as the same average",
    ),
    "frames in order": (
        "batches are taken from the episodes in the order of driving",
        "the squared error would swing with the episodes, and V would paint what it saw last, whatever it is shown",
    ),
    "no noise": (
        "the decoder gets mu itself, not a draw from q",
        "the pictures from mu would be as good as ever, while noise of the width that q claims would ruin them",
    ),
    "no KL": ("the loss is the squared error alone", "the KL would climb far above the floor, since nothing holds it"),
    "KL subtracted": ("the KL has the wrong sign", "the KL would grow without end, and the loss would fall below zero"),
    "learning rate too high": (
        "steps a hundred times too large",
        "the curves would jump instead of falling, from the first steps on",
    ),
}
PATIENTS = {"A": "no noise", "B": "averaged error", "C": "frames in order"}
FLOORS = {"floor 0": 0.0, "floor 16": 0.5, "floor 96": 3.0}


def read_sheet(name: str) -> np.ndarray:
    """A patient's contact sheet as it was kept."""
    rows = np.asarray(Image.open(FOLDER / f"{name.replace(' ', '_')}.png"))
    return rows.reshape(4, 64, SHOWN, 64, 3).swapaxes(1, 2)


def _check_diagnosis(function) -> None:
    expect_diagnosis(function(), PATIENTS, FAULTS)


FAULT_LIST = "\n".join(f"- `{fault}`: {wrong}" for fault, (wrong, _) in FAULTS.items())


@exercise(
    notebook="02_vae",
    minutes=15,
    task=f"""Three Vs in the **clinic** above, each trained with one fault. Read curves and pictures, and name
each fault. Choose among:
{FAULT_LIST}

Before you answer, say for each patient which *one* observation speaks for your choice and which fault it rules out.""",
    hint="""What does each fault do to the KL? Three of the six can be told from that curve alone. For the others
compare the row from $\\mu$ with the row from $z$, and look at the shape of the error's curve.""",
    check=_check_diagnosis,
)
def diagnosis():
    """The fault of each patient: a dict from patient to fault."""
    return {"A": "no noise", "B": "averaged error", "C": "frames in order"}
