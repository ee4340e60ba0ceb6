"""The clinic: short trainings with one fault each, to be diagnosed from what they leave.

`python -m wmlib.exercises clinic` trains the patients again, QUICK's V on the sample episodes, and keeps curves and pictures
in data/clinic.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from PIL import Image

from wmlib.checkpoint import write_json
from wmlib.config import QUICK, resolve
from wmlib.data import EpisodeStore, frame_batches, load_episode
from wmlib.exercises import exercise
from wmlib.train import encode_frames
from wmlib.vae import VAE, kl_to_standard_normal, to_float, to_uint8, vae_loss

FOLDER, STEPS, SHOWN = resolve("data/clinic"), 500, 8
FAULTS = {  # what is wrong, and what it would show
    "averaged error": ("the squared error is averaged over the pixels beside a summed KL without a floor", "the KL would fall to nothing and stay there, and every frame would be painted as the same average"),
    "frames in order": ("batches are taken from the episodes in the order of driving", "the squared error would swing with the episodes, and V would paint what it saw last, whatever it is shown"),
    "no noise": ("the decoder gets mu itself, not a draw from q", "the pictures from mu would be as good as ever, while noise of the width that q claims would ruin them"),
    "no KL": ("the loss is the squared error alone", "the KL would climb far above the floor, since nothing holds it"),
    "KL subtracted": ("the KL has the wrong sign", "the KL would grow without end, and the loss would fall below zero"),
    "learning rate too high": ("steps a hundred times too large", "the curves would jump instead of falling, from the first steps on"),
}
PATIENTS = {"A": "no noise", "B": "averaged error", "C": "frames in order"}
FLOORS = {"floor 0": 0.0, "floor 16": 0.5, "floor 96": 3.0}


def trained(fault: str = "", kl_tolerance: float = QUICK.vae.kl_tolerance) -> tuple[VAE, list[dict]]:
    """V after a short training on all sample episodes but the last, and its curve; `fault` is one of the patients'."""
    torch.manual_seed(0)
    paths = EpisodeStore(resolve("data/episodes")).paths()[:-1]
    vae, curve = VAE(), []
    optimizer = torch.optim.Adam(vae.parameters(), QUICK.vae.learning_rate)
    batches = _in_order(paths) if fault == "frames in order" else frame_batches(paths, QUICK.vae.batch_size, seed=0)
    for step, obs in enumerate(islice(batches, STEPS), 1):
        x = to_float(obs)
        mu, logvar = vae.encode(x)
        recon = vae.decode(mu if fault == "no noise" else vae.sample(mu, logvar))
        loss, metrics = vae_loss(recon, x, mu, logvar, kl_tolerance)
        if fault == "averaged error":
            loss = (recon - x).square().mean() + kl_to_standard_normal(mu, logvar).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            curve.append({"step": step, **{name: round(value.item(), 2) for name, value in metrics.items()}})
    return vae, curve


def _in_order(paths) -> Iterator[np.ndarray]:
    size = QUICK.vae.batch_size
    while True:
        for path in paths:
            obs = load_episode(path).obs
            yield from (obs[i : i + size] for i in range(0, len(obs), size))


@torch.inference_mode()
def contact_sheet(vae: VAE) -> np.ndarray:
    """Rows of eight: frames of the episode left out, painted from mu, from z; frames from the prior: uint8 (4, 8, 64, 64, 3)."""
    obs = load_episode(EpisodeStore(resolve("data/episodes")).paths()[-1]).obs
    frames = obs[np.linspace(60, len(obs) - 1, SHOWN).astype(int)]
    mu, logvar = (torch.from_numpy(part) for part in encode_frames(vae, frames))
    generator = torch.Generator().manual_seed(0)
    codes = mu, vae.sample(mu, logvar, generator), torch.randn(mu.shape, generator=generator)
    return np.stack([frames, *(to_uint8(vae.decode(z)) for z in codes)])


def read_sheet(name: str) -> np.ndarray:
    """A patient's contact sheet as it was kept."""
    rows = np.asarray(Image.open(FOLDER / f"{name.replace(' ', '_')}.png"))
    return rows.reshape(4, 64, SHOWN, 64, 3).swapaxes(1, 2)


def main() -> None:
    """Train all patients and, with other floors, healthy Vs; about four minutes on two cores."""
    runs = {name: {"fault": fault} for name, fault in PATIENTS.items()} | {name: {"kl_tolerance": each} for name, each in FLOORS.items()}
    curves = {}
    for name, how in runs.items():
        vae, curves[name] = trained(**how)
        sheet = contact_sheet(vae).swapaxes(1, 2).reshape(4 * 64, SHOWN * 64, 3)
        FOLDER.mkdir(exist_ok=True)
        Image.fromarray(sheet).save(FOLDER / f"{name.replace(' ', '_')}.png", optimize=True)
        print(name, curves[name][-1], flush=True)
    write_json(FOLDER / "curves.json", {"command": "python -m wmlib.exercises clinic", "steps": STEPS, "curves": curves})


def _check_diagnosis(function) -> None:
    found = function()
    assert isinstance(found, dict) and found.keys() == PATIENTS.keys(), "expected a dict with a fault for each of A, B and C"
    for patient, fault in found.items():
        assert fault in FAULTS, f"{patient}: no fault is called {fault!r}; choose among {', '.join(FAULTS)}"
        assert fault == PATIENTS[patient], f"{patient}: with the fault '{fault}' {FAULTS[fault][1]}. Look again"


@exercise(
    notebook="02_vae",
    minutes=15,
    task=f"""Three Vs in the **clinic** above, each trained with one line wrong. Read curves and pictures, and name each fault. Choose among:
{chr(10).join(f"- `{fault}`: {wrong}" for fault, (wrong, _) in FAULTS.items())}

Before you answer, say for each patient which *one* observation speaks for your choice and which choice it rules out.""",
    hint="What does each fault do to the KL? Three of the six can be told from that curve alone. For the others compare the row from $\\mu$ with the row from $z$, and look at the shape of the error's curve.",
    check=_check_diagnosis,
)
def diagnosis():
    """The fault of each patient: a dict from patient to fault."""
    return {"A": "no noise", "B": "averaged error", "C": "frames in order"}
