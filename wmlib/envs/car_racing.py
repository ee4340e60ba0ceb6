"""CarRacing-v3 with gymnasium's own physics and a fast drawing of the 64x64 frames that V sees."""

from collections.abc import Collection
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.box2d import car_racing as stock
from gymnasium.utils import EzPickle

from wmlib.envs.car_pixels import FRAME, STOCK_H, Painter, zoom_at
from wmlib.envs.task import Button, Task, register

cv2.setNumThreads(1)  # a worker has one core, and threads only slow down images this small


def preprocess(obs):
    """Cut the dashboard off stock observations (..., 96, 96, 3) and shrink them to (..., 64, 64, 3).

    All are uint8.
    """
    obs = np.asarray(obs)
    if obs.dtype != np.uint8 or obs.shape[-3:] != (stock.STATE_H, stock.STATE_W, 3):
        raise ValueError(
            f"preprocess takes uint8 observations (..., 96, 96, 3), got {obs.dtype} {obs.shape}"
        )
    out = np.empty((*obs.shape[:-3], FRAME, FRAME, 3), np.uint8)
    for index in np.ndindex(obs.shape[:-3]):
        out[index] = cv2.resize(obs[index][:STOCK_H], (FRAME, FRAME), interpolation=cv2.INTER_AREA)
    return out


class FastCarRacing(stock.CarRacing):
    """CarRacing-v3 to the last bit, but for its observations: `preprocess`ed frames, drawn fast.

    obs: uint8 (64, 64, 3).
    """

    car: Any  # none before the first reset

    def __init__(self, render_mode=None, domain_randomize=False, continuous=True):
        if domain_randomize or not continuous:
            lacking = "FastCarRacing has no domain_randomize and no discrete actions"
            raise ValueError(f"{lacking}: use CarRacing-v3")
        super().__init__(render_mode=render_mode)
        EzPickle.__init__(
            self, render_mode
        )  # a copy is made by this class's arguments, not stock's
        self.observation_space = spaces.Box(0, 255, (FRAME, FRAME, 3), np.uint8)
        self.painter = Painter()
        self.touched = []  # the tiles to repaint before the next frame

    def step(self, action):
        """Drive on for 1/50 s; action is float (3,): steering, gas, brake; None changes none."""
        if self.car is None:
            raise ValueError("step before the first reset: call reset() first")
        action = action if action is None else checked(action)
        return super().step(action)

    def telemetry(self):
        """Return what no frame shows: the car's place (2,), speed (units/s), turning (radians/s)."""
        hull = self.car.hull
        return {
            "place": np.array(tuple(hull.position)),
            "speed": hull.linearVelocity.length,
            "turning": hull.angularVelocity,
        }

    def road_tiles(self):
        """Return the corners of the road's tiles seen from above, float64 (tiles, 4, 2); no kerbs."""
        tiles = [corners for corners, color in self.road_poly if not isinstance(color, tuple)]
        return np.array(tiles)

    def _create_track(self):
        """Make stock's track, paint it, and from then on note the tiles that the car touches."""
        if not super()._create_track():
            return False
        self.painter.paint(self.road_poly, self.road_tiles())
        self.touched.clear()
        listener = TouchListener(self, self.lap_complete_percent)
        self.touch_listener = listener  # kept here, for Box2D does not
        self.world.contactListener = listener
        return True

    def _render(self, mode):
        """Draw the observation, uint8 (64, 64, 3); every other picture is stock's."""
        if mode != "state_pixels" or self.car is None:
            return super()._render(mode)
        for tile in self.touched:
            self.painter.repaint(tile)
        self.touched.clear()
        return self.painter.draw(self.car, zoom_at(self.t))


class TouchListener(stock.FrictionDetector):
    """Stock's contact listener, which also notes the tiles whose shade a touch is about to change."""

    def _contact(self, contact, begin):
        if begin:
            for fixture in (contact.fixtureA, contact.fixtureB):
                tile = fixture.body.userData
                if hasattr(tile, "road_friction") and tile.color[0] != self.env.road_color[0]:
                    self.env.touched.append(tile)
        super()._contact(contact, begin)


def checked(action):
    """Return the action as float64 (3,), or say what is wrong with it before anything moves."""
    try:
        values = np.asarray(action, np.float64)
    except (TypeError, ValueError):
        found = f"a {type(action).__name__}"
        raise ValueError(f"an action is 3 numbers (steering, gas, brake), got {found}") from None
    if values.shape != (3,):
        found = f"shape {values.shape}"
        raise ValueError(f"an action is 3 numbers (steering, gas, brake), got {found}")
    if not np.isfinite(values).all():
        found = values.tolist()
        raise ValueError(f"an action is 3 finite numbers (steering, gas, brake), got {found}")
    return values


def make_official(render_mode=None):
    """Return gymnasium's CarRacing-v3 with its own pixels, cut and resized as the paper does."""
    env = gym.make("CarRacing-v3", render_mode=render_mode, disable_env_checker=True)
    return gym.wrappers.TransformObservation(
        env, preprocess, spaces.Box(0, 255, (FRAME, FRAME, 3), np.uint8)
    )


def squash(raw: torch.Tensor) -> torch.Tensor:
    """Turn a raw action (..., 3) into steer in [-1, 1], gas and brake in [0, 1] (paper, A.4 and its code).

    All three pass through tanh; gas = (a + 1) / 2, brake = a clipped at 0.
    """
    steer, gas, brake = torch.tanh(raw).unbind(-1)
    return torch.stack([steer, (gas + 1) / 2, brake.clamp(min=0)], dim=-1)


def steer(action: np.ndarray, pressed: Collection[str]) -> np.ndarray:
    """Return the next action (3,) of a person with keys: the wheel turns by a tenth a step, pedals go half way down."""
    target = float("right" in pressed) - float("left" in pressed)
    wheel = action[0] + np.clip(target - action[0], -0.1, 0.1)
    return np.array([wheel, 0.5 * ("gas" in pressed), 0.5 * ("brake" in pressed)], np.float32)


def road(frames: np.ndarray) -> np.ndarray:
    """Return where frames, uint8 (..., 3), show road, kerb or car, not grass and not the black around the field."""
    red, green = frames[..., 0].astype(int), frames[..., 1].astype(int)
    # Grass is (102, 204, 102) and (102, 230, 102), road (102, 102, 102).
    return (green - red < 50) & (red > 50)


CAR_RACING = register(
    Task(
        name="car_racing",
        make=FastCarRacing,
        make_official=make_official,
        action_space=spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)),
        action_names=("steer", "gas", "brake"),
        squash=squash,
        noise_mean=(0.0, -0.8, -1.0),
        noise_spread=(0.4, 0.6, 0.6),
        step_cost=0.1,
        max_steps=1_000,
        fps=50,
        noun="drive",
        verb="drive",
        buttons=(
            Button("left", "\u25c0", "steer left", ("ArrowLeft", "KeyA")),
            Button("brake", "brake", "brake", ("ArrowDown", "KeyS")),
            Button("gas", "gas", "gas", ("ArrowUp", "KeyW")),
            Button("right", "\u25b6", "steer right", ("ArrowRight", "KeyD")),
        ),
        help="arrow keys or W A S D drive",
        steer=steer,
        landmark=road,
        landmark_name="road",
        opening=60,  # the camera comes down
    )
)
