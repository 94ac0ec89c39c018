"""The records of a TensorBoard event file, found and checked in one compiled pass.

A file is a row of records: length (8 bytes), masked CRC-32C of it (4), data, masked CRC-32C of the data (4), all little
endian. TensorBoard's own reader checks the sums byte by byte in Python, which is most of its time.

Reference:
    Castagnoli, Braeuer and Herrmann (1993), "Optimization of cyclic redundancy-check codes with 24 and 32 parity bits".
"""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np

from hamiltonian_rl.errors import UsageError

HEADER, FOOTER = 12, 4
POLYNOMIAL, MASK_DELTA = 0x82F63B78, 0xA282EAD8  # of CRC-32C, bits reversed; of TensorBoard's masking
compiled = numba.njit(cache=True, nogil=True)


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


TABLE = _crc_table()


@compiled
def _masked_crc(data, start, stop, table):  # type: ignore[no-untyped-def]
    ones = np.uint64(0xFFFFFFFF)
    crc = ones  # in 64 bits, as Numba would have shifts anyway
    for i in range(start, stop):
        crc = np.uint64(table[(crc ^ np.uint64(data[i])) & np.uint64(0xFF)]) ^ (crc >> np.uint64(8))
    crc ^= ones
    rotated = (crc >> np.uint64(15)) | ((crc << np.uint64(17)) & ones)
    return (rotated + np.uint64(MASK_DELTA)) & ones


@compiled
def _little_endian(data, start, size):  # type: ignore[no-untyped-def]
    value = np.uint64(0)
    for i in range(size):
        value |= np.uint64(data[start + i]) << np.uint64(8 * i)
    return value


@compiled
def _find_records(data, table, places):  # type: ignore[no-untyped-def]
    """Write start and stop of each whole record into ``places``; return how many there are and where they end."""
    count, at, end = np.int64(0), np.int64(0), len(data)
    while end - at >= HEADER + FOOTER:
        size = _little_endian(data, at, 8)
        if _masked_crc(data, at, at + 8, table) != _little_endian(data, at + 8, 4):
            break
        if size > np.uint64(end - at - HEADER - FOOTER):
            break
        start = at + HEADER
        stop = start + np.int64(size)
        if _masked_crc(data, start, stop, table) != _little_endian(data, stop, 4):
            break
        places[count, 0], places[count, 1] = start, stop
        count += 1
        at = stop + FOOTER
    return count, at


def read_records(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the bytes of an event file, and where its whole records lie.

    Records end at the first that is cut off or whose sum is wrong: there is no way to find where the next one begins.

    Args:
        path: Of the file.

    Returns:
        Bytes, shape ``(B,)``, mapped and not loaded; start and stop of each record, shape ``(N, 2)``; and how many
        bytes at the end are no whole record.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8), np.empty((0, 2), np.int64), 0
        data = np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise UsageError(f"The log {path} cannot be read: {error.strerror}.") from None
    places = np.empty((len(data) // (HEADER + FOOTER) + 1, 2), np.int64)
    count, at = _find_records(data, TABLE, places)
    return data, places[:count].copy(), len(data) - at
