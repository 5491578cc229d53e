"""
ViSA as a ROS 2 package: a real-time avatar of a robot's remote operator.

The folders follow the data::

    camera --> capture --OperatorPose--> rendering --CoarseFrame--> display
                                           ^   ^
    portrait --> reconstruction --GaussianAvatar  body

Importing this package loads neither torch, cv2 nor rclpy.
"""
from pkgutil import extend_path

# The message classes (visa_ros.msg, visa_ros.action) and the compiled kernels live in the
# installed package; with the source tree first on sys.path they are still found.
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
