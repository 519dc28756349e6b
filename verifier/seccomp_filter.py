"""Takes from this process, for good and in all its threads, every system call that computing on tensors does not
need. Installed after the libraries are loaded and before the candidate is: from then on there are no new processes,
threads, programs, sockets, shared memory, signal handlers or timers. A list of what is allowed: a call that a later
kernel brings is refused."""

import ctypes
import os
import platform
import struct
import sys
from types import MappingProxyType

CHANNEL_FD = 3

# x86-64 numbers.
ALLOWED = {
    "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18,
    "access": 21, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35,
    "getpid": 39, "exit": 60, "uname": 63, "getdents": 78, "getcwd": 79, "rename": 82, "mkdir": 83,
    "rmdir": 84, "unlink": 87, "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100,
    "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "sigaltstack": 131, "gettid": 186, "time": 201,
    "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "mkdirat": 258, "newfstatat": 262,
    "unlinkat": 263, "renameat": 264, "readlinkat": 267, "faccessat": 269, "set_robust_list": 273, "getcpu": 309,
    "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
}
# Allowed with these values of one argument: (number, index of the argument, values).
ALLOWED_WITH = (
    (16, 1, (0x5401, 0x541B, 0x5450, 0x5451)),  # ioctl: TCGETS, FIONREAD, FIONCLEX, FIOCLEX
    (44, 0, (CHANNEL_FD,)),  # sendto
    (45, 0, (CHANNEL_FD,)),  # recvfrom
    (72, 1, (1, 2, 3)),  # fcntl: F_GETFD, F_SETFD, F_GETFL
    (157, 0, (15, 16, 0x53564D41)),  # prctl: PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
    (302, 2, (0,)),  # prlimit64 that sets no new limit: getrlimit
)
# What a GPU's driver needs besides: events, memory near a processor, and its own requests of ioctl.
GPU = {"eventfd2": 290, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "mincore": 27, "ftruncate": 77,
       "fadvise64": 221, "statfs": 137, "fstatfs": 138, "ppoll": 271}
IOCTL = 16
# ioctl requests: of the driver's type 'F', and those of unified memory, which are bare small numbers and two others.
DRIVER_TYPE, TYPE_MASK, UNIFIED_MEMORY_BELOW = 0x4600, 0xFF00, 0x100
UNIFIED_MEMORY = (0x30000001, 0x30000002)
# Allowed on every descriptor but the channel to the judge, on which a candidate that finds os.write somewhere would
# answer in the worker's name. Making a socket object of it raises an audit event, which is refused.
NOT_ON_THE_CHANNEL = (0, 1, 19, 20)  # read, write, readv, writev
AUDIT_ARCH_X86_64 = 0xC000003E
X32_BIT = 0x40000000
LOAD_WORD, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN, AND = 0x20, 0x15, 0x35, 0x06, 0x54
ALLOW, KILL_PROCESS, ERRNO_EPERM = 0x7FFF0000, 0x80000000, 0x00050001
NUMBER_OFFSET, ARCH_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16  # in struct seccomp_data
PR_SET_NO_NEW_PRIVS = 38
SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 317, 1, 1


def _instruction(code, true, false, value):
    return struct.pack("<HBBI", code, true, false, value)


def _argument_test(number, argument, values):
    """Allows the call where the argument, all 64 bits of it, is one of the values; refuses it elsewhere."""
    low = ARGUMENTS_OFFSET + 8 * argument
    body = [_instruction(LOAD_WORD, 0, 0, low + 4), _instruction(JUMP_EQUAL, 0, len(values) + 1, 0),
            _instruction(LOAD_WORD, 0, 0, low)]
    body += [_instruction(JUMP_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    body += [_instruction(RETURN, 0, 0, ERRNO_EPERM), _instruction(RETURN, 0, 0, ALLOW)]
    return [_instruction(JUMP_EQUAL, 0, len(body), number)] + body


def _channel_test(number):
    """The lower half of the argument alone: the kernel looks at no more of a descriptor."""
    return [_instruction(JUMP_EQUAL, 0, 4, number), _instruction(LOAD_WORD, 0, 0, ARGUMENTS_OFFSET),
            _instruction(JUMP_EQUAL, 0, 1, CHANNEL_FD), _instruction(RETURN, 0, 0, ERRNO_EPERM),
            _instruction(RETURN, 0, 0, ALLOW)]


def _driver_requests():
    """Allows the requests of a GPU's driver; all others go on to what follows."""
    low = ARGUMENTS_OFFSET + 8
    body = [_instruction(LOAD_WORD, 0, 0, low), _instruction(JUMP_EQUAL, 4, 0, UNIFIED_MEMORY[0]),
            _instruction(JUMP_EQUAL, 3, 0, UNIFIED_MEMORY[1]), _instruction(JUMP_GREATER_EQUAL, 0, 2, UNIFIED_MEMORY_BELOW),
            _instruction(AND, 0, 0, TYPE_MASK), _instruction(JUMP_EQUAL, 0, 1, DRIVER_TYPE),
            _instruction(RETURN, 0, 0, ALLOW), _instruction(LOAD_WORD, 0, 0, NUMBER_OFFSET)]
    return [_instruction(JUMP_EQUAL, 0, len(body), IOCTL)] + body


def _program(more):
    program = [
        _instruction(LOAD_WORD, 0, 0, ARCH_OFFSET),
        _instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        _instruction(RETURN, 0, 0, KILL_PROCESS),
        _instruction(LOAD_WORD, 0, 0, NUMBER_OFFSET),
        _instruction(JUMP_GREATER_EQUAL, 0, 1, X32_BIT),
        _instruction(RETURN, 0, 0, KILL_PROCESS),
    ]
    if more:
        program += _driver_requests()
    for number, argument, values in ALLOWED_WITH:
        if number not in more.values():
            program += _argument_test(number, argument, values)
    for number in NOT_ON_THE_CHANNEL:
        program += _channel_test(number)
    numbers = sorted({*ALLOWED.values(), *more.values()})
    program += [_instruction(JUMP_EQUAL, len(numbers) - position, 0, number) for position, number in enumerate(numbers)]
    return program + [_instruction(RETURN, 0, 0, ERRNO_EPERM), _instruction(RETURN, 0, 0, ALLOW)]


def install(more=MappingProxyType({})):
    """Puts the filter in force in every thread; more: what is allowed besides, nothing or GPU. False, and nothing done,
    on a processor for which there is none; OSError where the kernel refuses it."""
    if platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return False
    program = _program(more)
    code = ctypes.create_string_buffer(b"".join(program))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    description = Filter(len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    libc.syscall.restype = ctypes.c_long
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p]
    # TSYNC: libraries have started threads by now. A positive answer names a thread that could not be brought along.
    outcome = libc.syscall(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ctypes.addressof(description))
    if outcome != 0:
        raise OSError(ctypes.get_errno(), "SECCOMP_SET_MODE_FILTER" if outcome < 0 else f"thread {outcome} stays unfiltered")
    return True


def unfiltered_threads():
    """Threads of this process that no filter covers, by what the kernel says of each."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/status", encoding="ascii", errors="replace") as file:
            if "\nSeccomp:\t2\n" not in file.read():
                found.append(int(thread))
    return found


if __name__ == "__main__":
    # Tried by itself, before any candidate: is there a filter on this machine?
    if not install():
        sys.exit(f"there is no system-call filter for {platform.machine()} processors")
    if unfiltered_threads():
        sys.exit("the system-call filter is not in force")
