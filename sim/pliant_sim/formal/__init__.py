"""Proofs of equality with an SMT solver."""
