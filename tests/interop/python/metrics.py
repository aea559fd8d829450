import base64
import hashlib
import random
from pathlib import Path


class Metrics:
    """A counter, and as much ballast as asked for; or a file's text instead."""

    def __init__(self, app, size, file):
        self.app = app
        self.file = file
        self.events = 0
        self.ballast = ballast(app, size) if size else ""

    def increment(self):
        self.events += 1
        return self.events

    def text(self):
        if self.file:
            return Path(self.file).read_text()
        return (
            "# HELP interop_events_total Grows with each inc\n"
            "# TYPE interop_events_total counter\n"
            f'interop_events_total{{app="{self.app}"}} {self.events}\n'
        ) + self.ballast

    def describe(self):
        data = self.text().encode()
        return f"bytes={len(data)} sha256={hashlib.sha256(data).hexdigest()}"


def ballast(app, size):
    """At least that many bytes, in label values of random base64 that snappy cannot make smaller."""
    source = random.Random(1)
    lines = ["# HELP interop_bulk Ballast\n# TYPE interop_bulk gauge\n"]
    for row in range(size // 1000 + 1):
        value = base64.b64encode(source.randbytes(750)).decode()
        lines.append(f'interop_bulk{{app="{app}",row="{row}",ballast="{value}"}} 1\n')
    return "".join(lines)
