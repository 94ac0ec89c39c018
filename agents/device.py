"""Where to compute."""

from __future__ import annotations

from hamiltonian_rl.errors import UsageError


def resolve_device(device: str | None) -> str:
    """Return "cpu" or a CUDA device that exists; "auto" (and None) is the CPU, which is faster at these sizes."""
    if device in (None, "auto", "cpu"):
        return "cpu"
    import torch

    if not isinstance(device, str) or device.split(":")[0] != "cuda":
        raise UsageError(f'device = "{device}" is unknown; expected "cpu", "cuda" or "cuda:1".')
    count = torch.cuda.device_count()
    index = device.partition(":")[2] or "0"
    if not index.isdigit() or int(index) >= count:
        raise UsageError(f'device = "{device}" is not there: torch sees {count} CUDA devices. Use --device cpu.')
    return f"cuda:{index}"
