"""A problem's torch functions as scalar expressions, with exact derivatives, and as machine code."""
