"""Causal language models of Hugging Face, from a local folder; the only file that imports transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UntrustedFileError, UsageError, first_line
from hamiltonian_rl.language.model import LanguageModel


def open_hugging_face_model(path: Path, *, trust: bool = False) -> LanguageModel:
    """Return a causal language model with its tokenizer, as ``save_pretrained`` wrote both into one folder.

    Nothing is looked up elsewhere. Without trust only safetensors are read and no code of the folder's runs.

    Args:
        path: The folder.
        trust: Whether pickled weights and the model's own code may be loaded, which may do anything.

    Raises:
        UsageError: transformers is not installed, or the folder holds no such model, or not its tokenizer, or the model
            is not causal.
        UntrustedFileError: Its weights are pickled, and nobody said that they are trusted.
    """
    try:
        import transformers
    except ImportError:
        raise UsageError(
            f"{path} is a Hugging Face model, which needs transformers: pip install 'hamiltonian-rl[language]'."
        ) from None
    if not trust and not any(path.glob("*.safetensors")):
        pickled = next(iter([*path.glob("*.bin"), *path.glob("*.pt*"), *path.glob("*.ckpt")]), None)
        if pickled is None:
            raise UsageError(f"{path} has no weights; expected model.safetensors beside its config.json.")
        raise UntrustedFileError(
            f"The weights of {path} are pickled ({pickled.name}), and loading them may run any code. "
            "Add --trust if you trust who made them, or save them as safetensors."
        )
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust}
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path, **options)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=None if trust else True, **options
        )
    except Exception as error:  # from anywhere in transformers: it raises what its parts raise
        raise UsageError(
            f"{path} cannot be loaded as a causal language model ({type(error).__name__}: {first_line(error)}) "
            "Expected what save_pretrained writes for model and tokenizer."
        ) from error
    return _as_model(path, tokenizer, model.float().eval())


def _as_model(path: Path, tokenizer: Any, model: Any) -> LanguageModel:
    n_symbols = int(model.get_input_embeddings().num_embeddings)
    positions = getattr(model.config, "max_position_embeddings", None) or getattr(model.config, "n_positions", None)
    begun = _ids(path, tokenizer, "a")
    start = tokenizer.bos_token_id if len(begun) and begun[0] == tokenizer.bos_token_id else None

    def encode(raw: bytes) -> np.ndarray:
        try:
            ids = _ids(path, tokenizer, raw.decode(), add_special_tokens=False)
        except UnicodeDecodeError as error:
            raise UsageError(f"The text is not UTF-8 (byte {error.start:,}), which {path} reads. Convert it.") from None
        if len(ids) and ids.max() >= n_symbols:
            raise UsageError(
                f"The tokenizer of {path} gives the symbol {ids.max():,}; its model knows those below {n_symbols:,}. "
                "Put the model's own tokenizer there."
            )
        return ids

    def logits(rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(input_ids=rows, use_cache=False).logits
        return found

    if not _is_causal(logits, n_symbols):
        raise UsageError(
            f"{path} is not causal: what it says of a symbol depends on later ones. Give a model that was made to "
            "continue texts."
        )
    longest = 1024 if positions is None else int(positions) - (start is not None)
    return LanguageModel(path.name, logits, n_symbols, longest, start, encode)


@torch.inference_mode()
def _is_causal(logits: Callable[[torch.Tensor], torch.Tensor], n_symbols: int) -> bool:
    """Return whether a change of the last symbol leaves what is said before it as it is."""
    rows = torch.arange(8)[None] % n_symbols
    before = logits(rows)[:, :-1]
    rows[0, -1] = (rows[0, -1] + 1) % n_symbols
    return torch.allclose(logits(rows)[:, :-1], before, rtol=1e-3, atol=1e-4)  # else rounding


def _ids(path: Path, tokenizer: Any, text: str, **options: Any) -> np.ndarray:
    try:
        return np.array(tokenizer(text, verbose=False, **options)["input_ids"], dtype=np.int64)
    except Exception as error:  # a tokenizer may be anything
        raise UsageError(
            f"The tokenizer of {path} fails on the text ({type(error).__name__}: {first_line(error)}) "
            "Put the model's own there."
        ) from error


def is_hugging_face_folder(path: Path) -> bool:
    """Return whether a folder has the configuration of a Hugging Face model."""
    try:
        return "model_type" in json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return False
