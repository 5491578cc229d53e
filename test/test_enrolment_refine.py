"""An avatar is tuned to many moments: of a real clip, and of an avatar whose shape is known."""
from dataclasses import replace

import numpy as np
import pytest

from visa_ros import samples
from visa_ros.body.model import VERTEX_PARTS, load_body_model
from visa_ros.capture.config import CaptureConfig
from visa_ros.conventions import JOINT_INDEX
from visa_ros.enrolment.clip import follow
from visa_ros.enrolment.enrol import _face, _nearer
from visa_ros.enrolment.pairs import Beside, Moment, clip_pairs, cut_out, error, rgba_of, runs
from visa_ros.enrolment.refine import refined
from visa_ros.enrolment.tune import parted
from visa_ros.reconstruction.avatar_cache import cached_avatar


def test_a_tuned_avatar_is_nearer_to_seconds_of_the_clip_that_it_was_not_tuned_to(astronaut):
    pytest.importorskip('dlib', reason='requirements-faces.txt is not installed')
    clip = follow(samples.video('cap13'), 400, 9.0, CaptureConfig(), _silent)
    number = clip.portrait()
    (_, rgb), = clip.frames({number})
    portrait = clip.poses[number]
    before = Beside(cached_avatar(rgb, astronaut[0].consent)[0], portrait, 256)
    learnt, held = (cut_out(clip, part, _face(rgb), CaptureConfig(), _silent)
                    for part in parted(runs(clip, 12), clip.frames_per_s))
    after = Beside(refined(before, learnt, 60, 0, _silent), portrait, 256)
    assert error(clip_pairs(after, held)) < 0.8 * error(clip_pairs(before, held))
    for pair in ((before, after), (after, before)):
        assert _nearer(*pair, held)[1] is after


def test_tuning_finds_shape_and_colour_and_not_what_single_poses_miss(astronaut):
    """Moments of an avatar, seen where its poses do not quite say, teach the same one spoilt."""
    true = astronaut[0]
    portrait, model = true.portrait_pose, load_body_model()

    def turned(pitch, yaw):
        rotations = portrait.joint_rotations.copy()
        rotations[JOINT_INDEX['head']] += (pitch, yaw, 0)
        return replace(portrait, joint_rotations=rotations)

    def shown(avatar, pose):
        frame = Beside(avatar, portrait, 256).draw(pose)
        return rgba_of(frame.rgb, frame.alpha)

    moments = []
    for (pitch, yaw), miss_m in zip(
            ((0, 0), (0, 0.2), (0.1, -0.2), (-0.1, 0.1), (0.15, 0), (-0.05, -0.1)),
            ((2, 2, 0), (-2, 2, 0), (2, -2, 4), (-2, -2, -4), (3, 0, 0), (-3, 0, 0)), strict=True):
        pose = turned(pitch, yaw)
        missed = replace(pose, translation=pose.translation + np.float32(miss_m) / 1000)
        moments += [Moment(pose, shown(true, missed))] * 4
    head = model.vertex_parts()[model.faces[true.triangles, 0]] == VERTEX_PARTS.index('head')
    ear = true.means[head][true.means[head, 0].argmax()]
    near = np.exp(-np.square((true.means - ear) / 0.05).sum(1) / 2)[:, None].astype(np.float32)
    spoilt = replace(true, means=true.means + near * np.float32((0.012, 0, 0)),
                     colors=true.colors * (1 - 0.5 * near))

    again = refined(Beside(spoilt, portrait, 256), moments, 100, 0, _silent)
    unseen = turned(0.05, 0.1)
    truth, before, after = (shown(avatar, unseen).astype(float)
                            for avatar in (true, spoilt, again))
    off = np.abs(before - truth).max(2) > 10
    errors = {name: [np.square(picture - truth)[where].mean() for where in (off, ~off)]
              for name, picture in (('spoilt', before), ('again', after))}
    assert errors['again'][0] < 0.2 * errors['spoilt'][0]
    assert errors['again'][1] < 3  # levels of 255, squared


def _silent(step, share):
    pass
