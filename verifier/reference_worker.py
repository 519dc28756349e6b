"""The trusted process that knows the problem: it makes the inputs of every trial from the judge's seeds and says
what the right outputs are. It never sees the candidate."""

import gc
import hashlib
import math
import os
import sys
import traceback

import torch

import problem_gate
import problem_size
from distributions import TIES, kernelbench_seeds
from formula_noise import widened
from frames import Channel
from problem import TOLERANCE, OperatorList, Problem, ProblemError, outputs_of, to_fp16, to_tf32, worst_ratio
from shrink import reduced_constants
from tensors import DTYPE_NAMES, UnsupportedValue, encode, tensor_bytes

CHANNEL_FD = 3
# A kind whose eager error is more than this share of the tolerance says nothing about a candidate.
MAX_EAGER_SHARE = 0.25
MAX_TOLERANCE_FACTOR = 20.0


def _finite(value):
    return value if math.isfinite(value) else 1e300


def _rms_error(values, oracle):
    errors = [float((v.double() - r.double()).pow(2).mean().sqrt()) / max(float(r.double().pow(2).mean().sqrt()), 1e-30)
              for v, r in zip(values, oracle) if r.dtype.is_floating_point and r.numel()]
    return _finite(max(errors, default=0.0))


class Worker:
    def __init__(self):
        self._problem = None
        self._models = {}

    def do_measure(self, message):
        """What the problem needs, before anything is computed where that can be."""
        return problem_size.measure(message["problem"], message["overrides"]), b""

    def do_load(self, message):
        overrides = message["overrides"]
        self._problem = Problem(message["problem"], overrides)
        if not overrides:
            overrides = reduced_constants(self._problem.module)
            if overrides:
                self._problem = Problem(message["problem"], overrides)
        seeds = message["seeds"]
        blobs = []
        init = encode(self._problem.init_inputs, blobs)
        gate = problem_gate.examine(self._problem, seeds)
        model = self._problem.construct(seeds[0])
        inputs = self._problem.inputs(seeds[1], "plain")
        operators = OperatorList()
        with torch.no_grad(), operators:
            model(*inputs)
        return {
            "init": init,
            "overrides": overrides,
            "gate": {key: value for key, value in gate.items() if key != "null_margins"},
            "null_margins": {key: _finite(value) for key, value in gate.get("null_margins", {}).items()},
            "evaluate": self._problem.evaluate,
            "operators": operators.operators,
            "parameters": problem_gate.parameter_facts(self._problem, seeds),
            "kernelbench_seeds": kernelbench_seeds(5),
        }, b"".join(blobs)

    def do_construct(self, message):
        """Model number `model` under a seed, moved if `perturb` is given; with its state."""
        model = self._problem.construct(message["seed"])
        plain = {
            key: hashlib.sha256(tensor_bytes(tensor.detach().contiguous())).hexdigest()
            for key, tensor in self._problem.state(model).items()
        }
        if message.get("perturb") is not None:
            model = self._problem.perturbed(model, message["perturb"])
        self._models[message["model"]] = model
        blobs, tensors = [], []
        for key, tensor in self._problem.state(model).items():
            leaf = encode(tensor.detach().contiguous(), blobs)
            tensors.append({"key": key, "digest": plain[key], **leaf})
        return {"state": tensors}, b"".join(blobs)

    def do_trial(self, message):
        model = self._models[message["model"]]
        kind = message["kind"]
        inputs = self._problem.inputs(message["seed"], kind)
        blobs = []
        tree = encode(inputs, blobs)
        input_bytes = sum(map(len, blobs))
        oracle, ratio = problem_gate.condition(self._problem, model, inputs)
        eager = outputs_of(self._problem.eager(model, inputs))
        why = None
        if kind != "plain" and ratio > MAX_EAGER_SHARE:
            why = "the reference itself is not accurate or not finite on it"
        if kind in TIES and not all(e.dtype.is_floating_point for e in eager):
            why = "an index is not unique on it"
        factor = min(max(1.0, ratio / MAX_EAGER_SHARE), MAX_TOLERANCE_FACTOR) if math.isfinite(ratio) else 1.0
        tolerances = widened(self._problem, model, inputs, oracle, [TOLERANCE.get(e.dtype, 0.0) for e in eager])
        described = []
        for e, r, tolerance in zip(eager, oracle, tolerances):
            if e.dtype not in DTYPE_NAMES:
                raise ProblemError(f"the reference returns {e.dtype}")
            described.append({
                "dtype": DTYPE_NAMES[e.dtype],
                "shape": list(e.shape),
                "floating": e.dtype.is_floating_point,
                "tolerance": max(tolerance, TOLERANCE.get(e.dtype, 0.0) * factor),
                "element_bytes": e.element_size(),
            })
            wide = torch.float64 if e.dtype.is_floating_point else torch.int64
            blobs += [tensor_bytes(r.to(wide).contiguous()), tensor_bytes(e.to(wide).contiguous())]
        reply = {"inputs": tree, "input_bytes": input_bytes, "outputs": described, "dropped": why,
                 "eager_ratio": _finite(ratio), "eager_rms": _rms_error(eager, oracle)}
        if message.get("precision"):
            try:
                reply["tf32_rms"] = _rms_error(outputs_of(self._problem.oracle(model, inputs, to_tf32)), oracle)
                reply["fp16_rms"] = _rms_error(outputs_of(self._problem.oracle(model, inputs, to_fp16)), oracle)
            except (RuntimeError, TypeError, ValueError):
                reply["dropped"] = reply["dropped"] or "the reference insists on its precision"
        return reply, b"".join(blobs)


def _worker_on(place):
    if place == "cpu":
        return Worker()
    from device_reference import DeviceWorker  # touches the GPU, which a process may not do before it forks

    return DeviceWorker()


def serve_problem(channel, message):
    """Answers the commands about one problem, of which the first is `message`, until it is no longer wanted."""
    worker = _worker_on(message.get("on", "cpu"))
    while message["command"] != "unload":
        try:
            reply, blob = getattr(worker, "do_" + message["command"])(message)
        except (ProblemError, UnsupportedValue) as failure:
            reply, blob = {"error": {"class": "problem", "text": str(failure)[:2000]}}, b""
        except (problem_size.TooLargeToBuild, torch.OutOfMemoryError) as failure:
            reply, blob = {"error": {"class": "memory", "text": str(failure)[:1000]}}, b""
        except Exception as failure:  # a problem's own code may raise anything
            text = "".join(traceback.format_exception_only(failure)).strip()
            reply, blob = {"error": {"class": "problem", "text": text[:2000]}}, b""
        channel.send(reply, blob)
        message, _ = channel.receive()
    channel.send({"unloaded": True})


def main():
    torch.set_num_threads(1)
    # Results go to the judge only; what a problem prints goes to standard error.
    os.dup2(2, 1)
    channel = Channel(CHANNEL_FD)
    # What was imported stays shared with the forks.
    gc.collect()
    gc.freeze()
    while True:
        # The fork reads the channel until its problem is unloaded, and this process only after its end.
        message, _ = channel.receive()
        if message.get("many"):
            problem_size.share_imports()
        child = os.fork()
        if child == 0:
            try:
                serve_problem(channel, message)
            except EOFError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            return


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
