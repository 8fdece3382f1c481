#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the roofline of one computer as SVG, from what `checkkern --bench --json` or `nvfp4 bench --json` measured there.

    scripts/roofline.py OUTPUT.svg FILE.json... [--shape N,K] [--title TEXT] [--without GLOB,...]

Across: operations for each byte of weights, 2 M / 0.5625, so that every M has its place. Up: GFLOP/s. The slope is the read bandwidth, the levels are the
arithmetic peaks, each the greatest that the files measured; a point is a kernel at one M. Of several files, which must be of one computer and one number of
threads, the later counts where two have the same kernel and M. Needs Python 3.8 and nothing else. Exit codes: 0 done, 2 bad use or bad input.
"""
import argparse
import fnmatch
import json
import math
import sys
from html import escape
from pathlib import Path

BYTES_A_WEIGHT = 0.5625  # 4 bits, and 8 bits of scale for 16 weights
LEFT, TOP, WIDTH, HEIGHT, BELOW, NAMES = 66, 70, 600, 430, 62, 200  # the plot, and the room below it and to its right, in pixels
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d1f"]  # of Okabe and Ito, and two more
GREY = "#767676"


class BadInput(Exception):
    pass


# ------------------------------------------------------------------------------------------------------------------------ input


def positive(row, key):
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{key} is {value!r}; needs a number above 0")
    return value


def read(path, shape):
    """Of a file: the computer, {"read" or the peak's name: its figure}, {(kernel, M): GFLOP/s}."""
    try:
        bench = json.loads(Path(path).read_text(encoding="utf-8"))
        bench = bench.get("bench", bench)
        machine = bench["machine"]
        cpu = machine["cpu"] if isinstance(machine, dict) else dict(line.split(" ", 1) for line in machine.splitlines())["cpu"]
        roofs = [bench["roof"]["before"], bench["roof"]["after"]]
        computer = f"{cpu}, {roofs[0]['threads']} thread{'s' if roofs[0]['threads'] != 1 else ''}"
        figures = {"read": max(positive(roof, "read_gbps") for roof in roofs)}
        for kind, unit in (("fp32", "f32_gflops"), ("int8", "i8_gops")):
            name = roofs[0][unit.split("_")[0] + "_name"]
            if name != "not measured":
                figures[f"{kind} {name}"] = max(positive(roof, unit) for roof in roofs)
        timed = [row for row in bench["results"] if "us" in row]
        points = {(row["kernel"], positive(row, "M")): positive(row, "gflops") for row in timed if (row["N"], row["K"]) == shape}
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        raise BadInput(f"{path}: not what `checkkern --bench --json` prints: {type(e).__name__}: {e}") from None
    if not points:
        there = sorted({f"{row['N']},{row['K']}" for row in timed})
        raise BadInput(f"{path}: no times of N,K = {shape[0]},{shape[1]}; it has {'; '.join(there) or 'none'}")
    return computer, figures, points


def read_all(paths, shape):
    computer, roofs, points = None, {}, {}
    for path in paths:
        this, figures, measured = read(path, shape)
        if computer not in (None, this):
            raise BadInput(f"{path}: is of {this}, {paths[0]} of {computer}; a plot is of one computer and number of threads")
        computer = this
        roofs = {name: max(roofs.get(name, 0), figures.get(name, 0)) for name in {**roofs, **figures}}
        points.update(measured)
    return computer, roofs, points


# ---------------------------------------------------------------------------------------------------------------------- drawing


def intensity(m):
    return 2 * m / BYTES_A_WEIGHT


class Axes:
    """From values to pixels, both ways logarithmic."""

    def __init__(self, x_range, y_range):
        self.x_range, self.y_range = x_range, y_range

    def x(self, value):
        low, high = self.x_range
        return LEFT + WIDTH * math.log(value / low) / math.log(high / low)

    def y(self, value):
        low, high = self.y_range
        return TOP + HEIGHT * (1 - math.log(value / low) / math.log(high / low))


def text(x, y, words, anchor="start", size=12, colour="#222222", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'


def line(x1, y1, x2, y2, colour, width=1.0, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{more}/>'


def draw_grid(axes, ms):
    bottom, right = TOP + HEIGHT, LEFT + WIDTH
    out = [f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="{GREY}"/>']
    decades = range(math.floor(math.log10(axes.y_range[0])), math.ceil(math.log10(axes.y_range[1])) + 1)
    for value in (digit * 10.0**decade for decade in decades for digit in (1, 2, 5)):
        if axes.y_range[0] <= value <= axes.y_range[1]:
            out += [line(LEFT, axes.y(value), right, axes.y(value), "#e4e4e4"), text(LEFT - 8, axes.y(value) + 4, f"{value:g}", "end")]
    for m in ms:
        x = axes.x(intensity(m))
        out += [line(x, TOP, x, bottom, "#e4e4e4"), text(x, bottom + 18, f"M = {m}", "middle"),
                text(x, bottom + 33, f"{intensity(m):.{0 if m > 16 else 1}f}", "middle", 11, GREY)]
    out += [text(LEFT + WIDTH / 2, bottom + 52, "rows of x; below, operations for each byte of weights", "middle"),
            text(16, TOP + HEIGHT / 2, "GFLOP/s", "middle", more=f' transform="rotate(-90 16 {TOP + HEIGHT / 2:.1f})"')]
    return out


def draw_roofs(axes, roofs):
    read_gbps = roofs["read"]
    peaks = {name: value for name, value in roofs.items() if name != "read"}
    start = max(axes.x_range[0], axes.y_range[0] / read_gbps)
    end = min(axes.x_range[1], max(peaks.values(), default=axes.y_range[1]) / read_gbps)  # where it meets the greatest peak
    (x1, y1), (x2, y2) = ((axes.x(at), axes.y(at * read_gbps)) for at in (start, end))
    x, y, angle = x1 + 0.3 * (x2 - x1), y1 + 0.3 * (y2 - y1), math.degrees(math.atan2(y2 - y1, x2 - x1))
    out = [line(x1, y1, x2, y2, "#222222", 2),
           text(x, y - 9, f"read {read_gbps:.0f} GB/s", "middle", more=f' transform="rotate({angle:.1f} {x:.1f} {y:.1f})"')]
    for name, value in peaks.items():
        x, y = max(LEFT, axes.x(value / read_gbps)), axes.y(value)
        dash = "" if value == max(peaks.values()) else ' stroke-dasharray="6 4"'
        out += [line(x, y, LEFT + WIDTH, y, "#222222", 1.5, dash), text(x - 8, y + 4, f"{name} {value:.0f}", "end")]
    return out


def marker(x, y, w4a16, colour):
    if w4a16:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="#ffffff" stroke="{colour}" stroke-width="2"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'


def draw_kernels(axes, points):
    last = {}
    for kernel, m in sorted(points):
        last[kernel] = points[kernel, m]
    order = sorted(last, key=lambda kernel: -last[kernel])
    others = [kernel for kernel in order if not kernel.startswith("ref_")]
    out, free = [], TOP + 4.0
    for kernel in order:
        colour = COLOURS[others.index(kernel) % len(COLOURS)] if kernel in others else GREY
        w4a16 = kernel.endswith("w4a16")
        at = [(axes.x(intensity(m)), axes.y(points[kernel, m])) for other, m in sorted(points) if other == kernel]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dash = ' stroke-dasharray="3 3"' if w4a16 else ""
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        out += [marker(x, y, w4a16, colour) for x, y in at]
        x, y = at[-1]
        free = max(free, y)  # names from top to bottom, none on another
        out += [line(x + 6, y, LEFT + WIDTH + 14, free, colour, 0.7), text(LEFT + WIDTH + 18, free + 4, kernel, colour=colour)]
        free += 17
    return out


def draw(title, subtitle, roofs, points):
    ms = sorted({m for _, m in points})
    greatest = max([value for name, value in roofs.items() if name != "read"] + list(points.values()))
    axes = Axes((intensity(ms[0]) / 1.6, intensity(ms[-1]) * 2), (min(points.values()) / 1.6, greatest * 1.5))
    width, height = LEFT + WIDTH + NAMES, TOP + HEIGHT + BELOW
    body = [text(LEFT, 26, title, size=17), text(LEFT, 48, subtitle, colour=GREY)]
    body += draw_grid(axes, ms) + draw_roofs(axes, roofs) + draw_kernels(axes, points)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *body, "</svg>"]) + "\n"


def shape_of(words):
    try:
        n, k = (int(word) for word in words.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{words}: needs N,K as in 4096,4096") from None
    return n, k


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="an .svg")
    parser.add_argument("files", nargs="+", metavar="FILE.json")
    parser.add_argument("--shape", type=shape_of, default=(4096, 4096), metavar="N,K", help="default 4096,4096")
    parser.add_argument("--title", help="default: the processor and the number of threads")
    parser.add_argument("--without", default="", metavar="GLOB,...", help="kernels to leave out")
    args = parser.parse_args()
    try:
        if not args.output.endswith(".svg"):  # a forgotten output must not overwrite a measurement
            raise BadInput(f"{args.output}: the output comes first, and is an .svg")
        computer, roofs, points = read_all(args.files, args.shape)
        hidden = [glob for glob in args.without.split(",") if glob]
        points = {key: value for key, value in points.items() if not any(fnmatch.fnmatch(key[0], glob) for glob in hidden)}
        if not points:
            raise BadInput(f"--without {args.without}: leaves no kernel")
        subtitle = f"N = {args.shape[0]}, K = {args.shape[1]}; circles: w4a4, squares: w4a16; int8 peaks count 2 operations a multiply-add, too"
        Path(args.output).write_text(draw(args.title or computer, subtitle, roofs, points), encoding="utf-8")
    except (BadInput, OSError) as e:
        print(f"roofline.py: {e}", file=sys.stderr)
        return 2
    return 0


sys.exit(main())
