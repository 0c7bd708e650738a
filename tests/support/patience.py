"""How tests wait: for what happens, never for a time."""

import time

# For what must come, in seconds.  Only a test that fails waits so long; none that passes depends on it,
# however slow or loaded the machine is.
PATIENCE = 300


def await_that(condition, what="it", patience=PATIENCE):
    """The first true value that `condition` gives."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)
    return value
