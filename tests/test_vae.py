"""V: sizes, the KL and the loss against independent computations, frames between uint8 and float."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from wmlib.fast import Conv2d, ConvTranspose2d
from wmlib.vae import VAE, kl_to_standard_normal, to_float, to_uint8, vae_loss


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return VAE()


def inputs(B=3, Z=4, spread=1.0, seed=0):
    """recon, x, mu, logvar; each image's KL is another."""
    generator = torch.Generator().manual_seed(seed)
    recon, x = torch.rand(2, B, 3, 64, 64, generator=generator)
    scale = spread * torch.arange(1, B + 1)[:, None]
    mu, logvar = scale * torch.randn(2, B, Z, generator=generator)
    return recon, x, mu, logvar


def literal_loss(recon, x, mu, logvar, kl_tolerance):
    """The formula of the paper's appendix, image by image and number by number."""
    recon, x, mu, logvar = (array.double().numpy() for array in (recon, x, mu, logvar))
    total = 0.0
    for b in range(len(x)):
        error = sum((p - q) ** 2 for p, q in zip(recon[b].ravel(), x[b].ravel()))
        kl = sum(-0.5 * (1 + lv - m**2 - np.exp(lv)) for m, lv in zip(mu[b], logvar[b]))
        total += error + max(kl, kl_tolerance * mu.shape[1])
    return total / len(x)


@pytest.mark.parametrize("side, stride", [(1, 2), (5, 2), (4, 1), (3, 5), (2, 7)])
def test_patches_are_torchs_transposed_convolution_and_so_are_their_gradients(side, stride):
    torch.manual_seed(0)
    layer = ConvTranspose2d(6, 4, kernel_size=5, stride=stride)
    x = torch.randn(3, 6, side, side, requires_grad=True)
    expected = torch.nn.functional.conv_transpose2d(x, layer.weight, layer.bias, stride=stride)
    torch.testing.assert_close(layer(x), expected)
    direction, inputs = torch.randn(expected.shape), (x, layer.weight, layer.bias)
    for ours, theirs in zip(
        torch.autograd.grad(layer(x), inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [4, 6, 7, 9])
def test_a_convolution_to_few_pixels_in_bf16_is_torchs(side):
    torch.manual_seed(0)
    layer = Conv2d(6, 8, kernel_size=4, stride=2)
    x = torch.randn(3, 6, side, side)
    exact = torch.nn.functional.conv2d(x, layer.weight, layer.bias, stride=2)
    with torch.inference_mode():
        rough = layer.bfloat16()(x.bfloat16())
    assert rough.shape == exact.shape and rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("z_size, count", [(32, 4_348_547), (64, 4_446_915)])
def test_v_has_as_many_parameters_as_the_paper_says(z_size, count):
    assert sum(weights.numel() for weights in VAE(z_size).parameters()) == count


def test_encoder_layers_have_the_papers_shapes(vae):
    shapes, x = [], torch.rand(2, 3, 64, 64)
    for layer in vae.encoder:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(32, 31, 31), (64, 14, 14), (128, 6, 6), (256, 2, 2)]
    assert x.shape == (2, 1024)


def test_decoder_layers_have_the_papers_shapes(vae):
    shapes, x = [], torch.randn(2, 32)
    for layer in vae.decoder:
        x = layer(x)
        if isinstance(layer, torch.nn.ConvTranspose2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(128, 5, 5), (64, 13, 13), (32, 30, 30), (3, 64, 64)]


@pytest.mark.parametrize("z_size", [1, 5])
def test_forward_gives_an_image_and_two_vectors_of_z_size(z_size):
    vae = VAE(z_size)
    recon, mu, logvar = vae(torch.rand(2, 3, 64, 64))
    assert recon.shape == (2, 3, 64, 64) and mu.shape == logvar.shape == (2, z_size)
    assert vae.z_size == z_size
    assert 0 <= recon.min() and recon.max() <= 1


def test_forward_is_encode_sample_decode(vae):
    x = torch.rand(2, 3, 64, 64)
    recon, mu, logvar = vae(x, torch.Generator().manual_seed(1))
    z = vae.sample(mu, logvar, torch.Generator().manual_seed(1))
    torch.testing.assert_close((mu, logvar), vae.encode(x))
    torch.testing.assert_close(recon, vae.decode(z))


def test_a_sample_has_the_mean_and_the_variance_that_it_was_given(vae):
    mu, logvar = torch.tensor([[-1.0, 2.0]]), torch.tensor([[-2.0, 1.0]])
    z = vae.sample(mu.expand(40_000, 2), logvar.expand(40_000, 2), torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(0), mu[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), logvar[0].exp(), atol=0, rtol=0.03)


def test_the_same_generator_gives_the_same_sample(vae):
    mu = torch.zeros(2, 3)
    first, again, other = (
        vae.sample(mu, mu, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_gradients_reach_mu_and_logvar_through_a_sample(vae):
    mu, logvar = torch.zeros(1, 2, requires_grad=True), torch.full((1, 2), 0.6, requires_grad=True)
    z = vae.sample(mu, logvar, torch.Generator().manual_seed(0))
    z.sum().backward()
    torch.testing.assert_close(mu.grad, torch.ones(1, 2))
    torch.testing.assert_close(logvar.grad, 0.5 * (z - mu).detach())


@pytest.mark.parametrize("spread", [1e-3, 1.0, 5.0])
def test_kl_equals_torchs_closed_form(spread):
    mu, logvar = spread * torch.randn(
        2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    oracle = kl_divergence(
        Normal(mu, torch.exp(logvar / 2)), Normal(torch.zeros(()).double(), torch.ones(()).double())
    )
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), oracle, atol=1e-12, rtol=1e-9)


def test_kl_equals_a_monte_carlo_estimate():
    torch.manual_seed(0)
    mu, logvar = torch.tensor([0.8, -0.3]), torch.tensor([-1.0, 0.7])
    q = Normal(mu, torch.exp(logvar / 2))
    z = q.sample((200_000,))
    estimate = (q.log_prob(z) - Normal(0, 1).log_prob(z)).mean(0)
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), estimate, atol=0.01, rtol=0)


def test_kl_is_zero_at_the_standard_normal_and_positive_elsewhere():
    assert kl_to_standard_normal(torch.zeros(3), torch.zeros(3)).eq(0).all()
    assert kl_to_standard_normal(torch.randn(1000), torch.randn(1000)).gt(0).all()


@pytest.mark.parametrize(
    "spread", [0.05, 0.5, 3.0], ids=["floor under all", "floor under some", "floor under none"]
)
def test_loss_equals_a_literal_computation(spread):
    values = inputs(spread=spread)
    loss, _ = vae_loss(*values, kl_tolerance=0.5)
    np.testing.assert_allclose(loss.item(), literal_loss(*values, 0.5), rtol=1e-5)


def test_the_floor_lies_under_each_images_sum_and_nowhere_else():
    recon, x, mu, logvar = inputs(spread=0.5)
    kl = kl_to_standard_normal(mu, logvar)  # (B, Z)
    per_image = kl.sum(1)
    assert per_image.min() < 2 < per_image.max()
    error = (recon - x).square()
    right = vae_loss(recon, x, mu, logvar, 0.5)[0]
    mistakes = {
        "floor after the batch's mean": error.sum((1, 2, 3)).mean() + per_image.mean().clamp(min=2),
        "floor under each latent": (error.sum((1, 2, 3)) + kl.clamp(min=0.5).sum(1)).mean(),
        "no floor": (error.sum((1, 2, 3)) + per_image).mean(),
        "mean over the pixels": (error.mean((1, 2, 3)) + per_image.clamp(min=2)).mean(),
    }
    for name, value in mistakes.items():
        assert abs(value - right) > 0.05, name


def test_below_the_floor_the_kl_does_not_pull():
    recon, x, mu, logvar = inputs(spread=0.05)
    mu, logvar = mu.requires_grad_(), logvar.requires_grad_()
    vae_loss(recon, x, mu, logvar, 0.5)[0].backward()
    assert mu.grad.eq(0).all() and logvar.grad.eq(0).all()


def test_above_the_floor_the_kl_pulls_as_its_derivative_says():
    recon, x, mu, logvar = inputs(spread=3.0)
    mu, logvar = mu.requires_grad_(), logvar.requires_grad_()
    vae_loss(recon, x, mu, logvar, 0.5)[0].backward()
    torch.testing.assert_close(mu.grad, mu.detach() / 3)
    torch.testing.assert_close(logvar.grad, (logvar.detach().exp() - 1) / 6)


def test_the_default_floor_is_half_a_nat_a_latent():
    values = inputs(spread=0.05)
    assert torch.equal(vae_loss(*values)[0], vae_loss(*values, kl_tolerance=0.5)[0])
    assert not torch.equal(vae_loss(*values)[0], vae_loss(*values, kl_tolerance=0.4)[0])


def test_metrics_are_the_squared_error_and_the_kl_before_the_floor():
    recon, x, mu, logvar = inputs(spread=0.05)
    loss, metrics = vae_loss(recon.requires_grad_(), x, mu, logvar, 0.5)
    torch.testing.assert_close(metrics["kl"], kl_to_standard_normal(mu, logvar).sum(1).mean())
    torch.testing.assert_close(metrics["squared_error"] + 2, loss.detach())
    assert not any(value.requires_grad for value in metrics.values())


def test_every_uint8_value_survives_the_way_to_float_and_back():
    obs = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(1, 64, 64, 3)
    assert set(obs.ravel()) == set(range(256))
    back = to_uint8(to_float(obs))
    assert back.dtype == np.uint8 and np.array_equal(back, obs)


def test_to_float_moves_the_colour_to_the_front_and_scales_to_one():
    obs = np.zeros((2, 64, 64, 3), np.uint8)
    obs[1, 10, 20, 2] = 255
    x = to_float(obs)
    assert x.shape == (2, 3, 64, 64) and x.dtype == torch.float32
    assert x[1, 2, 10, 20] == 1 and x.sum() == 1


def test_to_float_leaves_the_frame_as_it_was():
    obs = np.full((1, 64, 64, 3), 200, np.uint8)
    to_float(obs).zero_()
    assert (obs == 200).all()


def test_to_uint8_rounds_and_stays_within_a_byte():
    x = torch.zeros(1, 3, 64, 64)
    x[0, :, 0, 0] = torch.tensor([-0.5, 1.5, 99.6 / 255])
    assert to_uint8(x)[0, 0, 0].tolist() == [0, 255, 100]


def test_to_uint8_leaves_its_input_as_it_was():
    x = torch.full((1, 3, 64, 64), 0.3)
    to_uint8(x)
    assert x.eq(0.3).all()


@pytest.mark.parametrize(
    "obs",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 96, 96, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((1, 64, 64, 4), np.uint8),
    ],
    ids=["float", "no batch", "raw pixels", "colour first", "four colours"],
)
def test_frames_of_another_shape_or_dtype_are_refused(obs):
    with pytest.raises(ValueError, match="uint8.*64, 64, 3.*got"):
        to_float(obs)
