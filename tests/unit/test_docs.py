"""The generated parts of the documentation: every key of the configuration, and the picture of the workflow."""

import importlib.util
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from draw_workflow import HEIGHT, WIDTH, depths, draw, place, read_graph, read_lanes, reduced, without
from frugal.errors import FrugalError

SCHEMA = json.loads(Path("config/schema.json").read_text())
DOT = """digraph snakemake_dag {
    0[label = "all", color = "0.3 0.6 0.85", style="rounded"];
    1[label = "make_tables", style="rounded"];
    2[label = "train_preference", style="rounded"];
    3[label = "fetch", style="rounded"];
    4[label = "evaluate_preference", style="rounded"];
    1 -> 0
    4 -> 1
    2 -> 1
    2 -> 4
    2 -> 2
    3 -> 2
    3 -> 4
}
"""


@pytest.fixture(scope="module")
def page() -> str:
    spec = importlib.util.spec_from_file_location("reference_pages", "docs/reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.configuration(SCHEMA)


def test_every_key_has_a_line(page):
    models = [SCHEMA, *(model for name, model in SCHEMA["$defs"].items() if not name.endswith("Changes"))]
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    for model in models:
        for key, field in model.get("properties", {}).items():
            assert key in rows
            meaning = " ".join(field.get("description", "").split()).replace("<", "&lt;").replace("|", "\\|")
            assert meaning in page
    assert len(rows) == sum(len(model.get("properties", {})) for model in models)


def test_every_row_has_four_cells(page):
    for line in page.splitlines():
        if line.startswith("| `"):
            assert len(re.split(r"(?<!\\)\|", line)) == 6, line


def test_links_lead_to_a_heading(page):
    headings = re.findall(r"^## (.*)", page, re.MULTILINE)
    anchors = [heading.lower().replace(" ", "-").replace("(", "").replace(")", "") for heading in headings]
    assert len(set(anchors)) == len(anchors) > 20
    links = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert links
    assert links <= set(anchors)


def test_the_graph_is_read_and_reduced():
    names, edges = read_graph(DOT)
    assert names == {"all", "make_tables", "train_preference", "fetch", "evaluate_preference"}
    edges = without(edges, {"all"})
    columns = depths(names - {"all"}, edges)
    assert columns == {"fetch": 0, "train_preference": 1, "evaluate_preference": 2, "make_tables": 3}
    assert reduced(edges) == {
        ("fetch", "train_preference"),
        ("train_preference", "evaluate_preference"),
        ("evaluate_preference", "make_tables"),
    }


def test_a_rule_without_output_is_bridged():
    edges = without({("a", "all"), ("b", "all"), ("all", "c")}, {"all"})
    assert edges == {("a", "c"), ("b", "c")}


def test_what_is_no_graph_is_refused():
    with pytest.raises(FrugalError, match="the standard input has no graph"):
        read_graph("Building DAG of jobs...")


def test_boxes_do_not_overlap():
    lanes = {name: lane for name, lane in read_lanes(Path("rules")).items() if lane != "search"}  # not in the picture
    columns = {name: index % 4 for index, name in enumerate(sorted(lanes))}
    for kind in ("data", "report"):
        columns |= {name: 5 + (kind == "report") for name, lane in lanes.items() if lane == kind}
    places, height = place(lanes, columns, set())
    boxes = list(places.values())
    assert len(boxes) == len(lanes)
    for index, (x, y) in enumerate(boxes):
        assert 0 <= y <= height - HEIGHT
        assert not [1 for other, high in boxes[:index] if abs(other - x) < WIDTH and abs(high - y) < HEIGHT]


def test_the_picture_is_well_formed():
    lanes = {"fetch": "data", "train_preference": "preference", "evaluate_preference": "preference"}
    _, edges = read_graph(DOT)
    tree = ElementTree.fromstring(draw(lanes | {"make_tables": "report"}, without(edges, {"all"})))
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert "fetch" in texts
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}path"))) == 3


def test_the_picture_in_the_documentation_has_every_rule():
    """`make workflow-picture` draws it anew. The smoke study has no filled rating sheets to read, and no search."""
    tree = ElementTree.parse("docs/workflow.svg")
    words = " ".join(element.text for element in tree.iter("{http://www.w3.org/2000/svg}text"))
    for rule, lane in read_lanes(Path("rules")).items():
        if rule == "read_ratings" or lane == "search":
            continue
        assert rule.replace("_", " ") in words, rule
