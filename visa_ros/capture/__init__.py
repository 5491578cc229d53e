"""Camera image to OperatorPose."""
