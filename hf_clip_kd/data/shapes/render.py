"""Drawing of images of the world `shapes`, many at once, in vectorised NumPy."""

import numpy as np

from .scenes import CELLS, MAX_OBJECTS, SHAPES, TEXTURES

# RGB of COLORS, in that order.
PALETTE = np.array(
    [
        [225, 35, 35],
        [30, 165, 45],
        [40, 70, 230],
        [240, 215, 30],
        [135, 40, 175],
        [40, 215, 225],
        [255, 130, 190],
        [245, 245, 245],
    ],
    dtype=np.float32,
)
UNITS = 32  # Lengths of a scene are in 1/32 of the image side.
REACH = 10  # An object stays within this distance of its cell's middle, in x and in y.
PERIOD = 4  # Period of stripes and dots, in units of length.
SHADE = 0.35  # Brightness of the dark part of a texture.

# Drawing uses only +, -, *, /, sqrt and comparisons of float32. IEEE 754 fixes their results to the last bit, so the
# pixels are the same on every platform. Sums along an axis, sin, cos and powers are not fixed, so the normals are
# literals.
STAR_NORMALS = (
    (0.0, 1.0),
    (0.95105652, 0.30901699),
    (-0.95105652, 0.30901699),
    (0.58778525, -0.80901699),
    (-0.58778525, -0.80901699),
)


def _circle(x, y, r):
    return np.sqrt(x * x + y * y) - 0.95 * r


def _square(x, y, r):
    return np.maximum(np.abs(x), np.abs(y)) - 0.82 * r


def _triangle(x, y, r):
    sides = np.abs(x) * 0.87 - (y + r) * 0.49
    return np.maximum(sides, y - 0.78 * r)


def _diamond(x, y, r):
    return np.abs(x) * 0.8 + np.abs(y) * 0.6 - 0.62 * r


def _cross(x, y, r):
    x, y = np.abs(x), np.abs(y)
    arm = 0.32 * r
    return np.minimum(np.maximum(x - arm, y - r), np.maximum(y - arm, x - r))


def _star(x, y, r):
    # A point is in the star if it lies outside of at most one of five half-planes. The second largest distance
    # decides.
    largest = second = np.full_like(x, -UNITS)
    for nx, ny in STAR_NORMALS:
        distance = x * nx + y * ny - 0.36 * r
        second = np.maximum(second, np.minimum(largest, distance))
        largest = np.maximum(largest, distance)
    return second


def _ring(x, y, r):
    return np.abs(np.sqrt(x * x + y * y) - 0.7 * r) - 0.27 * r


def _heart(x, y, r):
    x = np.abs(x)
    side, top = x - 0.47 * r, y + 0.34 * r
    lobe = np.sqrt(side * side + top * top) - 0.5 * r
    # The point reaches up between the lobes as far as they touch. It is not wider than the lobes.
    point = np.maximum(x * 0.72 + (y - 0.95 * r) * 0.69, np.maximum(x - 0.9 * r, -0.25 * r - y))
    return np.minimum(lobe, point)


# Signed distances to the outlines, negative inside.
# Arguments: x, y (k, h, w) from the object's centre, and r (k, 1, 1). Result: (k, h, w).
OUTLINES = dict(
    zip(SHAPES, (_circle, _square, _triangle, _diamond, _cross, _star, _ring, _heart), strict=True),
)


def _zigzag(x):
    """Compute a triangle wave of period `PERIOD` and slope 1, between -PERIOD/4 and PERIOD/4."""
    x = x * (1 / PERIOD)
    return np.abs(x - np.floor(x) - 0.5) * PERIOD - PERIOD / 4


def _striped(x, y):
    return _zigzag((x + y) * 0.75)


def _dotted(x, y):
    x, y = _zigzag(x) + PERIOD / 4, _zigzag(y) + PERIOD / 4
    return 1.1 - np.sqrt(x * x + y * y)


# Distances into the dark part of a texture, in units of length: positive in the dark part.
PATTERNS = dict(zip(TEXTURES, (None, _striped, _dotted), strict=True))


def render(scenes, image_size, noise):
    """
    Draw scenes.

    Args:
        scenes ([`Scenes`]): n scenes.
        image_size (`int`): Side S of the images in pixels. The scene scales with it. The noise stays one pixel wide.
        noise (`np.ndarray`): uint8 (n, S * S * 3), random.

    Returns:
        `np.ndarray`: uint8 (n, S, S, 3), RGB.
    """
    scale = np.float32(image_size / UNITS)
    # Middles of the pixels, in units of length.
    middles = ((np.arange(image_size) + 0.5) * (UNITS / image_size)).astype(np.float32)
    canvas = _smooth(scenes.background, middles)
    for i in range(scenes.segment.shape[1]):
        _draw_segment(canvas, scenes.segment[:, i], scenes.segment_color[:, i], middles, scale)
    present = np.arange(MAX_OBJECTS) < scenes.count[:, None]
    for cell in range(len(CELLS)):
        rows, objects = np.nonzero((scenes.cell == cell) & present)
        _draw_objects(canvas, scenes, rows, objects, cell, middles, scale)
    # The sum of two uniform numbers of 4 bits has a triangular distribution, with standard deviation 6.5.
    grain = (noise & 15).astype(np.int16) + (noise >> 4) - 15
    pixels = np.rint(canvas).astype(np.int16).transpose(0, 2, 3, 1) + grain.reshape(-1, image_size, image_size, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _smooth(nodes, middles):
    """Interpolate nodes (n, 3, 4, 4) bilinearly over the whole image: (n, 3, S, S)."""
    place = middles * np.float32((nodes.shape[-1] - 1) / UNITS)
    lower = place.astype(np.int64)
    part = place - lower.astype(np.float32)
    rows = nodes[:, :, lower] + (nodes[:, :, lower + 1] - nodes[:, :, lower]) * part[:, None]
    left = rows[..., lower]
    return left + (rows[..., lower + 1] - left) * part


def _draw_segment(canvas, ends, color, middles, scale):
    """Draw one line per image, 1 unit wide, on the canvas (n, 3, S, S): ends (n, 4), colour (n, 3)."""
    x0, y0, x1, y1 = (ends[:, i, None] for i in range(4))
    dx, dy = x1 - x0, y1 - y0
    x, y = middles - x0, middles - y0
    inverse = 1 / (dx * dx + dy * dy)
    along = (x * (dx * inverse))[:, None, :] + (y * (dy * inverse))[:, :, None]
    np.clip(along, 0, 1, out=along)
    aside = x[:, None, :] - along * dx[:, :, None]
    down = y[:, :, None] - along * dy[:, :, None]
    distance = np.sqrt(aside * aside + down * down)
    cover = np.clip((0.5 - distance) * scale + 0.5, 0, 1)[:, None]
    canvas += (color[:, :, None, None] - canvas) * cover


def _draw_objects(canvas, scenes, rows, objects, cell, middles, scale):
    """Draw the objects `objects` of the images `rows`, int64 (k,) both, on the canvas. All lie in one cell."""
    across, down = (8 + 16 * (cell % 2), 8 + 16 * (cell // 2))
    columns = slice(*np.searchsorted(middles, (across - REACH, across + REACH)))
    lines = slice(*np.searchsorted(middles, (down - REACH, down + REACH)))
    center, radius = scenes.center[rows, objects], scenes.radius[rows, objects]
    x = (middles[columns] - center[:, :1])[:, None, :]
    y = (middles[lines] - center[:, 1:])[:, :, None]
    cover = np.empty((len(rows), y.shape[1], x.shape[2]), dtype=np.float32)
    for index, name in enumerate(SHAPES):
        some = np.nonzero(scenes.shape[rows, objects] == index)[0]
        outline = OUTLINES[name](*np.broadcast_arrays(x[some], y[some]), radius[some, None, None])
        cover[some] = np.clip(0.5 - outline * scale, 0, 1)
    light = np.ones_like(cover)
    phase = scenes.phase[rows, objects]
    for index, name in enumerate(TEXTURES):
        if PATTERNS[name] is not None:
            some = np.nonzero(scenes.texture[rows, objects] == index)[0]
            dark = PATTERNS[name](x[some] + phase[some, 0, None, None], y[some] + phase[some, 1, None, None])
            light[some] = 1 - (1 - SHADE) * np.clip(0.5 + dark * scale, 0, 1)
    color = PALETTE[scenes.color[rows, objects]] + scenes.tint[rows, objects]
    patch = canvas[rows, :, lines, columns]
    patch += (color[:, :, None, None] * light[:, None] - patch) * cover[:, None]
    canvas[rows, :, lines, columns] = patch
