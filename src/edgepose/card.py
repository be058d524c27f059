"""Card: says which network and codec belong together; travels with every saved model as `card.json`."""

from __future__ import annotations

import importlib
import json
import os
import types
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from edgepose.codecs import Codec
from edgepose.folder import unknown
from edgepose.skeleton import SKELETONS, Skeleton

FORMAT = 1  # of card.json; a card that older code would misread raises it
CODECS = {"bottomup": "BottomUp", "topdown": "TopDown"}  # module of edgepose.codecs -> its class


@dataclass(frozen=True)
class Card:
    """What a saved model is.

    model: network, as a file of `edgepose.models` with an optional variant ("litepose-xs"). arch: the fields of that
    file's `Arch`, as JSON values. codec: reads pictures and writes poses. weights: runtime name -> file in the folder.
    params: learnable numbers. gmacs: multiply-adds at the codec's input size / 1e9; gmacs_paper: the same in the
    convention of the LitePose paper (transposed convolutions at output positions, BatchNorm and ReLU counted).
    data, licence, command, hours, notes: how the weights were made. scores: name -> measured figure.
    detector: name of the model that finds the people, for a network that looks at one person at a time.
    gops: of a binary network, whose gmacs are its real multiply-adds alone: those and 1/64 of its binary ones, / 1e9.
    """

    model: str
    arch: dict[str, Any]
    codec: Codec
    weights: dict[str, str] = field(default_factory=dict)
    params: int | None = None
    gmacs: float | None = None
    gmacs_paper: float | None = None
    data: str = ""
    licence: str = ""
    scores: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    command: str = ""
    hours: str = ""
    detector: str = ""
    gops: float | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        object.__setattr__(self, "arch", json.loads(json.dumps(self.arch)))  # tuples become lists, as in the file

    @property
    def family(self) -> str:
        """File of `edgepose.models` that holds the network: "litepose" for "litepose-xs"."""
        return self.model.split("-")[0]

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON values; `from_dict` reads it back."""
        kind = {name: kind for kind, name in CODECS.items()}[type(self.codec).__name__]
        return {**_plain(self), "codec": {"kind": kind, **_plain(self.codec)}}

    @classmethod
    def from_dict(cls, values: Any) -> Card:
        """Build from JSON values; `ValueError` says which field is missing, unknown or of the wrong type."""
        if not isinstance(values, dict):
            raise ValueError(f"a card is a JSON object, not {type(values).__name__}")
        number = values.get("format")
        if isinstance(number, int) and number > FORMAT:
            raise ValueError(
                f"format {number} is newer than this edgepose understands (up to {FORMAT}): pip install -U edgepose"
            )
        return typed(cls, values, "")

    @classmethod
    def read(cls, folder: str | Path) -> Card:
        """The card of a model folder; `ValueError` names the file and what is wrong with it."""
        path = Path(folder) / "card.json"
        try:
            return cls.from_dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise ValueError(f"{folder} is not a model folder: it has no card.json") from None
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error
        except RecursionError:
            raise ValueError(f"{path} is not a model card: nested too deeply") from None
        except (ValueError, TypeError) as error:  # broken JSON and broken UTF-8 are ValueErrors too
            raise ValueError(f"{path} is not a usable model card: {error}") from error

    def write(self, folder: str | Path) -> Path:
        """Write `card.json` into `folder` (made if need be), whole or not at all; returns its path."""
        path = Path(folder) / "card.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".card.json.{os.getpid()}")
        part.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        os.replace(part, path)
        return path


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values."""
    plain = {f.name: getattr(value, f.name) for f in fields(value)}
    for name, v in plain.items():
        plain[name] = v.to_dict() if isinstance(v, Skeleton) else list(v) if isinstance(v, tuple) else v
    return plain


def typed(cls: Any, values: dict[str, Any], where: str) -> Any:
    """The dataclass `cls` from JSON values, each checked against the type of its field.

    `ValueError` names the field, `where` being the path to it. Lists become tuples where the field says tuple.
    """
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    for name in values:
        if name not in known:
            raise ValueError(unknown("field", where + name, known))
    for f in fields(cls):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"field {where + f.name!r} is missing")
    return cls(**{name: _convert(value, hints[name], where + name) for name, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Codec:
        return _codec(value, where)
    if is_dataclass(hint) and hint is not Skeleton and isinstance(value, dict):
        return typed(hint, value, where + ".")
    if hint is Skeleton:
        return SKELETONS.get(value) or Skeleton.from_dict({}) if isinstance(value, str) else Skeleton.from_dict(value)
    if origin in (Union, types.UnionType):
        for option in args:
            try:
                return _convert(value, option, where)
            except ValueError:
                continue
    elif origin is Literal and value in args:
        return value
    elif origin is tuple and isinstance(value, list):
        kinds = [args[0]] * len(value) if args[-1] is ... else list(args)
        if len(kinds) == len(value):
            return tuple(_convert(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))
    elif origin is dict and isinstance(value, dict):
        return {key: _convert(v, args[1], f"{where}.{key}") for key, v in value.items()}
    elif hint is Any or (hint is type(None) and value is None):
        return value
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, bool, str) and type(value) is hint:
        return value
    shown = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ValueError(f"field {where!r} must be {shown}, got {value!r}")


def _codec(value: Any, where: str) -> Codec:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise ValueError(f"field {where!r} must be an object with a `kind`")
    kind = value["kind"]
    if kind not in CODECS:
        raise ValueError(unknown("codec", kind, list(CODECS)))
    cls = getattr(importlib.import_module(f"edgepose.codecs.{kind}"), CODECS[kind])
    return typed(cls, {k: v for k, v in value.items() if k != "kind"}, f"{where}.")
