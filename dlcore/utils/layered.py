"""Boxes of a directed graph in rows, each below those it comes from.

Rows are the longest ways from a start. An edge that passes rows gets a place in each of them, so
that lines go around boxes. Within a row boxes are ordered by the mean place of their neighbours
(Sugiyama et al. 1981), then moved as near to below them as the gaps allow, in least squares.
"""

import itertools

_SWEEPS = 8
_GAP, _ROW_GAP = 24.0, 36.0  # pixels between boxes


class Box:
    """Something to be placed: its size, who it comes from, and, once placed, its centre.

    Parameters
    ----------
    width, height : float
    sources : list of Box
    content : object
        Not looked at.
    """

    def __init__(self, width, height, sources=(), content=None):
        self.width, self.height, self.content = width, height, content
        self.sources = list(dict.fromkeys(sources))
        self.row = self.x = self.y = None


def place(boxes):
    """Set `x` and `y` of boxes, given in an order in which sources come first.

    Returns
    -------
    width, height : float
        Of the whole picture.
    edges : list of list of (x, y)
        The corners of every edge, from the source to the box.
    """
    _set_rows(boxes)
    rows = [[] for _ in range(1 + max(b.row for b in boxes))]
    for b in boxes:
        rows[b.row].append(b)
    ways = [_way(source, b, rows) for b in boxes for source in b.sources]
    above, below = _neighbours(ways)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _order(row, rows, above if down else below)
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            _spread(row, [_mean(near.get(b), b.x) for b in row])
    return (*_shift(rows), [_corners(way) for way in ways])


def _set_rows(boxes):
    for b in boxes:
        b.row = 1 + max((s.row for s in b.sources), default=-1)
    takers = {}
    for b in boxes:
        for s in b.sources:
            takers.setdefault(s, []).append(b.row)
    for b in boxes:  # a start that is needed late stands right above its first taker
        if not b.sources and b in takers:
            b.row = min(takers[b]) - 1


def _way(source, target, rows):
    """The source, a place of no size in every row between, and the target."""
    way = [source]
    for row in rows[source.row + 1 : target.row]:
        between = Box(0.0, 0.0)
        row.append(between)
        way.append(between)
    return [*way, target]


def _neighbours(ways):
    above, below = {}, {}
    for way in ways:
        for a, b in itertools.pairwise(way):
            above.setdefault(b, []).append(a)
            below.setdefault(a, []).append(b)
    return above, below


def _order(row, rows, near):
    places = {b: i for other in rows for i, b in enumerate(other)}
    means = {
        b: sum(places[n] for n in near[b]) / len(near[b]) if near.get(b) else places[b] for b in row
    }
    row.sort(key=means.get)


def _mean(boxes, otherwise):
    return sum(b.x for b in boxes) / len(boxes) if boxes else otherwise


def _spread(row, wanted):
    """Centres as near to those wanted as gaps and order allow.

    With the least distances taken off, centres must not fall from left to right: isotonic
    regression, by pooling neighbours that do (Barlow et al. 1972).
    """
    offsets, at = [], 0.0
    for i, b in enumerate(row):
        at += 0 if i == 0 else (row[i - 1].width + b.width) / 2 + _GAP
        offsets.append(at)
    pools = []  # [sum, count]
    for want, offset in zip(wanted, offsets, strict=True):
        pools.append([want - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    free = [total / count for total, count in pools for _ in range(count)]
    for b, value, offset in zip(row, free, offsets, strict=True):
        b.x = value + offset


def _shift(rows):
    """Put the picture at the origin, set y; its size."""
    left = min(b.x - b.width / 2 for row in rows for b in row) - _GAP
    y = _GAP
    for row in rows:
        height = max(b.height for b in row)
        for b in row:
            b.x -= left
            b.y = y + height / 2
            if not b.width:  # lines go straight through a row
                b.height = height
        y += height + _ROW_GAP
    width = max(b.x + b.width / 2 for row in rows for b in row) + _GAP
    return width, y - _ROW_GAP + _GAP


def _corners(way):
    first, last = way[0], way[-1]
    middle = [(b.x, b.y + side * b.height / 2) for b in way[1:-1] for side in (-1, 1)]
    start, end = (first.x, first.y + first.height / 2), (last.x, last.y - last.height / 2)
    return [start, *middle, end]
