"""Drawing by hand: SVG that reads well on light and dark pages. Knows shapes and scales, nothing of what is measured."""

import math
from xml.sax.saxutils import escape

# Colours as classes: a page that is dark gets the second one. Who looks at Postern's line finds it also by its width.
COLOURS = {
    "postern": ("#0969da", "#58a6ff"),
    "haproxy": ("#bc4c00", "#f0883e"),
    "nginx": ("#1a7f37", "#3fb950"),
    "envoy": ("#8250df", "#bc8cff"),
    "relay": ("#6e7781", "#8b949e"),
}
INK, FAINT = ("#1f2328", "#e6edf3"), ("#d0d7de", "#30363d")


class Canvas:
    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [f"<title>{escape(title)}</title>"]
        self.text(16, 26, title, "title")

    def text(self, x, y, words, style="", anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def rectangle(self, x, y, width, height, style):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" rx="2" class="{style}"/>')

    def line(self, points, style):
        self.parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{style}"/>')

    def dot(self, x, y, style):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{style}"/>')

    def legend(self, x, y, entries):
        """Entries are (class, words), beside each other."""
        for style, words in entries:
            self.rectangle(x, y - 10, 12, 12, f"fill-{style}")
            self.text(x + 17, y, words, "small")
            x += 30 + 7 * len(words)

    def write(self, path):
        rule = lambda which: "".join(
            f".fill-{name}{{fill:{pair[which]}}}.line-{name}{{stroke:{pair[which]}}}" for name, pair in COLOURS.items()
        ) + f"text{{fill:{INK[which]}}}.grid{{stroke:{FAINT[which]}}}"
        style = (
            "text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}.title{font-size:16px;font-weight:600}.head{font-weight:600}.small{font-size:12px}"
            "polyline{fill:none;stroke-width:1.8}polyline.line-postern{stroke-width:3}polyline.grid{stroke-width:1}"
            f"{rule(0)}@media(prefers-color-scheme:dark){{{rule(1)}}}"
        )
        body = "\n".join(self.parts)
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" role="img">\n<style>{style}</style>\n{body}\n</svg>\n')


def bars(title, groups, names, path):
    """Horizontal bars in groups: (heading, [(class, value, words)]). Each group has a scale of its own."""
    height = 62 + sum(34 + 19 * len(entries) for _, entries in groups)
    canvas = Canvas(760, height, title)
    present = {style for _, entries in groups for style, _, _ in entries}
    canvas.legend(16, 48, [(style, words) for style, words in names.items() if style in present])
    y = 66
    for heading, entries in groups:
        y += 18
        canvas.text(16, y, heading, "head")
        most = max(value for _, value, _ in entries) or 1
        for style, value, words in entries:
            y += 19
            length = 560 * value / most
            canvas.rectangle(16, y - 12, length, 14, f"fill-{style}")
            canvas.text(24 + length, y, words, "small")
        y += 16
    canvas.write(path)


def lines(title, panels, names, path, x_words, y_words):
    """Panels, two in a row: (heading, x labels, {class: values}). Both axes as they come: x by label, y logarithmic."""
    width, height, left = 400, 330, 60
    rows = (len(panels) + 1) // 2
    canvas = Canvas(2 * width, 64 + rows * height, title)
    present = {style for _, _, series in panels for style in series}
    canvas.legend(16, 50, [(style, words) for style, words in names.items() if style in present])
    for number, (heading, labels, series) in enumerate(panels):
        origin, above = number % 2 * width + left, 64 + number // 2 * height
        values = [value for one in series.values() for value in one if value]
        low, high = math.floor(math.log10(min(values)) * 3) / 3, math.ceil(math.log10(max(values)) * 3) / 3
        high = max(high, low + 1 / 3)
        top, bottom, right = above + 32, above + height - 58, width - left - 36
        place = lambda value: bottom - (math.log10(value) - low) / (high - low) * (bottom - top)
        across = lambda index: origin + right * index / max(1, len(labels) - 1)
        canvas.text(origin, above + 14, heading, "head")
        for value in ticks(low, high):
            canvas.line([(origin, place(value)), (origin + right, place(value))], "grid")
            canvas.text(origin - 6, place(value) + 4, f"{value:g}", "small", "end")
        for index, label in enumerate(labels):
            canvas.text(across(index), bottom + 18, label, "small", "middle")
        canvas.text(origin + right / 2, bottom + 36, x_words, "small", "middle")
        canvas.text(origin - 44, above + 26, y_words, "small")
        for style, one in series.items():
            points = [(across(index), place(value)) for index, value in enumerate(one) if value]
            canvas.line(points, f"line-{style}")
            for x, y in points:
                canvas.dot(x, y, f"fill-{style}")
    canvas.write(path)


def ticks(low, high):
    """1, 2 and 5 of each power of ten within the range; fewer where that would be crowded."""
    steps = (1, 2, 5) if high - low < 3 else (1,)
    exact = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return [value for value in exact if low - 1e-9 <= math.log10(value) <= high + 1e-9]
