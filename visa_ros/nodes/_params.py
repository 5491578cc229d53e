"""ROS parameters from the stages' settings."""
from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from visa_ros.config import Config, param
from visa_ros.errors import InputError

C = TypeVar('C', bound=Config)


@dataclass(frozen=True)
class TransportConfig(Config):
    """How images come over topics."""

    compressed: bool = param(
        False, 'Whether images are taken as JPEG or PNG (the topic with /compressed behind it) '
        'instead of raw')


# Bounds of a ROS range that has only one end in the settings.
_INT64 = 2**63 - 1
_FLOAT = 1e308


def declare(node: Node, prefix: str, config: type[C]) -> C:
    """
    Declare ``prefix.NAME`` for each field of a settings class, and read them.

    Parameters
    ----------
    node : Node
        Whose parameters they become; read-only, with description and range.
    prefix : str
        The stage, such as 'rendering'.
    config : type of Config
        Its settings.

    Raises
    ------
    InputError
        A value given on the command line or in a file is of the wrong type or out of range.

    """
    values = {}
    for item in fields(config):
        meta, default = item.metadata, item.default
        descriptor = ParameterDescriptor(description=meta['description'], read_only=True)
        if meta['choices']:
            descriptor.additional_constraints = 'one of: ' + ', '.join(meta['choices'])
        low, high = meta['low'], meta['high']
        if isinstance(default, float) and (low is not None or high is not None):
            descriptor.floating_point_range = [FloatingPointRange(
                from_value=-_FLOAT if low is None else float(low),
                to_value=_FLOAT if high is None else float(high))]
        elif type(default) is int and (low is not None or high is not None):
            descriptor.integer_range = [IntegerRange(
                from_value=-_INT64 if low is None else int(low),
                to_value=_INT64 if high is None else int(high), step=1)]
        name = f'{prefix}.{item.name}'
        try:
            values[item.name] = node.declare_parameter(name, default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InputError(f'parameter {name}: {error}; see ros2 param describe') from error
    try:
        return config(**values)
    except InputError as error:
        raise InputError(f'parameter {prefix}.{error}') from error
