"""The reference on a GPU: inputs made there from the judge's seeds, in memory that the candidate's process maps, and
outputs compared there, in this process. The candidate's process sees no more than inputs and parameters: what is
right lies in memory of this process alone."""

import copy
import os
import time

import torch

import device_card
import problem_gate
from device_compare import compare, rms_error, size_of, worst_ratio
from device_memory import Gpu, content_digest
from distributions import kernelbench_seeds
from formula_noise import widened
from problem import TOLERANCE, OperatorList, Problem, ProblemError, outputs_of, to_fp16, to_tf32
from shrink import reduced_constants
from tensors import DTYPE_NAMES, encode, leaves, map_tensors, storage_extent

GUARD = 4096
POISON = 0xFF
# Beyond so many elements the gate's many passes are made at fewer rows, and no formula's noise is looked for.
MAX_GATE_ELEMENTS = 1 << 24
MAX_NOISE_ELEMENTS = 1 << 25
MAX_EAGER_SHARE = 0.25
MAX_TOLERANCE_FACTOR = 20.0
# What a baseline of the TF32 class is off by, and the most that is forgiven for it.
TF32_MARGIN = 4.0
MAX_TF32_TOLERANCE = 2e-2
# Two slots where the inputs leave room for them.
MAX_TWO_SLOT_BYTES = 3 << 30
OUTPUT_SLACK = 1 << 16
# Inputs that take longer to make than this are made a few times and then served again, each time with other bytes
# beside them: what a cache could key on is the judge's secret order alone.
MAX_MAKING_SECONDS = 0.25
NUM_POOLED = 3


def _round_up(value, step):
    return -(-value // step) * step


class DeviceWorker:
    def __init__(self):
        self._gpu = Gpu()
        self._problem = None
        self._models = {}
        self._area = None
        self._inputs = None  # of the last trial or timed call, as they were made
        self._expected = None
        self._held = None
        self._compiled = None
        self._pool = []

    # The problem.

    def do_load(self, message):
        self._gpu.synchronize()
        overrides, seeds = message["overrides"], message["seeds"]
        device = str(self._gpu.device)
        self._problem = Problem(message["problem"], overrides, device)
        fewer_rows = {} if overrides else reduced_constants(self._problem.module, MAX_GATE_ELEMENTS)
        gated = Problem(message["problem"], {**overrides, **fewer_rows}, device) if fewer_rows else self._problem
        gate = problem_gate.examine(gated, seeds)
        self._problem.evaluate = gated.evaluate
        self._mutates = bool(gate.get("mutates_inputs"))
        parameters = problem_gate.parameter_facts(gated, seeds)
        model = gated.construct(seeds[0])
        operators = OperatorList()
        with torch.no_grad(), operators:
            model(*gated.inputs(seeds[1], "plain"))
        self._convolves = any("convolution" in name for name in operators.operators)
        self._used_shares = device_card.used_shares(gated, model, seeds) if not gate.get("stochastic") else []
        blobs = []
        init = encode(self._problem.init_inputs, blobs)
        del model, gated
        self._release()
        margins = gate.pop("null_margins", {})
        return {
            "init": init,
            "overrides": overrides,
            "gate": gate,
            "gate_overrides": fewer_rows,
            "null_margins": {key: min(value, 1e300) for key, value in margins.items()},
            "evaluate": self._problem.evaluate,
            "operators": operators.operators,
            "parameters": parameters,
            "kernelbench_seeds": kernelbench_seeds(5),
        }, b"".join(blobs)

    def do_construct(self, message):
        model = self._problem.construct(message["seed"])
        plain = {key: content_digest(tensor) for key, tensor in self._problem.state(model).items()}
        if message.get("perturb") is not None:
            model = self._problem.perturbed(model, message["perturb"])
        self._models[message["model"]] = model
        tensors, position = [], self._state_offset if self._area else 0
        for key, tensor in self._problem.state(model).items():
            tensor = tensor.detach().contiguous()
            size = tensor.numel() * tensor.element_size()
            if self._area and size:
                self._area.bytes(position, size).copy_(tensor.reshape(-1).view(torch.uint8))
            tensors.append({"key": key, "digest": plain[key], "tensor": DTYPE_NAMES[tensor.dtype],
                            "shape": list(tensor.shape), "strides": list(tensor.stride()), "bytes": size,
                            "offset": position})
            position += _round_up(size, 256)
        self._gpu.synchronize()
        return {"state": tensors}, b""

    def do_drop_model(self, message):
        self._models.pop(message["model"], None)
        return {}, b""

    # Shared memory.

    def do_share(self, message):
        """Makes the memory that a candidate's process is to map, for the sizes of this problem; kept for the next
        candidate of it."""
        if self._area is None:
            model = self._problem.construct(message["seed"])
            inputs = self._problem.inputs(message["seed"], "plain")
            outputs = self._run(model, inputs)
            input_bytes = [self._extent(x) for x in leaves(inputs)]
            self._slot_bytes = GUARD + sum(_round_up(size, GUARD) + 2 * GUARD for size in input_bytes)
            self._num_slots = 2 if self._slot_bytes <= MAX_TWO_SLOT_BYTES else 1
            self._output_offset = self._num_slots * self._slot_bytes
            self._output_room = sum(_round_up(o.numel() * o.element_size(), 256) for o in outputs) + OUTPUT_SLACK
            self._state_offset = self._output_offset + _round_up(self._output_room, GUARD)
            state = sum(_round_up(t.numel() * t.element_size(), 256) for t in self._problem.state(model).values())
            output_bytes = sum(o.numel() * o.element_size() for o in outputs)
            self._floor = device_card.floor(input_bytes, self._used_shares, output_bytes, self._gpu.l2_bytes)
            del model, inputs, outputs
            self._release()
            self._area, self._handle = self._gpu.allocate(self._state_offset + _round_up(state, GUARD))
            self._card = device_card.measure(self._gpu)
        return {"handle": self._handle, "bytes": self._area.size, "slots": self._num_slots,
                "output_offset": self._output_offset, "output_bytes": self._output_room, "card": self._card,
                "floor": self._floor, "large": self._num_slots == 1, "free_share": self._gpu.free_share()}, b""

    @staticmethod
    def _extent(tensor):
        return storage_extent(tensor) * tensor.element_size()

    def _release(self):
        """The GPU's memory is the candidate's as well."""
        self._gpu.release()

    def _write_slot(self, slot, inputs):
        """Puts the inputs between guard zones. The tree of the arguments, with the place of each tensor."""
        position = slot * self._slot_bytes
        self._area.bytes(position, self._slot_bytes).fill_(POISON)
        position += GUARD
        self._places = []
        for tensor in leaves(inputs):
            size = self._extent(tensor)
            flat = torch.as_strided(tensor.detach(), (size // max(1, tensor.element_size()),), (1,), tensor.storage_offset())
            if size:
                self._area.typed(position, size, tensor.dtype).copy_(flat)
            self._places.append((position, size, flat))
            position += _round_up(size, GUARD) + 2 * GUARD
        places = iter(self._places)
        return _tree(inputs, lambda: next(places)[0])

    def _stage(self, slot, inputs):
        tree = self._write_slot(slot, inputs)
        self._slot = slot
        self._area.bytes(self._output_offset, self._output_room).fill_(POISON)
        self._gpu.synchronize()
        return tree

    def _run(self, model, inputs):
        """Outputs of the reference as it is, which may change its own state and its inputs."""
        with torch.no_grad():
            arguments = map_tensors(inputs, torch.clone) if self._mutates else inputs
            return outputs_of(copy.deepcopy(model)(*arguments))

    # Correctness.

    def do_trial(self, message):
        kind = message["kind"]
        if message.get("again"):
            tree = self._stage(message["slot"] % self._num_slots, self._inputs)
            return {"inputs": tree}, b""
        self._inputs = self._expected = None
        model = self._models[message["model"]]
        inputs = self._problem.inputs(message["seed"], kind)
        self._expected, reply = self._expect(model, inputs, kind, message.get("precision", False))
        self._inputs = inputs
        self._release_if_large()
        reply["inputs"] = self._stage(message["slot"] % self._num_slots, inputs)
        return reply, b""

    def _release_if_large(self):
        if self._gpu.free_share() < 0.5:
            self._release()

    def _oracle(self, model, inputs, rounded=None):
        """In float64; where the card has no memory for that, or the reference insists on its precision, in the
        reference's own precision without TF32."""
        try:
            return outputs_of(self._problem.oracle(model, inputs, rounded)), True
        except torch.OutOfMemoryError:
            self._release()
        except (RuntimeError, TypeError, ValueError):
            pass
        if rounded is not None:
            raise ValueError("no rounded oracle")
        return self._without_tf32(model, inputs), False

    def _without_tf32(self, model, inputs):
        allowed = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            return self._run(model, inputs)
        finally:
            torch.backends.cudnn.allow_tf32 = allowed

    def _expect(self, model, inputs, kind, asks_precision):
        oracle, is_wide = self._oracle(model, inputs)
        eager = self._run(model, inputs)
        strict = self._without_tf32(model, inputs) if self._convolves else eager
        if len(oracle) != len(eager):
            raise ProblemError("the reference returns another number of outputs in float64")
        tolerances = [TOLERANCE.get(e.dtype, 0.0) for e in eager]
        small = sum(r.numel() for r in oracle) + sum(x.numel() for x in leaves(inputs)) <= MAX_NOISE_ELEMENTS
        if is_wide and small:
            tolerances = widened(self._problem, model, inputs, oracle, tolerances)
        expected, described, ratio, error = [], [], 0.0, 0.0
        finite = True
        for e, s, r, tolerance in zip(eager, strict, oracle, tolerances):
            if e.dtype not in DTYPE_NAMES:
                raise ProblemError(f"the reference returns {e.dtype}")
            floating = e.dtype.is_floating_point
            rms = size_of(r) if floating else 1.0
            base = TOLERANCE.get(e.dtype, 0.0)
            if floating:
                finite = finite and bool(torch.isfinite(r).all())
                here = worst_ratio(s, r, base, rms)
                ratio = max(ratio, here)
                factor = min(max(1.0, here / MAX_EAGER_SHARE), MAX_TOLERANCE_FACTOR) if here < float("inf") else 1.0
                tolerance = max(tolerance, base * factor)
                if self._convolves:
                    default = worst_ratio(e, r, 1.0, rms)
                    tolerance = max(tolerance, min(TF32_MARGIN * default, MAX_TF32_TOLERANCE))
                error = max(error, rms_error(e, r, rms))
            expected.append({"oracle": r, "eager": e, "tolerance": tolerance, "floating": floating, "rms": rms})
            described.append({"dtype": DTYPE_NAMES[e.dtype], "shape": list(e.shape), "floating": floating,
                              "tolerance": tolerance})
        why = None
        if kind != "plain" and (ratio > MAX_EAGER_SHARE or not finite):
            why = "the reference itself is not accurate or not finite on it"
        reply = {"outputs": described, "dropped": why, "eager_rms": error, "oracle": "float64" if is_wide else "own precision"}
        if asks_precision and is_wide and small and not self._convolves:
            reply.update(self._precision_floors(model, inputs, expected))
        return expected, reply

    def _precision_floors(self, model, inputs, expected):
        floors = {}
        for name, rounding in (("tf32_rms", to_tf32), ("fp16_rms", to_fp16)):
            try:
                rounded, _ = self._oracle(model, inputs, rounding)
            except (ValueError, RuntimeError):
                return {}
            errors = [rms_error(v, x["oracle"], x["rms"]) for v, x in zip(rounded, expected) if x["floating"]]
            floors[name] = max(errors, default=0.0)
        return floors

    def _offsets(self):
        position, offsets = self._output_offset, []
        for expected in self._expected:
            size = expected["eager"].numel() * expected["eager"].element_size()
            offsets.append((position, size))
            position += _round_up(size, 256)
        return offsets

    def do_compare(self, message):
        """Inputs, guard zones and outputs after a call."""
        self._gpu.synchronize()
        if self._expected is None:
            self._expected, _ = self._expect(self._models[message["model"]], self._inputs, "plain", False)
        changed = not message.get("spoiled") and not self._inputs_intact()
        comparisons = []
        for (position, size), expected in zip(self._offsets(), self._expected):
            output = self._area.typed(position, size, expected["eager"].dtype) if size else expected["eager"]
            comparisons.append(compare(output, expected))
        if message.get("hold"):
            self._held = self._area.bytes(self._output_offset, self._output_room).clone()
            self._held_sizes = self._offsets()
        return {"inputs_changed": changed, "guards_changed": not message.get("spoiled") and not self._guards_intact(),
                "outputs": comparisons}, b""

    def do_clear_output(self, message):
        self._area.bytes(self._output_offset, self._output_room).fill_(POISON)
        self._gpu.synchronize()
        return {}, b""

    def do_compare_held(self, message):
        """Whether an output that was handed out before is still what it was."""
        now = self._area.bytes(self._output_offset, self._output_room)
        changed = any(not torch.equal(now[p - self._output_offset : p - self._output_offset + n],
                                      self._held[p - self._output_offset : p - self._output_offset + n])
                      for p, n in self._held_sizes)
        self._held = None
        return {"changed": changed}, b""

    def _inputs_intact(self):
        for position, size, flat in self._places:
            if size and not torch.equal(self._area.bytes(position, size), flat.view(torch.uint8)):
                return False
        return True

    def _guards_intact(self):
        position = self._slot * self._slot_bytes
        for start, size, _ in [*self._places, ((self._slot + 1) * self._slot_bytes, 0, None)]:
            if not bool((self._area.bytes(position, start - position) == POISON).all()):
                return False
            position = start + size
        return True

    # Timing.

    def do_stage_timed(self, message):
        """Fresh inputs, no trace of an output, and a cold cache."""
        self._inputs, self._expected = None, None
        if len(self._pool) < NUM_POOLED:
            started = time.monotonic()
            self._inputs = self._problem.inputs(message["seed"], "plain")
            self._gpu.synchronize()
            if time.monotonic() - started > MAX_MAKING_SECONDS:
                self._pool.append(self._inputs)
        else:
            self._inputs = self._pool[message["seed"] % NUM_POOLED]
        tree = self._stage(0, self._inputs)
        places = iter(self._places)
        self._arguments = map_tensors(self._inputs, lambda x: self._view(x, next(places)))
        self._gpu.flush_cache()
        self._gpu.synchronize()
        return {"inputs": tree}, b""

    def _view(self, tensor, place):
        position, size, _ = place
        leaf = {"tensor": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "strides": list(tensor.stride()),
                "bytes": size, "offset": position}
        return self._area.tensor(leaf)

    def do_time_reference(self, message):
        """One call of the reference on the staged inputs, eager or compiled."""
        model = self._compiled if message["compiled"] else self._models[message["model"]]
        with torch.no_grad():
            result, times = self._gpu.timed(model, self._arguments)
        del result
        return times, b""

    def do_spoil_inputs(self, message):
        """After a timed call and before its output is asked for: what was not computed by now cannot be any more."""
        self._area.bytes(self._slot * self._slot_bytes, self._slot_bytes).fill_(POISON)
        self._gpu.synchronize()
        return {}, b""

    def do_compile(self, message):
        """torch.compile of the reference, ready to be timed on the staged inputs."""
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        started = time.monotonic()
        self._compiled = torch.compile(self._models[message["model"]])
        with torch.no_grad():
            for _ in range(3):
                self._compiled(*self._arguments)
        self._gpu.synchronize()
        return {"seconds": time.monotonic() - started}, b""

    def do_forget_compiled(self, message):
        self._compiled = None
        self._release()
        return {}, b""

    def do_ping(self, message):
        self._gpu.synchronize()
        return {"alive": float(torch.ones(8, device=self._gpu.device).sum())}, b""


def _tree(value, next_offset):
    """encode() of tensors that stay where they are."""
    if isinstance(value, torch.Tensor):
        return {"tensor": DTYPE_NAMES[value.dtype], "shape": list(value.shape), "strides": list(value.stride()),
                "bytes": storage_extent(value) * value.element_size(), "offset": next_offset()}
    if isinstance(value, list):
        return {"list": [_tree(item, next_offset) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [_tree(item, next_offset) for item in value]}
    if isinstance(value, dict):
        return {"dict": {key: _tree(item, next_offset) for key, item in value.items()}}
    return encode(value, [])
