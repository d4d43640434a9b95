"""Outages as data, and what clients see of them.

Scenarios, the models of clients and of other caches, the simulator that replays an outage in
virtual time, and the result that it and `dnsguard bench outage` have in common. Of the package it
knows core, config and errors.
"""
