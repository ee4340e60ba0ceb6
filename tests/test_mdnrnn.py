"""M: the mixture density against torch.distributions, the LSTM against itself, samples against their moments."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wmlib.data import Sequences
from wmlib.mdnrnn import (
    MDNRNN,
    Mixture,
    mdnrnn_loss,
    mixture_nll,
    outcome_layers,
    place_noise,
    sample_mixture,
)


def random_mixture(B, T, Z, K, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Mixture(*torch.randn(3, B, T, Z, K, dtype=dtype, generator=generator))


def oracle_nll(mixture, target):
    components = Normal(mixture.mu, mixture.logsigma.exp(), validate_args=False)
    return -MixtureSameFamily(
        Categorical(logits=mixture.logits), components, validate_args=False
    ).log_prob(target)


def one_latent(logits, mu, logsigma, dtype=torch.float64):
    """A mixture of shape (1, 1, 1, K)."""
    return Mixture(
        *(torch.tensor(part, dtype=dtype).view(1, 1, 1, -1) for part in (logits, mu, logsigma))
    )


def untrained(z_size=4, action_size=3, hidden_size=6, num_mixtures=2):
    torch.manual_seed(0)
    return MDNRNN(z_size, action_size, hidden_size, num_mixtures)


@pytest.mark.parametrize("B, T, Z, K", [(1, 1, 1, 1), (2, 3, 4, 5), (5, 1, 32, 5), (1, 7, 2, 3)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_nll_equals_torchs_mixture(B, T, Z, K, dtype, tolerance):
    mixture, target = (
        random_mixture(B, T, Z, K, dtype, seed=B + T),
        torch.randn(B, T, Z, dtype=dtype),
    )
    found = mixture_nll(mixture, target)
    assert found.shape == (B, T, Z) and found.dtype == dtype
    torch.testing.assert_close(found, oracle_nll(mixture, target), atol=tolerance, rtol=tolerance)


EXTREMES = {
    "logits far apart": ([1e4, -1e4, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]),
    "the only heavy component is far off": ([-1e4, 1e4, -1e4], [0.0, 500.0, 1.0], [0.0, 0.0, 0.0]),
    "very narrow": ([0.0, 1.0, 2.0], [0.5, 0.5, 0.7], [-30.0, -15.0, -20.0]),
    "very wide": ([0.0, 1.0, 2.0], [0.0, 0.5, 1.0], [30.0, 20.0, 25.0]),
    "narrow beside wide": ([0.0, 0.0, 0.0], [0.0, 0.5, 1.0], [-30.0, 30.0, 0.0]),
    "far from every mean": ([0.0, 0.0, 0.0], [1e4, -1e4, 2e4], [0.0, -1.0, 1.0]),
}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("parts", EXTREMES.values(), ids=EXTREMES)
def test_nll_equals_torchs_mixture_at_extreme_values(parts, dtype, tolerance):
    mixture, target = one_latent(*parts, dtype=dtype), torch.full((1, 1, 1), 0.5, dtype=dtype)
    found = mixture_nll(mixture, target)
    in_double = oracle_nll(Mixture(*(part.double() for part in mixture)), target.double())
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), in_double, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parts", EXTREMES.values(), ids=EXTREMES)
def test_gradients_are_finite_at_extreme_values(parts, dtype):
    mixture = Mixture(*(part.requires_grad_() for part in one_latent(*parts, dtype=dtype)))
    target = torch.full((1, 1, 1), 0.5, dtype=dtype, requires_grad=True)
    mixture_nll(mixture, target).sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in (*mixture, target))


def test_gradients_equal_those_of_torchs_mixture():
    mixture = Mixture(*(part.requires_grad_() for part in random_mixture(2, 3, 4, 5)))
    target = torch.randn(2, 3, 4, dtype=torch.float64)
    found = torch.autograd.grad(mixture_nll(mixture, target).sum(), mixture)
    torch.testing.assert_close(
        found, torch.autograd.grad(oracle_nll(mixture, target).sum(), mixture)
    )


@pytest.mark.parametrize("seed", range(3))
def test_density_integrates_to_one(seed):
    mixture = random_mixture(1, 1, 3, 5, seed=seed)
    x = torch.linspace(-80, 80, 200_001, dtype=torch.float64)
    wide = Mixture(*(part.expand(1, len(x), 3, 5) for part in mixture))
    density = torch.exp(-mixture_nll(wide, x[None, :, None].expand(1, -1, 3)))
    torch.testing.assert_close(
        torch.trapezoid(density, x, dim=1), torch.ones(1, 3, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_nll_of_one_component_is_the_gaussians_formula():
    mixture, target = (
        one_latent([3.0], [1.0], [math.log(0.5)]),
        torch.full((1, 1, 1), 2.0, dtype=torch.float64),
    )
    expected = 0.5 * (1 / 0.5) ** 2 + math.log(0.5) + 0.5 * math.log(2 * math.pi)
    assert mixture_nll(mixture, target).item() == pytest.approx(expected, abs=1e-12)


def test_nll_may_be_negative():
    assert mixture_nll(one_latent([0.0], [0.0], [-3.0]), torch.zeros(1, 1, 1)).item() < 0


def test_adding_a_number_to_all_logits_changes_nothing():
    mixture, target = random_mixture(2, 3, 4, 5), torch.zeros(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(
        mixture_nll(mixture._replace(logits=mixture.logits + 7), target),
        mixture_nll(mixture, target),
    )


def test_m_has_as_many_trainable_parameters_as_the_paper_says():
    assert (
        sum(weights.numel() for weights in MDNRNN().parameters() if weights.requires_grad)
        == 422_368
    )


def test_the_second_bias_is_zero_and_stays_so_under_training():
    mdnrnn = untrained()
    before = mdnrnn.lstm.bias_ih_l0.detach().clone()
    optimizer = torch.optim.Adam(mdnrnn.parameters(), 0.1)
    mixture, _ = mdnrnn(torch.randn(2, 5, 4), torch.randn(2, 5, 3))
    mixture_nll(mixture, torch.randn(2, 5, 4)).mean().backward()
    optimizer.step()
    assert not mdnrnn.lstm.bias_hh_l0.requires_grad
    assert mdnrnn.lstm.bias_hh_l0.eq(0).all()
    assert not torch.equal(mdnrnn.lstm.bias_ih_l0, before)


@pytest.mark.parametrize("Z, A, H, K", [(32, 3, 256, 5), (4, 1, 6, 2)])
def test_forward_gives_the_documented_shapes(Z, A, H, K):
    mixture, (h, c) = MDNRNN(Z, A, H, K)(torch.zeros(2, 3, Z), torch.zeros(2, 3, A))
    assert [part.shape for part in mixture] == [(2, 3, Z, K)] * 3
    assert h.shape == c.shape == (2, H)


def test_memory_is_a_plain_lstm():
    mdnrnn, z, action = untrained(), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    weights_x, weights_h, bias = (
        mdnrnn.lstm.weight_ih_l0,
        mdnrnn.lstm.weight_hh_l0,
        mdnrnn.lstm.bias_ih_l0,
    )
    h, c, seen = torch.zeros(2, 6), torch.zeros(2, 6), []
    for t in range(5):
        gates = torch.cat([z[:, t], action[:, t]], -1) @ weights_x.T + h @ weights_h.T + bias
        i, f, g, o = gates.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        seen.append(h)
    found, (last_h, last_c) = mdnrnn.memory(z, action)
    torch.testing.assert_close(found, torch.stack(seen, 1))
    torch.testing.assert_close((last_h, last_c), (h, c))


def test_a_sequence_equals_its_steps_one_by_one():
    mdnrnn, z, action = untrained(), torch.randn(2, 7, 4), torch.randn(2, 7, 3)
    whole, (h, c) = mdnrnn(z, action)
    state, steps = None, []
    for t in range(7):
        mixture, state = mdnrnn(z[:, t : t + 1], action[:, t : t + 1], state)
        steps.append(mixture)
    torch.testing.assert_close(whole, Mixture(*(torch.cat(parts, 1) for parts in zip(*steps))))
    torch.testing.assert_close(state, (h, c))


def test_no_state_means_the_initial_state():
    mdnrnn, z, action = untrained(), torch.randn(2, 3, 4), torch.randn(2, 3, 3)
    torch.testing.assert_close(
        mdnrnn(z, action), mdnrnn(z, action, mdnrnn.initial_state(2)), atol=0, rtol=0
    )
    assert all(part.shape == (2, 6) and part.eq(0).all() for part in mdnrnn.initial_state(2))


def test_the_state_that_is_given_matters():
    mdnrnn, z, action = untrained(), torch.randn(1, 1, 4), torch.randn(1, 1, 3)
    _, state = mdnrnn.memory(z, action)
    assert not torch.allclose(mdnrnn.memory(z, action, state)[0], mdnrnn.memory(z, action)[0])


def test_rows_of_a_batch_do_not_touch_each_other():
    mdnrnn, z, action = untrained(), torch.randn(3, 4, 4), torch.randn(3, 4, 3)
    alone, _ = mdnrnn.memory(z[1:2], action[1:2])
    torch.testing.assert_close(mdnrnn.memory(z, action)[0][1:2], alone)


def test_the_prediction_does_not_see_the_future():
    mdnrnn, z, action = untrained(), torch.randn(1, 6, 4), torch.randn(1, 6, 3)
    other = z.clone()
    other[:, 4:] = 9
    torch.testing.assert_close(
        mdnrnn(z, action)[0].mu[:, :4], mdnrnn(other, action)[0].mu[:, :4], atol=0, rtol=0
    )


def test_forward_is_memory_then_mixture():
    mdnrnn, z, action = untrained(), torch.randn(2, 3, 4), torch.randn(2, 3, 3)
    torch.testing.assert_close(
        mdnrnn(z, action)[0], mdnrnn.mixture(mdnrnn.memory(z, action)[0]), atol=0, rtol=0
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 1.3, 3.0])
def test_samples_have_the_moments_of_the_tempered_mixture(temperature):
    mixture = one_latent([0.0, 1.0, -0.5], [-2.0, 0.5, 3.0], [-1.0, 0.0, 0.5])
    logits, mu, logsigma = (part.flatten() for part in mixture)
    weights = torch.softmax(logits / temperature, -1)
    mean = (weights * mu).sum()
    variance = (
        weights * (mu.square() + temperature * torch.exp(2 * logsigma))
    ).sum() - mean.square()
    n = 200_000
    z = sample_mixture(
        Mixture(*(part.expand(1, n, 1, 3) for part in mixture)),
        temperature,
        torch.Generator().manual_seed(0),
    )
    assert z.shape == (1, n, 1)
    assert z.mean().item() == pytest.approx(mean.item(), abs=5 * (variance / n).sqrt().item())
    assert z.var().item() == pytest.approx(variance.item(), rel=0.02)


def test_samples_at_temperature_one_follow_the_density():
    torch.manual_seed(0)
    mixture = one_latent([0.0, 1.0], [-1.0, 2.0], [-0.5, 0.0])
    n = 100_000
    z = sample_mixture(Mixture(*(part.expand(1, n, 1, 2) for part in mixture))).flatten()
    distribution = MixtureSameFamily(
        Categorical(logits=mixture.logits.flatten()),
        Normal(mixture.mu.flatten(), mixture.logsigma.exp().flatten()),
    )
    for x in (-1.5, -0.5, 0.5, 1.5, 3.0):
        x = torch.tensor(x, dtype=torch.float64)
        assert (z < x).double().mean().item() == pytest.approx(
            distribution.cdf(x).item(), abs=0.008
        )


def test_each_latent_draws_its_own_component():
    mixture = Mixture(
        torch.zeros(1, 2000, 2, 2),
        torch.tensor([-1.0, 1.0]).expand(1, 2000, 2, 2),
        torch.full((1, 2000, 2, 2), -20.0),
    )
    z = sample_mixture(mixture, generator=torch.Generator().manual_seed(0))[0].sign()
    assert 0.4 < z[:, 0].eq(z[:, 1]).float().mean() < 0.6


def test_each_position_samples_from_its_own_mixture():
    mu = torch.arange(2 * 3 * 4.0).view(2, 3, 4, 1).expand(2, 3, 4, 5)
    z = sample_mixture(Mixture(torch.zeros(2, 3, 4, 5), mu, torch.full((2, 3, 4, 5), -20.0)))
    torch.testing.assert_close(z, mu[..., 0])


def test_a_component_that_weighs_nothing_is_never_drawn():
    mixture = Mixture(
        torch.tensor([1e4, -1e4]).expand(1, 500, 1, 2),
        torch.tensor([0.0, 99.0]).expand(1, 500, 1, 2),
        torch.zeros(1, 500, 1, 2),
    )
    assert sample_mixture(mixture, 0.1, torch.Generator().manual_seed(0)).max() < 50


def test_the_same_generator_gives_the_same_samples():
    mixture = random_mixture(2, 3, 4, 5)
    first, again, other = (
        sample_mixture(mixture, 1.0, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_given_generator_leaves_torchs_global_one_alone():
    before = torch.get_rng_state()
    sample_mixture(random_mixture(2, 3, 4, 5), 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        sample_mixture(random_mixture(1, 1, 1, 2), temperature)


def predicting(outcome=True, look_ahead=None):
    torch.manual_seed(0)
    return MDNRNN(4, 3, 6, 2, outcome, look_ahead)


def sequences(B=3, T=5, steps=(5, 2, 4), ends=(True, False, True)):
    """Three pieces of 5, 2 and 4 steps, the first and the last of which end their episodes; the filling is noise."""
    generator = torch.Generator().manual_seed(1)
    z, action, reward = (
        torch.randn(shape, generator=generator) for shape in ((B, T + 1, 4), (B, T, 3), (B, T))
    )
    mask = torch.arange(T) < torch.tensor(steps)[:, None]
    terminated = (torch.arange(T) == torch.tensor(steps)[:, None] - 1) & torch.tensor(ends)[:, None]
    return Sequences(z, action, reward, terminated, mask)


def test_todays_weights_fit_an_m_without_outcome_and_it_says_what_it_lacks():
    assert not any("outcome" in name for name in predicting(False).state_dict())
    assert {"to_outcome.0.weight", "to_outcome.2.bias"} < set(predicting().state_dict())
    with pytest.raises(ValueError, match="predicts no reward and no end.*outcome=True"):
        predicting(False).outcome(torch.zeros(1, 1, 6))


@pytest.mark.parametrize("outcome", [False, True])
def test_the_loss_is_the_mean_over_real_steps_by_hand(outcome):
    mdnrnn, pieces = predicting(outcome), sequences()
    h, _ = mdnrnn.memory(pieces.z[:, :-1], pieces.action)
    nll, squared, cross = [], [], []
    for b, steps in enumerate((5, 2, 4)):
        for t in range(steps):
            mixture = Mixture(*(part[b : b + 1, t : t + 1] for part in mdnrnn.mixture(h)))
            nll += oracle_nll(mixture, pieces.z[b : b + 1, t + 1 : t + 2]).flatten().tolist()
            if outcome:
                reward, logit = (part[b, t] for part in mdnrnn.outcome(h))
                p = torch.sigmoid(logit).item()
                if not pieces.terminated[b, t]:
                    squared.append((reward - pieces.reward[b, t]).item() ** 2)
                cross.append(-10 * math.log(p) if pieces.terminated[b, t] else -math.log(1 - p))
    loss, parts = mdnrnn_loss(mdnrnn, pieces)
    expected = {"nll": nll, "reward": squared, "terminated": cross} if outcome else {"nll": nll}
    means = {name: sum(values) / len(values) for name, values in expected.items()}
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(means, rel=1e-4)
    assert loss.item() == pytest.approx(sum(means.values()), rel=1e-4)


def test_looking_ahead_adds_the_likelihood_of_the_z_that_comes_so_many_steps_later():
    mdnrnn, pieces = predicting(False, look_ahead=3), sequences()
    h, _ = mdnrnn.memory(pieces.z[:, :-1], pieces.action)
    expected = []
    for b, steps in enumerate((5, 2, 4)):
        for t in range(steps - 2):  # from h[t], which has seen z[t], to z[t + 3]
            mu, logsigma = mdnrnn.to_ahead(h[b, t]).chunk(2)
            expected += (
                -torch.distributions.Normal(mu, logsigma.exp()).log_prob(pieces.z[b, t + 3])
            ).tolist()
    loss, parts = mdnrnn_loss(mdnrnn, pieces)
    assert len(expected) == 4 * (3 + 0 + 2)
    assert parts["ahead"].item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert parts["nll"].item() == pytest.approx(
        mdnrnn_loss(predicting(False), pieces)[1]["nll"].item(), rel=1e-6
    )
    assert loss.item() == pytest.approx((parts["nll"] + parts["ahead"]).item(), rel=1e-6)


def test_an_m_that_does_not_look_ahead_says_so():
    assert not any("ahead" in name for name in predicting().state_dict())
    with pytest.raises(ValueError, match="predicts the next z alone.*look_ahead"):
        predicting().ahead(torch.zeros(1, 1, 6))


def test_what_stands_in_the_filling_does_not_matter_and_gets_no_gradient():
    mdnrnn, pieces = predicting(), sequences()
    filled = pieces._replace(reward=torch.where(pieces.mask, pieces.reward, 99.0))
    filled.z[1, 3:], filled.z[2, 5:] = 7.0, -7.0
    losses = [mdnrnn_loss(mdnrnn, each)[0] for each in (sequences(), filled)]
    assert losses[0].item() == losses[1].item()


def test_what_an_ending_step_pays_moves_neither_the_rewards_error_nor_any_weight():
    gradients, errors = [], []
    for pay in (0.0, -100.0):
        mdnrnn, pieces = predicting(), sequences()
        pieces.reward[pieces.terminated] = pay
        loss, parts = mdnrnn_loss(mdnrnn, pieces)
        errors.append(parts["reward"].item())
        trained = [weights for weights in mdnrnn.parameters() if weights.requires_grad]
        gradients.append(torch.autograd.grad(loss, trained))
    assert pieces.terminated.sum() == 2 and errors[0] == errors[1] < 10
    assert all(torch.equal(one, other) for one, other in zip(*gradients))


@pytest.mark.parametrize("end_weight", [1.0, 10.0, 40.0])
def test_an_end_counts_as_often_as_its_weight_says(end_weight):
    mdnrnn, pieces = predicting(), sequences()
    h, _ = mdnrnn.memory(pieces.z[:, :-1], pieces.action)
    p = torch.sigmoid(mdnrnn.outcome(h)[1])[pieces.mask]
    end = pieces.terminated[pieces.mask]
    expected = torch.cat([-end_weight * p[end].log(), -(1 - p[~end]).log()]).mean()
    _, parts = mdnrnn_loss(mdnrnn, pieces, end_weight)
    assert parts["terminated"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("units, layers", [(0, 1), (7, 3)])
def test_the_outcome_is_read_by_a_linear_layer_or_by_way_of_hidden_units(units, layers):
    found = outcome_layers(6, units)
    assert len(found) == layers and found(torch.zeros(2, 6)).shape == (2, 2)
    assert layers == 1 or found[0].out_features == units


def test_training_on_outcomes_learns_reward_and_end():
    mdnrnn, pieces = predicting(), sequences()
    optimizer = torch.optim.Adam(
        [weights for weights in mdnrnn.parameters() if weights.requires_grad], 0.02
    )
    for _ in range(500):
        loss, _ = mdnrnn_loss(mdnrnn, pieces)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        reward, logit = mdnrnn.outcome(mdnrnn.memory(pieces.z[:, :-1], pieces.action)[0])
    assert torch.equal((logit > 0)[pieces.mask], pieces.terminated[pieces.mask])
    paid = pieces.mask & ~pieces.terminated
    torch.testing.assert_close(reward[paid], pieces.reward[paid], atol=0.2, rtol=0)


def test_noise_picks_the_component_by_the_distribution_function_and_the_place_by_its_width():
    mixture = one_latent(
        [math.log(0.2), math.log(0.5), math.log(0.3)], [-10.0, 0.0, 10.0], [0.0, 1.0, -1.0]
    )
    for uniform, k in ((0.0, 0), (0.19, 0), (0.21, 1), (0.69, 1), (0.71, 2), (0.9999999, 2)):
        u, normal = (
            torch.full((1, 1, 1), uniform, dtype=torch.float64),
            torch.full((1, 1, 1), 1.5, dtype=torch.float64),
        )
        expected = (-10.0, 0.0, 10.0)[k] + 1.5 * math.exp((0.0, 1.0, -1.0)[k])
        assert place_noise(mixture, u, normal).item() == pytest.approx(expected)
