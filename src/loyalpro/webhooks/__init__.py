"""What the owner of a webhook endpoint can do: each operation is one function of a unit of work and a command.

`endpoints`: add, change, delete. `secrets`: rotate. `test_events`, `events`, `deliveries`, `replays`: send, and send again.
`notices`: messages to owners. The engine, in the package `delivery`, makes the HTTP requests.
"""
