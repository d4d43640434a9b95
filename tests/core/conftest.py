"""How hypothesis runs here: the same examples every time, and no clock to fail by.

`HYPOTHESIS_PROFILE=search` looks further and at random; what it finds becomes a plain test.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("search", max_examples=3000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
