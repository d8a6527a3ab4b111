"""A page that shows models: it samples, edits images and follows a training. All computation is in inference."""
