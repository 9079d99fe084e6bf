"""How long to wait before asking again."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from stepcredit.core.seeds import derive


def retry_after_seconds(header: str | None, *, now: datetime, cap_s: float) -> float | None:
    """What a Retry-After header asks for.

    Args:
        header: the header's text: seconds, or a date; `None` if there was none.
        now: the current time, with its zone.
        cap_s: most that is believed.

    Returns:
        Seconds in [0, cap_s], or `None` if there is no header or it cannot be read.

    >>> retry_after_seconds("2.5", now=datetime.now(UTC), cap_s=60.0)
    2.5
    >>> retry_after_seconds("soon", now=datetime.now(UTC), cap_s=60.0) is None
    True
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        # A date without a zone is read as UTC, as HTTP dates are.
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), cap_s)


def backoff_seconds(number: int, *, first_s: float, cap_s: float, seed: int, call: str) -> float:
    """Wait after failed try `number` (from 0) of a call: doubling, with a jitter of up to half, by seed.

    >>> 0.5 <= backoff_seconds(1, first_s=0.5, cap_s=30.0, seed=0, call="c") <= 1.0
    True
    """
    most = min(cap_s, first_s * 2.0 ** min(number, 30))
    return most * Random(derive(seed, "backoff", call, number)).uniform(0.5, 1.0)


def spread_seconds(wait_s: float, *, seed: int, call: str, number: int) -> float:
    """A server's wait, lengthened by up to 5% so that the calls which got it do not come back together.

    >>> 10.0 <= spread_seconds(10.0, seed=0, call="c", number=0) <= 10.5
    True
    """
    return wait_s * Random(derive(seed, "retry-after", call, number)).uniform(1.0, 1.05)
