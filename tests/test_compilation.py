"""Who waits for a compiler is told so, once."""

import logging

import numba
import pytest

from hamiltonian_rl.compilation import announce_compiling


def test_compiling_is_announced_and_what_is_compiled_already_is_not(caplog: pytest.LogCaptureFixture) -> None:
    twice, other = numba.njit(lambda x: 2 * x), numba.njit(lambda x: 3 * x)
    announce_compiling(twice, "the doubling", 2)
    with caplog.at_level(logging.WARNING):
        assert other(1) == 3
        assert not caplog.messages
        assert twice(21) == 42
        assert caplog.messages == ["Compiling the doubling, once on this machine: about 2 seconds."]
        assert twice(4) == 8
        assert len(caplog.messages) == 1
