"""Enrolment: a clip of one person becomes an avatar that is tuned to it, with its own shader."""
