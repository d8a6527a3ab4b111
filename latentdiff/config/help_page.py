"""The page that ``--help`` prints: every setting with its meaning, what it may be, and its default."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any, Literal, cast, get_args, get_origin

from docstring_parser import DocstringStyle, parse

from latentdiff.config.checks import describe, split_annotated
from latentdiff.config.options import REQUIRED, Option, options_of, sections_of

CONFIG_HELP = (
    "YAML file of settings. Flags override it. A name under configs/, such as fashion-mnist/pixel.yaml, is found "
    "wherever latentdiff is installed."
)


def help_page(cls: type, command: str) -> str:
    """Return the page of a stage's settings.

    Args:
        cls: The stage's dataclass.
        command: The command, as the user started it.
    """
    stage = parse(cls.__doc__ or "", DocstringStyle.GOOGLE)
    parser = ArgumentParser(
        prog=command,
        usage=f"{command} [--config FILE] [--SETTING VALUE ...]",
        formatter_class=lambda prog: RawDescriptionHelpFormatter(prog, width=100),
        add_help=False,
    )
    general = parser.add_argument_group("options")
    general.add_argument("--help", "-h", action="store_true", help="Show this page.")
    general.add_argument("--config", metavar="FILE", help=CONFIG_HELP)
    general.add_argument("--print_config", action="store_true", help="Print every setting as YAML, and end.")
    meaning = meanings(cls)
    own = parser.add_argument_group(_title(stage.short_description, "settings"), stage.long_description)
    inner = {
        name: parser.add_argument_group(
            f"{_title(parse(section.__doc__ or '', DocstringStyle.GOOGLE).short_description, name)} (--{name}.…)",
            meaning.get(name, ""),
        )
        for name, section in sections_of(cls).items()
    }
    for name, section in sections_of(cls).items():
        inner[name].add_argument(
            f"--{name}", metavar="FILE", help="Several of these settings at once: a YAML file of them, or JSON."
        )
        meaning |= {f"{name}.{key}": text for key, text in meanings(section).items()}
    for option in options_of(cls).values():
        group = inner[option.name.partition(".")[0]] if "." in option.name else own
        text = f"{meaning.get(option.name, '')} {_facts(option)}".replace("%", "%%")
        group.add_argument(f"--{option.name}", metavar=_metavar(option), help=" ".join(text.split()))
    return parser.format_help()


def meanings(cls: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and its bases say of each field."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        parsed = parse(base.__doc__ or "", DocstringStyle.GOOGLE)
        found |= {parameter.arg_name: parameter.description or "" for parameter in parsed.params}
    return found


def _title(sentence: str | None, otherwise: str) -> str:
    """A heading from a docstring's first sentence."""
    return (sentence or otherwise).removesuffix(".")


def _facts(option: Option) -> str:
    # The choices of a name stand beside the option.
    kind = "" if _metavar(option).startswith("{") else f"type: {describe(option.hint, shell=True)}, "
    return f"({kind}required)" if option.default is REQUIRED else f"({kind}default: {_shown(option.default)})"


def _shown(value: Any) -> str:
    """A default as it would be typed."""
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return str(list(cast(tuple[Any, ...], value)))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metavar(option: Option) -> str:
    base, _ = split_annotated(option.hint)
    for arm in (base, *get_args(base)):
        if get_origin(arm) is Literal:
            return "{" + ",".join(map(str, get_args(arm))) + "}"
    return "{true,false}" if base is bool else option.name.rpartition(".")[2].upper()
