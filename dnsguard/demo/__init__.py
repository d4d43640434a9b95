"""What `dnsguard demo` puts on the stage around dnsguard, all of it on this machine's loopback.

A cluster DNS that can be told to die (`cluster`), a plain cache without stale answers to compare
with (`plain`), steady clients of both (`clients`), what they saw (`tally`), in what order things
happen (`timeline`), how it looks (`view`, `lines`) and who starts and stops it all (`stage`).
The three servers and the clients are processes of their own, so that drawing the screen does not
disturb what is measured.
"""
