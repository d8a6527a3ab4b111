"""Classes by name or number."""

from __future__ import annotations

from latentdiff.errors import ConfigError


def parse_labels(text: str | None, class_names: tuple[str, ...]) -> int | list[int] | None:
    """Class numbers from numbers or names separated by commas. Raises ValueError naming one that is neither."""
    if text is None:
        return None
    names = {name.lower(): index for index, name in enumerate(class_names)}
    labels = []
    for part in (part.strip() for part in str(text).split(",")):
        if part.lower() not in names and not part.isdigit():
            raise ConfigError(f"{part!r} is no class; there are {', '.join(class_names)}")
        labels.append(names.get(part.lower(), int(part) if part.isdigit() else 0))
    return labels[0] if len(labels) == 1 else labels
