"""Portrait to GaussianAvatar."""
