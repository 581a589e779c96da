"""Memory goes back when a load is over, and not while it lasts."""

from gateway.workers.trimming import BODY_BYTES, CALM_S, MANY, Trimming


def test_memory_goes_back_once_after_a_load():
    """When most connections have been gone for a while; a short dip is none."""
    trimmed = []
    trimming = Trimming(lambda: trimmed.append(now_s))
    steps: list[tuple[float, int]] = [
        (0, 10),
        (1, 2 * MANY),
        (2, MANY),
        (3, 2 * MANY),
        (20, MANY + 1),
        (21, 5),
    ]
    steps += [(20 + CALM_S, 5), (21 + CALM_S, 5), (22 + CALM_S, 5), (60, 6)]
    for now_s, connections in steps:
        trimming.tick(connections, now_s)

    assert trimmed == [20 + CALM_S]


def test_a_small_load_leaves_nothing_behind():
    """Nor does one that stays."""
    trimmed = []
    trimming = Trimming(lambda: trimmed.append(True))
    for now_s in range(100):
        trimming.tick(MANY - 1 if now_s < 50 else 0, float(now_s))
        trimming.tick(0, float(now_s))

    assert not trimmed


def test_memory_goes_back_after_many_bodies():
    """They may have been those of few connections."""
    trimmed = []
    trimming = Trimming(lambda: trimmed.append(True))
    trimming.tick(5, 0.0, body_bytes=MANY * BODY_BYTES)
    trimming.tick(5, CALM_S, body_bytes=MANY * BODY_BYTES)
    assert not trimmed
    trimming.tick(5, CALM_S + 1.0)
    trimming.tick(5, 2 * CALM_S + 1.0)

    assert trimmed
