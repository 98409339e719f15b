"""A drawing in SVG: enough for curves and bars where matplotlib is not installed."""


class Drawing:
    """Shapes on a white page, written out as SVG.

    Parameters
    ----------
    width, height : float
        Size in pixels; the origin is the upper left corner.
    """

    def __init__(self, width, height):
        self.width, self.height = width, height
        self._shapes = [f'<rect width="{width:g}" height="{height:g}" fill="white"/>']

    def rect(self, x, y, width, height, fill="none", stroke="none"):
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{fill}" stroke="{stroke}"/>'
        )

    def lines(self, points, color="black", width=1.0):
        """A run of straight lines through `points`, pairs (x, y)."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'
        )

    def polygon(self, points, fill):
        """An area with corners `points`, pairs (x, y)."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(f'<polygon points="{path}" fill="{fill}"/>')

    def text(self, x, y, content, anchor="start", size=12, color="black"):
        """`content` with its baseline at y; anchor is start, middle or end."""
        from html import escape

        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{color}" font-family="sans-serif">{escape(str(content))}</text>'
        )

    def _repr_svg_(self):
        """The drawing as text, which notebooks show."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" '
            f'height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}">'
        )
        return "\n".join([head, *self._shapes, "</svg>\n"])

    def save(self, path):
        """Write the drawing to the file `path`."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self._repr_svg_())


def ticks(low, high, count=5):
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high]."""
    import math

    span = high - low or abs(high) or 1.0
    raw = span / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(s * unit for s in (1, 2, 5, 10) if s * unit >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]
