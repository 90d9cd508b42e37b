"""Asks the API server to confirm that nobody has a resource booked, and no longer than it may take."""

import asyncio

from booking_operator.reconcilers.ports import CacheConsistency

CONFIRM_TIMEOUT_SECONDS = 10.0
"""Of what nobody waits for."""


async def confirm(consistency: CacheConsistency, seconds: float) -> str:
    """Why the bookings may be incomplete, empty where they are not; no answer within `seconds` is a doubt."""
    try:
        async with asyncio.timeout(seconds):
            return await consistency.confirm()
    except TimeoutError:
        return "the API server has not confirmed in time that no booking is missing"
