"""The advice of errors and statuses, which names Python's arguments, in the words of `hrl solve`'s options."""

from __future__ import annotations

import re

# Patterns and what they become, in this order.
OPTIONS = (
    (r"mdp\.finite_horizon\(None\)", "--horizon none"),
    (r"mdp\.finite_horizon\(n\)", "--horizon N"),
    (r"mdp\.with_discount\(([\d.]+)\)", r"--discount \1"),
    (r"^points = \((\d+),[^)]*\)", r"--points = \1"),
    (r"^(discount|horizon|points|state|tol) = ", r"--\1 = "),
    (r"\b([Tt]ry other starts)\b", r"\1 (in Python: solve_control(starts=...))"),
    (r"\banother horizon\b", "another --horizon"),
    (r"\bgive points to have one\b", "--points N makes one"),
    (r"\bgive (a )?horizon(=N)?\b", "give --horizon N"),
    (r"\bGive (a )?horizon(=N)?\b", "Give --horizon N"),
    (r"\bGive another guess or a horizon\b", "Give --horizon N"),
    (r"\bfewer points or steps\b", "fewer --points or a shorter --horizon"),
    (r"\bmore points\b", "more --points"),
    (r"^There is no route\b", "--route: there is no route"),
    (r"\broute hamiltonian\b", "--route hamiltonian"),
    (r"or None\.$", "or none."),
    (r"[Rr]aise max_iterations or tol\b", "Raise --tol"),
    (r"\b([Rr]aise|[Ll]ower) tol\b", r"\1 --tol"),
    (r"\b([Ll]ower) the discount\b", r"\1 --discount"),
    (r"\btake another method\b", "take another --method"),
    (r" Where the method takes initial_value,[^.]*\.", ""),
)
METHOD = re.compile(r"\b([Tt]ake) ([a-z]+(?:_[a-z]+)+|undiscounted)\b")


def in_options(sentence: str) -> str:
    """Return a sentence whose advice names options.

    Example:
        >>> in_options("Take backward_induction, or mdp.finite_horizon(None) for the optimum without a limit.")
        'Take --method backward-induction, or --horizon none for the optimum without a limit.'
    """
    for pattern, option in OPTIONS:
        sentence = re.sub(pattern, option, sentence)
    return METHOD.sub(lambda found: f"{found[1]} --method {found[2].replace('_', '-')}", sentence)
