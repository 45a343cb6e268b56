"""Draw the rules of the workflow as an SVG, from `snakemake --rulegraph dot` on the standard input."""

import argparse
import re
import sys
import textwrap
from collections import defaultdict
from html import escape
from pathlib import Path

from frugal.errors import FrugalError, run_script
from frugal.files import write_text
from frugal.kinds import KINDS

#: Rules that are left out: settings, which lead everywhere, and what depends on the machine.
PLUMBING = ("write_run_config", "describe_study", "check_machine", "compile_report")
COLOURS = {"data": "#dbe9f4", "preference": "#fde7c8", "recommendation": "#d9efd9", "language_modeling": "#eadcf2"}
OTHER_COLOUR = "#f4d9d9"
WIDTH, HEIGHT, COLUMN, ROW, MARGIN = 124, 40, 156, 50, 12
#: Letters of a label's line.
LINE = 17

Edges = set[tuple[str, str]]


def read_graph(dot: str) -> tuple[set[str], Edges]:
    """The rules, and the pairs of rules of which the second reads what the first writes."""
    names = dict(re.findall(r'^\s*(\d+)\s*\[\s*label\s*=\s*"([^"\\]+)', dot, re.MULTILINE))
    edges = {
        (names[first], names[second]) for first, second in re.findall(r"^\s*(\d+)\s*->\s*(\d+)", dot, re.MULTILINE)
    }
    if not edges:
        raise FrugalError("the standard input has no graph; give it the output of `snakemake --rulegraph dot`")
    return set(names.values()), edges


def read_lanes(folder: Path) -> dict[str, str]:
    """Rule that writes files -> the name of the rules file that it is in."""
    lanes = {}
    for file in sorted(folder.glob("*.smk")):
        for name, body in re.findall(
            r"^rule (\w+):\n((?:[ \t].*\n|\n)*)", file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            if re.search(r"^    output:", body, re.MULTILINE) and name not in PLUMBING:
                lanes[name] = file.stem
    return lanes


def without(edges: Edges, dropped: set[str]) -> Edges:
    """The graph without some of its rules, whose neighbours are joined."""
    for name in dropped:
        before = {first for first, second in edges if second == name}
        after = {second for first, second in edges if first == name}
        edges = {edge for edge in edges if name not in edge} | {(one, two) for one in before for two in after}
    return {(one, two) for one, two in edges if one != two}  # a warm start reads another run of the same rule


def depths(names: set[str], edges: Edges) -> dict[str, int]:
    """The column of each rule: after all that it reads from; one that reads nothing just before what reads it."""
    before, after = defaultdict(set), defaultdict(set)
    for first, second in edges:
        before[second].add(first)
        after[first].add(second)
    found: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in found:
            found[name] = 1 + max(map(depth, before[name]), default=-1)
        return found[name]

    for name in sorted(names):
        depth(name)
    for name in names:
        if not before[name] and after[name]:
            found[name] = min(found[other] for other in after[name]) - 1
    return found


def reduced(edges: Edges) -> Edges:
    """Without the edges that a longer path implies."""
    after = defaultdict(set)
    for first, second in edges:
        after[first].add(second)

    def reaches(start: str, end: str) -> bool:
        return end in after[start] or any(reaches(other, end) for other in after[start])

    return {(a, b) for a, b in edges if not any(reaches(other, b) for other in after[a] - {b})}


def place(lanes: dict[str, str], columns: dict[str, int], edges: Edges) -> tuple[dict[str, tuple[float, float]], float]:
    """The left upper corner of each rule's box, and the height of the picture.

    Each kind has a lane across the picture; the rules that serve all kinds are spread over its whole height.
    """
    cells = defaultdict(list)
    for name in sorted(lanes):
        cells[lanes[name] if lanes[name] in KINDS else "", columns[name]].append(name)
    places, top = {}, float(MARGIN)
    for kind in KINDS:
        rows = max((len(cell) for (lane, _), cell in cells.items() if lane == kind), default=0)
        for (lane, column), cell in cells.items():
            for row, name in enumerate(cell if lane == kind else ()):
                places[name] = (MARGIN + column * COLUMN, top + (row + (rows - len(cell)) / 2) * ROW)
        top += rows * ROW + MARGIN
    for (lane, column), cell in sorted(cells.items()):
        if not lane:
            cell.sort(key=lambda name: _mean_height(name, places, edges))
            for row, name in enumerate(cell):
                places[name] = (MARGIN + column * COLUMN, (row + 0.5) / len(cell) * top - HEIGHT / 2)
    return places, top


def _mean_height(name: str, places: dict[str, tuple[float, float]], edges: Edges) -> float:
    heights = [places[other][1] for edge in edges if name in edge for other in edge if other in places]
    return sum(heights) / len(heights) if heights else 0


def draw(lanes: dict[str, str], edges: Edges) -> str:
    """The SVG."""
    columns, edges = depths(set(lanes), edges), reduced(edges)
    last = max(columns[name] for name, lane in lanes.items() if lane in KINDS)
    late = max(0, last + 1 - min(columns[name] for name, lane in lanes.items() if lane == "report"))
    columns = {name: columns[name] + late * (lanes[name] == "report") for name in columns}
    places, height = place(lanes, columns, edges)
    width = 2 * MARGIN + max(columns.values()) * COLUMN + WIDTH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" viewBox="0 0 {width} {height:g}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height:g}" fill="white"/>',
    ]
    for first, second in sorted(edges):
        (x, y), (end, goal) = places[first], places[second]
        x, y, goal, bend = x + WIDTH, y + HEIGHT / 2, goal + HEIGHT / 2, (end - x - WIDTH) / 2
        curve = f"M{x:g} {y:g}C{x + bend:g} {y:g} {end - bend:g} {goal:g} {end:g} {goal:g}"
        parts.append(f'<path d="{curve}" fill="none" stroke="#888"/>')
    for name, (x, y) in sorted(places.items()):
        colour = COLOURS.get(lanes[name], OTHER_COLOUR)
        box = f'x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
        parts.append(f'<rect {box} fill="{colour}" stroke="#666"/>')
        lines = textwrap.wrap(name.replace("_", " "), LINE)
        for row, line in enumerate(lines):
            height = y + HEIGHT / 2 + 4 + (row - (len(lines) - 1) / 2) * 14
            parts.append(f'<text x="{x + WIDTH / 2:g}" y="{height:g}" text-anchor="middle">{escape(line)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=Path, default=Path("rules"), help="the folder of the rules files")
    parser.add_argument("--output", type=Path, required=True, help="the SVG to write")
    args = parser.parse_args()
    names, edges = read_graph(sys.stdin.read())
    lanes = {name: lane for name, lane in read_lanes(args.rules).items() if name in names}
    write_text(args.output, draw(lanes, without(edges, names - lanes.keys())))


if __name__ == "__main__":
    run_script(main)
