"""dnsguard: an async DNS caching proxy that keeps answering when cluster DNS does not."""

__version__ = "0.1.0"
