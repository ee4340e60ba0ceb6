"""Every check accepts the solution, knows the stub, rejects planted mistakes; notebooks hold what the source says."""

import json
import math

import numpy as np
import pytest
import torch

from wmlib.checkpoint import read_json
from wmlib.config import resolve
from wmlib.data import EpisodeStore, load_episode
from wmlib.exercises import EXERCISES, check, clinic, verdict
from wmlib.exercises.__main__ import cells, solutions, with_stubs

KL = "0.5 * (mu.square() + logvar.exp() - 1 - logvar)"
ERROR = "(recon - x).square().sum(dim=(1, 2, 3))"
MISTAKES = {  # name -> what a line of the solution becomes
    "kl_by_sampling": {
        "sign": ("(log_q - log_p)", "(log_p - log_q)"),
        "standard deviation": ("torch.exp(logvar / 2) * noise", "torch.exp(logvar) * noise"),
        "normaliser forgotten": ("noise.square() + logvar + ", "noise.square() + "),
        "sum over draws": (".mean(dim=0)", ".sum(dim=0)"),
        "mean over latents": (".mean(dim=0)", ".mean()"),
        "draws from the prior": ("mu + torch.exp(logvar / 2) * noise", "noise"),
        "closed form": ("return (log_q - log_p).mean(dim=0)", f"return {KL}"),
    },
    "loss_with_floors": {
        "floor on the sum": ("kl.clamp(min=floor).sum(dim=1)", "kl.sum(dim=1).clamp(min=floor * mu.shape[1])"),
        "floor after the batch mean": (
            "(squared_error + kl.clamp(min=floor).sum(dim=1)).mean()",
            "squared_error.mean() + kl.mean(dim=0).clamp(min=floor).sum()",
        ),
        "KL's sign": ("0.5 * (mu", "-0.5 * (mu"),
        "exp(logvar) for the standard deviation": (
            "logvar.exp() - 1 - logvar",
            "logvar.exp().square() - 1 - 2 * logvar",
        ),
        "error averaged over pixels": (".sum(dim=(1, 2, 3))", ".mean(dim=(1, 2, 3))"),
        "ceiling for floor": ("clamp(min=floor)", "clamp(max=floor)"),
        "floor ignored": (".clamp(min=floor)", ""),
    },
    "diagnosis": {
        "a fault seen in the KL is overlooked": ('"averaged error"', '"no KL"'),
        "the row from z is not looked at": ('"no noise"', '"learning rate too high"'),
        "the waves in the error are overlooked": ('"frames in order"', '"KL subtracted"'),
        "an invented fault": ('"no noise"', '"too few latents"'),
        "a patient left out": (', "C": "frames in order"', ""),
        "one word for all": ('{"A": "no noise", "B": "averaged error", "C": "frames in order"}', '"averaged error"'),
    },
}


def written(source: str, name: str):
    """The function that a reader's cell defines."""
    space = {"torch": torch, "math": math}
    exec(source, space)
    return space[name]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_and_the_stub_is_not_attempted(name, capsys, tmp_path, monkeypatch):
    exercise = EXERCISES[name]
    assert verdict(exercise, exercise.solution) == "right"
    assert verdict(exercise, written(exercise.source, name)) == "right"
    (tmp_path / f"stub_of_{name}.py").write_text(exercise.stub)
    monkeypatch.syspath_prepend(tmp_path)
    check(getattr(__import__(f"stub_of_{name}"), name))
    assert capsys.readouterr().out == f"{name}: not attempted\n"
    assert exercise.solution.__doc__ in exercise.stub and "return" not in exercise.stub


@pytest.mark.parametrize("name, mistake", [(name, mistake) for name, many in MISTAKES.items() for mistake in many])
def test_planted_mistakes_are_rejected_with_a_reason(name, mistake):
    right, wrong = MISTAKES[name][mistake]
    assert EXERCISES[name].source.count(right) == 1
    said = verdict(EXERCISES[name], written(EXERCISES[name].source.replace(right, wrong), name))
    assert said.startswith("not yet: ") and len(said) > 30


def test_code_that_breaks_is_a_verdict_too():
    assert verdict(EXERCISES["kl_by_sampling"], lambda *args: 1 / 0) == "not yet: ZeroDivisionError: division by zero"


def test_each_exercise_has_at_least_three_planted_mistakes():
    assert MISTAKES.keys() == EXERCISES.keys() and all(len(many) >= 3 for many in MISTAKES.values())


@pytest.mark.parametrize("name", sorted({exercise.notebook for exercise in EXERCISES.values()}))
def test_notebook_and_solutions_are_as_generated(name):
    exercises = [exercise for exercise in EXERCISES.values() if exercise.notebook == name]
    notebook, solved = (
        json.loads(resolve(path).read_text())
        for path in (f"notebooks/{name}.ipynb", f"notebooks/solutions/{name}.ipynb")
    )
    assert with_stubs(notebook, exercises) == notebook
    assert [cell["source"] for cell in solutions(name, exercises, {})["cells"]] == [
        cell["source"] for cell in solved["cells"]
    ]


def test_the_clinics_pictures_show_the_episode_that_was_left_out():
    frames = load_episode(EpisodeStore(resolve("data/episodes")).paths()[-1]).obs
    for name in [*clinic.PATIENTS, *clinic.FLOORS]:
        sheet = clinic.read_sheet(name)
        assert sheet.shape == (4, clinic.SHOWN, 64, 64, 3)
        assert all((frame == frames).all(axis=(1, 2, 3)).any() for frame in sheet[0])


def test_each_patient_shows_what_its_fault_is_said_to_show():
    curves = read_json(clinic.FOLDER / "curves.json")["curves"]
    sheets = {name: clinic.read_sheet(name).astype(float) for name in curves}

    def error(name, row):
        return np.square(sheets[name][row] - sheets[name][0]).mean()

    patient = {fault: name for name, fault in clinic.PATIENTS.items()}
    healthy = "floor 16"
    assert error(patient["no noise"], 2) > 3 * error(patient["no noise"], 1) > 0
    assert error(healthy, 2) < 2 * error(healthy, 1)
    assert (
        curves[patient["averaged error"]][-1]["kl"] < 0.1
        and np.ptp(sheets[patient["averaged error"]][1], axis=0).max() < 10
    )

    assert error(patient["frames in order"], 1) > 2 * error(healthy, 1)


def test_a_generated_exercise_replaces_its_older_form():
    (one, *_) = EXERCISES.values()
    title = {"cell_type": "markdown", "id": "exercises", "metadata": {}, "source": ["## Exercises"]}
    last = title | {"id": "last"}
    older = cells(one, "def older(): ...")
    found = with_stubs({"cells": [title, *older, last]}, [one])
    assert found["cells"] == [title, *cells(one, one.stub), last]
