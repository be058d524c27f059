"""Import: a released checkpoint of any network here becomes a model folder. Needs torch."""

from __future__ import annotations

from pathlib import Path

from edgepose.card import Card
from edgepose.models._identify import identify
from edgepose.weights import save


def import_checkpoint(file: str | Path, out: str | Path, input_size: tuple[int, int] | None = None) -> Card:
    """Turn the checkpoint `file` into the model folder `out` and return its card; `identify` says what is understood.

    `ValueError` says in one line what is wrong with the file, the size or the folder.
    """
    card, net = identify(file, input_size)
    try:
        return save(out, card, net)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from error
