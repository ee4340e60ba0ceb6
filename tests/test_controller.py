"""C: parameter counts, the population form, numpy as the oracle, and the paper's action map."""

import numpy as np
import pytest
import torch

from wmlib.controller import Controller
from wmlib.envs.car_racing import CAR_RACING, squash

COUNTS = [
    ({}, 867),
    (dict(input_size=32), 99),
    (dict(input_size=32, hidden_size=40), 1_443),
    (dict(input_size=1_088, action_size=1, bias=False), 1_088),
    (dict(input_size=64, action_size=1), 65),
]
KINDS = [
    dict(bias=True),
    dict(bias=False),
    dict(bias=True, hidden_size=4),
    dict(bias=False, hidden_size=4),
]


def draw(controller, P, B, F, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(P, controller.num_params, generator=generator), torch.randn(
        P, B, F, generator=generator
    )


@pytest.mark.parametrize("kind, count", COUNTS)
def test_parameters_are_counted_as_in_the_paper(kind, count):
    assert Controller(**kind).num_params == count


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_equals_its_policies_one_at_a_time(kind):
    controller = Controller(5, 3, **kind)
    params, x = draw(controller, 7, 4, 5)
    alone = torch.cat([controller.act(params[p : p + 1], x[p : p + 1]) for p in range(7)])
    torch.testing.assert_close(controller.act(params, x), alone)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_linear_controller_is_w_x_plus_b(kind):
    controller = Controller(5, 3, **kind)
    params, x = draw(controller, 2, 4, 5)
    found = controller.act(params, x)
    assert found.shape == (2, 4, 3)
    for p in range(2):
        flat = params[p].numpy()
        W, b = flat[:15].reshape(3, 5), flat[15:] if kind["bias"] else 0
        for row in range(4):
            np.testing.assert_allclose(
                found[p, row], W @ x[p, row].numpy() + b, rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("kind", KINDS[2:])
def test_a_hidden_layer_is_w2_tanh_of_w1_x(kind):
    controller = Controller(5, 3, **kind)
    params, x = draw(controller, 1, 4, 5)
    bias, flat = kind["bias"], params[0].numpy()
    sizes = [20, 4 * bias, 12, 3 * bias]
    assert sum(sizes) == len(flat)
    W1, b1, W2, b2 = np.split(flat, np.cumsum(sizes)[:-1])
    hidden = np.tanh(x[0].numpy() @ W1.reshape(4, 5).T + (b1 if bias else 0))
    np.testing.assert_allclose(
        controller.act(params, x)[0],
        hidden @ W2.reshape(3, 4).T + (b2 if bias else 0),
        rtol=1e-5,
        atol=1e-6,
    )


def test_parameters_of_zero_give_a_raw_action_of_zero():
    controller = Controller()
    assert controller.act(torch.zeros(1, 867), torch.randn(1, 2, 288)).eq(0).all()


@pytest.mark.parametrize(
    "params, x",
    [((2, 17), (2, 1, 5)), ((2, 18), (3, 1, 5)), ((2, 18), (2, 1, 6)), ((18,), (1, 1, 5))],
    ids=["too few parameters", "another population", "too many inputs", "no population"],
)
def test_what_does_not_fit_is_refused_with_both_sizes(params, x):
    with pytest.raises(ValueError, match="controller of 18 parameters and 5 inputs got"):
        Controller(5, 3).act(torch.zeros(params), torch.zeros(x))


def test_the_action_map_is_the_papers():
    raw = torch.tensor([[0.3, -0.7, 1.1], [-2.0, 0.4, -0.6], [0.0, 0.0, 0.0]])
    a = np.tanh(raw.double().numpy())
    expected = np.stack([a[:, 0], (a[:, 1] + 1) / 2, np.clip(a[:, 2], 0, 1)], -1)
    np.testing.assert_allclose(squash(raw), expected, rtol=1e-5, atol=1e-7)


def test_squashed_actions_lie_in_the_action_space():
    raw = torch.cat(
        [100 * torch.randn(500, 3), torch.tensor([[1e30, 1e30, 1e30], [-1e30, -1e30, -1e30]])]
    )
    space = CAR_RACING.action_space
    assert all(space.contains(action) for action in squash(raw).numpy())


def test_the_action_map_keeps_leading_dimensions_and_float32():
    squashed = squash(torch.zeros(2, 4, 3))
    assert squashed.shape == (2, 4, 3) and squashed.dtype == torch.float32
    assert squashed[0, 0].tolist() == [0.0, 0.5, 0.0]
