"""Settings by their dotted names: the list of settings, the given values, and the dataclass made from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, replace
from difflib import get_close_matches
from functools import cache
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin

from latentdiff.config.checks import UNIONS, checked, hints_of, is_settings, split_annotated
from latentdiff.config.ranges import NoneMeans
from latentdiff.config.yaml_text import parse_yaml
from latentdiff.errors import ConfigError

T = TypeVar("T")
REQUIRED: Any = MISSING
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Option(NamedTuple):
    """A setting.

    Attributes:
        name: Its dotted name, such as ``trainer.lr``.
        hint: Its annotation.
        default: Its default, or :data:`REQUIRED`.
        owner: The dataclass that has it.
    """

    name: str
    hint: Any
    default: Any
    owner: type


@cache
def options_of(cls: type) -> dict[str, Option]:
    """Return every setting of a stage by its dotted name, in the order of the fields."""
    return {option.name: option for option in _walk(cls, "", None)}


@cache
def sections_of(cls: type) -> dict[str, type]:
    """Return the dataclasses inside a stage's by their names, such as ``trainer``."""
    hints = hints_of(cls)
    return {field.name: hints[field.name] for field in fields(cls) if is_settings(hints[field.name])}


def _walk(cls: type, prefix: str, instance: Any) -> Iterator[Option]:
    for field in fields(cls):
        hint = hints_of(cls)[field.name]
        default = _default(field) if instance is None else getattr(instance, field.name)
        if is_settings(hint):
            yield from _walk(hint, f"{prefix}{field.name}.", default)
        else:
            yield Option(prefix + field.name, hint, default, cls)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return a stage's settings from values by dotted names, with defaults for the rest.

    Raises:
        ConfigError: A setting without a default is not given, or a value is not allowed.
    """
    own = {name: value for name, value in values.items() if "." not in name}
    for field in fields(cast(Any, cls)):
        prefix = f"{field.name}."
        inner = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        if inner:
            own[field.name] = replace(_default(field), **inner)
    missing = [name for name, option in options_of(cls).items() if option.default is REQUIRED and name not in own]
    if missing:
        raise ConfigError(f"{' and '.join(f'--{name}' for name in missing)} must be given")
    return cls(**own)


def flatten(cls: type, values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and values of a nested mapping, known or not; an empty section has none."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in sections_of(cls) and (value is None or isinstance(value, Mapping)):
            yield from flatten(cls, cast(Mapping[Any, Any], value or {}), f"{name}.")
        else:
            yield name, value


# Names of diffusers, accelerate and Lightning, and the settings that mean the same here.
OTHER_NAMES = {
    "adam_betas": "betas",
    "attention_head_dim": "head_channels",
    "beta_end": "beta_range",
    "beta_schedule": "schedule",
    "beta_start": "beta_range",
    "block_out_channels": "channels",
    "caption_column": "captions",
    "clip_sample": "thresholding",
    "gradient_clip_val": "grad_clip",
    "image_size": "size",
    "label_column": "classes",
    "layers_per_block": "num_res_blocks",
    "learn_sigma": "learn_variance",
    "logger": "loggers",
    "max_grad_norm": "grad_clip",
    "num_inference_steps": "steps",
    "num_train_timesteps": "num_train_steps",
    "output_dir": "folder",
    "overwrite_output_dir": "overwrite",
    "patch_size": "patch",
    "patience": "stop_patience",
    "prediction_type": "target",
    "pretrained_model_name_or_path": "init",
    "random_flip": "hflip",
    "report_to": "loggers",
    "rescale_betas_zero_snr": "zero_terminal_snr",
    "resnet_time_scale_shift": "conditioning",
    "resolution": "size",
    "resume_from_checkpoint": "resume",
    "scheduler": "sampler",
    "snr_gamma": "min_snr_gamma",
    "text_encoder": "text",
    "timestep_spacing": "spacing",
    "train_batch_size": "batch_size",
    "train_data_dir": "path",
    "variance_type": "variance",
    "weighting_scheme": "loss_weight",
}


def nearest(name: str, cls: type) -> list[str]:
    """Return up to three settings that an unknown name may mean, the likeliest first."""
    name = name[:100].replace("-", "_")
    leaf = name.rpartition(".")[2]
    known = list(options_of(cls)) + ([] if "." in name else list(sections_of(cls)))
    initials = "".join(word[:1] for word in leaf.split("_"))
    leaves = {option.rpartition(".")[2] for option in known}
    near_leaves = get_close_matches(leaf, leaves, n=2, cutoff=0.75)
    same = [option for option in known if option.rpartition(".")[2] in (leaf, initials, OTHER_NAMES.get(leaf))]
    close = get_close_matches(name, known, n=3, cutoff=0.75)
    like = [option for option in known if option.rpartition(".")[2] in near_leaves]
    return list(dict.fromkeys([*same, *close, *like]))[:3]


def read_shell(text: str, hint: Any, name: str) -> Any:
    """Return the value that a text on the command line means for an annotation.

    A setting that may be text gets the text itself; any other gets the value in YAML. A list needs no brackets:
    ``1,2``.
    """
    arms = _arms(hint)
    if text == "null" and (NoneType in arms or _none_means(hint)):
        return None
    if str in arms or _is_text(arms) or not text.strip():
        return text
    if any(get_origin(arm) in (tuple, list) for arm in arms):
        if text.startswith("[") and not text.rstrip().endswith("]"):
            raise ConfigError(f"{name} got only {text!r} of a list: a list with spaces needs quotes, as in '[32, 64]'")
        return read_yaml_value(_read_list(text), hint, name)
    try:
        value = parse_yaml(text, name)
    except ConfigError:
        return text
    return read_yaml_value(value, hint, name)


def read_yaml_value(value: Any, hint: Any, name: str, after: str = "") -> Any:
    """Return a YAML value converted for an annotation.

    ``yes`` is true where true or false is wanted. A mapping is a dataclass where a list of such is wanted.

    Args:
        value: The value.
        hint: The annotation.
        name: What a message calls the setting.
        after: What follows the name in a message.

    Raises:
        ConfigError: A mapping has an unknown name, lacks a required one, or has a value that is not allowed.
    """
    arms = _arms(hint)
    if bool in arms and isinstance(value, str):
        return BOOLEANS.get(value.lower(), value)
    inner = next((get_args(arm)[0] for arm in arms if get_origin(arm) is tuple), None)
    if is_settings(inner) and isinstance(value, list):
        items = cast(list[Any], value)
        return [_settings(item, inner, f"{name}[{index}]", after) for index, item in enumerate(items)]
    return value


def _settings(value: Any, cls: type, name: str, after: str) -> Any:
    """Return a mapping as the dataclass ``cls``; another value stays as it is."""
    if not isinstance(value, Mapping):
        return value
    hints, given = hints_of(cls), cast(Mapping[Any, Any], value)
    for key in given:
        if key not in hints:
            near = "".join(f" Did you mean {name}.{other}?" for other in nearest(str(key), cls)[:1])
            raise ConfigError(f"{name}.{key}{after}: there is no such setting.{near}")
    missing = [key for key, option in options_of(cls).items() if option.default is REQUIRED and key not in given]
    if missing:
        raise ConfigError(f"{name}.{missing[0]}{after} must be given")
    found = {
        key: checked(
            read_yaml_value(item, hints[key], f"{name}.{key}", after), hints[key], f"{name}.{key}{after}", True
        )
        for key, item in given.items()
    }
    return cls(**found)


def is_text(hint: Any) -> bool:
    """Return whether an annotation takes text alone, or None."""
    return _is_text(_arms(hint))


def is_bool(hint: Any) -> bool:
    """Return whether an annotation takes true or false."""
    return bool in _arms(hint)


def _read_list(text: str) -> Any:
    for candidate in (text, f"[{text}]"):
        try:
            value = parse_yaml(candidate, "the value")
        except ConfigError:
            continue
        if isinstance(value, list | dict):
            return cast(Any, value)
    return [text]


def _arms(hint: Any) -> list[Any]:
    """Return the types that an annotation joins, without their marks."""
    base, _ = split_annotated(hint)
    if get_origin(base) in UNIONS:
        return [arm for part in get_args(base) for arm in _arms(part)]
    return [base]


def _is_text(arms: list[Any]) -> bool:
    texts = [arm for arm in arms if arm is not NoneType]
    return all(
        arm is str or (get_origin(arm) is Literal and all(isinstance(name, str) for name in get_args(arm)))
        for arm in texts
    )


def _none_means(hint: Any) -> bool:
    return any(isinstance(mark, NoneMeans) for mark in split_annotated(hint)[1])
