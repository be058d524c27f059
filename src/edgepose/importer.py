"""Import: a released checkpoint of any network here becomes a model folder. Needs torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.models._identify import identify
from edgepose.weights import save


def import_checkpoint(
    file: str | Path, out: str | Path, input_size: tuple[int, int] | None = None, decode: str | None = None
) -> Card:
    """Turn the checkpoint `file` into the model folder `out` and return its card; `identify` says what is understood.

    decode: how peaks are read ("shift", "dark" or "udp"), for crops; by default as the network was published. The
    weights do not tell: those trained with UDP (MMPose's `*_udp`) or for DARK look like plain ones.
    `ValueError` says in one line what is wrong with the file, the size, the folder or the way of reading.
    """
    card, net = identify(file, input_size)
    if decode is not None:
        if not isinstance(card.codec, TopDown):
            raise ValueError(
                f"decode {decode!r} is for networks that look at one person at a time; {card.model} does not"
            )
        card = replace(card, codec=replace(card.codec, decode_with=decode))
    try:
        return save(out, card, net)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from error
