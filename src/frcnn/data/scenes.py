"""Drawn scenes: textured shapes, partly hidden by each other, on cluttered grounds.

The objects are discs, squares, stars and triangles of many sizes, rotated and stretched. Lines,
arcs and soft blobs in the ground are no objects. Where an object is seen follows from arithmetic
alone, so boxes do not depend on a drawing library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

# Corners on the unit circle, and how far the notches between them are from the centre. A notch at
# cos(pi / corners) lies on the straight edge of a regular polygon.
_POLYGONS = {
    "square": (4, math.cos(math.pi / 4)),
    "star": (5, 0.45),
    "triangle": (3, math.cos(math.pi / 3)),
}
CLASSES = ("disc", *_POLYGONS)

_MOST_OBJECTS = 6
_SIDES = (0.08, 0.36)  # across an object, as a part of the picture's width
_LEAST_SEEN = 0.65  # part of an object that other objects and the border leave in sight
_TRIES = 30


@dataclass(frozen=True)
class Seen:
    """An object of a scene and the extent of what is seen of it.

    Args:
        name: class name.
        box: (xmin, ymin, xmax, ymax) as in VOC: whole pixels from 1, all four inclusive.
        truncated: the picture's border cuts it.
        occluded: another object hides a part of it.
    """

    name: str
    box: tuple[int, int, int, int]
    truncated: bool
    occluded: bool


@dataclass(frozen=True, eq=False)
class _Shape:
    name: str
    angle: float
    top: int
    left: int
    cover: np.ndarray  # float32 (h, w), 0..1, the part of each pixel inside the shape
    pixels: int  # if neither the border nor another object hid any
    seen: np.ndarray  # bool (h, w)

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int] = (320, 400)
) -> tuple[np.ndarray, list[Seen]]:
    """Draw one picture with one to six objects, the hindmost first.

    Args:
        rng: source of every choice.
        size: smallest and largest width in pixels; the height is 3/4 of it.

    Returns:
        uint8 (H, W, 3), RGB, and the objects.
    """
    width = int(rng.integers(size[0], size[1] + 1))
    height = width * 3 // 4
    canvas = _ground(rng, height, width)
    shapes: list[_Shape] = []
    for _ in range(rng.integers(1, _MOST_OBJECTS + 1)):
        for _ in range(_TRIES):
            placed = _place(shapes, _random_shape(rng, height, width), height, width)
            if placed:
                shapes = placed
                _paint(rng, canvas, shapes[-1])
                break
    return _camera(rng, canvas), [_describe(shape) for shape in shapes]


def _random_shape(rng: np.random.Generator, height: int, width: int) -> _Shape:
    name = CLASSES[rng.integers(len(CLASSES))]
    radius = 0.5 * width * math.exp(rng.uniform(*np.log(_SIDES)))
    stretch = math.exp(rng.uniform(-0.2, 0.2))
    angle = rng.uniform(0, 2 * math.pi)
    x, y = rng.uniform(0, width), rng.uniform(0, height)

    reach = math.ceil(radius * max(stretch, 1 / stretch)) + 1
    left, top = math.floor(x) - reach, math.floor(y) - reach
    u, v = _axes(2 * reach + 1, 2 * reach + 1, x - left, y - top, angle)
    distance = radius * _outside(name, u / (radius * stretch), v * stretch / radius)
    cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    pixels = int((cover > 0.5).sum())
    inside = cover[max(-top, 0) : height - top, max(-left, 0) : width - left]
    return _Shape(name, angle, max(top, 0), max(left, 0), inside, pixels, inside > 0.5)


def _axes(height: int, width: int, x: float, y: float, angle: float):
    """Pixel centres relative to (x, y), turned by ``angle``: two arrays (height, width)."""
    dy, dx = np.mgrid[0.5 - y : height - y : 1.0, 0.5 - x : width - x : 1.0]
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * dx + sin * dy, cos * dy - sin * dx


def _outside(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the nearest side of the unit shape's outline, negative inside."""
    radius = np.hypot(u, v)
    if name == "disc":
        return radius - 1
    corners, notch = _POLYGONS[name]
    # All sides look alike from the centre: fold the plane onto the sector from a corner (angle 0)
    # to the next notch (angle pi / corners), where the outline is one straight line.
    sector = 2 * math.pi / corners
    angle = np.abs((np.arctan2(v, u) + sector / 2) % sector - sector / 2)
    edge_x, edge_y = notch * math.cos(sector / 2) - 1, notch * math.sin(sector / 2)
    x, y = radius * np.cos(angle) - 1, radius * np.sin(angle)
    return (edge_y * x - edge_x * y) / math.hypot(edge_x, edge_y)


def _place(shapes: list[_Shape], new: _Shape, height: int, width: int) -> list[_Shape] | None:
    """The shapes with a new one in front, or None where too little of any would be seen."""
    hidden = np.zeros((height, width), bool)
    hidden[new.window] = new.seen
    after = [replace(shape, seen=shape.seen & ~hidden[shape.window]) for shape in shapes]
    after.append(new)
    if all(shape.seen.sum() >= _LEAST_SEEN * shape.pixels for shape in after):
        return after
    return None


def _describe(shape: _Shape) -> Seen:
    rows, columns = np.flatnonzero(shape.seen.any(1)), np.flatnonzero(shape.seen.any(0))
    in_picture = int((shape.cover > 0.5).sum())
    return Seen(
        name=shape.name,
        box=(
            shape.left + int(columns[0]) + 1,
            shape.top + int(rows[0]) + 1,
            shape.left + int(columns[-1]) + 1,
            shape.top + int(rows[-1]) + 1,
        ),
        truncated=in_picture < shape.pixels,
        occluded=int(shape.seen.sum()) < in_picture,
    )


def _paint(rng: np.random.Generator, canvas: np.ndarray, shape: _Shape) -> None:
    ground = canvas[shape.window]  # (h, w, 3), a view
    # Of a few pairs of colours, the one that stands out most from what is behind.
    pairs = rng.uniform(20, 240, (4, 2, 3))
    behind = ground[shape.seen].mean(axis=0)
    contrast = np.linalg.norm(pairs - behind, axis=-1).min(axis=1)  # (4,)
    first, second = pairs[contrast.argmax()]
    mix = _texture(rng, shape)[..., None]  # (h, w, 1)
    shade = 1 + 0.25 * (_smooth(rng, *shape.cover.shape, cells=2) - 0.5)[..., None]
    colour = (mix * first + (1 - mix) * second) * shade
    cover = shape.cover[..., None]
    ground[:] = cover * colour + (1 - cover) * ground


def _texture(rng: np.random.Generator, shape: _Shape) -> np.ndarray:
    """How much of the first colour each pixel has, 0..1, (h, w)."""
    height, width = shape.cover.shape
    side = max(height, width)
    kind = rng.integers(5)
    period = max(5.0, side / rng.uniform(3, 7))
    u, v = _axes(height, width, width / 2, height / 2, shape.angle + rng.uniform(0, math.pi))
    u, v = u * (2 * math.pi / period), v * (2 * math.pi / period)
    if kind == 0:
        return np.clip(0.5 + 2 * np.sin(u), 0, 1)  # stripes
    if kind == 1:
        return np.clip(0.5 + 3 * np.sin(u) * np.sin(v), 0, 1)  # checker
    if kind == 2:
        return np.clip(2 * (np.cos(u) + np.cos(v)) - 1, 0, 1)  # dots
    if kind == 3:
        return _smooth(rng, height, width, cells=max(3, int(side / 6)))  # grain
    return np.ones((height, width))  # plain


def _smooth(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Random values in 0..1 on a coarse grid, interpolated to float32 (height, width)."""
    grid = rng.random((cells, cells), np.float32)
    return np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """What is behind the objects, float32 (height, width, 3) in 0..255."""
    # All that is soft is drawn at a quarter of the size, which takes a sixteenth of the time.
    colours = rng.uniform(30, 220, (3, 4, 3)).astype(np.float32)
    soft = cv2.resize(colours, (width // 4, height // 4), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(3, 9)):
        _blob(rng, soft)
    canvas = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    grain = 50 * _smooth(rng, height, width, 8) + 40 * _smooth(rng, height, width, 32)
    canvas += grain[..., None] - 45
    for _ in range(rng.integers(3, 10)):
        _stroke(rng, canvas)
    return np.clip(canvas, 0, 255)


def _blob(rng: np.random.Generator, canvas: np.ndarray) -> None:
    # A soft spot without an outline, so that no disc can be seen in it.
    height, width = canvas.shape[:2]
    spread = rng.uniform(0.03, 0.12, 2) * width
    u, v = _axes(height, width, rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 3.2))
    opacity = rng.uniform(0.3, 0.8) * np.exp(-0.5 * ((u / spread[0]) ** 2 + (v / spread[1]) ** 2))
    canvas += opacity[..., None] * (rng.uniform(20, 240, 3) - canvas)


def _stroke(rng: np.random.Generator, canvas: np.ndarray) -> None:
    # A line or an arc, more or less transparent.
    height, width = canvas.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    thickness = int(rng.integers(1, max(2, width // 60) + 1))
    start, end = (rng.random((2, 2)) * (width, height)).astype(int).tolist()
    if rng.random() < 0.6:
        cv2.line(mask, start, end, 255, thickness, cv2.LINE_AA)
    else:
        axes = (rng.uniform(0.04, 0.2, 2) * width).astype(int).tolist()
        turn, first = rng.uniform(0, 360, 2)
        last = first + rng.uniform(90, 300)
        cv2.ellipse(mask, start, axes, turn, first, last, 255, thickness, cv2.LINE_AA)
    touched = mask > 0
    opacity = mask[touched][:, None] / (255 * rng.uniform(1, 2))
    canvas[touched] += opacity * (rng.uniform(0, 255, 3) - canvas[touched])


def _camera(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Blur, exposure and noise; float32 (H, W, 3) to uint8."""
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.0))
    noise = rng.standard_normal(canvas.shape, np.float32) * rng.uniform(2, 8)
    return np.clip(np.rint(blurred * rng.uniform(0.8, 1.15) + noise), 0, 255).astype(np.uint8)
