"""A day that doesn't end while tests run on the real clock."""

from datetime import UTC, datetime


def early_zone() -> str:
    """A time zone in which today began one to two hours ago: no day, week or month ends during a test. Nor have the seconds until
    the next day `500` in front, which opencode takes for a status wherever it stands."""
    ahead = (1 - datetime.now(UTC).hour + 11) % 24 - 11
    # The signs of these names are the other way round.
    return f"Etc/GMT{-ahead:+d}"
