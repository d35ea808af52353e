"""The bench of plain processes is that of the driver's own tests."""

from tests.unit.test_plain_driver import bench

__all__ = ["bench"]
