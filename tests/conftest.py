"""What holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

# How long an example takes says what else the machine does, not whether the code is right.
_EVERYWHERE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples on every machine: a change is refused for what it breaks, not for what chance found.
settings.register_profile("windlass", parent=_EVERYWHERE, derandomize=True)
# Others each time, to find what is not known yet: `nox -s unit -- --hypothesis-profile=explore`.
settings.register_profile("explore", parent=_EVERYWHERE)
settings.load_profile("windlass")

# Ctrl-C reaches what tests start, also where a shell started the tests themselves in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
