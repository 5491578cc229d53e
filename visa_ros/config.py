"""
Stage settings: frozen dataclasses whose fields carry description and range.

A stage declares its settings once; ROS parameters, their descriptors, the YAML file and the
README's table come from here (and a test compares them)::

    @dataclass(frozen=True)
    class DisplayConfig(Config):
        port: int = param(8080, 'TCP port of the web page', low=1, high=65535)
"""
from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from visa_ros.errors import InputError


def param(default: Any, description: str, *, low: float | None = None,
          high: float | None = None, choices: tuple[str, ...] = (), live: bool = False) -> Any:
    """
    Declare one setting of a ``Config``.

    Parameters
    ----------
    default : bool, int, float or str
        Also fixes the type.
    description : str
        One line with the unit; users read it in ``ros2 param describe``.
    low, high : float, optional
        Inclusive range of a number.
    choices : tuple of str, optional
        The valid strings.
    live : bool
        May be changed while the stage runs.

    """
    return field(default=default, metadata={
        'description': description, 'low': low, 'high': high, 'choices': choices, 'live': live})


@dataclass(frozen=True)
class Config:
    """Base of the stages' settings; checks types, ranges and choices on construction."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value, meta = getattr(self, item.name), item.metadata
            if isinstance(item.default, float) and isinstance(value, int):
                value = float(value)
                object.__setattr__(self, item.name, value)
            if type(value) is not type(item.default):
                raise InputError(f'{item.name} must be {type(item.default).__name__}, '
                                 f'got {value!r}')
            low, high, choices = meta.get('low'), meta.get('high'), meta.get('choices')
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                raise InputError(f'{item.name} must lie in [{low}, {high}], got {value!r}')
            if choices and value not in choices:
                raise InputError(f'{item.name} must be one of {", ".join(choices)}, '
                                 f'got {value!r}')
