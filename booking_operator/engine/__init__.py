"""The controller machinery: clock, work queue, store, reflector, controller. Knows nothing of bookings or AWS."""
