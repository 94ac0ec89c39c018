"""Kinematics of learning (sections 2 and 3): how fast an error falls, when it is below a threshold, where it ends.

Notation: ``y(t)`` what is measured at step ``t`` (a loss that falls, a return that rises), ``v = dy/dt`` its velocity,
``a = d²y/dt²`` its acceleration. What is measured is ``y`` and noise, which is correlated from one point to the next:
all standard errors allow for that (`noise`).
"""
