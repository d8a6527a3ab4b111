"""A page that shows models: it samples, edits images and follows a training. It calls inference, and has no maths."""
