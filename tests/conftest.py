"""What all tests share: no property test has a time limit an example, which would make it a test of the machine."""

from hypothesis import settings

settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")
