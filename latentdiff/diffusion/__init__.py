"""The mathematics of diffusion on one axis, x_t = alpha x0 + sigma eps: no network, no data set, no device policy."""
