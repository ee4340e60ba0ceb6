"""The pixels of CarRacing: the 64x64 frame that V sees, painted fast.

Stock paints about 700 polygons on a 1000x800 window for every frame, though nothing moves but the
camera and the car, and shrinks it to 96x96 ("stock pixels" below). Here grass and road are painted
once an episode into a texture of the whole world; a frame is one warp of that texture, with the
car's few polygons on top. A part is a polygon of the car.
"""

import cmath
import functools
import math

import cv2
import numpy as np
from gymnasium.envs.box2d import car_dynamics as car
from gymnasium.envs.box2d import car_racing as stock

FRAME = 64  # height and width of an observation
STOCK_W = stock.STATE_W  # what it shows of a stock observation: all but the dashboard
STOCK_H = 84
PIXEL_W = stock.WINDOW_W / stock.STATE_W  # a stock pixel, in window pixels
PIXEL_H = stock.WINDOW_H / stock.STATE_H
CAR_X = stock.WINDOW_W / 2  # where the window always shows the car, y down
CAR_Y = stock.WINDOW_H * 3 / 4
FULL_ZOOM = stock.ZOOM * stock.SCALE  # window pixels per world unit once the camera has come down

TEXELS = 2.4  # per world unit: a texel is then a little smaller than a stock pixel at full zoom
LEVELS = 5  # the texture and its halves: the camera starts about 2**4 times higher than it ends
SIDE = round(2 * stock.PLAYFIELD * TEXELS)
LINE = 16  # texels in a line of the processor's cache
SHIFT = 4  # cv2 takes corners as integers with this many fractional bits

# The car is drawn on the 8x12 stock pixels around it, enlarged until one is nearly the window's.
CAR_ROWS = slice(66, 78)
CAR_COLS = slice(44, 52)
FINE_SIZE = (80, 96)  # width and height
FINE = 10 / PIXEL_W  # enlarged pixels per window pixel
FINE_ORIGIN = np.array([40, 47], np.int32)  # the hull's place
FINE_AXES = np.array([1, -1], np.int32)  # right and up


def shown(color):
    """Return a colour (R, G, B, A) as it leaves stock's smoothscale: two levels lower."""
    return *(max(int(channel) - 2, 0) for channel in color), 255


# The corners of all parts stand in one array, in the order of painting: each wheel and its white
# patch, then the hull.
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


class Painter:
    """The texture of one track's world, and the views of it.

    It has four channels, for cv2 warps them 2.5 times faster than three.
    """

    def __init__(self):
        self.levels = [np.zeros((SIDE >> k, SIDE >> k, 4), np.uint8) for k in range(LEVELS)]

    def paint(self, road_poly, tiles):
        """Paint grass and road in stock's order; copies that drive the same track share the work."""
        corners = np.array([corners for corners, _ in road_poly])
        colors = np.array([color for _, color in road_poly])
        world = painted_world(corners.tobytes(), colors.tobytes())
        for mine, painted in zip(self.levels, world, strict=True):
            np.copyto(mine, painted)
        # Repainted with hard edges, which stay clear of the grass.
        self.repaints = to_texels(tiles, sides=1.0, front=0.5, back=0.5)

    def repaint(self, tile):
        """Paint a tile in its new shade, but not in the views from above, where it can't be seen."""
        polygon = self.repaints[tile.idx]
        cv2.fillConvexPoly(self.levels[0], polygon, shown(tile.color), cv2.LINE_8, SHIFT)

    def draw(self, body, zoom):
        """Return what the camera sees of the world and a car: uint8 (64, 64, 3)."""
        image = self._view(body.hull, zoom)
        image[CAR_ROWS, CAR_COLS] = draw_car(image[CAR_ROWS, CAR_COLS], body, zoom)
        # At this ratio linear weights are nearly those of an area resize, at a fifth of its cost.
        image = cv2.resize(image, (FRAME, FRAME), interpolation=cv2.INTER_LINEAR)
        return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB)

    def _view(self, hull, zoom):
        """Return grass and road around a hull, uint8 (84, 96, 4)."""
        level = min(round(math.log2(FULL_ZOOM / zoom)), LEVELS - 1)
        texels = TEXELS / 2**level
        x = (hull.position[0] + stock.PLAYFIELD) * texels - 0.5  # cv2 counts from centres
        y = (hull.position[1] + stock.PLAYFIELD) * texels - 0.5
        cos = math.cos(hull.angle) * texels / zoom
        sin = math.sin(hull.angle) * texels / zoom
        right = PIXEL_W / 2 - CAR_X  # the first pixel's centre, seen from the car
        up = CAR_Y - PIXEL_H / 2
        column = cos * PIXEL_W, sin * PIXEL_H, x + cos * right - sin * up
        row = sin * PIXEL_W, -cos * PIXEL_H, y + sin * right + cos * up
        # In a vector no texture stays in the cache: one sweep fetches what the warp would wait for
        # line by line.
        texture = self.levels[level]
        texture[span(*row), span(*column, LINE), 0].max(initial=0)
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        return cv2.warpAffine(texture, np.array([column, row]), (STOCK_W, STOCK_H), flags=flags)


def zoom_at(seconds):
    """Return window pixels per world unit so long after an episode's start: the camera comes down."""
    return 0.1 * stock.SCALE * max(1 - seconds, 0) + FULL_ZOOM * min(seconds, 1)


def draw_car(background, body, zoom):
    """Return background, uint8 (12, 8, 4), with the car on it."""
    fine = cv2.resize(background, FINE_SIZE, interpolation=cv2.INTER_NEAREST)
    corners = np.concatenate((wheel_corners(body).ravel(), HULL)) * (zoom * FINE)
    # Like pygame, round corners down to whole pixels and fill these too.
    whole = np.floor(corners.view(np.float64)).astype(np.int32).reshape(-1, 2)
    pixels = whole * FINE_AXES + FINE_ORIGIN
    for part, color in PARTS:
        cv2.fillConvexPoly(fine, pixels[part], color)
    return cv2.resize(fine, background.shape[1::-1], interpolation=cv2.INTER_AREA)


def wheel_corners(body):
    """Return each wheel's corners and its patch's, complex (4, 8), in units seen from the hull."""
    hull, wheels = body.hull, body.wheels
    origin = complex(*hull.position)
    unturn = cmath.rect(1, -hull.angle)
    centres = np.array([(complex(*wheel.position) - origin) * unturn for wheel in wheels])
    turns = np.array([cmath.rect(1, wheel.angle - hull.angle) for wheel in wheels])
    ends = np.array([(1, -1, *white_patch(wheel.phase)) for wheel in wheels])
    ends = ends * (1j * car.WHEEL_R * car.SIZE)
    return (WHEEL_X + ends[:, WHEEL_ENDS]) * turns[:, None] + centres[:, None]


def white_patch(phase):
    """Return where a wheel's white patch starts and ends, from 1 (front) to -1 (back).

    phase: how far the wheel has rolled.
    """
    start = phase
    end = phase + 1.2
    if math.sin(start) > 0 and math.sin(end) > 0:
        return 1000.0, 1000.0  # underneath the wheel: far outside the picture will do
    front = math.cos(start)
    back = math.cos(end)
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
    """Return the texture with a road, and its halves for the views from higher up.

    The road comes as arrays' bytes.
    """
    levels = [grass().copy()]
    corners = np.frombuffer(corners).reshape(-1, 4, 2)
    colors = np.frombuffer(colors).reshape(-1, 3)
    # cv2's smooth outlines add 0.67 texels all round, pygame's polygons 0.07; the front end is
    # painted over.
    polygons = to_texels(corners, sides=0.6, front=0, back=0.6)
    for polygon, color in zip(polygons, colors, strict=True):
        cv2.fillConvexPoly(levels[0], polygon, shown(color), cv2.LINE_AA, SHIFT)
    for _ in range(1, LEVELS):
        height, width = levels[-1].shape[:2]
        half = (width // 2, height // 2)
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
    return levels


def to_texels(corners, sides, front, back):
    """Turn world corners (P, 4, 2) into cv2's texels, int32, edges moved inwards by so many texels.

    The corners are front left, front right, back right, back left.
    """
    texels = (corners + stock.PLAYFIELD) * TEXELS - 0.5  # cv2 counts from the centres of texels
    across = unit(texels[:, [1, 0, 3, 2]] - texels)
    along = unit(texels[:, [3, 2, 1, 0]] - texels)
    inwards = sides * across + np.array([front, front, back, back])[:, None] * along
    return np.rint((texels + inwards) * 2**SHIFT).astype(np.int32)


def unit(vectors):
    """Scale vectors (..., 2) to length 1, and leave zeros at 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
