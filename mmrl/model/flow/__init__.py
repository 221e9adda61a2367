"""Policies that make pictures by a rectified flow: their pipelines, their steps, and searches over these.

Convention: x_t = (1 - t) x_0 + t e with noise e, so the velocity is v = e - x_0. Sampling runs t from 1 to 0; a step
goes from `time` to the earlier `following`, dt = following - time < 0. Shapes: N samples, T steps; latents are
[N, ...]. Sums over latent dimensions are means, as in the released code of the papers.
"""
