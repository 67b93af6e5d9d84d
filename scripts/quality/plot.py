"""The figure: divergence by bits per weight, a line for each tool.

SVG without a background, in grays and colors that are legible on white and on black.
"""

import math
from html import escape

WIDTH, HEIGHT = 640, 430
LEFT, RIGHT, TOP, BOTTOM = 74, 150, 16, 46
GRAY = "#808080"
INK = ["#d1442f", "#3d85c8", "#2e9a62", "#a06cd5", "#c98a1b", "#2aa3a3", "#b0568a", "#8a8a8a"]
MARKS = {
    "disc": '<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>',
    "square": '<rect x="{l:.1f}" y="{t:.1f}" width="6" height="6"/>',
    "diamond": '<path d="M{x:.1f} {t2:.1f}l4 4l-4 4l-4-4z"/>',
    "triangle": '<path d="M{x:.1f} {t2:.1f}l4 7h-8z"/>',
}


def figure(lines, title):
    """Returns the SVG of lines: pairs of a name and its points, pairs of bits per weight and divergence."""
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    x0, x1 = math.floor(2 * min(xs)) / 2, math.ceil(2 * max(xs)) / 2
    y0, y1 = math.log10(min(ys)) - 0.08, math.log10(max(ys)) + 0.08

    def place(x, y):
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return across, TOP + (y1 - math.log10(y)) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{GRAY}" role="img">',
        f"<title>{escape(title)}</title>",
    ]
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for i in range(round(2 * x0), round(2 * x1) + 1):
        x, _ = place(i / 2, ys[0])
        out.append(grid(x, TOP, x, bottom) + text(x, bottom + 17, f"{i / 2:g}", "middle"))
    for y in ticks(y0, y1):
        _, at = place(x0, y)
        out.append(grid(LEFT, at, right, at) + text(LEFT - 7, at + 4, f"{y:g}", "end"))
    out.append(text((LEFT + right) / 2, HEIGHT - 8, "bits per weight of the projections", "middle"))
    middle = (TOP + bottom) / 2
    label = text(13, middle, "mean KL to the 16-bit model, nats per token", "middle")
    out.append(f'<g transform="rotate(-90 13 {middle:.1f})">{label}</g>')
    for i, (name, points) in enumerate(lines):
        color, mark = INK[i % len(INK)], MARKS[list(MARKS)[i % len(MARKS)]]
        at = [place(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        width = 2.4 if i == 0 else 1.4
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"/>')
        key = (right + 14, TOP + 12 + 20 * i)
        shapes = "".join(mark.format(x=x, y=y, l=x - 3, t=y - 3, t2=y - 4) for x, y in [*at, key])
        out.append(f'<g fill="{color}">{shapes}</g>' + text(key[0] + 11, key[1] + 4, name, "start"))
    return "\n".join([*out, "</svg>", ""])


def ticks(low, high):
    """Returns 1, 2 and 5 times the powers of ten between two exponents."""
    found = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    return [y for y in found if low <= math.log10(y) <= high]


def grid(x, y, to_x, to_y):
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{GRAY}" stroke-opacity="0.25"/>'


def text(x, y, words, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
