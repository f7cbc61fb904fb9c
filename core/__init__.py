"""The maths of Gaussian diffusion models: schedules, forward process, objectives, bounds, samplers.

Needs numpy and scipy only. Pure functions of arrays: nothing here draws a random number, reads a clock or a
file, or knows of a device. Steps run from 1 to T; step 0 is the data.
"""
