"""Every check accepts the solution, knows the stub, rejects planted mistakes; notebooks hold what the source says."""

import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wmlib.agent import Agent
from wmlib.config import resolve
from wmlib.dream import DreamEnv
from wmlib.exercises import EXERCISES, check, dreaming, predicting, verdict
from wmlib.exercises.__main__ import cells, solutions, with_stubs
from wmlib.exercises.mixture import CARS, FORECASTS
from wmlib.mdnrnn import Mixture, mixture_nll, place_noise

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
        "exp(logvar) for the standard deviation in log q": (
            "(noise.square()",
            "(((z - mu) / torch.exp(logvar)) ** 2",
        ),
        "logvar for the standard deviation": ("torch.exp(logvar / 2) * noise", "logvar * noise"),
        "closed form": ("return (log_q - log_p).mean(dim=0)", f"return {KL}"),
    },
    "loss_with_floors": {
        "floor on the sum": (
            "kl.clamp(min=floor).sum(dim=1)",
            "kl.sum(dim=1).clamp(min=floor * mu.shape[1])",
        ),
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
    "mixture_cdf": {
        "weights that are equal": (
            "torch.softmax(mixture.logits, dim=-1)",
            "1 / mixture.mu.shape[-1]",
        ),
        "logits for weights": ("torch.softmax(mixture.logits, dim=-1)", "mixture.logits"),
        "weights that don't sum to 1": (
            "torch.softmax(mixture.logits, dim=-1)",
            "mixture.logits.exp()",
        ),
        "variance for the width": (
            "torch.exp(-mixture.logsigma)",
            "torch.exp(-2 * mixture.logsigma)",
        ),
        "logsigma as a logvar": (
            "torch.exp(-mixture.logsigma)",
            "torch.exp(-mixture.logsigma / 2)",
        ),
        "logsigma for the width": ("* torch.exp(-mixture.logsigma)", "/ mixture.logsigma"),
        "no root of 2": ("standard / math.sqrt(2)", "standard"),
        "erf alone": (
            "0.5 * (1 + torch.erf(standard / math.sqrt(2)))",
            "torch.erf(standard / math.sqrt(2))",
        ),
        "the area to the right": ("(1 + torch.erf", "(1 - torch.erf"),
        "one Gaussian for all": (
            "return (torch.softmax(mixture.logits, dim=-1) * area).sum(dim=-1)",
            """w = torch.softmax(mixture.logits, dim=-1)
    mean = (w * mixture.mu).sum(dim=-1)
    square = (w * (mixture.mu**2 + torch.exp(2 * mixture.logsigma))).sum(dim=-1)
    return torch.distributions.Normal(mean, (square - mean**2).sqrt()).cdf(x)""",
        ),
        "the mean's distance": (
            "return (torch.softmax(mixture.logits, dim=-1) * area).sum(dim=-1)",
            """w = torch.softmax(mixture.logits, dim=-1)
    mean, width = (w * mixture.mu).sum(dim=-1), (w * torch.exp(mixture.logsigma)).sum(dim=-1)
    return torch.distributions.Normal(mean, width).cdf(x)""",
        ),
        "components left apart": (" * area).sum(dim=-1)", " * area)"),
    },
    "predictions": {
        "the tallest hills win": ('"CADB"', '"DCAB"'),
        "a missing hill is forgiven": ('"CADB"', '"BCAD"'),
        "blunt is worst": ('"CADB"', '"CDAB"'),
        "blunt is best": ('"CADB"', '"ACDB"'),
        "a letter twice": ('"CADB"', '"CCAB"'),
        "the weight stays": ("0.49 / (0.49 + 0.09)", "0.7"),
        "not divided by the sum": ("0.49 / (0.49 + 0.09)", "0.49"),
        "the root for the square": ("0.49 / (0.49 + 0.09)", "0.6"),
        "tau for its root": ('"width": 0.5', '"width": 0.25'),
        "a question left out": (', "width": 0.5', ""),
        "a word for a number": ('"width": 0.5', '"width": "half"'),
    },
    "sample_joint": {
        "logits alone": ("temperature**0.5 *", ""),
        "noise alone": ("logits / temperature", "logits"),
        "tau for its root": ("temperature**0.5 *", "temperature *"),
        "logits multiplied": ("logits / temperature", "logits * temperature"),
        "the heaviest always": (
            "(totals[:, :-1] <= uniform[:, None]).sum(dim=-1)",
            "logits.argmax(dim=-1)",
        ),
        "logsigma for the width": ("torch.exp(logsigma[n, :, k])", "logsigma[n, :, k]"),
        "noise dropped": ("+ width * normal", "+ 0 * width * normal"),
        "noise of one's own": ("+ width * normal", "+ width * torch.randn_like(normal)"),
        "one noise for all latents": ("+ width * normal", "+ width * normal[:, :1]"),
        "the components turned round": ("<= uniform[:, None]", "> uniform[:, None]"),
    },
    "speed_probe": {
        "split by frame": (
            "test = drive % folds == fold",
            "test = torch.arange(len(speed)) % folds == fold",
        ),
        "split by shuffled frames": (
            "test = drive % folds == fold",
            "test = torch.randperm(len(speed), generator=torch.Generator().manual_seed(0)) % folds == fold",
        ),
        "stretches of rows": (
            "test = drive % folds == fold",
            "test = torch.arange(len(speed)) * folds // len(speed) == fold",
        ),
        "h of t+1": ("torch.cat([z, h], dim=1)", "torch.cat([z, h_after], dim=1)"),
        "h the wrong way": ("roll(1, dims=0)", "roll(-1, dims=0)"),
        "h across the border": ("h[1:][drive[1:] != drive[:-1]] = 0", "pass"),
        "standardised by everything": (
            "x[~test].mean(dim=0), x[~test].std(dim=0)",
            "x.mean(dim=0), x.std(dim=0)",
        ),
        "the test rows by themselves": (
            "(x[test] - mean) / spread @",
            "(x[test] - x[test].mean(dim=0)) / x[test].std(dim=0) @",
        ),
        "not standardised": (
            "x[~test].mean(dim=0), x[~test].std(dim=0)",
            "x[~test].mean(dim=0), 1",
        ),
        "score on the training rows": (
            "guess[test] = (x[test] - mean) / spread @ weights + middle",
            "guess = 0 * guess.nan_to_num() if fold == 0 else guess\n"
            "        guess[~test] += (fit @ weights + middle) / (folds - 1)",
        ),
        "correlation squared": (
            "(1 - (guess - speed).square().mean() / speed.var()).item()",
            "torch.corrcoef(torch.stack([guess, speed]))[0, 1].square().item()",
        ),
        "the error's share": ("(1 - (guess", "(0 + (guess"),
        "the folds' mean": (
            "(1 - (guess - speed).square().mean() / speed.var()).item()",
            "sum((1 - (guess - speed)[drive % folds == i].square().mean() / speed[drive % folds == i].var()).item()"
            " for i in range(folds)) / folds",
        ),
        "one fold alone": (
            "(1 - (guess - speed).square().mean() / speed.var()).item()",
            "(1 - (guess - speed)[test].square().mean() / speed[test].var()).item()",
        ),
        "the mean left in": ("speed[~test].mean()", "0.0"),
        "no penalty": ("penalty * torch", "0 * torch"),
        "z alone": ("torch.cat([z, h], dim=1)", "z"),
        "h alone": ("torch.cat([z, h], dim=1)", "h"),
        "what was given is changed": (
            "h = h_after.roll(1, dims=0)",
            "h_after[:] = h_after.roll(1, dims=0); h = h_after",
        ),
        "not a number": (" / speed.var()).item()", " / speed.var()).expand(3)"),
    },
    "prediction_diagnosis": {
        "the held-out loss is not looked at": ('"logsigma as logvar"', '"actions lost"'),
        "the histogram is not looked at": ('"logsigma as logvar"', '"one width"'),
        "the floor is not looked at": ('"noise drawn once"', '"logsigma as logvar"'),
        "the road is not looked at": ('"off by one"', '"noise drawn once"'),
        "a flat histogram is overlooked": ('"off by one"', '"memory emptied"'),
        "an invented fault": ('"off by one"', '"too many Gaussians"'),
        "a patient left out": (', "C": "noise drawn once"', ""),
    },
    "recombine": {
        "the worst for the best": ("np.argsort(-fitness)", "np.argsort(fitness)"),
        "not sorted": ("candidates[order[:half]]", "candidates[:half]"),
        "weights not normalised": ("weights /= weights.sum()", "pass"),
        "weights over all": (
            "return weights @ candidates[order[:half]]",
            "weights = np.log((len(candidates) + 1) / 2) - np.log(np.arange(1, len(candidates) + 1))\n"
            "    return weights / np.abs(weights).sum() @ candidates[order]",
        ),
        "below 0 in the worse half": (
            "return weights @ candidates[order[:half]]",
            "w = np.log((len(candidates) + 1) / 2) - np.log(np.arange(1, len(candidates) + 1))\n"
            "    return w / w[:half].sum() @ candidates[order]",
        ),
        "all equal": (
            "return weights @ candidates[order[:half]]",
            "return candidates[order[:half]].mean(axis=0)",
        ),
        "everybody's mean": (
            "return weights @ candidates[order[:half]]",
            "return candidates.mean(axis=0)",
        ),
        "the best alone": (
            "return weights @ candidates[order[:half]]",
            "return candidates[order[0]]",
        ),
        "weights turned round": ("return weights @", "return weights[::-1] @"),
        "P for the half": ("np.log((len(candidates) + 1) / 2)", "np.log(half + 1)"),
        "what was given is changed": (
            "order = np.argsort(-fitness)",
            "fitness *= -1; order = np.argsort(fitness)",
        ),
        "a list": (
            "return weights @ candidates[order[:half]]",
            "return list(weights @ candidates[order[:half]])",
        ),
    },
    "step_control": {
        "not whitened": ("axes @ (axes.T @ move / np.sqrt(squares))", "move"),
        "whitened the wrong way": ("/ np.sqrt(squares))", "* np.sqrt(squares))"),
        "the inverse for its root": ("/ np.sqrt(squares))", "/ squares)"),
        "not in step sizes": (" / step_size\n", "\n"),
        "no mueff": ("np.sqrt(c * (2 - c) * mueff)", "np.sqrt(c * (2 - c))"),
        "a plain average": ("np.sqrt(c * (2 - c) * mueff)", "c"),
        "mueff outside the root": ("np.sqrt(c * (2 - c) * mueff)", "np.sqrt(c * (2 - c)) * mueff"),
        "no root": ("np.sqrt(c * (2 - c) * mueff)", "c * (2 - c) * mueff"),
        "not turned back": (
            "axes @ (axes.T @ move / np.sqrt(squares))",
            "axes.T @ move / np.sqrt(squares)",
        ),
        "the old path's length": (
            "path = (1 - c) * path + np.sqrt(c * (2 - c) * mueff) * whitened",
            "before, path = path, (1 - c) * path + np.sqrt(c * (2 - c) * mueff) * whitened\n"
            "    return path, step_size * math.exp(c / damping * (np.linalg.norm(before) / math.sqrt(2) "
            "* math.gamma(N / 2) / math.gamma((N + 1) / 2) - 1))",
        ),
        "no fading": ("(1 - c) * path", "path"),
        "c for 1 - c": ("(1 - c) * path", "c * path"),
        "the root of N": (
            "chi = math.sqrt(2) * math.exp(math.lgamma((N + 1) / 2) - math.lgamma(N / 2))",
            "chi = math.sqrt(N)",
        ),
        "sign of the exponent": ("math.exp(c / damping", "math.exp(-c / damping"),
        "no damping": ("c / damping", "c"),
        "no c": ("c / damping", "1 / damping"),
        "c and damping changed": ("c / damping", "damping / c"),
        "the size stays": (" * math.exp(c / damping * (np.linalg.norm(path) / chi - 1))", ""),
        "added, not multiplied": ("step_size * math.exp(", "step_size + ("),
        "the path alone": ("return path, step_size *", "return step_size *"),
    },
    "act_for_all": {
        "h before z": ("torch.cat([z, h], dim=-1)", "torch.cat([h, z], dim=-1)"),
        "column by column": (
            "params[:, :n].view(len(params), 3, -1)",
            "params[:, :n].view(len(params), -1, 3).transpose(1, 2)",
        ),
        "b before W": (
            "params[:, :n].view(len(params), 3, -1), params[:, None, n:]",
            "params[:, 3:].view(len(params), 3, -1), params[:, None, :3]",
        ),
        "no bias": (" + b", ""),
        "the first policy's weights": ("W.transpose(1, 2) + b", "W[0].T + b[0]"),
        "the first policy's bias": (" + b", " + b[0]"),
        "raw": (
            "return torch.stack([steer, (gas + 1) / 2, brake.clamp(min=0)], dim=-1)",
            "return raw",
        ),
        "gas cut off": ("(gas + 1) / 2", "gas.clamp(min=0)"),
        "brake moved up": ("brake.clamp(min=0)", "(brake + 1) / 2"),
        "tanh alone": ("[steer, (gas + 1) / 2, brake.clamp(min=0)]", "[steer, gas, brake]"),
        "a sigmoid for gas": ("(gas + 1) / 2", "torch.sigmoid(raw[..., 1])"),
        "sizes of the game": ("3 * x.shape[-1]", "864"),
        "policies and environments changed": (
            "brake.clamp(min=0)], dim=-1)",
            "brake.clamp(min=0)], dim=-1).transpose(0, 1)",
        ),
        "what was given is changed": (
            "x = torch.cat([z, h], dim=-1)",
            "x = torch.cat([z, h], dim=-1); z *= 2",
        ),
        "clamp for tanh": ("torch.tanh(raw)", "raw.clamp(-1, 1)"),
    },
    "search_diagnosis": {
        "the ellipses are not looked at": ('"shape kept"', '"noise"'),
        "a level is overlooked": ('"noise"', '"size kept"'),
        "the step size is not looked at": ('"control turned round"', '"no selection"'),
        "an invented fault": ('"noise"', '"too few candidates"'),
        "a patient left out": (', "C": "shape kept"', ""),
    },
    "dream_step": {
        "noise dropped": ("+ width * normal", "+ 0 * width * normal"),
        "state not carried": ("h, state = mdnrnn", "h, _ = mdnrnn"),
        "memory begun anew": ("action[:, None], state)", "action[:, None], None)"),
        "width times the temperature": ("temperature**0.5 *", "temperature *"),
        "temperature on the wrong side of the variance": (
            "temperature**0.5 *",
            "temperature**-0.5 *",
        ),
        "noise without the temperature": ("temperature**0.5 *", ""),
        "logits multiplied": ("logits / temperature", "logits * temperature"),
        "weights without the temperature": ("logits / temperature", "logits"),
        "logsigma for the width": (
            "torch.exp(logsigma.gather(-1, k)[..., 0])",
            "logsigma.gather(-1, k)[..., 0]",
        ),
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
        "the LSTM's own axis left in the state": (
            " * normal, state",
            " * normal, (state[0][None], state[1][None])",
        ),
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
    "paired_interval": {
        "unpaired": (
            "difference[chosen].mean(axis=1)",
            "ours[chosen].mean(axis=1) - theirs[rng.integers(len(ours), size=chosen.shape)].mean(axis=1)",
        ),
        "single differences": ("difference[chosen].mean(axis=1)", "difference[chosen].ravel()"),
        "standard deviation for the standard error": (
            "np.percentile(means, [2.5, 97.5])",
            "difference.mean() + np.array([-1.96, 1.96]) * difference.std()",
        ),
        "5 % on each side": ("[2.5, 97.5]", "[5, 95]"),
        "one side": ("[2.5, 97.5]", "[5, 100]"),
        "the other side": ("[2.5, 97.5]", "[0, 95]"),
        "shares for per cent": ("[2.5, 97.5]", "[0.025, 0.975]"),
        "without repetition": (
            "rng.integers(len(difference), size=(draws, len(difference)))",
            "rng.permuted(np.tile(np.arange(len(difference)), (draws, 1)), axis=1)",
        ),
        "half of the tracks": (
            "size=(draws, len(difference))",
            "size=(draws, len(difference) // 2)",
        ),
        "theirs minus ours": ("difference = ours - theirs", "difference = theirs - ours"),
        "the median": ("difference[chosen].mean(axis=1)", "np.median(difference[chosen], axis=1)"),
        "ours alone": ("difference[chosen].mean", "ours[chosen].mean"),
        "mean over the wrong axis": ("mean(axis=1)", "mean(axis=0)"),
        "another generator": ("rng.integers", "np.random.default_rng().integers"),
        "the means": ("return low, high", "return means"),
        "upside down": ("return low, high", "return high, low"),
        "what was given is changed": (
            "difference = ours - theirs",
            "ours -= theirs\n    difference = ours",
        ),
    },
    "luck_of_the_best": {
        "the mean left in": (" - scores.mean()", ""),
        "not sorted": ("np.sort(scores)", "scores"),
        "sorted the other way": ("np.sort(scores)", "-np.sort(-scores)"),
        "ranks from 0": ("np.arange(1, len(scores) + 1)", "np.arange(len(scores))"),
        "one draw": ("share**candidates", "share"),
        "one draw too many": ("share**candidates", "share ** (candidates + 1)"),
        "the highest score": ("best_is @ ordered", "ordered[-1]"),
        "the worst of the draws": ("share**candidates", "1 - (1 - share) ** candidates"),
        "simulated": (
            "best_is @ ordered",
            "np.random.default_rng(0).choice(scores, (100, candidates)).max(axis=1).mean()",
        ),
        "a list": (
            "return best_is @ ordered - scores.mean()",
            "return [best_is @ ordered - scores.mean()]",
        ),
        "what was given is changed": ("np.sort(scores)", "scores\n    scores.sort()"),
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
        "one word for all": (
            '{"A": "no noise", "B": "averaged error", "C": "frames in order"}',
            '"averaged error"',
        ),
    },
}


def written(source: str, name: str):
    """The function that a reader's cell defines."""
    space = {"torch": torch, "math": math, "np": np}
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


@pytest.mark.parametrize(
    "name, mistake", [(name, mistake) for name, many in MISTAKES.items() for mistake in many]
)
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
        (
            "kl_by_sampling",
            "exp(logvar) for the standard deviation in both",
            "exp(logvar) is the variance",
        ),
        (
            "kl_by_sampling",
            "exp(logvar) for the standard deviation in log q",
            "exp(logvar) is the variance",
        ),
        ("kl_by_sampling", "logvar for the standard deviation", "exp(logvar) is the variance"),
        ("kl_by_sampling", "sum over draws", "nats away from the closed form"),
        (
            "kl_by_sampling",
            "mean over latents",
            "expected a tensor of shape (2, 3), got tensor of shape ()",
        ),
        ("loss_with_floors", "error averaged over pixels", "averaged over the pixels"),
        ("loss_with_floors", "floor ignored", "the floor isn't used"),
        ("loss_with_floors", "floor after the batch mean", "under the mean over images"),
        (
            "loss_with_floors",
            "exp(logvar) for the standard deviation",
            "exp(logvar) is the variance",
        ),
        ("loss_with_floors", "exp(logvar) squared once more", "exp(logvar) is the variance"),
        ("loss_with_floors", "KL averaged over latents", "averaged over the latents"),
        ("loss_with_floors", "no gradient", "the loss has no gradient"),
        ("mixture_cdf", "weights that are equal", "as if their weights were equal"),
        ("mixture_cdf", "logits for weights", "the logits are used as weights"),
        ("mixture_cdf", "weights that don't sum to 1", "don't sum to 1"),
        ("mixture_cdf", "variance for the width", "it is squared once more"),
        ("mixture_cdf", "logsigma as a logvar", "as if it were a logvar"),
        ("mixture_cdf", "logsigma for the width", "it is the width's logarithm"),
        ("mixture_cdf", "one Gaussian for all", "one Gaussian with the mixture's mean"),
        ("mixture_cdf", "the mean's distance", "with the means' mean"),
        ("mixture_cdf", "the area to the right", "the area to the right"),
        ("mixture_cdf", "erf alone", "from -1 to 1"),
        ("mixture_cdf", "no root of 2", "the root of 2"),
        (
            "mixture_cdf",
            "components left apart",
            "a tensor of shape (2, 5, 4), got tensor of shape (2, 5, 4, 3)",
        ),
        ("predictions", "the tallest hills win", "two widths beside them"),
        ("predictions", "a missing hill is forgiven", "hardly any density"),
        ("predictions", "blunt is worst", "sharp and a little off"),
        ("predictions", "blunt is best", "higher there than A is anywhere"),
        ("predictions", "the weight stays", "prefers the heavier component"),
        ("predictions", "not divided by the sum", "divide by the sum of both squares"),
        ("predictions", "tau for its root", "so the width by its root"),
        ("sample_joint", "logits alone", "doesn't reach the noise"),
        ("sample_joint", "noise alone", "doesn't reach the weights"),
        ("sample_joint", "tau for its root", "so the width by its root"),
        ("sample_joint", "logits multiplied", "multiplied by the temperature, not divided"),
        ("sample_joint", "the heaviest always", "it is to pick the component"),
        ("sample_joint", "logsigma for the width", "it is the width's logarithm"),
        ("sample_joint", "one noise for all latents", "all latents get the same noise"),
        ("speed_probe", "split by frame", "the rows are split, not the drives"),
        ("speed_probe", "split by shuffled frames", "is too good"),
        ("speed_probe", "stretches of rows", "belongs to the fold drive % folds"),
        ("speed_probe", "h of t+1", "too late for C"),
        ("speed_probe", "h across the border", "the last one of another drive"),
        ("speed_probe", "standardised by everything", "over all rows, those left out as well"),
        ("speed_probe", "the test rows by themselves", "by their own mean and spread"),
        ("speed_probe", "not standardised", "the inputs aren't standardised"),
        ("speed_probe", "score on the training rows", "the rows that the read-out was fitted on"),
        ("speed_probe", "correlation squared", "the squared correlation"),
        ("speed_probe", "the error's share", "1 minus it"),
        ("speed_probe", "the folds' mean", "the mean of the folds' scores"),
        ("speed_probe", "one fold alone", "the last fold's score alone"),
        ("speed_probe", "the mean left in", "pulls the guesses towards 0"),
        ("speed_probe", "no penalty", "the penalty isn't used"),
        ("speed_probe", "z alone", "h isn't read"),
        ("speed_probe", "h alone", "z isn't read"),
        ("speed_probe", "what was given is changed", "work on copies"),
        ("prediction_diagnosis", "the histogram is not looked at", "a hump in its middle"),
        ("prediction_diagnosis", "the road is not looked at", "turn round"),
        ("prediction_diagnosis", "the floor is not looked at", "would be the healthy M's"),
        ("recombine", "the worst for the best", "higher fitness is better"),
        ("recombine", "not sorted", "aren't sorted"),
        ("recombine", "weights not normalised", "don't sum to 1"),
        ("recombine", "weights over all", "all candidates have a say"),
        ("recombine", "below 0 in the worse half", "cut them off there"),
        ("recombine", "all equal", "count equally"),
        ("recombine", "weights turned round", "turned round"),
        ("recombine", "a list", "the new mean, an array of shape (3,), got list"),
        ("step_control", "not whitened", "isn't whitened"),
        ("step_control", "whitened the wrong way", "whitening goes the other way"),
        ("step_control", "the inverse for its root", "the inverse of its root"),
        ("step_control", "not in step sizes", "isn't divided by the step size"),
        ("step_control", "no mueff", "mueff is missing"),
        ("step_control", "no root", "has no root"),
        ("step_control", "not turned back", "but not turned back"),
        ("step_control", "the old path's length", "the old path's length decides"),
        ("step_control", "a plain average", "see the root in the formula"),
        ("step_control", "the root of N", "with the root of N"),
        ("step_control", "sign of the exponent", "are to lengthen it"),
        ("step_control", "no damping", "the damping isn't used"),
        ("step_control", "the path alone", "expected two things"),
        ("search_diagnosis", "the ellipses are not looked at", "tremble there"),
        ("dream_step", "noise dropped", "the noise is dropped"),
        ("dream_step", "noise of one's own", "draw nothing yourself"),
        ("dream_step", "state not carried", "the state that comes back is the one that went in"),
        ("dream_step", "memory begun anew", "the memory begins anew"),
        ("dream_step", "width times the temperature", "the width by its root"),
        (
            "dream_step",
            "temperature on the wrong side of the variance",
            "the cold dream is the wild one",
        ),
        ("dream_step", "logits multiplied", "the logits are multiplied"),
        ("dream_step", "logsigma for the width", "it is the width's logarithm"),
        ("dream_step", "one Gaussian for all latents", "by the first one's noise"),
        ("dream_step", "read before the step", "before this z and action"),
        ("dream_step", "the state is left out", "expected two things"),
        ("dream_step", "h alone for the state", "expected two things"),
        (
            "dream_step",
            "the LSTM's own axis left in the state",
            "expected h, a tensor of shape (64, 6), got tensor of",
        ),
        (
            "dream_step",
            "the time axis left in",
            "a tensor of shape (64, 4), got tensor of shape (64, 64, 4)",
        ),
        ("act_for_all", "h before z", "C reads [z, h]"),
        ("act_for_all", "column by column", "laid out row by row"),
        ("act_for_all", "b before W", "b stands behind W"),
        ("act_for_all", "no bias", "the bias is missing"),
        ("act_for_all", "the first policy's weights", "with the weights of the first"),
        ("act_for_all", "the first policy's bias", "has the bias of the first"),
        ("act_for_all", "raw", "these are the raw actions"),
        ("act_for_all", "gas cut off", "gas is cut off at zero"),
        ("act_for_all", "brake moved up", "the brake is moved up"),
        ("act_for_all", "tanh alone", "by tanh alone"),
        ("act_for_all", "a sigmoid for gas", "squashed by a sigmoid"),
        (
            "act_for_all",
            "policies and environments changed",
            "tensor of shape (4, 3, 3), got tensor of shape (3, 4, 3)",
        ),
        ("paired_interval", "unpaired", "resampled apart from each other"),
        ("paired_interval", "single differences", "single differences, not of their mean"),
        (
            "paired_interval",
            "standard deviation for the standard error",
            "the mean is surer, by the root of N",
        ),
        ("paired_interval", "5 % on each side", "leave 2.5 % out on each side"),
        ("paired_interval", "one side", "left out on one side"),
        ("paired_interval", "the other side", "left out on one side"),
        ("paired_interval", "shares for per cent", "2.5, not 0.025"),
        ("paired_interval", "without repetition", "every draw has the same mean"),
        ("paired_interval", "half of the tracks", "only half as many tracks"),
        ("paired_interval", "theirs minus ours", "theirs minus ours"),
        ("paired_interval", "the median", "the interval of the median"),
        ("paired_interval", "ours alone", "the interval of our mean alone"),
        ("paired_interval", "another generator", "draw from the rng that is given"),
        ("paired_interval", "the means", "expected two numbers"),
        ("paired_interval", "upside down", "low is above high"),
        ("paired_interval", "what was given is changed", "work on copies"),
        ("luck_of_the_best", "the mean left in", "how far is it above the mean"),
        ("luck_of_the_best", "not sorted", "aren't sorted"),
        ("luck_of_the_best", "ranks from 0", "counted from 0"),
        ("luck_of_the_best", "one draw", "the luck of a single draw"),
        ("luck_of_the_best", "one draw too many", "one too high"),
        ("luck_of_the_best", "the highest score", "three draws often miss it"),
        ("luck_of_the_best", "the worst of the draws", "not the best"),
        ("luck_of_the_best", "a list", "expected a number"),
        ("half_life", "never is none", "a curve that stays above the line never ends"),
        ("dream_diagnosis", "a list for a fault", "no fault is called ['memory emptied']"),
    ],
)
def test_a_common_mistake_gets_its_own_line(name, mistake, said):
    right, wrong = MISTAKES[name][mistake]
    assert said in verdict(
        EXERCISES[name], written(EXERCISES[name].source.replace(right, wrong), name)
    )


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
    assert (
        verdict(EXERCISES["kl_by_sampling"], lambda *args: 1 / 0)
        == "not yet: ZeroDivisionError: division by zero"
    )


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


def test_the_forecasts_are_in_the_order_that_their_loss_puts_them():
    def loss(letter):
        return mixture_nll(
            Mixture(*(part.expand(12, -1) for part in FORECASTS[letter])), CARS
        ).mean()

    assert "".join(sorted(FORECASTS, key=loss)) == EXERCISES["predictions"].solution()["order"]
    assert all(
        len(CARS) == 12 and loss(one) + 0.3 < loss(other) for one, other in ("CA", "AD", "DB")
    )


def test_the_three_ways_through_a_mixture_agree():
    """mixture_cdf is the integral of the density, and sample_joint with one latent is place_noise."""
    generator = torch.Generator().manual_seed(0)
    mixture = Mixture(*torch.randn(3, 500, 1, 4, generator=generator))
    uniform, normal = torch.rand(500, generator=generator), torch.randn(500, 1, generator=generator)
    drawn = EXERCISES["sample_joint"].solution(
        mixture.logits[:, 0], mixture.mu, mixture.logsigma, 0.7, uniform, normal
    )
    torch.testing.assert_close(drawn, place_noise(mixture, uniform[:, None], normal, 0.7))
    x = torch.linspace(-30, 3, 20_001)
    one = Mixture(*(part[:1].expand(len(x), 1, 4) for part in mixture))
    area = torch.trapezoid(torch.exp(-mixture_nll(one, x[:, None]))[:, 0], x)
    torch.testing.assert_close(
        area, EXERCISES["mixture_cdf"].solution(one, x[:, None])[-1, 0], atol=1e-3, rtol=0
    )


def test_the_speed_probe_agrees_with_least_squares_on_rows_that_stand_for_the_penalty():
    """A ridge regression is a plain one with F more rows; written in numpy, row by row where the exercise rolls."""
    z, h_after, speed, drive = (part.numpy() for part in predicting._example(5, 9))
    x = np.array(
        [
            [*z[t], *(h_after[t - 1] if t and drive[t - 1] == drive[t] else 0 * h_after[t])]
            for t in range(len(z))
        ]
    )
    error = 0.0
    for fold in range(4):
        rest = np.isin(drive, range(fold, 9, 4))
        mean, spread = x[~rest].mean(axis=0), x[~rest].std(axis=0, ddof=1)
        rows = np.vstack([(x[~rest] - mean) / spread, np.sqrt(7.0) * np.eye(x.shape[1])])
        aim = np.concatenate([speed[~rest] - speed[~rest].mean(), np.zeros(x.shape[1])])
        weights = np.linalg.lstsq(rows, aim, rcond=None)[0]
        error += (
            (speed[rest] - speed[~rest].mean() - (x[rest] - mean) / spread @ weights) ** 2
        ).sum()
    expected = 1 - error / len(speed) / speed.var(ddof=1)
    given = (torch.from_numpy(part) for part in (z, h_after, speed, drive))
    assert EXERCISES["speed_probe"].solution(*given, 4, 7.0) == pytest.approx(expected, abs=1e-9)


def test_the_speed_probes_check_can_tell_every_mistake_from_the_right_score_and_the_others():
    for parts, folds in ((predicting._example(21, 6), 3), (predicting._example(10, 8), 4)):
        right, wrong = predicting._right_and_wrong(parts, folds, predicting.PENALTY)
        assert 0.4 < right < 0.8 and all(abs(score - right) > 0.02 for score in wrong.values())
        assert np.diff(sorted(wrong.values())).min() > 5e-3


def test_the_speed_probe_takes_another_definition_of_the_variance():
    """Divided by N or by N - 1: the task says neither."""
    source = EXERCISES["speed_probe"].source
    for right, other in (
        (".std(dim=0)", ".std(dim=0, correction=0)"),
        (".var()", ".var(correction=0)"),
    ):
        assert source.count(right) == 1
        source = source.replace(right, other)
    assert verdict(EXERCISES["speed_probe"], written(source, "speed_probe")) == "right"


@torch.inference_mode()
def test_steps_by_hand_dream_what_a_dream_environment_dreams():
    agent = Agent.load("data/pretrained/car_racing")
    noise = [np.random.default_rng(seed) for seed in (5, 6)]
    first = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    actions = np.random.default_rng(0).random((20, 2, 3), np.float32)
    env = DreamEnv(agent.vae, agent.mdnrnn, first, 2, temperature=0.7, task=agent.task)
    env.reset(seed=[5, 6], options={"start": np.arange(2)})
    for one in noise:
        one.integers(2)  # the place to begin, which the options overrule
    z, state = first, agent.mdnrnn.initial_state(2)
    for action in actions:
        draws = [(one.random(32, np.float32), one.standard_normal(32, np.float32)) for one in noise]
        uniform, normal = (torch.from_numpy(np.stack(part)) for part in zip(*draws))
        z, state = dreaming.dream_step(
            agent.mdnrnn, z, torch.from_numpy(action), state, 0.7, uniform, normal
        )
        np.testing.assert_allclose(z, env.step(action)[0], atol=1e-3)
    np.testing.assert_allclose(state[0], env.state[0], atol=1e-3)


def test_many_steps_by_hand_follow_the_tempered_mixture():
    mdnrnn, z, action, state, *_ = dreaming._example(1)
    z, action, state = z[:1], action[:1], tuple(part[:1] for part in state)
    N, generator = 20_000, torch.Generator().manual_seed(0)
    uniform, normal = torch.rand(N, 4, generator=generator), torch.randn(N, 4, generator=generator)
    many = (
        z.expand(N, -1),
        action.expand(N, -1),
        tuple(part.expand(N, -1).contiguous() for part in state),
    )
    drawn, _ = dreaming.dream_step(mdnrnn, *many, 0.4, uniform, normal)
    logits, mu, logsigma = (part[0, 0] for part in mdnrnn(z[:, None], action[:, None], state)[0])
    tempered = MixtureSameFamily(
        Categorical(logits=logits / 0.4), Normal(mu, (0.4 * torch.exp(2 * logsigma)).sqrt())
    )
    ranks = tempered.cdf(drawn).sort(dim=0).values  # uniform, if drawn follows the mixture
    even = (torch.arange(N) + 0.5) / N
    assert (
        ranks - even[:, None]
    ).abs().max() < 1.95 / N**0.5  # Kolmogorov and Smirnov, one in a thousand
