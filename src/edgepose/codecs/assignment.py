"""Minimum-cost assignment without scipy: Munkres' algorithm on bit masks (Munkres, J. SIAM 5(1), 1957)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(cost: NDArray) -> list[int]:
    """Column of each row in a cheapest assignment of `cost` (n, m), n <= m, finite.

    Equal totals are decided as the `munkres` package does, by its order of search, because the reference grouping of
    associative embeddings rests on it: costs rounded to hundreds tie often. Raises `ValueError` for n > m.
    """
    n, m = cost.shape
    if n > m:
        raise ValueError(f"more rows than columns: {cost.shape}")
    if n == 0:
        return []
    first = cost.argmin(1).tolist()
    if len(set(first)) == n:
        return first  # nobody competes
    square = np.zeros((m, m))
    square[:n] = cost - cost.min(1, keepdims=True)
    return _munkres(square)[:n]


def _bits(mask: NDArray) -> list[int]:
    """Each row of a boolean matrix as an integer, column c in bit c."""
    if mask.shape[1] < 63:
        return (mask @ (1 << np.arange(mask.shape[1]))).tolist()
    return [int.from_bytes(row.tobytes(), "little") for row in np.packbits(mask, axis=1, bitorder="little")]


def _munkres(cost: NDArray) -> list[int]:
    """Column of each row; `cost` (n, n) has a zero in every row and is consumed."""
    n = len(cost)
    zeros, every = _bits(cost == 0), (1 << n) - 1
    in_row, in_col, free = [-1] * n, [-1] * n, every  # stars
    for row in range(n):
        if found := zeros[row] & free:
            col = (found & -found).bit_length() - 1
            in_row[row], in_col[col], free = col, row, free & ~(1 << col)
    while -1 in in_row:
        open_cols, covered = sum(1 << c for c in range(n) if in_col[c] < 0), [False] * n
        prime = [-1] * n
        row = col = 0
        while True:
            for i in (*range(row, n), *range(row)):
                if not covered[i] and (found := zeros[i] & open_cols):
                    row = i
                    break
            else:  # no zero left uncovered: lower the cheapest uncovered entries to zero
                rows = np.array(covered)
                cols = np.array([bool(open_cols >> c & 1) for c in range(n)])
                least = cost[np.ix_(~rows, cols)].min()
                cost[rows] += least
                cost[:, cols] -= least
                zeros, row, col = _bits(cost == 0), 0, 0
                continue
            before = found & ((1 << col) - 1)  # the last zero of the row, counting on from `col`
            prime[row] = (before or found).bit_length() - 1
            if (col := in_row[row]) < 0:
                break
            covered[row] = True
            open_cols = (open_cols | 1 << col) & every
        while row >= 0:  # from the last prime, swap stars along the alternating path
            col = prime[row]
            in_row[row], in_col[col], row = col, row, in_col[col]
    return in_row
