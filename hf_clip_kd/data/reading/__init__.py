"""Files of images and captions, read as rows."""
