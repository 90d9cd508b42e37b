"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("plain", deadline=None)  # time is measured in bench/, not here
settings.load_profile("plain")
