"""How users are told that a booking is about to end: one module per channel."""
