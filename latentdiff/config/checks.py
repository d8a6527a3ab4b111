"""The check of a setting's value against its declared type and range, alike for Python, YAML and the shell."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, cast, get_args, get_origin, get_type_hints

from latentdiff.config.ranges import HubText, Length, NameText, NoneMeans, PathText, Range
from latentdiff.errors import ConfigError

# The origins of ``int | None`` and of ``int | Literal[...]`` differ before Python 3.14.
UNIONS = (UnionType, get_origin(int | Literal["name"]))
# What a message shows of a value.
LONGEST_SHOWN = 80
# The ID of a data set on the Hub, its configuration and its revision. No part begins with a dot: it is no path.
HUB_NAME = re.compile(r"hf:(\w[\w.-]*(?:/\w[\w.-]*)?)(?:/(\w[\w.-]*))?(?:@(\w[\w./-]*))?")


class _Refused(Exception):
    """A value that an annotation does not allow; its text is the reason, where the annotation does not say it."""


def checked(value: Any, hint: Any, name: str, shell: bool = False) -> Any:
    """Return ``value`` as the annotation ``hint`` wants it: 3.0 as 3, a list as a tuple, ``~`` expanded.

    Args:
        value: The value.
        hint: The annotation, with its ranges.
        name: What a message calls the setting.
        shell: Whether a message uses the words of the shell and of YAML: ``null`` for None, list for tuple.

    Raises:
        ConfigError: The annotation does not allow the value.
    """
    try:
        return _allowed(value, hint)
    except _Refused as refused:
        what = f"must be {describe(hint, shell)}, not {shown(value, shell)}"
        reason = str(refused)
        raise ConfigError(f"{name} {reason or what}") from None


@cache
def hints_of(cls: type) -> dict[str, Any]:
    """Return the annotations of a dataclass by field. They are cached, since resolving them is slow."""
    return get_type_hints(cls, include_extras=True)


def is_settings(hint: Any) -> TypeGuard[type]:
    """Return whether an annotation is a dataclass of settings."""
    return isinstance(hint, type) and hasattr(hint, "__dataclass_fields__")


def shown(value: Any, shell: bool = False) -> str:
    """Return a value as a message shows it, cut where it is long."""
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value)) if shell else repr(value)
    if shell and isinstance(value, float) and value.is_integer():
        text = f"{value:.0f}"
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 4]} ..."


def shown_name(name: str) -> str:
    """Return a name as a message shows it: on one line, and cut where it is long."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 4]} ..."


def shown_path(path: Path) -> str:
    """Return a path as a message shows it: whole, on one line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def describe(hint: Any, shell: bool = False) -> str:
    """Return what an annotation allows, in words that follow "must be"."""
    null, many = ("null", "list") if shell else ("None", "tuple")
    base, marks = split_annotated(hint)
    origin, arms = get_origin(base), get_args(base)
    if origin in UNIONS:
        others = [arm for arm in arms if arm is not NoneType]
        if len(others) == 1 and get_origin(others[0]) is Literal:
            return _listed([*map(str, get_args(others[0])), *([null] if NoneType in arms else [])])
        return " or ".join([*(describe(arm, shell) for arm in others), *([null] if NoneType in arms else [])])
    if origin is Literal:
        return _listed([str(arm) for arm in arms])
    if origin is tuple or origin is list:
        length = next((f"{mark.low} to {mark.high} " for mark in marks if isinstance(mark, Length)), "")
        if origin is list or (len(arms) == 2 and arms[1] is Ellipsis):
            return f"a {many} of {length}{_plural(describe(arms[0], shell))}"
        if all(arm == arms[0] for arm in arms):
            return f"a {many} of {len(arms)} {_plural(describe(arms[0], shell))}"
        return f"a {many} of {len(arms)}: {', then '.join(describe(arm, shell) for arm in arms)}"
    if origin is dict:
        return "a mapping of names" if shell else "a dict of names"
    if is_settings(base):
        if shell:
            return "a mapping of settings"
        article = "an" if base.__name__[0] in "AEIOU" else "a"
        return f"{article} {base.__name__}, as in {base.__name__}(...)"
    between = next((f" {mark}" for mark in marks if isinstance(mark, Range)), "")
    kinds: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if base is bool and not shell:
        return "True or False"
    if base is str and any(isinstance(mark, PathText) for mark in marks):
        return "a path"
    if any(isinstance(mark, HubText) for mark in marks):
        return "hf:ID"
    return kinds.get(base, str(base)) + between


def split_annotated(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return an annotation without its marks, and the marks."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[0], hint.__metadata__
    return hint, ()


def _listed(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)}{' or ' if others else ''}{last}"


def _plural(words: str) -> str:
    """``a whole number from 1 to 3`` as ``whole numbers from 1 to 3``."""
    words = re.sub(r"^an? (whole number|number|path|mapping)", r"\1s", words)
    return "texts" if words == "text" else words.removeprefix("a ").removeprefix("an ")


def _allowed(value: Any, hint: Any) -> Any:
    """Return ``value`` as ``hint`` wants it, or raise :class:`_Refused`. Unknown annotations allow every value."""
    base, marks = split_annotated(hint)
    origin, arms = get_origin(base), get_args(base)
    if value is None:
        word = next((mark.word for mark in marks if isinstance(mark, NoneMeans)), None)
        if word is not None:
            return word
    if origin in UNIONS:
        return _of_union(value, arms)
    if origin is Literal:
        # 1 == True == 1.0, and they are not the same choice.
        if any(type(value) is type(arm) and value == arm for arm in arms):
            return value
        raise _Refused
    if origin is tuple or origin is list:
        return _of_sequence(value, origin, arms, marks)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _Refused
        entries = cast(Mapping[Any, Any], value).items()
        return {_allowed(key, arms[0]): _entry(item, arms[1], str(key)) for key, item in entries}
    if base is NoneType:
        if value is not None:
            raise _Refused
        return value
    if base is bool:
        if not isinstance(value, bool):
            raise _Refused
        return value
    if base is int:
        return _in_range(_whole(value), marks)
    if base is float:
        return _in_range(_real(value), marks)
    if base is str:
        return _text(value, marks)
    if is_settings(base) and not isinstance(value, base):
        raise _Refused
    return value


def _of_union(value: Any, arms: tuple[Any, ...]) -> Any:
    """Return ``value`` as the first of a union's arms that allows it wants it."""
    reasons: list[str] = []
    for arm in arms:
        try:
            return _allowed(value, arm)
        except _Refused as refused:
            reasons += [str(refused)] if str(refused) else []
    raise _Refused(*reasons[:1] if len([arm for arm in arms if arm is not NoneType]) == 1 else ())


def _of_sequence(value: Any, origin: type, arms: tuple[Any, ...], marks: tuple[Any, ...]) -> Any:
    """Return the entries of a tuple or list, each as its annotation wants it."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _Refused
    items = list(cast(Sequence[Any], value))
    any_length = origin is list or (len(arms) == 2 and arms[1] is Ellipsis)
    wanted = [arms[0]] * len(items) if any_length else list(arms)
    if len(items) != len(wanted):
        raise _Refused
    if any(isinstance(mark, Length) and not mark.low <= len(items) <= mark.high for mark in marks):
        raise _Refused
    found = [_allowed(item, arm) for item, arm in zip(items, wanted, strict=True)]
    return found if origin is list else tuple(found)


def _entry(value: Any, hint: Any, key: str) -> Any:
    """Return a value of a mapping as its annotation wants it; a refusal names its key."""
    try:
        return _allowed(value, hint)
    except _Refused:
        raise _Refused(f"has under {key!r} not {describe(hint, True)} but {shown(value, True)}") from None


def _whole(value: Any) -> int:
    """Return a whole number, exactly: 3.0 and 1e5 are ones, and True is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _Refused
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    if not number.is_integer():  # nor are NaN and infinity
        raise _Refused
    return int(number)


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _Refused
    try:
        return float(value)
    except OverflowError:
        raise _Refused from None


def _in_range(value: Any, marks: tuple[Any, ...]) -> Any:
    """Return a number that is in its declared range. Without one it is only finite."""
    ranges = [mark for mark in marks if isinstance(mark, Range)]
    if not all(value in mark for mark in ranges) or not (ranges or math.isfinite(value)):
        raise _Refused
    return value


def _text(value: Any, marks: tuple[Any, ...]) -> str:
    is_path = any(isinstance(mark, PathText) for mark in marks)
    if is_path and isinstance(value, os.PathLike):
        value = os.fspath(cast("os.PathLike[Any]", value))
    if not isinstance(value, str):
        raise _Refused
    text = str(value)
    if is_path:
        return expand_path(text)
    if any(isinstance(mark, NameText) for mark in marks):
        _check_name(text)
    if any(isinstance(mark, HubText) for mark in marks) and not HUB_NAME.fullmatch(text):
        raise _Refused
    return text


def _check_name(text: str) -> None:
    """Raise :class:`_Refused` for a text that cannot be the name of a folder."""
    if not text.strip() or text in (".", ".."):
        raise _Refused(f"must be a name, not {text!r}")
    if "/" in text or "\\" in text:
        raise _Refused(f"must be a name without / and \\, not {shown(text)}: a path goes to --run.folder")
    if "$" in text:
        raise _Refused(f"must be a name without $, not {shown(text)}: in a path it would be a variable")
    if not text.isprintable():
        raise _Refused(f"must be a name of one line, not {shown(text)}")


def expand_path(text: str) -> str:
    """Return a path with ``~`` and environment variables expanded. What is there as it is spelt stays so.

    Raises :class:`_Refused` for a path that is empty or names a variable that is not set.
    """
    if not text.strip():
        raise _Refused("must be a path, but is empty: leave it out for its default")
    if "\0" in text:
        raise _Refused("must be a path, but holds a null character")
    if not ("$" in text or text.startswith("~")) or Path(text).exists():
        return f"./{text}" if text.startswith("~") else text
    unset = [name for name in re.findall(r"\$(?:\{(\w+)\}|(\w+))", text) for name in name if name]
    unset = [name for name in unset if name not in os.environ]
    if unset:
        raise _Refused(f"is {shown(text)}, and the environment variable {unset[0]} is not set")
    found = os.path.expanduser(os.path.expandvars(text))
    if found.startswith("~"):
        raise _Refused(f"is {shown(text)}, and this machine has no such user: write ./{shown(text)[1:-1]} for a name")
    return found
