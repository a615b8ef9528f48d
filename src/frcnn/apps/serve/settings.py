"""What the server is told, and the limits that keep strangers from harming it."""

from __future__ import annotations

from dataclasses import dataclass

from frcnn.errors import UserError

KIBIBYTE = 1 << 10
MEBIBYTE = 1 << 20
ENDING = "The server ends: ask again later."  # for those who are not answered any more

_LEAST = {
    "batch": 1,
    "queue": 1,
    "body": 1,
    "rate": 0,
    "patience": 0.1,
    "pace": 1,
    "grace": 0,
}


@dataclass(frozen=True)
class Settings:
    """How detections are served.

    Args:
        token: what a client must show, without white space at its ends; None: nothing.
        batch: most pictures run through the network together.
        queue: most pictures waiting for the network; more are refused with 503.
        pictures: most pictures of a request; no more than may wait.
        body: most bytes of a request.
        bodies: most bytes of all requests that are being answered; more are refused with 503.
        rate: requests a second that one address may make in the long run; 0: any.
        patience: seconds within which a request must have arrived.
        pace: bytes for each of which that have arrived it has a second more.
        grace: seconds that requests have to end in after a signal; then they are told 503.
        linger: seconds for which the rest of a refused request is read, so that its sender, who
            writes before it reads, gets to see the answer.

    Raises:
        UserError: an empty token, a number out of its range.
    """

    token: str | None = None
    batch: int = 8
    queue: int = 128
    pictures: int = 32
    body: int = 32 * MEBIBYTE
    bodies: int = 512 * MEBIBYTE
    rate: float = 50.0
    patience: float = 20.0
    pace: int = 128 * KIBIBYTE
    grace: float = 6.0
    linger: float = 2.0

    def __post_init__(self):
        if self.token is not None:
            object.__setattr__(self, "token", self.token.strip())  # a file's last newline
            if not self.token:
                raise UserError(
                    "The token is empty. Give one of a few dozen random letters, or none."
                )
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if not value >= low:
                raise UserError(f"The server's {name} must be at least {low}. Received: {value}.")
        object.__setattr__(self, "pictures", min(self.pictures, self.queue))
