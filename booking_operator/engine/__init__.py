"""The controller machinery: clock, work queue, store, reflector and controller, without bookings or AWS."""
