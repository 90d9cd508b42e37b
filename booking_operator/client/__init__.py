"""What people do with bookings, for the kubectl plugin: read, explain, book, extend, release.

Everything that depends on bookings and time is a pure function of objects, the viewer and `now`. Only
`cluster` talks to the API server.
"""
