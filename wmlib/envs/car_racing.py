"""CarRacing-v3 with gymnasium's own physics and a fast drawing of the 64x64 frames that V sees.

Stock paints about 700 polygons on a 1000x800 window for every frame, though nothing but the camera and the car moves.
Here grass and road are painted once an episode into a texture of the whole world; a frame is that texture, turned,
scaled and cut out by one warp, with the car's few polygons on top. Legend: H, W of an image; N corners of a polygon.
"""

import functools
import math

import cv2
import numpy as np
from gymnasium import spaces
from gymnasium.envs.box2d.car_dynamics import (
    HULL_POLY1,
    HULL_POLY2,
    HULL_POLY3,
    HULL_POLY4,
    SIZE,
    WHEEL_COLOR,
    WHEEL_R,
    WHEEL_W,
    WHEEL_WHITE,
)
from gymnasium.envs.box2d.car_racing import (
    GRASS_DIM,
    PLAYFIELD,
    SCALE,
    STATE_H,
    STATE_W,
    WINDOW_H,
    WINDOW_W,
    ZOOM,
    CarRacing,
    FrictionDetector,
)
from gymnasium.utils import EzPickle

cv2.setNumThreads(1)  # every worker has one core, and threads only slow down images this small

FRAME = 64  # height and width of an observation
CROP_H = 84  # the rows of a stock observation above its dashboard
TEXELS = 3  # texels per world unit: near one stock pixel each when the camera has come down
LEVELS = 5  # the texture and its halves: the camera starts 18 times, about 2**4 times, higher than it ends
SIDE = round(2 * PLAYFIELD * TEXELS)
SHIFT = 4  # cv2 takes corners as integers with this many fractional bits

STOCK_X, STOCK_Y = WINDOW_W / STATE_W, WINDOW_H / STATE_H  # window pixels in one stock pixel
CAR_X, CAR_Y = WINDOW_W / 2, WINDOW_H * 3 / 4  # where the window shows the car, y down
CAR_ROWS, CAR_COLS = slice(66, 78), slice(44, 52)  # the stock pixels around the car
CAR_FINE = (80, 96)  # width, height of those pixels enlarged until one is about one window pixel
FINE = CAR_FINE[0] / 8 / STOCK_X  # enlarged pixels per window pixel, the same both ways

HULL = [np.array(poly) @ (SIZE, 1j * SIZE) for poly in (HULL_POLY1, HULL_POLY2, HULL_POLY3, HULL_POLY4)]
HULL_COLOR = (204, 0, 0)
WHEEL_X = np.array([-WHEEL_W, WHEEL_W, WHEEL_W, -WHEEL_W]) * SIZE


def preprocess(obs):
    """Cut the dashboard off stock observations and shrink them: uint8 (..., 96, 96, 3) -> uint8 (..., 64, 64, 3)."""
    obs = np.asarray(obs)
    if obs.dtype != np.uint8 or obs.shape[-3:] != (STATE_H, STATE_W, 3):
        raise ValueError(f"expected uint8 observations of shape (..., 96, 96, 3), got {obs.dtype} {obs.shape}")
    out = np.empty((*obs.shape[:-3], FRAME, FRAME, 3), np.uint8)
    for frame, small in zip(obs.reshape(-1, STATE_H, STATE_W, 3), out.reshape(-1, FRAME, FRAME, 3), strict=True):
        cv2.resize(frame[:CROP_H], (FRAME, FRAME), dst=small, interpolation=cv2.INTER_AREA)
    return out


class FastCarRacing(CarRacing):
    """CarRacing-v3 whose observations are `preprocess`ed frames, uint8 (64, 64, 3), drawn about 20 times faster."""

    def __init__(self, render_mode=None, domain_randomize=False, continuous=True):
        if domain_randomize or not continuous:
            raise ValueError("FastCarRacing has neither random colours nor discrete actions; use CarRacing-v3 for those")
        super().__init__(render_mode=render_mode)
        EzPickle.__init__(self, render_mode)  # copies are built anew from this class's arguments, not from stock's
        self.observation_space = spaces.Box(0, 255, (FRAME, FRAME, 3), np.uint8)
        self.world_texture = None  # SIDE x SIDE and its halves, RGBA: cv2 warps four channels 2.5 times faster than three
        self.touched = []  # tiles that took on the plain road's colour since the last frame

    def step(self, action):
        """Advance by 1/50 s under action float (3,): steering, gas, brake. None, as in stock, leaves the controls."""
        if self.car is None:
            raise ValueError("step was called before reset: call reset first")
        return super().step(None if action is None else checked(action))

    def _create_track(self):
        """Let stock make the track, then paint it and listen for the tiles that the car touches."""
        if not super()._create_track():
            return False
        self.touched.clear()
        self._listener = TouchListener(self, self.lap_complete_percent)  # Box2D does not keep it alive
        self.world.contactListener = self._listener
        self.world_texture = self._paint_world()
        return True

    def _paint_world(self):
        texture = grass().copy()
        corners = np.array([corners for corners, _ in self.road_poly])
        points = to_texels(corners, sides=0.58, front=0, back=0.58)
        for polygon, (_, color) in zip(points, self.road_poly, strict=True):
            cv2.fillConvexPoly(texture, polygon, rgba(color), cv2.LINE_AA, SHIFT)
        is_tile = [isinstance(color, np.ndarray) for _, color in self.road_poly]
        self.tile_points = to_texels(corners[is_tile], sides=1.0, front=0.5, back=0.5)
        levels = [texture]
        while len(levels) < LEVELS:
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        return levels

    def _render(self, mode):
        """Draw the observation; every other picture is stock's."""
        if mode != "state_pixels" or self.car is None:
            return super()._render(mode)
        self._repaint_touched()
        zoom = 0.1 * SCALE * max(1 - self.t, 0) + ZOOM * SCALE * min(self.t, 1)  # window pixels per world unit
        stock = self._draw_world(zoom)
        stock[CAR_ROWS, CAR_COLS] = self._draw_car(stock[CAR_ROWS, CAR_COLS], zoom)
        # Linear weights differ from area's by a few hundredths at this size and take a fifth of the time.
        small = cv2.resize(stock, (FRAME, FRAME), interpolation=cv2.INTER_LINEAR)
        return cv2.cvtColor(small, cv2.COLOR_RGBA2RGB)

    def _repaint_touched(self):
        for tile in self.touched:
            polygon = self.tile_points[tile.idx]
            cv2.fillConvexPoly(self.world_texture[0], polygon, rgba(tile.color), cv2.LINE_8, SHIFT)
        self.touched.clear()

    def _draw_world(self, zoom):
        """Return the world behind the car at stock's size: uint8 (84, 96, 4)."""
        level = min(LEVELS - 1, round(math.log2(ZOOM * SCALE / zoom)))
        texels = TEXELS / 2**level
        x, y = self.car.hull.position
        cos, sin = math.cos(self.car.hull.angle) * texels / zoom, math.sin(self.car.hull.angle) * texels / zoom
        # window offset from the car (right, up) = column * STOCK_X - right, up - row * STOCK_Y
        right, up = CAR_X - STOCK_X / 2, CAR_Y - STOCK_Y / 2
        matrix = np.array([
            [cos * STOCK_X, sin * STOCK_Y, (x + PLAYFIELD) * texels - 0.5 - cos * right - sin * up],
            [sin * STOCK_X, -cos * STOCK_Y, (y + PLAYFIELD) * texels - 0.5 - sin * right + cos * up],
        ])
        size, flags = (STATE_W, CROP_H), cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        return cv2.warpAffine(self.world_texture[level], matrix, size, flags=flags)

    def _draw_car(self, background, zoom):
        """Return background uint8 (12, 8, 4) with the car on it."""
        fine = cv2.resize(background, CAR_FINE, interpolation=cv2.INTER_NEAREST)
        for points, color in self._car_polygons():
            # pygame cuts corners to whole pixels
            window = points * zoom
            xy = np.stack([np.floor(window.real) + 0.5, -np.floor(window.imag) - 0.5], 1) * FINE
            xy += (CAR_FINE[0] / 2 - 0.5, CAR_FINE[1] / 2 - 0.5)
            cv2.fillConvexPoly(fine, np.rint(xy * 2**SHIFT).astype(np.int32), rgba(color), cv2.LINE_8, SHIFT)
        return cv2.resize(fine, background.shape[1::-1], interpolation=cv2.INTER_AREA)

    def _car_polygons(self):
        """Yield the corners, complex (N,), in world units seen from the hull, and the colour of each part, in stock's order."""
        hull = self.car.hull
        x, y = hull.position
        for wheel in self.car.wheels:
            turn = complex(math.cos(wheel.angle - hull.angle), math.sin(wheel.angle - hull.angle))
            place = complex(wheel.position[0] - x, wheel.position[1] - y) * complex(math.cos(hull.angle), -math.sin(hull.angle))
            r = WHEEL_R * SIZE
            yield (WHEEL_X + 1j * np.array([r, r, -r, -r])) * turn + place, WHEEL_COLOR
            s1, s2 = math.sin(wheel.phase), math.sin(wheel.phase + 1.2)
            c1, c2 = math.cos(wheel.phase), math.cos(wheel.phase + 1.2)
            if s1 > 0 and s2 > 0:
                continue
            if s1 > 0:
                c1 = np.sign(c1)
            if s2 > 0:
                c2 = np.sign(c2)
            yield (WHEEL_X + 1j * np.array([c1, c1, c2, c2]) * r) * turn + place, WHEEL_WHITE
        for poly in HULL:
            yield poly, HULL_COLOR


class TouchListener(FrictionDetector):
    """Stock's contact listener, which also notes the tiles whose colour a touch changes."""

    def _contact(self, contact, begin):
        for body in (contact.fixtureA.body, contact.fixtureB.body):
            tile = body.userData
            if tile and "road_friction" in tile.__dict__ and tile.color[0] != self.env.road_color[0]:
                self.env.touched.append(tile)
        super()._contact(contact, begin)


def checked(action):
    """Return action as float64 (3,), or say what is wrong with it before anything moves."""
    try:
        values = np.asarray(action, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f"an action is three finite numbers (steering, gas, brake), got {np.array2string(values)}")
    return values


@functools.cache
def grass():
    """Return the playfield without a road, uint8 (SIDE, SIDE, 4)."""
    texture = np.full((SIDE, SIDE, 4), rgba((102, 204, 102)), np.uint8)
    patch = round(GRASS_DIM * TEXELS)
    for x in range(0, SIDE, 2 * patch):
        for y in range(0, SIDE, 2 * patch):
            texture[y : y + patch, x : x + patch] = rgba((102, 230, 102))
    return texture


def to_texels(corners, sides, front, back):
    """Turn world corners (P, 4, 2) into cv2's fixed-point texels, int32 (P, 4, 2), moved inwards by so many texels."""
    texels = (corners + PLAYFIELD) * TEXELS - 0.5  # cv2's whole numbers are the centres of texels
    across = unit(texels[:, [1, 0, 3, 2]] - texels)
    along = unit(texels[:, [3, 2, 1, 0]] - texels)
    inwards = sides * across + np.array([front, front, back, back])[:, None] * along
    return np.rint((texels + inwards) * 2**SHIFT).astype(np.int32)


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def rgba(color):
    return *(max(int(c) - 2, 0) for c in color), 255
