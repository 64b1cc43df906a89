"""Draw the extension's icon: an airway tree whose thin far branches carry the light.

Run with the path of the PNG to write; needs Pillow, which matplotlib brings.
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw

SIZE = 128
OVERSAMPLING = 8
NIGHT = (20, 44, 66)
DUSK = (34, 84, 108)
TRUNK = (233, 243, 247)
TIP = (255, 176, 84)


# Branches of the lung on the reader's right: (x, y) of start and end on the 128-pixel canvas, and
# the generation. The other lung is the mirror image.
BRANCHES = (
    ((64, 46), (80, 60), 1),
    ((80, 60), (93, 52), 2),
    ((93, 52), (94, 39), 3),
    ((93, 52), (105, 56), 3),
    ((80, 60), (84, 80), 2),
    ((84, 80), (98, 84), 3),
    ((84, 80), (81, 96), 3),
    ((98, 84), (108, 79), 4),
    ((98, 84), (104, 95), 4),
    ((81, 96), (90, 106), 4),
    ((81, 96), (73, 105), 4),
    ((94, 39), (100, 29), 4),
    ((94, 39), (86, 30), 4),
    ((105, 56), (111, 47), 4),
    ((105, 56), (111, 65), 4),
)
WIDTH_OF_GENERATION = (11.0, 8.4, 6.2, 4.4, 3.0, 2.2)


def draw_icon() -> Image.Image:
    """The icon as a 128x128 RGBA image."""
    n = SIZE * OVERSAMPLING
    tree = Image.new("RGBA", (n, n))
    pen = ImageDraw.Draw(tree)
    for start, end, generation in sorted(BRANCHES, key=lambda branch: -branch[2]):
        for mirrored in (False, True):
            a, b = (_mirror(p) if mirrored else p for p in (start, end))
            _stroke(pen, a, b, WIDTH_OF_GENERATION[generation : generation + 2], generation)
            if generation == 4:
                _dot(pen, b, 2.1, TIP)
    _stroke(pen, (64, 16), (64, 46), WIDTH_OF_GENERATION[0:2], 0)
    icon = Image.composite(_background(n), Image.new("RGBA", (n, n)), _plate(n))
    icon.alpha_composite(tree)
    return icon.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _mirror(point: tuple[float, float]) -> tuple[float, float]:
    return SIZE - point[0], point[1]


def _stroke(
    pen: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    widths: tuple[float, ...],
    generation: int,
) -> None:
    steps = 160
    for i in range(steps + 1):
        t = i / steps
        glow = ((generation + t) / 5) ** 2
        color = tuple(round(a + (b - a) * glow) for a, b in zip(TRUNK, TIP, strict=True))
        point = (start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1]))
        _dot(pen, point, (widths[0] + t * (widths[1] - widths[0])) / 2, color)


def _dot(
    pen: ImageDraw.ImageDraw, center: tuple[float, float], radius: float, color: tuple[int, ...]
) -> None:
    box = [(c + sign * radius) * OVERSAMPLING for sign in (-1, 1) for c in center]
    pen.ellipse(box, fill=(*color, 255))


def _background(n: int) -> Image.Image:
    column = Image.new("RGBA", (1, n))
    for y in range(n):
        t = y / (n - 1)
        color = tuple(round(a + (b - a) * t) for a, b in zip(DUSK, NIGHT, strict=True))
        column.putpixel((0, y), (*color, 255))
    return column.resize((n, n))


def _plate(n: int) -> Image.Image:
    plate = Image.new("L", (n, n), 0)
    margin = 3 * OVERSAMPLING
    ImageDraw.Draw(plate).rounded_rectangle(
        (margin, margin, n - margin, n - margin), radius=26 * OVERSAMPLING, fill=255
    )
    return plate


if __name__ == "__main__":
    draw_icon().save(sys.argv[1], optimize=True)
