"""What networks are trained on, and their training; nothing here is needed at run time."""
