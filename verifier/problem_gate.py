"""Whether a problem can tell a right answer from none, asked before any candidate is judged by it."""

import torch

from distributions import KINDS
from formula_noise import widened
from problem import TOLERANCE, outputs_of, worst_ratio
from tensors import leaves, map_tensors

NULL_MARGIN = 10.0


def _nulls(outputs, inputs, other):
    """Answers that no work went into: (name, tensors)."""
    yield "zeros", [torch.zeros_like(r) for r in outputs]
    yield "ones", [torch.ones_like(r) for r in outputs]
    if any(r.numel() > 1 and r.dtype.is_floating_point for r in outputs):
        means = [float(r.double().mean()) for r in outputs]
        yield "the mean", [torch.full_like(r, m) if r.dtype.is_floating_point else r for r, m in zip(outputs, means)]
    if all(r.dim() >= 1 and r.shape[0] > 1 for r in outputs):
        yield "the first row", [r[:1].expand_as(r) for r in outputs]
    yield "the output for other inputs", other
    tensors = leaves(inputs)
    for position, x in enumerate(tensors):
        if len(outputs) == 1 and x.shape == outputs[0].shape and x.dtype.is_floating_point:
            yield f"input {position}", [x.double()]


def examine(problem, seeds):
    """The facts that the judge records, and `degenerate`: the null answer that passes everywhere, if one does."""
    model = problem.construct(seeds[0])
    inputs = problem.inputs(seeds[1], "plain")
    before = map_tensors(inputs, lambda x: x.clone())
    torch.manual_seed(seeds[2])
    first = outputs_of(problem.eager(model, inputs))
    torch.manual_seed(seeds[3])
    second = outputs_of(problem.eager(model, inputs))
    if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second)):
        if problem.evaluate:
            return {"stochastic": True, "kept": [], "degenerate": None}
        problem.evaluate = True
        return examine(problem, seeds)
    direct = map_tensors(inputs, lambda x: x.clone())
    with torch.no_grad():
        problem.construct(seeds[0])(*direct)
    mutates = not all(torch.equal(a, b) for a, b in zip(leaves(direct), leaves(before)))
    surviving = None
    kept = []
    margins = {}
    for number, kind in enumerate(KINDS):
        x = problem.inputs(seeds[4] + number, kind)
        oracle, ratio = condition(problem, model, x)
        if ratio > 0.25 and kind != "plain":
            continue
        kept.append(kind)
        tolerances = widened(problem, model, x, oracle, [TOLERANCE.get(e.dtype, 1e-4) for e in first])
        y = problem.inputs(seeds[5] + number, kind if kind not in ("zeros", "ramp") else "normal")
        other = outputs_of(problem.oracle(model, y))
        passing = set()
        for name, null in _nulls(oracle, x, other):
            worst = max(worst_ratio(v, r, t) for v, r, t in zip(null, oracle, tolerances))
            margins[name] = max(margins.get(name, 0.0), min(worst, 1e9))
            if worst <= NULL_MARGIN:
                passing.add(name)
        names = {name for name, _ in _nulls(oracle, x, other)}
        surviving = passing if surviving is None else {n for n in surviving if n in passing or n not in names}
    return {
        "stochastic": False,
        "mutates_inputs": mutates,
        "kept": kept,
        "degenerate": sorted(surviving)[0] if surviving else None,
        "null_margins": margins,
    }


def _sensitivity(problem, model, inputs, oracle, tolerances):
    """How far the right answer moves when the inputs move by as much as a rounding: eager may be right by
    luck (the mean of equal numbers) where no other order of summation would be."""
    generator = torch.Generator(device=problem.device).manual_seed(1)

    def moved(x):
        if not x.dtype.is_floating_point:
            return x
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64, device=x.device).clamp(-2, 2)
        return x.double() * (1 + 0.5 * torch.finfo(torch.float32).eps * noise)

    try:
        shaken = outputs_of(problem.oracle(model, map_tensors(inputs, moved)))
    except (RuntimeError, TypeError, ValueError):
        return 0.0
    pairs = [(s, r, t) for s, r, t in zip(shaken, oracle, tolerances) if r.dtype.is_floating_point]
    return max((worst_ratio(s, r, t) for s, r, t in pairs), default=0.0)


def condition(problem, model, inputs):
    """(oracle outputs, the worst error of eager against them in units of the tolerance). The ratio is infinite
    where the oracle is not finite, so that the kind is dropped."""
    eager = outputs_of(problem.eager(model, inputs))
    try:
        oracle = outputs_of(problem.oracle(model, inputs))
    except (RuntimeError, TypeError, ValueError):
        # A reference that insists on its precision: it is its own oracle.
        oracle = [e.double() if e.dtype.is_floating_point else e for e in eager]
    tolerances = [TOLERANCE.get(e.dtype, 1e-4) for e in eager]
    ratio = max(worst_ratio(e, r, t) for e, r, t in zip(eager, oracle, tolerances))
    ratio = max(ratio, _sensitivity(problem, model, inputs, oracle, tolerances))
    if not all(torch.isfinite(r).all() for r in oracle if r.dtype.is_floating_point):
        ratio = float("inf")
    return oracle, ratio


def parameter_facts(problem, seeds):
    """For each parameter and buffer: whether it is the same under every seed, and whether the output reacts to it."""
    one, two = problem.construct(seeds[0]), problem.construct(seeds[1])
    moved = problem.perturbed(one, seeds[2])
    inputs = problem.inputs(seeds[3], "normal")
    base = outputs_of(problem.eager(one, inputs))
    facts = {}
    moved_state, two_state = problem.state(moved), problem.state(two)
    for key, tensor in problem.state(one).items():
        original = tensor.detach().clone()
        with torch.no_grad():
            tensor.copy_(moved_state[key])
        changed = outputs_of(problem.eager(one, inputs))
        with torch.no_grad():
            tensor.copy_(original)
        facts[key] = {
            "constant": torch.equal(original, two_state[key]),
            "matters": not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(base, changed)),
        }
    return facts
