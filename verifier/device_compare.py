"""Compares outputs on the GPU by the criterion of src/verify/comparator.h, a piece at a time."""

import torch

from problem import RMS_FLOOR

PIECE = 1 << 26
LARGEST = 1e38


def _pieces(*flats):
    for start in range(0, flats[0].numel(), PIECE):
        yield start, [flat[start : start + PIECE] for flat in flats]


def size_of(oracle):
    """The root of the mean square of the finite elements."""
    total, count = 0.0, 0
    for _, (piece,) in _pieces(oracle.reshape(-1)):
        piece = piece.double()
        finite = torch.isfinite(piece)
        total += float(torch.where(finite, piece, 0.0).square().sum())
        count += int(finite.sum())
    return max((total / count) ** 0.5 if count else 0.0, RMS_FLOOR)


def _ratios(y, r, tolerance, rms):
    """|y - r| in units of the bound; infinite where one is NaN or infinite and the other is not the same."""
    same = (y == r) | (y.isnan() & r.isnan())
    ratio = (y - r).abs() / (tolerance * (rms + r.abs()))
    comparable = torch.isfinite(y) & torch.isfinite(r)
    return torch.where(comparable, ratio, torch.where(same, 0.0, float("inf")))


def _allclose(y, e, tolerance):
    return bool(((y - e).abs() <= tolerance + tolerance * e.abs()).logical_or(y == e).all())


def compare(output, expected):
    """Of an output with what is expected: {"oracle", "eager", "tolerance", "floating", "rms"}."""
    y, r, e = output.reshape(-1), expected["oracle"].reshape(-1), expected["eager"].reshape(-1)
    found = {"elements": y.numel(), "bad": 0, "tolerance": expected["tolerance"], "worst_idx": -1, "worst_value": 0.0,
             "worst_expected": 0.0, "worst_ratio": 0.0, "rms_error": 0.0, "kernelbench_1e4": True, "kernelbench_1e2": True}
    square = 0.0
    for start, (yp, rp, ep) in _pieces(y, r, e):
        if expected["floating"]:
            yp, rp, ep = yp.double(), rp.double(), ep.double()
            ratio = _ratios(yp, rp, expected["tolerance"], expected["rms"])
            square += float((yp - rp).nan_to_num(0.0, 0.0, 0.0).square().sum())
            found["kernelbench_1e4"] = found["kernelbench_1e4"] and _allclose(yp, ep, 1e-4)
            found["kernelbench_1e2"] = found["kernelbench_1e2"] and _allclose(yp, ep, 1e-2)
        else:
            ratio = torch.where(yp == rp, 0.0, float("inf"))
            same_as_eager = bool((yp == ep).all())
            found["kernelbench_1e4"] = found["kernelbench_1e4"] and same_as_eager
            found["kernelbench_1e2"] = found["kernelbench_1e2"] and same_as_eager
        # NaN fails: what is not at most 1 is wrong.
        found["bad"] += int((~(ratio <= 1.0)).sum())
        index = int(ratio.nan_to_num(nan=float("inf")).argmax())
        worst = min(float(ratio[index].nan_to_num(nan=float("inf"))), LARGEST)
        if worst > found["worst_ratio"] or found["worst_idx"] < 0:
            found.update(worst_idx=start + index, worst_ratio=worst, worst_value=_number(yp[index]),
                         worst_expected=_number(rp[index]))
    if expected["floating"] and y.numel():
        found["rms_error"] = min((square / y.numel()) ** 0.5 / expected["rms"], LARGEST)
    return found


def _number(value):
    value = float(value)
    return max(-LARGEST, min(LARGEST, value)) if value == value else LARGEST


def rms_error(values, oracle, rms):
    """Of floating values, relative to the oracle's size."""
    square = 0.0
    for _, (v, r) in _pieces(values.reshape(-1), oracle.reshape(-1)):
        square += float((v.double() - r.double()).nan_to_num(0.0, 0.0, 0.0).square().sum())
    return min((square / max(1, values.numel())) ** 0.5 / rms, LARGEST)


def worst_ratio(values, oracle, tolerance, rms):
    worst = 0.0
    for _, (v, r) in _pieces(values.reshape(-1), oracle.reshape(-1)):
        ratio = _ratios(v.double(), r.double(), tolerance, rms)
        worst = max(worst, float(ratio.nan_to_num(nan=float("inf")).max()))
    return worst
