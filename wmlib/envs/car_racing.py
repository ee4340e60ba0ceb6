"""CarRacing-v3 with gymnasium's own physics and a fast drawing of the 64x64 frames that V sees.

Stock paints about 700 polygons on a 1000x800 window for every frame, though nothing moves but the camera and the car,
and shrinks it to 96x96 ("stock pixels" below). Here grass and road are painted once an episode into a texture of the
whole world; a frame is one warp of that texture, with the car's few polygons on top. A part is a polygon of the car.
"""

import cmath
import functools
import math
from collections.abc import Collection
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.box2d import car_dynamics as car
from gymnasium.envs.box2d import car_racing as stock
from gymnasium.utils import EzPickle

from wmlib.envs.task import Task, register

cv2.setNumThreads(1)  # a worker has one core, and threads only slow down images this small

FRAME = 64  # height and width of an observation
STOCK_W, STOCK_H = stock.STATE_W, 84  # what it shows of a stock observation: all but the dashboard
PIXEL_W, PIXEL_H = (
    stock.WINDOW_W / stock.STATE_W,
    stock.WINDOW_H / stock.STATE_H,
)  # a stock pixel, in window pixels
CAR_X, CAR_Y = (
    stock.WINDOW_W / 2,
    stock.WINDOW_H * 3 / 4,
)  # where the window always shows the car, y down
FULL_ZOOM = stock.ZOOM * stock.SCALE  # window pixels per world unit once the camera has come down

TEXELS = 2.4  # per world unit: a texel is then a little smaller than a stock pixel at full zoom
LEVELS = 5  # the texture and its halves: the camera starts about 2**4 times higher than it ends
SIDE = round(2 * stock.PLAYFIELD * TEXELS)
LINE = 16  # texels in a line of the processor's cache
SHIFT = 4  # cv2 takes corners as integers with this many fractional bits

# The car is drawn on the 8x12 stock pixels around it, enlarged until a pixel is nearly one of the window.
CAR_ROWS, CAR_COLS = slice(66, 78), slice(44, 52)
FINE_SIZE, FINE = (80, 96), 10 / PIXEL_W  # width and height; enlarged pixels per window pixel
FINE_ORIGIN, FINE_AXES = (
    np.array([40, 47], np.int32),
    np.array([1, -1], np.int32),
)  # the hull's place; right and up


def shown(color):
    """Return a colour (R, G, B, A) as it leaves stock's smoothscale, which takes two levels off every channel."""
    return *(max(int(channel) - 2, 0) for channel in color), 255


# The corners of all parts stand in one array: each wheel and its white patch, then the hull, in the order of painting.
HULL_POLYS = [car.HULL_POLY1, car.HULL_POLY2, car.HULL_POLY3, car.HULL_POLY4]
HULL = np.concatenate(HULL_POLYS) @ (car.SIZE, 1j * car.SIZE)  # complex (20,): right + 1j * forward
WHEEL_X = np.tile([-car.WHEEL_W, car.WHEEL_W, car.WHEEL_W, -car.WHEEL_W], 2) * car.SIZE
WHEEL_ENDS = [0, 0, 1, 1, 2, 2, 3, 3]  # each corner's of front, back, patch's front, patch's back
PART_SIZES = [4] * 8 + [len(poly) for poly in HULL_POLYS]
PART_COLORS = [car.WHEEL_COLOR, car.WHEEL_WHITE] * 4 + [(204, 0, 0)] * 4
PART_ENDS = np.cumsum(PART_SIZES)
PARTS = [
    (slice(end - size, end), shown(color))
    for size, end, color in zip(PART_SIZES, PART_ENDS, PART_COLORS)
]


def preprocess(obs):
    """Cut the dashboard off stock observations and shrink them: uint8 (..., 96, 96, 3) -> uint8 (..., 64, 64, 3)."""
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
    """CarRacing-v3 to the last bit, but for its observations: `preprocess`ed frames, uint8 (64, 64, 3), drawn fast."""

    car: Any  # none before the first reset

    def __init__(self, render_mode=None, domain_randomize=False, continuous=True):
        if domain_randomize or not continuous:
            raise ValueError(
                "FastCarRacing has no domain_randomize and no discrete actions: use CarRacing-v3"
            )
        super().__init__(render_mode=render_mode)
        EzPickle.__init__(
            self, render_mode
        )  # a copy is made by this class's arguments, not stock's
        self.observation_space = spaces.Box(0, 255, (FRAME, FRAME, 3), np.uint8)
        # Four channels, for cv2 warps them 2.5 times faster than three.
        self.levels = [np.zeros((SIDE >> k, SIDE >> k, 4), np.uint8) for k in range(LEVELS)]
        self.touched = []  # the tiles to repaint before the next frame

    def step(self, action):
        """Drive on for 1/50 s; action is float (3,): steering, gas, brake; None, as in stock, changes none."""
        if self.car is None:
            raise ValueError("step before the first reset: call reset() first")
        return super().step(action if action is None else checked(action))  # type: ignore[arg-type]  # stock takes None

    def telemetry(self):
        """Return what no frame shows: the car's place (2,), speed (units a second) and turning (radians a second)."""
        hull, place = self.car.hull, np.array(tuple(self.car.hull.position))
        return {
            "place": place,
            "speed": hull.linearVelocity.length,
            "turning": hull.angularVelocity,
        }

    def road_tiles(self):
        """Return the corners of the road's tiles seen from above, float64 (tiles, 4, 2), without the kerbs."""
        return np.array(
            [corners for corners, color in self.road_poly if not isinstance(color, tuple)]
        )

    def _create_track(self):
        """Make stock's track, paint it, and from then on note the tiles that the car touches."""
        if not super()._create_track():
            return False
        self._paint_world()
        self.touched.clear()
        self.touch_listener = TouchListener(
            self, self.lap_complete_percent
        )  # kept here, for Box2D does not
        self.world.contactListener = self.touch_listener
        return True

    def _render(self, mode):
        """Draw the observation, uint8 (64, 64, 3); every other picture is stock's."""
        if mode != "state_pixels" or self.car is None:
            return super()._render(mode)
        for tile in (
            self.touched
        ):  # in its new shade, but not in the views from above, where it cannot be told
            cv2.fillConvexPoly(
                self.levels[0], self.repaints[tile.idx], shown(tile.color), cv2.LINE_8, SHIFT
            )
        self.touched.clear()
        zoom = 0.1 * stock.SCALE * max(1 - self.t, 0) + FULL_ZOOM * min(self.t, 1)
        image = self._draw_world(zoom)
        image[CAR_ROWS, CAR_COLS] = self._draw_car(image[CAR_ROWS, CAR_COLS], zoom)
        # At this ratio linear weights are nearly those of an area resize, at a fifth of its cost.
        image = cv2.resize(image, (FRAME, FRAME), interpolation=cv2.INTER_LINEAR)
        return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB)

    def _paint_world(self):
        """Paint grass and road in stock's order; copies that drive the same track are painted once."""
        corners = np.array([corners for corners, _ in self.road_poly])
        colors = np.array([color for _, color in self.road_poly])
        for mine, painted in zip(
            self.levels, painted_world(corners.tobytes(), colors.tobytes()), strict=True
        ):
            np.copyto(mine, painted)
        # Repainted with hard edges, which stay clear of the grass.
        self.repaints = to_texels(self.road_tiles(), sides=1.0, front=0.5, back=0.5)

    def _draw_world(self, zoom):
        """Return grass and road as the camera sees them, uint8 (84, 96, 4)."""
        level = min(round(math.log2(FULL_ZOOM / zoom)), LEVELS - 1)
        texels = TEXELS / 2**level
        x, y = self.car.hull.position
        x, y = (
            (x + stock.PLAYFIELD) * texels - 0.5,
            (y + stock.PLAYFIELD) * texels - 0.5,
        )  # cv2 counts from centres
        cos, sin = (turn(self.car.hull.angle) * texels / zoom for turn in (math.cos, math.sin))
        right, up = (
            PIXEL_W / 2 - CAR_X,
            CAR_Y - PIXEL_H / 2,
        )  # the first pixel's centre, seen from the car
        column = cos * PIXEL_W, sin * PIXEL_H, x + cos * right - sin * up
        row = sin * PIXEL_W, -cos * PIXEL_H, y + sin * right + cos * up
        # In a vector no texture stays in the cache: one sweep fetches what the warp would wait for line by line.
        self.levels[level][span(*row), span(*column, LINE), 0].max(initial=0)
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        return cv2.warpAffine(
            self.levels[level], np.array([column, row]), (STOCK_W, STOCK_H), flags=flags
        )

    def _draw_car(self, background, zoom):
        """Return background, uint8 (12, 8, 4), with the car on it."""
        fine = cv2.resize(background, FINE_SIZE, interpolation=cv2.INTER_NEAREST)
        corners = np.concatenate((self._wheel_corners().ravel(), HULL)) * (zoom * FINE)
        # Like pygame, round corners down to whole pixels and fill these too.
        pixels = (
            np.floor(corners.view(np.float64)).astype(np.int32).reshape(-1, 2) * FINE_AXES
            + FINE_ORIGIN
        )
        for part, color in PARTS:
            cv2.fillConvexPoly(fine, pixels[part], color)
        return cv2.resize(fine, background.shape[1::-1], interpolation=cv2.INTER_AREA)

    def _wheel_corners(self):
        """Return each wheel's corners and its patch's, complex (4, 8), in world units seen from the hull."""
        hull, wheels = self.car.hull, self.car.wheels
        origin, unturn = complex(*hull.position), cmath.rect(1, -hull.angle)
        centres = np.array([(complex(*wheel.position) - origin) * unturn for wheel in wheels])
        turns = np.array([cmath.rect(1, wheel.angle - hull.angle) for wheel in wheels])
        ends = np.array([(1, -1, *white_patch(wheel.phase)) for wheel in wheels]) * (
            1j * car.WHEEL_R * car.SIZE
        )
        return (WHEEL_X + ends[:, WHEEL_ENDS]) * turns[:, None] + centres[:, None]


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
        raise ValueError(
            f"an action is 3 numbers (steering, gas, brake), got a {type(action).__name__}"
        ) from None
    if values.shape != (3,):
        raise ValueError(f"an action is 3 numbers (steering, gas, brake), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"an action is 3 finite numbers (steering, gas, brake), got {values.tolist()}"
        )
    return values


def white_patch(phase):
    """Return where a wheel's white patch starts and ends, from 1 (front) to -1 (back), when it has rolled by phase."""
    start, end = phase, phase + 1.2
    if math.sin(start) > 0 and math.sin(end) > 0:
        return 1000.0, 1000.0  # underneath the wheel: far outside the picture will do
    front, back = math.cos(start), math.cos(end)
    if math.sin(start) > 0:
        front = math.copysign(1, front)
    if math.sin(end) > 0:
        back = math.copysign(1, back)
    return front, back


def span(per_pixel_right, per_pixel_down, start, step=1):
    """Return the slice of a texture's rows, or columns, that the view runs through."""
    right, down = per_pixel_right * STOCK_W, per_pixel_down * STOCK_H
    low = start + min(right, 0) + min(down, 0)
    return slice(max(int(low), 0), max(int(low + abs(right) + abs(down)) + 2, 0), step)


@functools.cache
def grass():
    """Return the playfield without a road, uint8 (SIDE, SIDE, 4); it is never written to."""
    texture = np.full((SIDE, SIDE, 4), shown((102, 204, 102)), np.uint8)
    patch = round(stock.GRASS_DIM * TEXELS)
    light = np.arange(SIDE) // patch % 2 == 0
    texture[np.ix_(light, light)] = shown((102, 230, 102))
    return texture


@functools.lru_cache(maxsize=6)
def painted_world(corners, colors):
    """Return the texture with a road and its halves, for the views from higher up; the road comes as arrays' bytes."""
    levels = [grass().copy()]
    corners, colors = np.frombuffer(corners).reshape(-1, 4, 2), np.frombuffer(colors).reshape(-1, 3)
    # cv2's smooth outlines add 0.67 texels all round, pygame's polygons 0.07; the front end is painted over.
    polygons = to_texels(corners, sides=0.6, front=0, back=0.6)
    for polygon, color in zip(polygons, colors, strict=True):
        cv2.fillConvexPoly(levels[0], polygon, shown(color), cv2.LINE_AA, SHIFT)
    for _ in range(1, LEVELS):
        height, width = levels[-1].shape[:2]
        levels.append(
            cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        )
    return levels


def to_texels(corners, sides, front, back):
    """Turn world corners (P, 4, 2) into cv2's texels, int32 (P, 4, 2), edges moved inwards by so many texels."""
    texels = (corners + stock.PLAYFIELD) * TEXELS - 0.5  # cv2 counts from the centres of texels
    across = unit(
        texels[:, [1, 0, 3, 2]] - texels
    )  # the corners are front left, front right, back right, back left
    along = unit(texels[:, [3, 2, 1, 0]] - texels)
    inwards = sides * across + np.array([front, front, back, back])[:, None] * along
    return np.rint((texels + inwards) * 2**SHIFT).astype(np.int32)


def unit(vectors):
    """Scale vectors (..., 2) to length 1, and leave zeros at 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


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
    return (green - red < 50) & (
        red > 50
    )  # grass is (102, 204, 102) and (102, 230, 102), road (102, 102, 102)


CAR_RACING = register(Task(
    name="car_racing", make=FastCarRacing, make_official=make_official,
    action_space=spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)),
    action_names=("steer", "gas", "brake"), squash=squash, steer=steer,
    noise_mean=(0.0, -0.8, -1.0), noise_spread=(0.4, 0.6, 0.6),
    landmark=road, step_cost=0.1, max_steps=1_000,
))  # fmt: skip
