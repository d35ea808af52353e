"""Where a sandbox finds what the gateway serves to it: addresses on its own loopback."""

from typing import Final

RUNTIME_API: Final = ("127.0.0.1", 9001)  # as on AWS
LAMBDA_API: Final = ("127.0.0.1", 9002)
