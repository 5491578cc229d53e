"""Enrolment: a clip of one person becomes an avatar with a shader of its own."""
