"""Several processes that answer at one address, and the one above them that keeps them running.

`line` is what parent and worker say to each other, `supervisor` the parent, `front` what it shows
of all of them at the one admin address. A worker is a `Server` like any other; see `cli/worker.py`.
"""
