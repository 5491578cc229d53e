"""GaussianAvatar and OperatorPose to CoarseFrame."""
