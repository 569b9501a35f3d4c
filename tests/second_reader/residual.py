"""Codings 5 and 6 (SPEC.md, section 8, "Residual coding")."""


def decode(parameters, coded, predicted, side, plain_bytes):
    raise NotImplementedError("residual coding")
