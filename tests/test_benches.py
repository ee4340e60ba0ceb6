"""What the benches compute, where a slip would pass for a result: against torch.distributions and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from bench import mdnrnn, predictions, rivals
from wmlib.data import EncodedEpisode, EpisodeStore, Sequences, sequence_batches
from wmlib.mdnrnn import MDNRNN, Mixture, mixture_nll
from wmlib.presets import LAPTOP_M
from wmlib.train import train_mdnrnn


def joint(B=2, T=3, Z=4, K=5):
    """A Joint's mixture and torch's of the same, over z as one vector."""
    torch.manual_seed(0)
    h = torch.randn(B, T, 6)
    mixture = rivals.Joint(Z, 3, 6, K).mixture(h)
    parts = Normal(mixture.mu.mT, mixture.logsigma.mT.exp())  # (B, T, K, Z)
    return mixture, MixtureSameFamily(
        Categorical(logits=mixture.logits[:, :, 0]), Independent(parts, 1)
    )


def encoded(T, seed, Z=32):
    """A drive in which z wanders slowly, every latent a little less sure than the one before."""
    rng = np.random.default_rng(seed)
    mu = rng.standard_normal((T + 1, Z)).cumsum(0) * 0.1
    logvar = np.linspace(-6, 0, Z) * np.ones((T + 1, 1))
    action = rng.uniform(-1, 1, (T, 3))
    parts = (part.astype(np.float32) for part in (mu, logvar, action, np.zeros(T)))
    return EncodedEpisode(*parts, terminated=False)


# --- mdnrnn ---------------------------------------------------------------------------------------------------------


def test_the_scripts_loops_add_up_to_torchs_mixture():
    Z, K, outputs, target = 4, 5, torch.randn(2, 3, 5 + 2 * 5 * 4), torch.randn(2, 3, 4)
    logits, mu, logvar = outputs[..., :K], *outputs[..., K:].view(2, 3, 2, K, Z).unbind(dim=2)
    components = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    expected = -MixtureSameFamily(Categorical(logits=logits), components).log_prob(target).mean()
    torch.testing.assert_close(mdnrnn.script_loss(outputs, target), expected)


def test_the_plain_loss_is_ms():
    outputs, target = torch.randn(2, 3, 3 * 4 * 5), torch.randn(2, 3, 4)
    mixture = Mixture(*outputs.view(2, 3, 4, 3, 5).unbind(dim=3))
    torch.testing.assert_close(
        mdnrnn.plain_loss(outputs, target), mixture_nll(mixture, target).mean()
    )


def test_every_loop_trains_on_what_it_is_given(tmp_path):
    store = EpisodeStore(tmp_path, EncodedEpisode)
    store.save(0, encoded(120, seed=0, Z=4))
    loops = mdnrnn.training_loops(store.paths(), Z=4, H=6)
    for name in ("script, its own batch", "plain", "ours"):
        assert next(loops[name]) is not None
    assert set(loops) == set(mdnrnn.STEPS)


# --- rivals ---------------------------------------------------------------------------------------------------------


def test_a_joints_latents_together_are_torchs_mixture_of_vectors():
    mixture, oracle = joint()
    target = torch.randn(2, 3, 4)
    found = rivals.joint_nll(mixture, target)
    assert found.shape == target.shape
    torch.testing.assert_close(found.sum(dim=-1), -oracle.log_prob(target))


def test_a_joints_latents_that_come_first_are_judged_without_those_that_follow():
    mixture, _ = joint()
    target = torch.randn(2, 3, 4)
    first = Mixture(*(part[:, :, :2] for part in mixture))
    torch.testing.assert_close(
        rivals.joint_nll(mixture, target)[..., :2], rivals.joint_nll(first, target[..., :2])
    )
    torch.testing.assert_close(
        rivals.joint_nll(mixture, target)[..., 0], mixture_nll(mixture, target)[..., 0]
    )


def test_one_component_makes_no_difference_between_together_and_alone():
    mixture, _ = joint(K=1)
    target = torch.randn(2, 3, 4)
    torch.testing.assert_close(rivals.joint_nll(mixture, target), mixture_nll(mixture, target))


@pytest.mark.parametrize("name, loss", [("M", mixture_nll), (rivals.JOINT, rivals.joint_nll)])
def test_each_is_trained_by_its_own_loss_as_m_is(name, loss, tmp_path):
    store = EpisodeStore(tmp_path / "latents", EncodedEpisode)
    store.save(0, encoded(60, seed=0))
    settings = replace(LAPTOP_M, steps=1, look_ahead=None, batch_size=4, sequence_length=20)
    found = rivals.train(tmp_path / "kept", store.paths(), settings, name, seed=3)
    pieces = Sequences(*map(torch.from_numpy, next(sequence_batches(store.paths(), 4, 20, seed=3))))
    mixture, _ = rivals.new(name, seed=3)(pieces.z[:, :-1], pieces.action)
    assert found == pytest.approx(
        loss(mixture, pieces.z[:, 1:])[pieces.mask].mean().item(), rel=1e-5
    )
    assert (tmp_path / "kept" / "meta.json").exists()


def test_an_untrained_memory_stays_so():
    model = rivals.new(rivals.UNTRAINED)
    before = [part.clone() for part in model.lstm.parameters()]
    torch.manual_seed(0)
    batch = Sequences(
        np.ones((2, 6, 32), "f"), np.ones((2, 5, 3), "f"), None, None, np.ones((2, 5), bool)
    )
    batch = batch._replace(reward=batch.action[..., 0], terminated=batch.mask)
    head = model.to_mixture.weight.detach().clone()
    list(train_mdnrnn(replace(LAPTOP_M, steps=2, look_ahead=None), model, iter([batch] * 2)))
    assert all(torch.equal(one, other) for one, other in zip(before, model.lstm.parameters()))
    assert not torch.equal(head, model.to_mixture.weight)


def test_an_emptied_memory_sees_one_step():
    forgetful, z, action = rivals.Forgetful(4, 3, 6, 2), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    whole, (h, c) = forgetful.memory(z, action)
    one, _ = MDNRNN.memory(forgetful, z[:, 3:4], action[:, 3:4])
    torch.testing.assert_close(whole[:, 3:4], one)
    assert not h.any() and not c.any()


# --- predictions ----------------------------------------------------------------------------------------------------


class Linear(MDNRNN):
    """z[t+1] is 0.9 z[t] and the action's first entries, with noise of width 0.5: what follows is known exactly."""

    def memory(self, z, action, state=None):
        return 0.9 * z + action[..., : self.z_size], self.initial_state(len(z))

    def mixture(self, h):
        mu = h[..., None]
        return Mixture(torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5)))


def test_ten_steps_of_a_linear_m_cost_what_the_closed_form_says(monkeypatch):
    monkeypatch.setattr(predictions, "SAMPLES", 8192)
    codes = predictions.read(encoded(100, seed=0, Z=2), seed=0)
    _, ten = predictions.score(Linear(2, 3, 4, 1), codes)
    mean = codes.z[codes.starts]
    for step in range(10):
        mean = 0.9 * mean + codes.action[codes.starts + step, :2]
    width = 0.5 * math.sqrt(sum(0.81**i for i in range(10)))
    expected = -Normal(mean, width).log_prob(codes.z[codes.starts + 10]).mean(dim=0)
    torch.testing.assert_close(ten, expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("kind", [MDNRNN, rivals.Joint, rivals.Forgetful])
def test_futures_of_one_step_are_the_next_step_with_the_same_memory(kind, monkeypatch):
    monkeypatch.setattr(predictions, "AHEAD", 1)
    codes, (model, *_) = predictions.read(encoded(90, seed=1, Z=4), seed=1), [kind(4, 3, 6, 2)]
    (mixture, target), (last, came) = (
        predictions.next_step(model, codes),
        predictions.futures(model, codes),
    )
    rows = codes.starts - predictions.SKIP
    torch.testing.assert_close(came[:, 5], target[0, rows])
    torch.testing.assert_close(last.mu[:, 5], mixture.mu[0, rows])


def test_a_joints_futures_choose_one_component_for_all_latents(monkeypatch):
    monkeypatch.setattr(predictions, "AHEAD", 2)
    codes, model = predictions.read(encoded(90, seed=1, Z=2), seed=1), rivals.Joint(2, 3, 6, 2)
    seen = []
    monkeypatch.setattr(
        model,
        "memory",
        lambda z, a, s=None: (seen.append(z), rivals.Joint.memory(model, z, a, s))[1],
    )
    with torch.no_grad():
        model.to_mixture.weight.zero_()
        model.to_mixture.bias.copy_(
            torch.tensor([0, 0, -9, 9, -9, 9, -20, -20, -20, -20.0])
        )  # far apart, narrow
        predictions.futures(model, codes)
    sign = seen[-1][:, 0].sign()
    assert torch.equal(sign[:, 0], sign[:, 1]) and 0.3 < (sign > 0).float().mean() < 0.7


def test_latents_together_come_back_in_their_places():
    codes, model = predictions.read(encoded(90, seed=1, Z=4), seed=1), rivals.Joint(4, 3, 6, 1)
    found = predictions.together(model, torch.tensor([2, 0, 3, 1]), codes)
    torch.testing.assert_close(
        found[0], predictions.score(model, codes)[0]
    )  # one component: the same as alone
    assert found[1].isnan().all()


def test_the_linear_rival_finds_what_made_the_drives_and_z_repeated_its_width():
    drives, rng = [], np.random.default_rng(0)
    for _ in range(40):
        action = torch.from_numpy(rng.uniform(-1, 1, (400, 3)).astype(np.float32))
        z = [torch.zeros(2)]
        for step in range(400):
            z.append(
                0.9 * z[-1]
                + action[step, :2]
                + 0.5 * torch.from_numpy(rng.standard_normal(2)).float()
            )
        z = torch.stack(z)
        drives.append(predictions.Codes(z, z, action, torch.arange(50, 391)))
    linear, repeat = (predictions.Fixed(drives[:20], repeat=flag) for flag in (False, True))
    found = torch.stack([linear.score(codes) for codes in drives[20:]]).mean(dim=0)
    noise = torch.tensor([0.25, 0.25 * sum(0.81**i for i in range(10))])
    expected = 0.5 * (1 + torch.log(2 * math.pi * noise))
    torch.testing.assert_close(found.float(), expected[:, None].expand(2, 2), atol=0.05, rtol=0)
    one = torch.cat([codes.z[51:] - codes.z[50:-1] for codes in drives[:20]]).square().mean(dim=0)
    torch.testing.assert_close(repeat.fitted[1][1].float(), one)
    assert (torch.stack([repeat.score(codes) for codes in drives[20:]]).mean(dim=0) > found).all()


def test_the_draws_entropy_is_torchs():
    drive = encoded(90, seed=2, Z=3)
    codes = predictions.read(drive, seed=0)
    scale = torch.from_numpy(np.diag(np.exp(drive.logvar[0])))
    whole = MultivariateNormal(torch.zeros(3), scale).entropy()
    torch.testing.assert_close(predictions.entropy(codes).sum(dim=1), whole.expand(2))
    read = predictions.read(drive, seed=0, draw=False)
    assert torch.equal(read.z, torch.from_numpy(drive.mu)) and torch.equal(
        read.starts, codes.starts
    )


def test_an_m_that_knows_the_noise_is_calibrated_and_one_that_is_too_sure_is_not():
    class Sure(Linear):
        def mixture(self, h):
            mixture = super().mixture(h)
            return mixture._replace(logsigma=mixture.logsigma - 1)

    torch.manual_seed(0)
    action = torch.rand(3000, 3)
    z = [torch.zeros(2)]
    for step in range(3000):
        z.append(0.9 * z[-1] + action[step, :2] + 0.5 * torch.randn(2))
    codes = predictions.Codes(torch.stack(z), torch.stack(z), action, torch.arange(50, 2950, 10))
    right, wrong = (
        predictions.calibration(kind(2, 3, 4, 1), [codes], torch.arange(2))
        for kind in (Linear, Sure)
    )
    for k, error in {"1": 0.02, "10": 0.05}.items():
        assert sum(right[k]["shares"]) == pytest.approx(1) and right[k]["largest_deviation"] < error
        assert wrong[k]["largest_deviation"] > 0.08


def test_the_table_averages_seeds_drives_and_latents(capsys):
    codes = [predictions.read(encoded(90, seed=seed, Z=3), seed=seed) for seed in range(2)]
    row = lambda value: lambda one: torch.tensor([[value, value, 0.0], [math.nan] * 3])
    rows = {"M": [row(1.0), row(3.0)], "worse": [row(4.0)]}
    found = predictions.table(rows, codes, torch.tensor([0, 1]))
    assert found["M"] == {
        "1": {"used": [1, 3], "all": pytest.approx([2 / 3, 2]), "above_m": 0, "standard_error": 0}
    }
    assert found["worse"]["1"]["above_m"] == 2 and found["worse"]["1"]["used"] == [4]
    assert "worse" in capsys.readouterr().out
