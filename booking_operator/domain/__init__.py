"""The rules, as pure functions of explicit inputs: no I/O, no clock reads, no asyncio."""
