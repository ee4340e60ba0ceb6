"""A configuration as JSON holds it; what older versions wrote is read as it was meant."""

import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import get_args, get_origin

from wmlib.config import Config

OTHER = "a configuration of another version"


def to_dict(config: Config) -> dict:
    """The configuration as plain nested dicts, as JSON holds it."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(values: dict) -> Config:
    """The inverse of `to_dict`. What a run of an older version lacks means what it meant then.

    ValueError names an entry that is unknown, one that is missing and has no default, or a
    contradiction.
    """
    return _build(Config, _upgraded(values) if isinstance(values, dict) else values)


def _upgraded(values: dict) -> dict:
    """The entries of an older configuration under today's names."""
    values = {"task": "car_racing"} | values  # there was one game
    evolve, collect, mdnrnn = (values.get(name) for name in ("evolve", "collect", "mdnrnn"))
    if values.get("mdnrnn", ...) is None and "controller" not in values:
        values["controller"] = {"reads": "z"}
    if isinstance(collect, dict) and "first_round" in collect:
        values["after"] = collect["first_round"]
        values["collect"] = {name: collect[name] for name in collect if name != "first_round"}
    if isinstance(mdnrnn, dict) and isinstance(mdnrnn.get("outcome"), bool):
        values["mdnrnn"] = mdnrnn | {"outcome": {} if mdnrnn["outcome"] else None}
    if isinstance(evolve, dict):
        if evolve.get("sigma_end") and "decay" not in evolve:
            evolve = evolve | {"decay": evolve.get("generations")}  # it decayed to the last one
        if "temperature" in evolve:
            evolve = evolve | {"dream": {"temperature": evolve["temperature"]}}
        values["evolve"] = {name: evolve[name] for name in evolve if name != "temperature"}
    return values


def _build(cls, values: dict):
    if not isinstance(values, dict):
        raise ValueError(f"{OTHER}: {cls.__name__} is no object: {values!r}")
    kinds = {field.name: field.type for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    odd = {"unknown": set(values) - set(kinds), "missing": needed - set(values)}
    for what, names in odd.items():
        if names:
            listed = ", ".join(sorted(names))
            raise ValueError(f"{OTHER}: {cls.__name__} has {what} entries: {listed}")
    try:
        return cls(**{name: _entry(kinds[name], value) for name, value in values.items()})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{OTHER}: {cls.__name__} has an odd entry ({error})") from None


def _entry(kind, value):
    """A value of JSON as the type that a field declares."""
    if get_origin(kind) is tuple and isinstance(value, list):
        inner = get_args(kind)[0]
        return tuple(_entry(inner, item) for item in value)
    kinds = get_args(kind) or (kind,)  # `MDNRNNConfig | None` is two
    if not is_dataclass(kinds[0]) or (value is None and len(kinds) == 2):
        return value
    return _build(kinds[0], value)


def differences(one: Config, other: Config) -> list[str]:
    """The entries in which two configurations differ, as `vae.steps: 500 != 4000`."""
    a = _flat(to_dict(one))
    b = _flat(to_dict(other))
    return [
        f"{name}: {a.get(name)} != {b.get(name)}" for name in a | b if a.get(name) != b.get(name)
    ]


def _flat(values: dict, prefix: str = "") -> dict:
    flat: dict = {}
    for name, value in values.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return flat
