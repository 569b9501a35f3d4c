"""Predictions from sources (SPEC.md, section 7)."""

from limits import must


def predict(record, sources, side):
    """The predicted bytes of a record, or None; `sources` are the bytes of its views."""
    match record.predictor:
        case 0:
            must(not record.predictor_parameters, "no predictor has no parameters")
            return None
        case 1:
            must(not record.predictor_parameters, "predictor base has no parameters")
            must(len(sources) == 1, "predictor base has one source")
            must(len(sources[0]) == record.plain_bytes, "a base is as long as what it predicts")
            return sources[0]
        case other:
            raise NotImplementedError(f"predictor {other}")
