"""CoarseFrame to ShadedFrame: a few-step autoregressive video diffusion model."""
