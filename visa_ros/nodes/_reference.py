"""
All ROS parameters in one place: ``python -m visa_ros.nodes._reference`` writes them down.

It writes config/telepresence.yaml and doc/parameters.md from the stages' settings; a test says
when they are out of date.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.source import SourceConfig
from visa_ros.config import Config
from visa_ros.display.config import DisplayConfig, VideoConfig
from visa_ros.nodes._params import LifecycleConfig, TransportConfig
from visa_ros.nodes.avatar_reconstruction import AvatarConfig
from visa_ros.pacing import PacingConfig
from visa_ros.reconstruction.reconstruct import ReconstructionConfig
from visa_ros.rendering.playback import PlaybackConfig
from visa_ros.rendering.renderer import RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.trust.store import TrustConfig
from visa_ros.trust.watermark import WatermarkConfig

# Prefix: its settings, and the nodes that have them (telepresence has all).
STAGES: dict[str, tuple[type[Config], tuple[str, ...]]] = {
    'avatar': (AvatarConfig, ('avatar_reconstruction',)),
    'camera': (SourceConfig, ('video_source',)),
    'capture': (CaptureConfig, ('pose_capture',)),
    'display': (DisplayConfig, ('avatar_display',)),
    'lifecycle': (LifecycleConfig, ('every node',)),
    'pacing': (PacingConfig, ('pose_capture', 'avatar_renderer')),
    'playback': (PlaybackConfig, ('avatar_renderer',)),
    'reconstruction': (ReconstructionConfig, ('avatar_reconstruction',)),
    'rendering': (RenderingConfig, ('avatar_renderer',)),
    'shading': (ShadingConfig, ('avatar_renderer',)),
    'transport': (TransportConfig, ('pose_capture', 'avatar_display')),
    'trust': (TrustConfig, ('avatar_reconstruction', 'avatar_renderer')),
    'video': (VideoConfig, ('avatar_renderer',)),
    'watermark': (WatermarkConfig, ('avatar_renderer',)),
}


def as_yaml() -> str:
    """Return the parameter file that sets every parameter to its default."""
    lines = ["# Every parameter with its default.  '/**' serves all nodes: copy what you change.",
             '/**:', '  ros__parameters:']
    for prefix, (config, _) in STAGES.items():
        lines.append(f'    {prefix}:')
        for item in fields(config):
            lines.append(f'      # {_description(item)}')
            lines.append(f'      {item.name}: {_value(item.default)}')
    return '\n'.join(lines) + '\n'


def as_markdown() -> str:
    """Return the tables of doc/parameters.md."""
    lines = ['# Parameters', '',
             'Those marked *live* may be changed at any time; the others until the node is '
             'configured, or after `cleanup` ([deployment.md](deployment.md)). '
             '`ros2 param describe` shows the same. Node `telepresence` has all but `avatar` and '
             '`reconstruction`, which are those of `avatar_reconstruction` in the same process. '
             'Defaults are in `config/telepresence.yaml`.']
    for prefix, (config, nodes) in STAGES.items():
        lines += ['', f'## `{prefix}`: {", ".join(nodes)}', '',
                  (config.__doc__ or '').strip(), '', '| parameter | default | meaning |',
                  '| --- | --- | --- |']
        for item in fields(config):
            live = ' *(live)*' if item.metadata['live'] else ''
            lines.append(f'| `{prefix}.{item.name}`{live} | `{_value(item.default)}` | '
                         f'{_description(item)} |')
    return '\n'.join(lines) + '\n'


def _value(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"'{default}'" if isinstance(default, str) else repr(default)


def _description(item: Field) -> str:
    parts: Iterator[str] = filter(None, (
        ' '.join(item.metadata['description'].split()), _range(item)))
    return '; '.join(parts)


def _range(item: Field) -> str:
    if item.metadata['choices']:
        return 'one of ' + ', '.join(item.metadata['choices'])
    low, high = item.metadata['low'], item.metadata['high']
    if low is None and high is None:
        return ''
    return f'{"" if low is None else f"{low:g}"}..{"" if high is None else f"{high:g}"}'


def main() -> None:
    """Write both files into the source tree."""
    root = Path(__file__).resolve().parents[2]
    (root / 'config' / 'telepresence.yaml').write_text(as_yaml())
    (root / 'doc' / 'parameters.md').write_text(as_markdown())


if __name__ == '__main__':
    main()
