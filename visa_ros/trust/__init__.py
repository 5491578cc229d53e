"""Whose avatars may be shown: keys, signed consent, what a robot trusts, marks in pictures."""
