"""Checks JSON and TOML documents against type hints, so that a damaged file is an error message, not a traceback."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from edgecls.messages.lists import short, some

Record = TypeVar("Record")
SHOWN_CHARACTERS = 80


def build(record: type[Record], raw: Any, where: str) -> Record:
    """Return a dataclass of type `record` with the values in `raw`; nested records and tuples are converted too.

    Raises:
        ValueError: a value is missing, unknown or of a wrong type; the text names `where` and the value.
    """
    check(raw, record, where)
    built: Record = _convert(raw, record)
    return built


def _convert(value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and value is not None:
        (hint,) = set(typing.get_args(hint)) - {type(None)}
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _convert(each, hints[name]) for name, each in value.items()})  # type: ignore[operator]
    if typing.get_origin(hint) is tuple:
        return tuple(_convert(each, typing.get_args(hint)[0]) for each in value)
    return value


def check(value: Any, hint: Any, where: str) -> None:
    """Raise ValueError that names the first value in `value` that is missing or not of type `hint`.

    Args:
        value: as json or tomllib returns it.
        hint: a dataclass, a TypedDict, Literal, `int | None`, `tuple[str, ...]`, `dict[str, list[int]]` and the like.
            An int is accepted as a float but a bool is not; a list is accepted as a tuple.
        where: name of the value in the error.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        _check_union(value, arguments, where)
    elif dataclasses.is_dataclass(hint) or typing.is_typeddict(hint):
        _expect(isinstance(value, Mapping), value, "an object", where)
        _check_keys(value, hint, where)
    elif origin is Literal:
        _expect(any(value == each and type(value) is type(each) for each in arguments), value, str(arguments), where)
    elif origin in (list, tuple, dict):
        _check_parts(value, origin, arguments, where)
    elif hint is not Any:
        accepted = (int, float) if hint is float else hint
        _expect(
            isinstance(value, accepted) and (hint is bool or not isinstance(value, bool)), value, _name(hint), where
        )


def _check_union(value: Any, choices: tuple[Any, ...], where: str) -> None:
    if value is None and type(None) in choices:
        return
    # All unions here are of one type and None.
    for choice in choices:
        if choice is not type(None):
            check(value, choice, where)


def _check_parts(value: Any, origin: type, arguments: tuple[Any, ...], where: str) -> None:
    if origin is dict:
        _expect(isinstance(value, dict), value, "an object", where)
        for key, each in value.items():
            check(each, arguments[1], f"{where}.{key}")
        return
    _expect(isinstance(value, list | tuple), value, "a list", where)
    fixed = 0 if origin is list or arguments[-1] is Ellipsis else len(arguments)
    _expect(not fixed or len(value) == fixed, value, f"a list of {fixed}", where)
    for i, each in enumerate(value):
        check(each, arguments[0], f"{where}[{i}]")


def _check_keys(value: Mapping[str, Any], hint: Any, where: str) -> None:
    hints = typing.get_type_hints(hint)
    if typing.is_typeddict(hint):
        required = hint.__required_keys__
    else:
        required = {
            field.name
            for field in dataclasses.fields(hint)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
    if missing := required - set(value):
        raise ValueError(f"{where} lacks {some(sorted(missing))}")
    # A TypedDict lists the values that are read, a dataclass all values that are allowed.
    if dataclasses.is_dataclass(hint) and (unknown := set(value) - set(hints)):
        raise ValueError(f"{where} has unknown values: {some(short(repr(name)) for name in sorted(map(str, unknown)))}")
    for name in hints.keys() & set(value):
        check(value[name], hints[name], f"{where}.{name}")


def _expect(right: bool, value: Any, expected: str, where: str) -> None:
    if not right:
        raise ValueError(f"{where} must be {expected}; received {repr(value)[:SHOWN_CHARACTERS]}")


def _name(hint: Any) -> str:
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}.get(
        hint, str(hint)
    )


def list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the settings of `now` that had another value before, with both values; "" if there are none."""
    changed = [name for name in now if before.get(name) != now[name]]

    def show(value: Any) -> str:
        return "nothing" if value in ("", [], ()) else short(value)

    return some(f"{name} ({show(before.get(name))} then, {show(now[name])} now)" for name in changed)
