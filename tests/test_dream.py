"""The dream: it repeats by its seed, it is M's own prediction, and C reads M's own state."""

import math

import numpy as np
import pytest
import torch

from fakes import tiny_models
from wmlib.agent import Agent
from wmlib.controller import Controller
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.car_racing import CAR_RACING
from wmlib.mdnrnn import MDNRNN, Mixture, place_noise
from wmlib.rollout import episodes, returns, rollout
from wmlib.vae import VAE, to_uint8

FIRST_Z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def dream(num_envs=3, first_z=FIRST_Z, **settings):
    return DreamEnv(*tiny_models(), first_z, num_envs, task=CAR_RACING, **settings)


def scripted(steps, num_envs=3):
    return np.random.default_rng(1).uniform(0, 1, (steps, num_envs, 3)).astype(np.float32)


def run(env, seed, steps=6):
    return np.stack(
        [
            env.reset(seed=seed)[0],
            *(env.step(action)[0] for action in scripted(steps, env.num_envs)),
        ]
    )


def pilot(seed=0, reads="z h"):
    vae, mdnrnn = tiny_models()
    controller = Controller(4 + 6 * (len(reads.split()) - 1), 3)
    params = torch.randn(controller.num_params, generator=torch.Generator().manual_seed(seed))
    return Agent(vae, mdnrnn, controller, params, CAR_RACING, reads)


def test_the_same_seed_gives_the_same_dream():
    assert np.array_equal(run(dream(), 5), run(dream(), 5))


def test_a_dream_can_be_dreamt_again_in_the_same_environment():
    env = dream()
    assert np.array_equal(run(env, 5), run(env, 5))


def test_another_seed_gives_another_dream():
    assert not np.array_equal(run(dream(), 5)[1:], run(dream(), 6)[1:])


def test_each_dream_has_a_seed_of_its_own():
    assert np.array_equal(run(dream(), 5), run(dream(), [5, 6, 7]))
    together, alone = run(dream(), [9, 5, 2])[:, 1], [run_alone(5, place=1), run_alone(5, place=1)]
    np.testing.assert_allclose(together, alone[0], rtol=1e-5, atol=1e-6)
    assert np.array_equal(*alone)


def run_alone(seed, place):
    """The dream of that seed by itself, under the actions that the dream at `place` gets in `run`."""
    env = dream(1)
    first = env.reset(seed=[seed])[0][0]
    return np.stack([first, *(env.step(action[place : place + 1])[0][0] for action in scripted(6))])


def test_two_candidates_on_the_same_seeds_begin_the_same_dreams_with_the_same_noise():
    """Four environments, two candidates on two seeds: what differs between them is what they do."""
    z = run(dream(4), [5, 6, 5, 6])
    assert np.array_equal(z[0, :2], z[0, 2:])
    env, still = dream(4), np.zeros((4, 3), np.float32)
    env.reset(seed=[5, 6, 5, 6])
    for _ in range(4):
        obs = env.step(still)[0]
        np.testing.assert_allclose(obs[:2], obs[2:], rtol=1e-5, atol=1e-6)


def test_a_dream_that_is_reset_alone_leaves_the_others_noise_alone():
    env, twin = dream(), dream()
    for each in (env, twin):
        each.reset(seed=5)
        each.step(scripted(1)[0])
    env.reset(seed=[None, 40, None], options={"reset_mask": np.array([False, True, False])})
    one, other = (each.step(scripted(2)[1])[0] for each in (env, twin))
    assert np.array_equal(one[[0, 2]], other[[0, 2]]) and not np.array_equal(one[1], other[1])


def test_without_a_seed_a_dream_goes_on_with_its_own_noise():
    def second():
        env = dream()
        env.reset(seed=5)
        env.step(scripted(1)[0])
        return env.reset()[0], env.step(scripted(1)[0])[0]

    one, other = second(), second()
    assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_a_dream_leaves_torchs_global_generator_alone():
    env = dream()
    before = torch.get_rng_state()
    run(env, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_dreams_begin_at_the_given_z():
    starts = np.concatenate([dream(20).reset(seed=seed)[0] for seed in range(3)])
    assert {row.tobytes() for row in starts} == {row.tobytes() for row in FIRST_Z}


def test_one_first_z_may_be_a_plain_vector():
    obs, _ = dream(first_z=FIRST_Z[0]).reset(seed=0)
    assert np.array_equal(obs, np.repeat(FIRST_Z[:1], 3, axis=0))


def test_state_is_ms_memory_of_the_z_and_actions_seen():
    env, actions = dream(), scripted(6)
    z = run(env, 5)[:-1]
    with torch.no_grad():
        _, expected = env.mdnrnn.memory(
            torch.from_numpy(z).transpose(0, 1), torch.from_numpy(actions).transpose(0, 1)
        )
    torch.testing.assert_close(env.state, expected)


def test_the_state_is_zero_when_a_dream_begins():
    env = dream()
    run(env, 5)
    env.reset(options={"reset_mask": [True, False, True]})
    assert [part.eq(0).all(1).tolist() for part in env.state] == [[True, False, True]] * 2


def test_a_dream_may_begin_with_the_memory_of_an_episode():
    drive = dream(1)
    before = run(drive, 5, steps=4)[-1]
    memory = drive.state
    actions = scripted(3, 1)
    expected = [drive.step(action) and drive.state for action in actions]
    env = dream(1, first_z=before, first_state=memory)
    env.reset(seed=7)
    torch.testing.assert_close(env.state, memory)
    env.step(actions[0])
    torch.testing.assert_close(
        env.state, expected[0]
    )  # the same z, action and memory lead to the same h and c


def test_each_first_z_keeps_its_own_memory():
    memory = tuple(torch.arange(5.0)[:, None].expand(5, 6) + part for part in (0, 10))
    env = dream(20, first_state=memory)
    z, _ = env.reset(seed=0)
    chosen = [next(i for i, row in enumerate(FIRST_Z) if np.array_equal(row, start)) for start in z]
    assert env.state[0][:, 0].tolist() == chosen and env.state[1][:, 0].tolist() == [
        10 + i for i in chosen
    ]


def test_a_memory_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"M's state must be h and c of shape \(5, 6\)"):
        dream(first_state=(torch.zeros(4, 6), torch.zeros(5, 6)))


def test_the_next_z_is_ms_mixture_under_the_noise_of_the_dreams_seed():
    env, action = dream(temperature=0.7), scripted(1)[0]
    z, _ = env.reset(seed=[5, 8, 9])
    uniform, normal = np.zeros((2, 3, 4), np.float32)
    for i, seed in enumerate([5, 8, 9]):
        rng = np.random.default_rng(seed)
        rng.integers(len(FIRST_Z))
        uniform[i], normal[i] = rng.random(4, np.float32), rng.standard_normal(4, np.float32)
    with torch.no_grad():
        mixture, _ = env.mdnrnn(torch.from_numpy(z)[:, None], torch.from_numpy(action)[:, None])
    noise = torch.from_numpy(uniform)[:, None], torch.from_numpy(normal)[:, None]
    expected = place_noise(mixture, *noise, temperature=0.7)[:, 0].numpy()
    np.testing.assert_allclose(env.step(action)[0], expected, rtol=1e-5, atol=1e-6)


def tempered(mixture, weights, noise):
    """Each latent's mixture with its weights and its noise at temperatures of their own (paper, section 4.4)."""
    picks = torch.distributions.Categorical(logits=mixture.logits / weights)
    normals = torch.distributions.Normal(mixture.mu, math.sqrt(noise) * torch.exp(mixture.logsigma))
    return torch.distributions.MixtureSameFamily(picks, normals)


@pytest.fixture(scope="module")
def distance():
    """The worst latent's Kolmogorov-Smirnov statistic times sqrt(N): N dreams' first z against a tempered mixture."""
    N, memory = 8_000, tuple(torch.full((1, 6), value) for value in (0.3, -0.2))

    @torch.no_grad()
    def measure(temperature, weights, noise):
        env = dream(N, FIRST_Z[:1], temperature=temperature, first_state=memory)
        env.mdnrnn.to_mixture.weight *= 12  # components that differ
        env.reset(seed=0)
        action = scripted(1, 1)[0]
        z = env.step(action.repeat(N, axis=0))[0]
        h, _ = env.mdnrnn.memory(
            torch.from_numpy(FIRST_Z[None, :1]), torch.from_numpy(action)[None], memory
        )
        expected = tempered(
            Mixture(*(part[0, 0] for part in env.mdnrnn.mixture(h))), weights, noise
        )
        reached = np.sort(
            expected.cdf(torch.from_numpy(z)).numpy(), axis=0
        )  # (N, Z), uniform if M is obeyed
        return np.abs(reached - (np.arange(N)[:, None] + 0.5) / N).max() * math.sqrt(N)

    return measure


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 1.5])
def test_one_step_is_distributed_as_ms_tempered_mixture(distance, temperature):
    """Chance passes 1.95 once in a thousand. Noise at a temperature a quarter off is seen, weights at twice theirs."""
    assert distance(temperature, temperature, temperature) < 1.95
    assert distance(temperature, 2 * temperature, temperature) > 2.5
    assert distance(temperature, temperature, 1.25 * temperature) > 2.5


def test_the_action_steers_the_dream():
    z = []
    for value in (0, 1):
        env = dream()
        env.reset(seed=5)
        env.step(np.full((3, 3), value, np.float32))
        z.append(env.state[0])
    assert not torch.allclose(*z)


def test_an_action_that_float32_cannot_hold_is_refused():
    env = dream()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be finite"):
        env.step(np.full((3, 3), 1e300))


def test_a_hotter_dream_spreads_wider():
    spread = []
    for temperature in (0.1, 1.0, 3.0):
        env = dream(500, FIRST_Z[:1], temperature=temperature)
        env.reset(seed=0)
        spread.append(env.step(np.zeros((500, 3), np.float32))[0].std(axis=0).mean())
    assert 2 * spread[0] < spread[1] < 0.8 * spread[2]


def test_without_outcome_a_dream_pays_nothing_and_never_terminates():
    env = dream()
    env.reset(seed=0)
    for action in scripted(6):
        _, reward, terminated, _, _ = env.step(action)
        assert not reward.any() and not terminated.any()


def foreseeing(reward_bias=0.0, end_bias=0.0, max_steps=6):
    """Dreams whose M predicts the outcome: with random weights, or sure of it."""
    torch.manual_seed(0)
    vae, mdnrnn = VAE(4), MDNRNN(4, 3, 6, 2, outcome=True)
    with torch.no_grad():
        mdnrnn.to_outcome[-1].bias += torch.tensor([reward_bias, end_bias])
    return DreamEnv(vae, mdnrnn, FIRST_Z, 3, task=CAR_RACING, max_steps=max_steps)


def test_a_step_pays_the_reward_that_m_expects_of_it():
    env, actions = foreseeing(end_bias=-50.0), scripted(6)
    z, paid = [env.reset(seed=5)[0]], []
    for action in actions:
        obs, reward, terminated, _, _ = env.step(action)
        z.append(obs)
        paid.append(reward)
        assert not terminated.any()
    with torch.no_grad():
        inputs = (torch.from_numpy(np.stack(part, axis=1)) for part in (z[:-1], actions))
        expected, _ = env.mdnrnn.outcome(env.mdnrnn.memory(*inputs)[0])
    np.testing.assert_allclose(np.stack(paid, axis=1), expected, rtol=1e-4, atol=1e-5)


def test_a_dream_ends_when_the_logit_of_the_end_passes_zero():
    env = foreseeing(reward_bias=3.0, end_bias=50.0)
    env.reset(seed=5)
    obs, reward, terminated, truncated, _ = env.step(scripted(1)[0])
    assert (
        terminated.all() and not truncated.any() and (reward > 1).all()
    )  # the step that ends it is paid
    after = env.step(scripted(1)[0])
    assert (
        np.array_equal(after[0], obs)
        and not after[1].any()
        and after[2].all()
        and not after[3].any()
    )


def test_an_end_at_the_limit_is_a_termination_alone():
    env = foreseeing(end_bias=50.0, max_steps=1)
    env.reset(seed=5)
    _, _, terminated, truncated, _ = env.step(scripted(1)[0])
    assert terminated.all() and not truncated.any()


def test_the_place_to_begin_may_be_chosen():
    env = dream()
    assert np.array_equal(env.reset(seed=0, options={"start": [4, 0, 2]})[0], FIRST_Z[[4, 0, 2]])
    for wrong in ([5, 0, 0], [0, 0], [-1, 0, 0], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="start must be 3 of the places 0 to 4"):
            env.reset(seed=0, options={"start": wrong})


def test_a_finished_dream_keeps_its_state():
    env = dream(max_steps=2)
    run(env, 5, steps=2)
    state = [part.clone() for part in env.state]
    env.step(scripted(1)[0])
    torch.testing.assert_close(list(env.state), state, atol=0, rtol=0)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_render_decodes_the_present_z(num_envs):
    env = dream(num_envs)
    z = run(env, 5)[-1]
    frames = env.render()
    assert frames.shape == (num_envs, 64, 64, 3) and frames.dtype == np.uint8
    with torch.no_grad():
        assert np.array_equal(frames, to_uint8(env.vae.decode(torch.from_numpy(z))))


@pytest.mark.parametrize(
    "vae, mdnrnn, width",
    [(4, 4, 5), (4, 5, 4), (5, 4, 4)],
    ids=["first_z differs", "M differs", "V differs"],
)
def test_latent_sizes_that_do_not_agree_are_refused_with_all_three(vae, mdnrnn, width):
    with pytest.raises(ValueError, match=f"V has {vae} latents, M {mdnrnn} and first_z {width}"):
        DreamEnv(VAE(vae), MDNRNN(mdnrnn, 3, 6, 2), np.zeros((2, width)), task=CAR_RACING)


def test_what_cannot_be_dreamt_is_refused_with_what_was_expected():
    vae, mdnrnn = tiny_models()
    with pytest.raises(ValueError, match="no place to begin.*N at least 1"):
        DreamEnv(vae, mdnrnn, np.zeros((0, 4)), task=CAR_RACING)
    with pytest.raises(ValueError, match="M reads actions of 2 entries, the task car_racing has 3"):
        DreamEnv(vae, MDNRNN(4, 2, 6, 2), FIRST_Z, task=CAR_RACING)
    env = DreamEnv(vae, mdnrnn, FIRST_Z.tolist(), task=CAR_RACING)
    assert np.array_equal(env.first_z, FIRST_Z)


def test_a_dream_that_leaves_the_numbers_says_so_and_does_not_blame_the_actions():
    env = dream()
    with torch.no_grad():
        env.mdnrnn.to_mixture.bias += 1e6
    env.reset(seed=0)
    with pytest.raises(ValueError, match="M dreamt a z that is no number at temperature 1.0"):
        env.step(scripted(1)[0])


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "warm", None])
def test_a_temperature_that_is_not_positive_is_refused_at_the_start_and_later(temperature):
    env = dream()
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        dream(temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        env.temperature = temperature
    assert env.temperature == 1


def test_the_policy_drives_a_dream_through_the_common_loop():
    env = dream(max_steps=5)
    ticks = list(rollout(env, DreamPolicy(pilot(), env), [0, 1, 2]))
    assert len(ticks) == 5
    assert all(tick.action.shape == (3, 3) and tick.action.dtype == np.float32 for tick in ticks)
    assert all(env.single_action_space.contains(action) for tick in ticks for action in tick.action)


@pytest.mark.parametrize("reads", ["z h", "z h c"])
def test_the_policy_reads_the_dreams_own_state(reads):
    agent, env = pilot(reads=reads), dream(max_steps=5)
    state = env.mdnrnn.initial_state(3)
    for tick in rollout(env, DreamPolicy(agent, env), [0, 1, 2]):
        with torch.no_grad():
            x = torch.cat([torch.from_numpy(tick.obs), *state[: len(reads.split()) - 1]], -1)[None]
            expected = agent.task.squash(agent.controller.act(agent.params, x))[0]
        np.testing.assert_allclose(tick.action, expected, rtol=1e-5, atol=1e-6)
        state = tuple(part.clone() for part in env.state)


@pytest.mark.parametrize("training", [True, False])
def test_neither_dream_nor_agent_changes_the_mode_or_the_layout_of_the_callers_models(training):
    vae, mdnrnn = tiny_models()
    vae.train(training)
    mdnrnn.train(training)
    strides = [weights.stride() for weights in vae.parameters()]
    Agent(vae, mdnrnn, Controller(10, 3), torch.zeros(33), CAR_RACING)
    DreamEnv(vae, mdnrnn, FIRST_Z, task=CAR_RACING)
    assert all(module.training is training for module in (*vae.modules(), *mdnrnn.modules()))
    assert [weights.stride() for weights in vae.parameters()] == strides


def test_dreamt_episodes_are_whole_and_repeat():
    def drive():
        env = dream(max_steps=5)
        return episodes(env, DreamPolicy(pilot(), env), [7, 8, 9])

    for one, other in zip(drive(), drive()):
        assert one.obs.shape == (6, 4) and one.action.shape == (5, 3) and not one.terminated
        assert np.array_equal(one.obs, other.obs) and np.array_equal(one.action, other.action)


def test_returns_of_a_dream_are_zero_and_its_steps_the_limit():
    env = dream(max_steps=5)
    total, steps = returns(env, DreamPolicy(pilot(), env), [0, 1, 2])
    assert total.tolist() == [0, 0, 0] and steps.tolist() == [5, 5, 5]
