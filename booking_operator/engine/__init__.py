"""The controller machinery: clock, work queue, store, reflector, controller; no word of bookings or AWS."""
