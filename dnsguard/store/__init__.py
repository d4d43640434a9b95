"""Last-known-good answers on disk, so that a restart in the middle of an outage keeps them.

`rows` says what one answer looks like outside of the process and how old it is, `place` owns the
directory, `sqlite` the file in it, `writer` the thread that does all of this, and `keeper` is what
the event loop sees. Memory is the truth; a disk that fails costs a warning and never an answer.
"""
