"""Leases: which clients hold a session on the server, and for how long they may."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Session = TypeVar("Session")


@dataclass(frozen=True)
class LeaseLimits:
    """How many sessions there are, and when one ends."""

    sessions: int = 4
    """Number of clients that may hold a session at a time."""
    idle: float = 600.0
    """Seconds after a person's last action that a session is kept."""
    liveness: float = 60.0
    """Seconds after the last sign of life, a heartbeat or any other request, that a session is kept."""
    claims: int = 60
    """Number of sessions that may be claimed in a minute, all clients together."""
    waiting: int = 4
    """Number of requests of a session that may wait for each other, or be on their way with their bodies."""
    upload: float = 120.0
    """Seconds in which the body of a request must have come."""


class LeaseExpired(Exception):
    """The session is unknown: it ended, or there never was one by this token."""


class Full(Exception):
    """Every session is taken, or too much was asked for at once; later it may work."""


@dataclass
class _Lease(Generic[Session]):
    session: Session
    acted: float
    seen: float
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Leases(Generic[Session]):
    """The sessions by their tokens. Those that have ended are dropped at the next request, whoever makes it."""

    def __init__(
        self,
        make: Callable[[], Session],
        limits: LeaseLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            make: makes the session of a new client.
            clock: seconds that never go back.
        """
        self.limits = limits or LeaseLimits()
        self._make, self._clock = make, clock
        self._held: dict[str, _Lease[Session]] = {}
        self._claimed: deque[float] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._drop_ended()
            return len(self._held)

    def claim(self) -> str:
        """The token of a new session.

        Raises:
            Full: every session is taken, or too many were claimed within a minute.
        """
        with self._lock:
            now = self._drop_ended()
            while self._claimed and self._claimed[0] <= now - 60:
                self._claimed.popleft()
            if len(self._claimed) >= self.limits.claims:
                raise Full(f"more than {self.limits.claims} sessions were claimed within a minute; wait a minute")
            if len(self._held) >= self.limits.sessions:
                raise Full(f"server at capacity: all {self.limits.sessions} sessions are in use; try again later")
            token = secrets.token_urlsafe(32)
            self._claimed.append(now)
            self._held[token] = _Lease(self._make(), now, now)
            return token

    def release(self, token: str | None) -> None:
        """Ends a session. Raises `LeaseExpired` if it is unknown."""
        with self._lock:
            self._drop_ended()
            if self._held.pop(token, None) is None:
                raise _expired()

    @contextmanager
    def asking(self, token: str | None) -> Iterator[None]:
        """Counts a request of the session from before its body is read, so that few bodies are in memory at a time.

        Raises:
            LeaseExpired: the session is unknown.
            Full: too many requests of the session are waiting.
        """
        with self._lock:
            now = self._drop_ended()
            lease = self._of(token)
            if lease.requests >= self.limits.waiting:
                raise Full("earlier requests of this session are still being answered; wait for them")
            lease.requests += 1
            lease.acted = lease.seen = now
        try:
            yield
        finally:
            with self._lock:
                lease.requests -= 1
                lease.acted = lease.seen = self._clock()

    @contextmanager
    def acting(self, token: str | None) -> Iterator[Session]:
        """The session, for one request that is counted; other requests of the session wait meanwhile.

        Raises:
            LeaseExpired: the session is unknown, or was released while this request waited.
        """
        with self._lock:
            lease = self._of(token)
        with lease.lock:
            with self._lock:
                self._of(token)
            yield lease.session

    def heartbeat(self, token: str | None) -> float:
        """Takes a sign of life. Returns the seconds until the session ends unless its person acts.

        Raises:
            LeaseExpired: the session is unknown.
        """
        with self._lock:
            now = self._drop_ended()
            self._of(token).seen = now
            return self._remaining(token)

    def remaining(self, token: str | None) -> float:
        """As `heartbeat`, without being a sign of life."""
        with self._lock:
            self._drop_ended()
            return self._remaining(token)

    def _of(self, token: str | None) -> _Lease[Session]:
        if token is None or token not in self._held:
            raise _expired()
        return self._held[token]

    def _remaining(self, token: str | None) -> float:
        return max(0.0, self._of(token).acted + self.limits.idle - self._clock())

    def _drop_ended(self) -> float:
        """Drops the sessions that have ended, unless a request of theirs is being answered. Returns the time."""
        now = self._clock()
        for token, lease in list(self._held.items()):
            ended = now - lease.acted > self.limits.idle or now - lease.seen > self.limits.liveness
            if ended and not lease.requests:
                del self._held[token]
        return now


def _expired() -> LeaseExpired:
    return LeaseExpired("the session has ended or was never there; connect again, your prompts on the server are gone")
