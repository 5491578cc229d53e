"""ROS parameters from the stages' settings: declared, read, and changed while a node runs."""
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from visa_ros.config import Config, param
from visa_ros.errors import InputError

C = TypeVar('C', bound=Config)
log = logging.getLogger('visa_ros')


@dataclass(frozen=True)
class LifecycleConfig(Config):
    """Who leads the node through its states."""

    autostart: bool = param(
        True, 'Configure and activate at start, and end the process if that fails; false: wait '
        'for a lifecycle manager')


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
        Whose parameters they become, with description and range.
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
        descriptor = ParameterDescriptor(description=meta['description'])
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


def _warn_of_unknown(node: Node, stages: Mapping[str, type[Config]]) -> None:
    """Name what a file or command line sets that there is not, which ROS would pass over."""
    known = [f'{prefix}.{item.name}' for prefix, config in stages.items()
             for item in fields(config)]
    for name in node._parameter_overrides:  # rclpy has no other way to them
        # Those of other stages are of other nodes, for which the same file is.
        if name.partition('.')[0] in stages and name not in known:
            guess = get_close_matches(name, known, 1)
            log.warning('there is no parameter %s%s', name,
                        f'; did you mean {guess[0]}?' if guess else '')


class Settings:
    """
    A node's settings as ROS parameters, checked whenever somebody sets them.

    Before the node is configured all may be set; later only those that are declared ``live``.

    Parameters
    ----------
    node : Node
        Whose parameters they become.
    stages : mapping of str to type of Config
        By the parameters' prefix.
    configured : callable
        Whether the node uses its settings already.
    on_change : callable
        Told the new settings of a stage, once they are set; in the executor's thread.

    Raises
    ------
    InputError
        See ``declare``.

    """

    def __init__(self, node: Node, stages: Mapping[str, type[Config]],
                 configured: Callable[[], bool], on_change: Callable[[Config], None]) -> None:
        self._configs = {prefix: declare(node, prefix, config)
                         for prefix, config in stages.items()}
        self._configured = configured
        self._on_change = on_change
        _warn_of_unknown(node, stages)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._take)

    def of(self, config: type[C]) -> C:
        """Return the settings of this class as they are now."""
        return next(value for value in self._configs.values() if isinstance(value, config))

    def _check(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            self._changed(parameters)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take(self, parameters: Sequence[Parameter]) -> None:
        for prefix, config in self._changed(parameters).items():
            self._configs[prefix] = config
            if self._configured():
                try:
                    self._on_change(config)
                except Exception:  # a node does not die of a parameter
                    log.exception('%s: the new settings are not in effect', prefix)

    def _changed(self, parameters: Sequence[Parameter]) -> dict[str, Config]:
        """Return the settings that would change; raise InputError where they must not."""
        values: dict[str, dict[str, Any]] = {}
        for parameter in parameters:
            prefix, _, name = parameter.name.partition('.')
            if prefix not in self._configs:  # of ROS itself
                continue
            live = {item.name for item in fields(self._configs[prefix]) if item.metadata['live']}
            if name not in live and self._configured():
                raise InputError(
                    f'{parameter.name} is read when the node is configured: deactivate and clean '
                    'the node up, set it, then configure and activate it again')
            values.setdefault(prefix, {})[name] = parameter.value
        changed: dict[str, Config] = {}
        for prefix, given in values.items():
            try:
                changed[prefix] = replace(self._configs[prefix], **given)
            except InputError as error:
                raise InputError(f'parameter {prefix}.{error}') from error
        return changed
