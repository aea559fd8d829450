"""Checks dashboards against Grafana's own model of them, and that panels lie side by side.

    dashboards.py FILE...
"""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

# Grafana writes and reads these fields of annotations; its model does not have them.
UNMODELLED = {"builtIn", "titleFormat", "textFormat"}


def lost(before, after, path=""):
    """What of a value is not there, or not the same, after it went through the model."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}.{key}")
            elif key not in UNMODELLED:
                yield f"{path}.{key}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after)):
            yield from lost(*pair, f"{path}[{number}]")
    elif before != after:
        yield path


def check(dashboard):
    modelled = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    unknown = list(lost(dashboard, modelled))
    assert not unknown, unknown
    panels = dashboard["panels"]
    hidden = [row["panels"] for row in panels if row.get("collapsed")]
    ids = [panel["id"] for panel in sum(hidden, panels)]
    assert len(set(ids)) == len(ids), "two panels of one id"
    for shown in [panels, *hidden]:
        lie_side_by_side(shown)
    return len(ids)


def lie_side_by_side(panels):
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24, "a panel is outside of the grid"


def main(files):
    plugins.register_default_plugins()
    for file in files:
        dashboard = json.loads(pathlib.Path(file).read_text())
        print(f"{file}: {check(dashboard)} panels and rows")


if __name__ == "__main__":
    main(sys.argv[1:])
