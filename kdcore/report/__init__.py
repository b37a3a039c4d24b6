"""From confusion matrices to a verdict that people can read. Torch-free: numpy, Pillow, jinja2."""
