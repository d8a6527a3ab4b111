"""Models of diffusers: their folders and Hub repositories, read into our own networks, processes and codecs."""
