"""Leases by a clock that the tests move."""

import threading

import pytest

from samjax.serve.nninteractive.leases import Full, LeaseExpired, LeaseLimits, Leases
from tests.serve.nninteractive.served import Clock

LIMITS = LeaseLimits(sessions=2, idle=600, liveness=60, claims=5, waiting=2)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases[list]:
    return Leases(list, LIMITS, clock)


def act(leases: Leases[list], token: str | None) -> list:
    with leases.asking(token), leases.acting(token) as session:
        return session


def test_each_client_has_a_session_of_its_own(leases: Leases[list]):
    first, second = leases.claim(), leases.claim()
    act(leases, first).append(1)
    assert act(leases, first) == [1]
    assert act(leases, second) == []
    assert first != second
    assert min(len(first), len(second)) >= 40


def test_a_full_house_refuses_until_somebody_leaves(leases: Leases[list]):
    first, _ = leases.claim(), leases.claim()
    with pytest.raises(Full, match="capacity: all 2 sessions"):
        leases.claim()
    leases.release(first)
    leases.claim()
    with pytest.raises(LeaseExpired):
        act(leases, first)
    with pytest.raises(LeaseExpired):
        leases.release(first)


@pytest.mark.parametrize("token", [None, "", "another"])
def test_unknown_tokens_are_refused(leases: Leases[list], token: str | None):
    leases.claim()
    for ask in (leases.release, leases.heartbeat, leases.remaining, lambda token: act(leases, token)):
        with pytest.raises(LeaseExpired, match="connect again"):
            ask(token)


def test_a_client_that_is_silent_is_dropped_after_the_liveness_timeout(leases: Leases[list], clock: Clock):
    token, other = leases.claim(), leases.claim()
    for _ in range(3):
        clock.now += 50
        leases.heartbeat(other)
        leases.remaining(other)
    assert len(leases) == 1
    with pytest.raises(LeaseExpired):
        leases.heartbeat(token)
    leases.claim()


def test_asking_for_the_time_is_no_sign_of_life(leases: Leases[list], clock: Clock):
    token = leases.claim()
    clock.now += 40
    leases.remaining(token)
    clock.now += 40
    with pytest.raises(LeaseExpired):
        leases.remaining(token)


def test_heartbeats_do_not_put_the_idle_timeout_off_but_actions_do(leases: Leases[list], clock: Clock):
    token = leases.claim()
    for _ in range(10):
        clock.now += 50
        remaining = leases.heartbeat(token)
    assert remaining == 100
    act(leases, token)
    assert leases.remaining(token) == 600
    for _ in range(12):
        clock.now += 50
        leases.heartbeat(token)
    clock.now += 1
    with pytest.raises(LeaseExpired):
        leases.heartbeat(token)


def test_a_session_that_is_being_answered_is_not_dropped(leases: Leases[list], clock: Clock):
    token = leases.claim()
    with leases.asking(token), leases.acting(token):
        clock.now += 10_000
        assert len(leases) == 1
    assert leases.remaining(token) == 600


def test_claims_are_bounded_in_a_minute(leases: Leases[list], clock: Clock):
    for _ in range(5):
        leases.release(leases.claim())
    with pytest.raises(Full, match="wait a minute"):
        leases.claim()
    clock.now += 61
    leases.claim()


def test_requests_of_a_session_follow_each_other_and_few_may_wait(leases: Leases[list]):
    token, order = leases.claim(), []

    def second() -> None:
        with leases.asking(token), leases.acting(token):
            order.append("second")

    with leases.asking(token), leases.acting(token):
        thread = threading.Thread(target=second)
        thread.start()
        while leases._held[token].requests < 2:
            pass
        with pytest.raises(Full, match="earlier requests"):
            act(leases, token)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    act(leases, token)


def test_a_session_released_while_a_request_waits_is_gone_for_it(leases: Leases[list]):
    token, found = leases.claim(), []

    def waiting() -> None:
        try:
            act(leases, token)
        except LeaseExpired as error:
            found.append(error)

    with leases.asking(token), leases.acting(token):
        thread = threading.Thread(target=waiting)
        thread.start()
        while leases._held[token].requests < 2:
            pass
        leases.release(token)
    thread.join()
    assert len(found) == 1
    assert len(leases) == 0
