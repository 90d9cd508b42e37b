"""Asks the API server to confirm that nobody has a resource booked, and no longer than it may take."""

import asyncio

from booking_operator.reconcilers.ports import Trust

CONFIRM_SECONDS = 10.0
"""Of what nobody waits for."""


async def confirmed(trust: Trust, seconds: float) -> str:
    """Why the bookings may be incomplete, empty where they are not; no answer within `seconds` is a doubt."""
    try:
        async with asyncio.timeout(seconds):
            return await trust.confirm()
    except TimeoutError:
        return "the API server has not confirmed in time that no booking is missing"
