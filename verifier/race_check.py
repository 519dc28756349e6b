"""Whether the programs of one launch could have disturbed each other had they run at the same time.

The interpreter runs them one after the other and so hides every race. From the log of who read, wrote and
atomically changed which address: an address that two programs write with different values, or that one writes
and another reads, or that one changes atomically and another touches plainly, is a race, unless the two
synchronised through atomics on a common address between the accesses (a lock, or the last program collecting
the others' partial results).
"""

import numpy as np

READ, WRITE, ATOMIC = 0, 1, 2
MAX_CONFLICTS = 256


class AccessLog:
    """The accesses of one launch, in the order in which they happened."""

    def __init__(self):
        self._addresses = []
        self._programs = []
        self._kinds = []
        self._times = []
        self._values = []
        self._time = 0

    def add(self, kind, program, addresses, size, values=None):
        if addresses.size == 0:
            return
        self._time += 1
        if size > 1 and (addresses % np.uint64(size)).any():
            kind_of_address = addresses // np.uint64(size) * np.uint64(size)
        else:
            kind_of_address = addresses
        self._addresses.append(kind_of_address)
        self._programs.append(np.full(addresses.shape, program, dtype=np.int64))
        self._kinds.append(np.full(addresses.shape, kind, dtype=np.int8))
        self._times.append(np.full(addresses.shape, self._time, dtype=np.int64))
        if values is None:
            self._values.append(np.zeros(addresses.shape, dtype=np.uint64))
        else:
            raw = np.ascontiguousarray(values)
            self._values.append(raw.view(f"u{raw.dtype.itemsize}").astype(np.uint64))

    def find_race(self):
        """A sentence about one race, or None."""
        if not self._addresses:
            return None
        addresses = np.concatenate(self._addresses)
        programs = np.concatenate(self._programs)
        kinds = np.concatenate(self._kinds)
        times = np.concatenate(self._times)
        values = np.concatenate(self._values)
        order = np.argsort(addresses, kind="stable")
        addresses, programs, kinds = addresses[order], programs[order], kinds[order]
        times, values = times[order], values[order]
        starts = np.flatnonzero(np.r_[True, addresses[1:] != addresses[:-1]])
        several_programs = np.minimum.reduceat(programs, starts) != np.maximum.reduceat(programs, starts)
        not_only_reads = np.maximum.reduceat(kinds, starts) != READ
        not_only_atomics = np.minimum.reduceat(kinds, starts) != ATOMIC
        suspects = np.flatnonzero(several_programs & not_only_reads & not_only_atomics)
        ends = np.r_[starts[1:], addresses.size]
        for group in suspects[:MAX_CONFLICTS]:
            part = slice(starts[group], ends[group])
            race = self._race_at(programs[part], kinds[part], times[part], values[part])
            if race:
                return race
        return None

    def _race_at(self, programs, kinds, times, values):
        writes = np.flatnonzero(kinds == WRITE)
        writers = set(programs[writes].tolist())
        if len(writers) > 1 and not (values[writes] == values[writes][0]).all():
            first, second = writes[0], writes[np.flatnonzero(programs[writes] != programs[writes[0]])[0]]
            if not self._synchronised(programs, times, first, second):
                return f"programs {programs[first]} and {programs[second]} both write one address"
        for write in writes[:16]:
            others = np.flatnonzero((programs != programs[write]) & (kinds == READ))
            for read in others[:16]:
                if not self._synchronised(programs, times, write, read):
                    return f"program {programs[read]} reads what program {programs[write]} writes"
        for atomic in np.flatnonzero(kinds == ATOMIC)[:16]:
            others = np.flatnonzero((programs != programs[atomic]) & (kinds != ATOMIC))
            for plain in others[:16]:
                if not self._synchronised(programs, times, atomic, plain):
                    return f"program {programs[plain]} touches plainly what program {programs[atomic]} changes atomically"
        return None

    def _synchronised(self, programs, times, one, other):
        """Whether an atomic of the earlier program after its access and one of the later program before its
        access meet at an address other than the contested one."""
        first, second = (one, other) if times[one] <= times[other] else (other, one)
        released, acquired = set(), set()
        for addresses, program, kind, time in zip(self._addresses, self._programs, self._kinds, self._times):
            if kind[0] != ATOMIC:
                continue
            if program[0] == programs[first] and time[0] >= times[first]:
                released.update(addresses.tolist())
            if program[0] == programs[second] and time[0] <= times[second]:
                acquired.update(addresses.tolist())
        return bool(released & acquired)
