"""The parametric body that poses and avatars are expressed on."""
