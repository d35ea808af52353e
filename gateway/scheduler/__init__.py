"""All decisions of the gateway: which sandbox runs what, what is started, frozen, evicted, refused. [P]

`core.Core` takes events and the time, and returns commands; `gateway.pool` performs them. Nothing in this package
does I/O, reads a clock or knows asyncio, and no event costs more because there are more functions, sandboxes or waiters.
"""
