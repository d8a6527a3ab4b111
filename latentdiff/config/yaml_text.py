"""YAML for settings: plain values only, no key twice, and no file that grows when it is read.

Texts that YAML 1.1 would convert unexpectedly stay text here: ``no``, ``010``, ``1:30`` and ``2024-01-01``. ``1e5`` is
a number.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import yaml

from latentdiff.errors import ConfigError

MAX_BYTES = 100_000
MAX_DEPTH = 50
# Values of a file, with what its aliases repeat.
MAX_VALUES = 20_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which converts fewer plain texts, and refuses keys that are given twice."""

    # Of this class alone: SafeLoader's own stay what they are.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = cast(Any, self.construct_object(key_node, deep=True))  # pyright: ignore[reportUnknownMemberType]
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": (r"<<", ["<"]),
}
for _tag, (_pattern, _first) in _PLAIN.items():
    # 010 is neither a whole number, which would be octal, nor one with a point.
    _whole = rf"(?!0[0-9_]+$)(?:{_pattern})" if _tag == "float" else rf"(?:{_pattern})"
    cast(Any, _Loader).add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^{_whole}$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that the loader here would take for numbers, such as 1e-3."""


for _name in ("int", "float"):
    for _first in _PLAIN[_name][1]:
        for _own_tag, _regexp in _Loader.yaml_implicit_resolvers.get(_first, []):
            if _own_tag == f"tag:yaml.org,2002:{_name}":
                cast(Any, _Dumper).add_implicit_resolver(_own_tag, _regexp, [_first])


def dump_yaml(values: Any) -> str:
    """Plain values as YAML that :func:`parse_yaml` reads back, in the order of their keys."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML text.

    Args:
        text: The text.
        name: What a message calls it.

    Raises:
        ConfigError: The text is no YAML, gives a key twice, or is too large.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name} is larger than the {MAX_BYTES:,} bytes that settings may take")
    if _depth(text) > MAX_DEPTH:
        raise ConfigError(f"{name} is nested too deeply")
    try:
        loader: Any = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _count(node, {}) > MAX_VALUES:
                raise ConfigError(
                    f"{name} holds more than {MAX_VALUES:,} values, including those that its aliases repeat"
                )
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply, or holds itself") from None
    except yaml.reader.ReaderError:
        raise ConfigError(f"{name} is not text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{name}{where}: {problem}") from None
    except ConfigError:
        raise
    except ValueError as error:  # of a number that is none, such as a tag !!int before a text
        raise ConfigError(f"{name}: {error}") from None


def read_yaml(path: Path, name: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; an empty file is an empty one.

    Args:
        path: The file.
        name: What a message calls it.

    Raises:
        ConfigError: The file cannot be read, or is no mapping in UTF-8.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is not a YAML file: it is not text in UTF-8") from None
    values = parse_yaml(text, name)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name} holds no settings: it must have lines such as name: mine")
    return cast(dict[str, Any], values)


def _depth(text: str) -> int:
    """Return the largest depth of nested brackets, since PyYAML would be slow to find it."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(depth + (1 if bracket in "[{" else -1), 0)
        deepest = max(deepest, depth)
    return deepest


def _count(node: yaml.Node, found: dict[int, int | None]) -> int:
    """Return how many values a node has with its aliases expanded. Raises RecursionError if it contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in found:
        known = found[id(node)]
        if known is None:
            raise RecursionError
        return known
    found[id(node)] = None
    total = 1
    for entry in cast(list[Any], node.value):
        for part in cast(tuple[Any, ...], entry) if isinstance(entry, tuple) else (entry,):
            total += _count(part, found)
    found[id(node)] = total
    return total
