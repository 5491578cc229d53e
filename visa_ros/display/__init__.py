"""ShadedFrame to a screen: web page, window, video file."""
