"""Which data to measure: A-, D- and I-optimal rows out of candidates, beside a certified bound (section 3.1)."""

from hamiltonian_rl.design.selection import AOptimalDesign, Design, DesignStatus, choose_rows
from hamiltonian_rl.design.sequential import plan_rows
from hamiltonian_rl.design.task import DesignTask, design_task

__all__ = ["AOptimalDesign", "Design", "DesignStatus", "DesignTask", "choose_rows", "design_task", "plan_rows"]
