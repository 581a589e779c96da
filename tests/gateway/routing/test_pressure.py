"""How full a backend would be: by the strictest promise there, prefill included."""

import pytest

from gateway.routing.backend import NO_CLASS, Backend, Lease
from gateway.routing.pressure import ALONE, BESIDE, LARGE, PRESENT_S, Alone, Pressure
from tests.gateway.routing.test_admission import table

STRICT, LAX = 0, 1


def backend():
    return Backend(name="a-0", pool="a", url="http://a0")


def hold(on, own, slots=(0.25, 0.125), prefill_s=0.0):
    return Lease(
        on, own=own, slots=slots, prefill_s=prefill_s, bucket=0, plan_id="p", decision="planned"
    )


def of(pressure, on, own=LAX, memory=0.0, prefill_s=0.0, now_s=0.0):
    return pressure.of(on, 0, max(own, 0), own, memory, prefill_s, now_s)


def test_a_class_is_measured_by_its_own_promise_where_it_is_alone():
    """Lax requests fill a backend as far as their own promise allows."""
    pressure, on = Pressure(table()), backend()
    hold(on, LAX)

    assert of(pressure, on) == pytest.approx(0.25)


def test_the_strictest_promise_in_flight_counts():
    """One strict request, and all are measured by what it was promised."""
    pressure, on = Pressure(table()), backend()
    lease = hold(on, STRICT)

    assert of(pressure, on) == pytest.approx(0.25 + LARGE)
    lease.release()
    assert of(pressure, on) == pytest.approx(0.125)


def test_a_class_counts_for_a_while_after_its_last_request():
    """In a pause of the strict class the lax one does not take all of its pools; in pools that the
    plan does not give it, it does."""
    for guards, measured in (((True, True), LARGE), ((False, True), 0.125)):
        pressure = Pressure(table(guards=(guards,)))
        pressure.seen(0, 100.0)

        assert of(pressure, backend(), now_s=101.0) == pytest.approx(measured)
        assert of(pressure, backend(), now_s=100.0 + PRESENT_S) == pytest.approx(0.125)


def test_what_was_seen_outlives_a_table():
    """A new plan does not forget which classes there are."""
    before, after = Pressure(table()), Pressure(table())
    before.seen(0, 100.0)
    after.keep(before)

    assert after.stricter(LAX, 101.0)
    assert not after.stricter(STRICT, 101.0)


def test_without_a_promise_the_default_class_counts():
    """Best effort leaves room by the default promise, whoever is there."""
    assert of(Pressure(table()), backend(), own=NO_CLASS) == pytest.approx(LARGE)


def test_prefill_counts_half_beside_load_and_whole_by_itself():
    """Load contains the prefill of a steady stream; a backlog that is full is full."""
    pressure, on = Pressure(table()), backend()
    hold(on, STRICT, prefill_s=0.4)

    assert of(pressure, on, own=STRICT, prefill_s=0.2) == pytest.approx(
        0.25 + LARGE + BESIDE * 0.6 / 0.8
    )
    assert of(pressure, on, own=STRICT, prefill_s=0.8) == pytest.approx(1.2 / 0.8)


def test_a_prompt_alone_in_prefill_weighs_less_until_it_takes_most_of_the_ttft():
    """Long prompts fit where no other waits, and very long ones only on an idle backend."""
    pressure, on = Pressure(table()), backend()
    hold(on, STRICT)

    assert of(pressure, on, own=STRICT, prefill_s=1.2) == pytest.approx(
        0.25 + LARGE + BESIDE * ALONE
    )
    assert of(pressure, on, own=STRICT, prefill_s=1.4) > 1.0
    assert [pressure.long(0, s) for s in (1.2, 1.4)] == [False, True]


def test_a_laxer_classs_prompt_beside_a_stricter_class_weighs_in_full():
    """Short answers lose their pace beside a prompt; the one that can wait waits."""
    pressure, on = Pressure(table()), backend()
    hold(on, STRICT)

    for own in (LAX, NO_CLASS):
        assert of(pressure, on, own=own, prefill_s=0.4) == pytest.approx(
            0.25 + LARGE + BESIDE * 0.4 / 0.8
        )


def test_a_long_prompt_is_a_stall_of_what_is_in_flight():
    """Its seconds count against a hundred tokens of the strictest promise of the model."""
    pressure, on = Pressure(table()), backend()
    hold(on, LAX)

    assert pressure.stall(on, 0, LAX, 3.0) == pytest.approx(0.5 + 3.0 / 10.0)
    assert not pressure.stalled(on, LAX)
    hold(on, LAX, prefill_s=3.0)
    assert pressure.stalled(on, LAX)


def test_memory_is_a_measure_of_its_own():
    """A backend whose KV cache is full is full, whatever its load is."""
    pressure, on = Pressure(table()), backend()
    lease = Lease(on, own=LAX, slots=(0.1, 0.1), prefill_s=0.0, memory=0.7, bucket=0, plan_id="p",
                  decision="planned")  # fmt: skip

    assert of(pressure, on, memory=0.5) == pytest.approx(1.2)
    lease.release()
    assert on.memory == 0.0


def test_a_large_request_does_not_wait_until_a_backend_is_nearly_idle():
    """Before it is placed it counts as a smaller one, and afterwards as what it is."""
    pressure, on = Pressure(table(slots=(((0.7, 0.7),),) * 2)), backend()
    hold(on, STRICT, slots=(0.5, 0.5))

    assert of(pressure, on, own=STRICT) == pytest.approx(0.5 + LARGE)
    hold(on, STRICT, slots=(0.7, 0.7))
    assert of(pressure, on, own=STRICT) > 1.0


def test_the_load_of_other_clients_counts_by_every_promise():
    """As that of our own requests does, in each of the measures."""
    pressure, on, alone = Pressure(table()), backend(), Alone(0.1, 1.0, 1.0)
    hold(on, LAX)
    before = of(pressure, on), alone.of(on, 0.0, 0.0), pressure.stall(on, 0, 0, 1.0)
    on.foreign = 0.4
    after = of(pressure, on), alone.of(on, 0.0, 0.0), pressure.stall(on, 0, 0, 1.0)

    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([0.4] * 3)
