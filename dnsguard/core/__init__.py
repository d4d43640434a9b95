"""Decisions without I/O: bytes and the time of day go in, bytes and actions come out.

Nothing in this package imports a socket, an event loop, a clock, a random generator or a logger, so
the same objects run in production and in a simulation where hours pass in seconds.
"""
