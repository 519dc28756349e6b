#!/usr/bin/env python3
"""The parts of verification on a GPU that need none: the comparison of outputs, the least work, what the helper with the
compilers accepts, inputs of every kind."""

import math
import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "verifier"))

import torch  # noqa: E402

import device_card  # noqa: E402
import device_compare  # noqa: E402
import toolsmith  # noqa: E402
from distributions import KINDS, make_inputs  # noqa: E402


def expected(oracle, eager=None, tolerance=1e-4):
    oracle = torch.as_tensor(oracle)
    floating = oracle.dtype.is_floating_point
    return {"oracle": oracle, "eager": oracle if eager is None else eager, "tolerance": tolerance, "floating": floating,
            "rms": device_compare.size_of(oracle) if floating else 1.0}


class Comparison(unittest.TestCase):
    def bad(self, output, oracle, **options):
        return device_compare.compare(torch.as_tensor(output), expected(oracle, **options))["bad"]

    def test_equal_values_are_right(self):
        values = torch.randn(1000, dtype=torch.float64)
        found = device_compare.compare(values.float(), expected(values))
        self.assertEqual(found["bad"], 0)
        self.assertEqual(found["elements"], 1000)
        self.assertLess(found["rms_error"], 1e-6)
        self.assertTrue(found["kernelbench_1e4"])

    def test_the_bound_is_of_the_size_of_the_output_and_of_the_element(self):
        oracle = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
        self.assertEqual(self.bad(oracle + 1.9e-4, oracle), 0)
        self.assertEqual(self.bad(oracle + 2.1e-4, oracle), 4)

    def test_nan_and_infinities_equal_only_themselves(self):
        nan, inf = math.nan, math.inf
        self.assertEqual(self.bad([nan, 1.0, 1.0], [1.0, 1.0, 1.0]), 1)
        self.assertEqual(self.bad([nan, inf, -inf, 1.0], [nan, inf, -inf, 1.0]), 0)
        self.assertEqual(self.bad([1.0, inf, inf, 1.0], [nan, 1.0, -inf, 1.0]), 3)

    def test_what_is_wrong_is_named(self):
        oracle = torch.ones(100, dtype=torch.float64)
        output = oracle.clone()
        output[37] = 3.0
        found = device_compare.compare(output, expected(oracle))
        self.assertEqual((found["bad"], found["worst_idx"], found["worst_value"], found["worst_expected"]), (1, 37, 3.0, 1.0))
        self.assertFalse(found["kernelbench_1e2"])
        output[37] = math.nan
        self.assertEqual(device_compare.compare(output, expected(oracle))["worst_value"], device_compare.LARGEST)

    def test_integers_are_exact(self):
        self.assertEqual(self.bad([1, 2, 3], [1, 2, 4]), 1)
        self.assertEqual(self.bad([True, False], [True, False]), 0)

    def test_pieces_make_no_difference(self):
        oracle = torch.randn(1000, dtype=torch.float64)
        output = oracle.float()
        output[[3, 500, 999]] += 1.0
        whole = device_compare.compare(output, expected(oracle))
        piece, device_compare.PIECE = device_compare.PIECE, 64
        try:
            parts = device_compare.compare(output, expected(oracle))
        finally:
            device_compare.PIECE = piece
        self.assertEqual(whole["bad"], 3)
        for key, value in whole.items():
            self.assertTrue(parts[key] == value or math.isclose(parts[key], value, rel_tol=1e-12), f"{key}: {parts[key]} and {value}")

    def test_an_empty_output_is_right(self):
        self.assertEqual(self.bad(torch.empty(0), torch.empty(0, dtype=torch.float64)), 0)


class LeastWork(unittest.TestCase):
    def test_inputs_count_by_the_share_that_matters_and_outputs_beyond_the_cache(self):
        found = device_card.floor([1000, 400], [0.5, 0.0], 900, 600)
        self.assertEqual(found["bytes"], 1000 * 0.5 + 300)
        self.assertEqual(device_card.floor([1000], [1.0], 500, 600)["bytes"], 1000)

    def test_an_input_that_nothing_depends_on_does_not_count(self):
        class Problem:
            def inputs(self, seed, kind):
                torch.manual_seed(seed)
                return [torch.randn(64), torch.randn(64)]

            @staticmethod
            def eager(model, inputs):
                return model(*inputs)

        shares = device_card.used_shares(Problem(), lambda x, y: x * 2, list(range(8)))
        self.assertEqual(shares, [1 - device_card.CERTAIN_SHARE, 0.0])


class Toolsmith(unittest.TestCase):
    def test_types_of_arguments_are_types(self):
        for good in ("i32", "*fp32", "*kbf16", "constexpr", "tensordesc<fp16[64, 32]>"):
            self.assertEqual(toolsmith._as_types(good), good)
        self.assertEqual(toolsmith._as_types(["i32", ["*fp32", "i64"]]), ("i32", ("*fp32", "i64")))

    def test_source_text_is_no_type(self):
        for bad in ('i32; system("id")', "", "*", "i32\n", "I32", 7, None, {"a": 1}, "x" * 100, 'tensordesc<fp16[1]>"; evil()'):
            with self.assertRaises(ValueError, msg=repr(bad)):
                toolsmith._as_types(bad)

    def test_only_the_assembler_is_run(self):
        requests_out, requests_in = os.pipe()
        answers_out, answers_in = os.pipe()
        for argv in (["/bin/sh", "-c", "id"], ["ptxas"], ["/bin/true"]):
            toolsmith._send(requests_in, {"argv": argv})
        os.close(requests_in)
        toolsmith._serve(requests_out, answers_in, None, {"/bin/true"}, [])
        answers = [toolsmith._receive(answers_out) for _ in range(3)]
        self.assertIn("failure", answers[0])
        self.assertIn("failure", answers[1])
        self.assertEqual(answers[2]["code"], 0)

    def test_a_request_beyond_the_limit_ends_it(self):
        requests_out, requests_in = os.pipe()
        os.write(requests_in, toolsmith.LENGTH.pack(toolsmith.MAX_BYTES + 1))
        os.close(requests_in)
        self.assertIsNone(toolsmith._serve(requests_out, -1, None, set(), []))


class Inputs(unittest.TestCase):
    def test_every_kind_keeps_form_and_follows_the_seed(self):
        def get_inputs():
            return [torch.rand(17, 5), torch.randint(0, 9, (17,)), 2.5]

        for kind in KINDS:
            first, again = make_inputs(get_inputs, 3, kind), make_inputs(get_inputs, 3, kind)
            other = make_inputs(get_inputs, 4, kind)
            self.assertEqual([first[0].shape, first[0].dtype, first[2]], [torch.Size([17, 5]), torch.float32, 2.5])
            self.assertTrue(torch.equal(first[0], again[0]), kind)
            if kind not in ("zeros", "ramp"):
                self.assertFalse(torch.equal(first[0], other[0]), kind)
            self.assertTrue(bool(torch.isfinite(first[0]).all()))


if __name__ == "__main__":
    unittest.main()
