"""How the random tests run: a failure prints what repeats it."""

from hypothesis import settings

settings.register_profile("cjstream", deadline=None, print_blob=True, derandomize=False)
settings.load_profile("cjstream")
