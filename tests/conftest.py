"""What all tests share: no property test has a time limit an example, which would make it a test of the machine.

`HYPOTHESIS=few` draws eight examples, where tests run again for something that is the same in each example.
"""

import os

from hypothesis import settings

settings.register_profile("all", deadline=None)
settings.register_profile("few", deadline=None, max_examples=8)
settings.load_profile(os.environ.get("HYPOTHESIS", "all"))
