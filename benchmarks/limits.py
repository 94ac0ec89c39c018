"""What bounds a solver, for `benchmarks/mdp.py`: the memory's speed, the number of threads, the size of the memory.

* A sweep reads every table once and looks up a value for each successor. So it is set beside two loops that do only
  that: a sum over as many bytes in order, and a sum of the same look-ups (with the reading of their indices). Both run
  in turn with the sweep; so does a sum that does both side by side, where what is read in order drives values out of
  the caches.
* Peak memory is what the solve takes on top of the tables, plus the tables, divided by them: that of a process of its
  own, in which every large array goes back to the system at once, and kernels are compiled before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from processes import garnet

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import METHODS
from hamiltonian_rl.solvers.sweeper import Sweeper

MEMORY_METHODS = ("value-iteration", "modified-policy-iteration")


@numba.njit(fastmath=True, nogil=True, cache=True)
def stream(rewards, probabilities, value, out, policy):  # type: ignore[no-untyped-def]
    """Read what a sweep reads in order and write what it writes; return the sum."""
    total = 0.0
    for array in (rewards, probabilities):
        for i in range(len(array)):
            total += array[i]
    for i in range(len(value)):
        total += value[i]
        out[i] = value[i]
        policy[i] = 0
    return total


@numba.njit(fastmath=True, nogil=True, cache=True)
def gather(value, indices):  # type: ignore[no-untyped-def]
    """Return the sum of the values looked up."""
    total = 0.0
    for i in range(len(indices)):
        total += value[np.uint32(indices[i])]
    return total


@numba.njit(fastmath=True, nogil=True, cache=True)
def one_pass(probabilities, indices, value):  # type: ignore[no-untyped-def]
    """Read probabilities and look up values side by side, as a sweep does: each drives the other out of the caches."""
    total = 0.0
    for i in range(len(indices)):
        total += probabilities[i] + value[np.uint32(indices[i])]
    return total


def in_turn(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Return the wall seconds of each, run one after the other, again and again: one number a round."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(2 * repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if repeat:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def print_row(process: str, method: str, seconds: Any, ratio: Any, of_what: str) -> None:
    """Print one row of the table of `benchmarks/mdp.py`."""
    time_taken = "" if seconds is None else f"{seconds:.5f}"
    print(f"| {process} | 0.99 | {method} | {time_taken} | {ratio:.2f} | {of_what} | |", flush=True)


def arrays_of(mdp: MDP) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, drawn once, and room for those backed up and for their policy."""
    value = np.random.default_rng(0).random(mdp.n_states)
    return value, np.empty_like(value), np.zeros(mdp.n_states, np.int32)


def sweep_of(mdp: MDP, threads: int, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Callable[[], Any]:
    """Return one sweep of Bellman's operator."""
    return partial(Sweeper(mdp, compiled=True, threads=threads).backup, *arrays)


def memory_speed(repeats: int) -> None:
    """Print sweeps on one thread beside reading the same bytes and looking up the same values."""
    for name, size in (("garnet-1e4", 10_000), ("garnet-1e5", 100_000), ("garnet-1e6", 1_000_000)):
        _memory_speed(name, garnet(size, 0.99), 50 * repeats if size < 1_000_000 else 10 * repeats)


def _memory_speed(name: str, mdp: MDP, repeats: int) -> None:
    arrays, rewards = arrays_of(mdp), mdp.rewards.ravel()  # the same ones for all: none begins with a colder cache
    value, out, policy = arrays
    works = {
        "sweep": sweep_of(mdp, 1, arrays),
        "stream": lambda: stream(rewards, mdp.probabilities, value, out, policy),
        "gather": lambda: gather(value, mdp.next_states),
        "one pass": lambda: one_pass(mdp.probabilities, mdp.next_states, value),
    }
    found = in_turn(works, repeats)
    limit = found["stream"] + found["gather"]  # of each round: what else the machine does meets all of them alike
    read = sum(array.nbytes for array in (rewards, mdp.probabilities, value, out, policy))
    names = {
        "stream": f"tables in order, {read / np.median(found['stream']) / 1e9:.0f} GB/s",
        "gather": f"look-ups of {np.median(found['gather']) / len(mdp.next_states) * 1e9:.2f} ns",
        "one pass": "probabilities and look-ups side by side",
        "sweep": "one sweep, one thread",
    }
    for work, label in names.items():
        print_row(name, label, np.median(found[work]), np.median(found[work] / limit), "it / both loops, wall")


def thread_speed(repeats: int) -> None:
    """Print sweeps and whole solves on two threads beside one."""
    mdp = garnet(1_000_000, 0.99)
    solve = METHODS["modified-policy-iteration"]
    methods: dict[str, dict[int, Callable[[], Any]]] = {
        "one sweep": {count: sweep_of(mdp, count, arrays_of(mdp)) for count in (1, 2)},
        "modified policy iteration": {count: partial(solve, mdp, threads=count) for count in (1, 2)},
    }
    for name, works in methods.items():
        found = in_turn({str(count): work for count, work in works.items()}, repeats)
        print_row(
            "garnet-1e6",
            f"{name}, two threads",
            np.median(found["2"]),
            np.median(found["1"] / found["2"]),
            "one thread / it, wall",
        )


def memory_size(repeats: int) -> None:
    """Print seconds and peak memory of solving beside the tables, each in a process of its own (Linux only)."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    for size in (1_000_000, 10_000_000):
        for method in MEMORY_METHODS:
            command = [sys.executable, str(Path(__file__)), str(size), method]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                print(f"  memory of {method}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
                continue
            seconds, ratio = map(float, done.stdout.split())
            print_row(f"garnet-{size:.0e}".replace("e+0", "e"), method, seconds, ratio, "peak memory / tables")


def measure_memory(size: int, method: str) -> tuple[float, float]:
    """Return the CPU seconds to 1e-6, and the peak memory of tables and solving divided by that of the tables."""

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    METHODS[method](garnet(50_000, 0.99), threads=1)  # compiles
    mdp = garnet(size, 0.99)
    names = ("rewards", "first", "next_states", "probabilities", "initial")
    tables = sum(getattr(mdp, name).nbytes for name in names)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    start = time.process_time()
    METHODS[method](mdp, tol=1e-6, threads=1).unwrap()
    return time.process_time() - start, 1.0 + (status("VmHWM") - before) / float(tables)


LIMITS: dict[str, Callable[[int], None]] = {"limit": memory_speed, "threads": thread_speed, "memory": memory_size}

if __name__ == "__main__":  # the process of its own
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=int)
    parser.add_argument("method")
    arguments = parser.parse_args()
    print(*measure_memory(arguments.size, arguments.method))
