"""Texts that change once a second."""

from __future__ import annotations

from gateway.edge.stamp import Second


def test_both_texts() -> None:
    second = Second()
    second.at(1584039838.999)
    assert second.date == b"Date: Thu, 12 Mar 2020 19:03:58 GMT\r\n"
    assert second.time == "12/Mar/2020:19:03:58 +0000"
    second.at(1584039839.0)
    assert second.time == "12/Mar/2020:19:03:59 +0000"
    second.at(0)
    assert second.time == "01/Jan/1970:00:00:00 +0000"
