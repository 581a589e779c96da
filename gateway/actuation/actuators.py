"""Makes the actuators of a configuration. A stub: the branch of the actuators has the real one."""

from gateway.actuation.actuator import Actuator
from gateway.config.load import Loaded


def actuators(loaded: Loaded) -> dict[str, Actuator]:
    """By pool, for pools that have `scale`."""
    return {}
