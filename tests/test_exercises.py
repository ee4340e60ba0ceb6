"""Every check accepts the solution, knows the stub, rejects planted mistakes; notebooks hold what the source says."""

import json
import math

import pytest
import torch

from wmlib.config import resolve
from wmlib.exercises import EXERCISES, check, verdict
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
        "exp(logvar) for the standard deviation in both": (
            "torch.exp(logvar / 2) * noise\n    log_q = -0.5 * (noise.square() + logvar",
            "torch.exp(logvar) * noise\n    log_q = -0.5 * (noise.square() + 2 * logvar",
        ),
        "exp(logvar) for the standard deviation in log q": ("(noise.square()", "(((z - mu) / torch.exp(logvar)) ** 2"),
        "logvar for the standard deviation": ("torch.exp(logvar / 2) * noise", "logvar * noise"),
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
        "exp(logvar) squared once more": ("logvar.exp() - 1", "logvar.exp().square() - 1"),
        "KL averaged over latents": ("clamp(min=floor).sum(dim=1)", "clamp(min=floor).mean(dim=1)"),
        "no gradient": ("(squared_error + kl", "(squared_error + kl.detach()"),
        "ceiling for floor": ("clamp(min=floor)", "clamp(max=floor)"),
        "floor ignored": (".clamp(min=floor)", ""),
    },
    "dream_step": {
        "noise dropped": ("+ width * normal", "+ 0 * width * normal"),
        "state not carried": ("h, state = mdnrnn", "h, _ = mdnrnn"),
        "memory begun anew": ("action[:, None], state)", "action[:, None], None)"),
        "width times the temperature": ("temperature**0.5 *", "temperature *"),
        "temperature on the wrong side of the variance": ("temperature**0.5 *", "temperature**-0.5 *"),
        "noise without the temperature": ("temperature**0.5 *", ""),
        "logits multiplied": ("logits / temperature", "logits * temperature"),
        "weights without the temperature": ("logits / temperature", "logits"),
        "logsigma for the width": ("torch.exp(logsigma.gather(-1, k)[..., 0])", "logsigma.gather(-1, k)[..., 0]"),
        "one Gaussian for all latents": ("uniform[..., None])", "uniform[:, :1, None])"),
        "the heaviest Gaussian always": (
            "(weights.cumsum(dim=-1)[..., :-1] <= uniform[..., None]).sum(dim=-1, keepdim=True)",
            "weights.argmax(dim=-1, keepdim=True)",
        ),
        "read before the step": (
            "h, state = mdnrnn.memory(z[:, None], action[:, None], state)",
            "h = state[0][:, None]; _, state = mdnrnn.memory(z[:, None], action[:, None], state)",
        ),
        "noise of one's own": ("+ width * normal", "+ width * torch.randn_like(normal)"),
        "the state is left out": (" * normal, state", " * normal"),
        "h alone for the state": (" * normal, state", " * normal, state[0]"),
        "the LSTM's own axis left in the state": (" * normal, state", " * normal, (state[0][None], state[1][None])"),
        "the time axis left in": ("+ width * normal, state", "+ width * normal[:, None], state"),
    },
    "half_life": {
        "no interpolation": ("share * (steps[i] - steps[i - 1])", "steps[i] - steps[i - 1]"),
        "the step before": (" + share * (steps[i] - steps[i - 1])", ""),
        "half of the best": ("(best + chance) / 2", "best / 2 + 0.3"),
        "from the end": ("range(len(steps))", "reversed(range(len(steps)))"),
        "never is none": ("return math.inf", "return None"),
        "begins below": ("return float(steps[0])", "return 0.0"),
    },
    "dream_diagnosis": {
        "a film at rest is overlooked": ('"noise drawn once"', '"temperature near zero"'),
        "jumps are overlooked": ('"memory emptied"', '"steering mirrored"'),
        "the wheel is not looked at": ('"actions lost"', '"steering mirrored"'),
        "an invented fault": ('"actions lost"', '"too tired"'),
        "a patient left out": (', "C": "memory emptied"', ""),
        "a list for a fault": ('"memory emptied"', '["memory emptied"]'),
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


LOSS = EXERCISES["loss_with_floors"]


@pytest.mark.parametrize(
    "text, said",
    [
        (LOSS.source + "\n    ...  # your lines", "right"),
        (LOSS.source + "\n...  # your lines", "right"),
        (LOSS.source + "\n\n\n...  # your lines", "right"),
        (LOSS.stub + "\n    return recon.sum()", "not yet: on a small example"),
        (LOSS.stub, "not attempted"),
        (LOSS.stub + "\n...  # your lines", "not attempted"),
        (LOSS.stub.replace("...  # your lines", "pass"), "not attempted"),
        (LOSS.stub.replace("...  # your lines", ""), "not attempted"),
    ],
)
def test_lines_above_a_left_over_stub_line_are_an_attempt(text, said, tmp_path, monkeypatch):
    module = f"left_over_{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(f"import torch\n\n\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert verdict(LOSS, __import__(module).loss_with_floors).startswith(said)


@pytest.mark.parametrize(
    "name, mistake, said",
    [
        ("kl_by_sampling", "standard deviation", "exp(logvar) is the variance"),
        ("kl_by_sampling", "exp(logvar) for the standard deviation in both", "exp(logvar) is the variance"),
        ("kl_by_sampling", "exp(logvar) for the standard deviation in log q", "exp(logvar) is the variance"),
        ("kl_by_sampling", "logvar for the standard deviation", "exp(logvar) is the variance"),
        ("kl_by_sampling", "sum over draws", "nats away from the closed form"),
        ("kl_by_sampling", "mean over latents", "expected a tensor of shape (2, 3), got tensor of shape ()"),
        ("loss_with_floors", "error averaged over pixels", "averaged over the pixels"),
        ("loss_with_floors", "floor ignored", "the floor isn't used"),
        ("loss_with_floors", "floor after the batch mean", "under the mean over images"),
        ("loss_with_floors", "exp(logvar) for the standard deviation", "exp(logvar) is the variance"),
        ("loss_with_floors", "exp(logvar) squared once more", "exp(logvar) is the variance"),
        ("loss_with_floors", "KL averaged over latents", "averaged over the latents"),
        ("loss_with_floors", "no gradient", "the loss has no gradient"),
        ("dream_step", "noise dropped", "the noise is dropped"),
        ("dream_step", "noise of one's own", "draw nothing yourself"),
        ("dream_step", "state not carried", "the state that comes back is the one that went in"),
        ("dream_step", "memory begun anew", "the memory begins anew"),
        ("dream_step", "width times the temperature", "the width by its root"),
        ("dream_step", "temperature on the wrong side of the variance", "the cold dream is the wild one"),
        ("dream_step", "logits multiplied", "the logits are multiplied"),
        ("dream_step", "logsigma for the width", "it is the width's logarithm"),
        ("dream_step", "one Gaussian for all latents", "by the first one's noise"),
        ("dream_step", "read before the step", "before this z and action"),
        ("dream_step", "the state is left out", "expected two things"),
        ("dream_step", "h alone for the state", "expected two things"),
        ("dream_step", "the LSTM's own axis left in the state", "expected h, a tensor of shape (64, 6), got tensor of"),
        ("dream_step", "the time axis left in", "a tensor of shape (64, 4), got tensor of shape (64, 64, 4)"),
        ("half_life", "never is none", "a curve that stays above the line never ends"),
        ("dream_diagnosis", "a list for a fault", "no fault is called ['memory emptied']"),
    ],
)
def test_a_common_mistake_gets_its_own_line(name, mistake, said):
    right, wrong = MISTAKES[name][mistake]
    assert said in verdict(EXERCISES[name], written(EXERCISES[name].source.replace(right, wrong), name))


@pytest.mark.parametrize(
    "returned, said",
    [
        (lambda recon, *rest: recon.sum(dim=(1, 2, 3)), "tensor of shape (3,)"),
        (lambda recon, *rest: recon.sum().item(), "float"),
        (lambda recon, *rest: recon.numpy(), "ndarray of shape (3, 3, 64, 64)"),
        (lambda recon, *rest: None, "nothing: is there a `return`?"),
    ],
)
def test_another_shape_is_told_beside_the_one_that_was_expected(returned, said):
    found = verdict(EXERCISES["loss_with_floors"], returned)
    assert found == f"not yet: expected one number, a tensor of shape (), got {said}"


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


def test_a_generated_exercise_replaces_its_older_form():
    (one, *_) = EXERCISES.values()
    title = {"cell_type": "markdown", "id": "exercises", "metadata": {}, "source": ["## Exercises"]}
    last = title | {"id": "last"}
    older = cells(one, "def older(): ...")
    found = with_stubs({"cells": [title, *older, last]}, [one])
    assert found["cells"] == [title, *cells(one, one.stub), last]
