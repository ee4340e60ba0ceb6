"""FastCarRacing against gymnasium's CarRacing: the same world to the last bit, nearly the same pictures."""

import math
import pickle

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing
from gymnasium.utils.env_checker import check_env

from wmlib.envs.car_racing import FastCarRacing, preprocess


class LazyStock(CarRacing):
    """Stock, but drawing only when `watched`: 3 ms a frame would make these tests long."""

    watched = True

    def _render(self, mode):
        return super()._render(mode) if self.watched else None


def follow_track(env, noise):
    """Steer towards a point of the track ahead, at a speed that fits the bend."""
    hull = env.car.hull
    distances = [math.dist(point[2:], hull.position) for point in env.track]
    _, _, x, y = env.track[(int(np.argmin(distances)) + 6) % len(env.track)]
    dx, dy = x - hull.position[0], y - hull.position[1]
    bend = (math.atan2(-dx, dy) - hull.angle + math.pi) % (
        2 * math.pi
    ) - math.pi  # positive to the left
    speed, wanted = math.hypot(*hull.linearVelocity), 40 * (1 - min(0.7, abs(bend)))
    return np.clip(
        [-2 * bend + noise, 0.5 * (speed < wanted), 0.3 * (speed > wanted + 8)], [-1, 0, 0], 1
    )


def act(driver, env, before, rng):
    """Return the driver's next action, float32 (3,)."""
    if driver == "follow":
        action = follow_track(env, 0.1 * rng.normal())
    elif (
        driver == "gas"
    ):  # nearly straight off the road, across the grass and over the field's edge
        action = np.array([0.02, 0.5, 0])
    else:
        action = np.clip(before + 0.1 * rng.normal(size=3), [-1, 0, 0], 1)
    return action.astype(np.float32)


def physics(env):
    """Return everything about the car and the tiles that must be equal."""
    hull = env.car.hull
    visited = [tile.road_visited for tile in env.road]
    return (
        tuple(hull.position),
        hull.angle,
        tuple(hull.linearVelocity),
        hull.angularVelocity,
        visited,
    )


def drive_both(stock, fast, seed, driver, steps):
    """Drive both side by side, check that they stay equal, and return films of both, uint8 (frames, 64, 64, 3).

    The films hold the zooming first second whole, then every tenth frame.
    """
    rng, action = np.random.default_rng(seed), np.zeros(3, np.float32)
    stock.watched = True
    films = [stock.reset(seed=seed)[0]], [fast.reset(seed=seed)[0]]
    assert stock.track == fast.track
    for step in range(steps):
        stock.watched = step < 52 or step % 10 == 0
        action = act(driver, stock, action, rng)
        expected, got = stock.step(action), fast.step(action)
        assert got[1:] == expected[1:]
        assert physics(fast) == physics(stock)
        if stock.watched:
            films[0].append(expected[0])
            films[1].append(got[0])
    return preprocess(np.array(films[0])), np.array(films[1])


@pytest.fixture(scope="module")
def drives():
    """Films and end of each driver's drives, all on one reused pair of environments."""
    stock, fast = LazyStock(), FastCarRacing()
    plan = {"follow": (range(6), 1_000), "brownian": (range(10, 15), 1_000), "gas": ([2], 300)}
    return {
        driver: [(drive_both(stock, fast, seed, driver, steps), physics(fast)) for seed in seeds]
        for driver, (seeds, steps) in plan.items()
    }


def test_preprocess_is_the_mean_over_the_area_of_each_pixel():
    obs = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96, 3), dtype=np.uint8)
    strips = obs[..., :84, :, :].repeat(64, axis=2).reshape(2, 3, 64, 84, 96, 3).mean(3)
    means = strips.repeat(64, axis=3).reshape(2, 3, 64, 64, 96, 3).mean(4)
    small = preprocess(obs)
    assert small.dtype == np.uint8 and small.shape == (2, 3, 64, 64, 3)
    assert np.abs(small - means).max() < 0.51
    assert (preprocess(obs[0, 0]) == small[0, 0]).all()
    assert (cv2.resize(obs[1, 2, :84], (64, 64), interpolation=cv2.INTER_AREA) == small[1, 2]).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((96, 96, 3)), np.zeros((84, 96, 3), np.uint8), np.zeros((96, 96), np.uint8)]
)
def test_preprocess_refuses_other_arrays(bad):
    with pytest.raises(ValueError, match=r"^preprocess takes uint8 observations .*$"):
        preprocess(bad)


def test_world_is_stocks_bit_for_bit(drives):
    """drive_both compares; here we check that the drives went where they were meant to go."""
    laps = [np.mean(visited) for _, (*_, visited) in drives["follow"]]
    assert np.median(laps) > 0.7, "most of a lap"
    ((_, ((x, y), *_)),) = drives["gas"]
    assert max(abs(x), abs(y)) > 1000 / 3, "over the field's edge"


def test_frames_are_near_stocks(drives):
    films = [film for many in drives.values() for film, _ in many]
    errors = [np.abs(theirs.astype(int) - ours).mean((1, 2, 3)) for theirs, ours in films]
    assert len(films) == 12 and all(error.mean() < 0.5 for error in errors)
    assert np.concatenate(errors).max() < 1.0
    assert all(error[54:].max() < 0.9 for error in errors), "after the zoom"


def test_the_shade_of_visited_tiles_follows():
    stock, fast = LazyStock(), FastCarRacing()
    drive_both(stock, fast, 4, "follow", 100)
    fast.step(np.zeros(3))
    stock.step(np.zeros(3))
    visited = [tile for tile in fast.road if tile.road_visited]
    centres = np.mean([tile.fixtures[0].shape.vertices for tile in visited], axis=1)
    columns, rows = ((centres + 1000 / 3) * len(fast.painter.levels[0]) / (2000 / 3)).astype(int).T
    assert len(visited) > 5
    assert (fast.painter.levels[0][rows, columns, :3] == 100).all(), (
        "plain road, less the two levels that smoothscale takes"
    )
    assert [tuple(tile.color) for tile in fast.road] == [tuple(tile.color) for tile in stock.road]


def test_every_frame_is_a_fresh_array():
    env = FastCarRacing()
    kept = [env.reset(seed=5)[0], *(env.step(np.array([0.3, 1, 0]))[0] for _ in range(3))]
    copies = [frame.copy() for frame in kept]
    for _ in range(60):
        env.step(np.array([-0.3, 1, 0]))
    env.reset(seed=6)
    assert all((frame == copy).all() for frame, copy in zip(kept, copies, strict=True))
    assert not any(np.shares_memory(a, b) for a in kept for b in kept if a is not b)


def test_same_seed_same_frames_also_on_a_used_or_pickled_environment():
    used = FastCarRacing()
    used.reset(seed=1)
    for _ in range(80):
        used.step(np.array([0.0, 1, 0]))
    copy = pickle.loads(pickle.dumps(used))
    first, second = used.reset(seed=7)[0], copy.reset(seed=7)[0]
    for _ in range(60):
        assert (first == second).all()
        first, second = used.step(np.array([0.1, 1, 0]))[0], copy.step([0.1, 1, 0])[0]


BAD_ACTIONS = [
    [0, 0],
    [[0, 0, 0]],
    0.5,
    [math.nan, 0, 0],
    [0, math.inf, 0],
    "left",
    [0, 0, "gas"],
    {},
]


@pytest.mark.parametrize("action", BAD_ACTIONS)
def test_bad_actions_are_refused_before_anything_moves(action):
    env = FastCarRacing()
    env.reset(seed=1)
    before, time = physics(env), env.t
    with pytest.raises(ValueError, match=r"^an action is 3 .*$"):
        env.step(action)
    assert physics(env) == before and env.t == time


def test_other_misuse_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^step before the first reset.*$"):
        FastCarRacing().step(np.zeros(3))
    for unsupported in ({"domain_randomize": True}, {"continuous": False}):
        with pytest.raises(ValueError, match=r"^FastCarRacing has no .*$"):
            FastCarRacing(**unsupported)


def test_render_is_the_official_picture():
    stock, fast = LazyStock(render_mode="rgb_array"), FastCarRacing(render_mode="rgb_array")
    stock.watched = False
    for env in (stock, fast):
        env.reset(seed=3)
        for _ in range(55):
            env.step(np.array([0.1, 1, 0]))
    stock.watched = True
    assert (stock.render() == fast.render()).all()


@pytest.mark.filterwarnings("ignore")
def test_passes_gymnasiums_checker():
    env = gym.make("wmlib/FastCarRacing-v3")
    assert env.spec.max_episode_steps == 1000
    check_env(FastCarRacing(), skip_render_check=True)
