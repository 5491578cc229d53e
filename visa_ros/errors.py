"""
The package's exceptions, by who can mend the cause.

::

    VisaError
    |- InputError              what came in is wrong: send something else
    |  |- ImageError           an image or video frame
    |  |- PortraitError        a portrait that no avatar can be made of
    |  |- PoseError            an OperatorPose
    |  |- AvatarError          an avatar file, or an avatar of another body model
    |  `- ConsentError         an avatar that nobody may show: unsigned, expired, revoked, unknown
    |- ResourceError           the machine refuses: camera, port, disk, model file
    `- MissingDependencyError  an optional package is not installed

Every message says what is wrong, where, and what to do.
"""


class VisaError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(VisaError, ValueError):
    """Something that came in from outside is wrong."""


class ImageError(InputError):
    """An image has the wrong shape, type, encoding or step."""


class PortraitError(InputError):
    """A portrait shows no face, several faces, or too little of one."""


class PoseError(InputError):
    """An operator pose has the wrong length or holds NaN."""


class AvatarError(InputError):
    """An avatar file is damaged, or the avatar belongs to another body model."""


class ConsentError(InputError):
    """An avatar must not be shown: its consent is not signed, not known, expired or revoked."""


class ResourceError(VisaError, OSError):
    """A camera, port, folder or model file cannot be used."""


class MissingDependencyError(VisaError, ImportError):
    """An optional package is needed and not installed."""
