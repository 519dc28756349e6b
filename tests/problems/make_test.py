"""Generated problems run, are the same for the same seed, and keep the two sides apart."""

import itertools
import pathlib
import sys
import unittest

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "problems"))
import make  # noqa: E402


def first(count, seed, side="train"):
    return list(itertools.islice(make.problems(seed, side), count))


class MakeTest(unittest.TestCase):
    def test_problems_run_and_give_finite_values(self):
        torch.manual_seed(0)
        num_constant = 0
        sources = first(25, 1) + first(5, 1, "held_out")
        for source in sources:
            with self.subTest(source):
                problem = {}
                exec(source, problem)
                model = problem["Model"](*problem["get_init_inputs"]())
                out = model(*problem["get_inputs"]())
                self.assertTrue(torch.isfinite(out).all())
                num_constant += int(out.std() == 0)
        # A clamp can leave one value: verification calls such a problem degenerate.
        self.assertLess(num_constant, len(sources) / 5)

    def test_the_seed_decides(self):
        self.assertEqual(first(20, 3), first(20, 3))
        self.assertFalse(set(first(20, 3)) & set(first(20, 4)))

    def test_sizes_are_as_asked(self):
        def num_operations(source):
            words = next(line for line in source.splitlines() if "Model that computes" in line)
            return words.count(", then") + 1

        described = [s for s in itertools.islice(make.problems(5, "train", (0, 0, 0, 0, 1)), 20) if "Model that computes" in s]
        self.assertTrue(described)
        self.assertEqual({num_operations(source) for source in described}, {5})

    def test_inputs_are_as_small_as_asked(self):
        for source in itertools.islice(make.problems(6, "train", max_elements=2**13), 20):
            problem = {}
            exec(source, problem)
            self.assertEqual({tensor.numel() for tensor in problem["get_inputs"]()}, {2**13})

    def test_problems_that_do_not_exist_are_not_searched_for_ever(self):
        # One operation has no neighbour.
        self.assertEqual(list(make.problems(0, "held_out", (1,))), [])

    def test_a_pair_of_neighbours_is_of_one_side(self):
        program = make.Program(["x", "y"], [[make.Node("relu")], [make.Node("exp")]], ["badd"], [make.Node("tanh"), make.Node("softmax")])
        self.assertEqual(program.pairs(), [("relu", "badd"), ("exp", "badd"), ("badd", "tanh"), ("tanh", "softmax")])
        held_out = sum(make.is_held_out_pair(a, b) for a, b in itertools.product(make.UNARY, repeat=2))
        self.assertAlmostEqual(held_out / len(make.UNARY) ** 2, 0.12, delta=0.03)


if __name__ == "__main__":
    unittest.main(verbosity=2)
