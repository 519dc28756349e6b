"""Takes from this process, for good, the system calls that no candidate needs. Installed after the libraries are
loaded and before the candidate is: from then on there are no new processes, threads, programs or sockets."""

import ctypes
import platform
import struct

# x86-64 numbers.
DENIED = {
    "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "clone3": 435, "execveat": 322, "socket": 41, "connect": 42,
    "socketpair": 53, "bind": 49, "listen": 50, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "keyctl": 250, "add_key": 248, "request_key": 249, "mount": 165, "umount2": 166,
    "move_mount": 429, "open_tree": 428, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "setns": 308, "unshare": 272,
    "pivot_root": 155, "chroot": 161, "kexec_load": 246, "kexec_file_load": 320, "seccomp": 317, "kill": 62, "tkill": 200,
    "pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438, "memfd_create": 319, "setrlimit": 160, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "init_module": 175, "finit_module": 313, "delete_module": 176, "reboot": 169, "personality": 135,
}
AUDIT_ARCH_X86_64 = 0xC000003E
X32_BIT = 0x40000000
LOAD_WORD, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, KILL, ERRNO_EPERM = 0x7FFF0000, 0x80000000, 0x00050001
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def _program():
    def instruction(code, true, false, value):
        return struct.pack("<HBBI", code, true, false, value)

    numbers = sorted(DENIED.values())
    program = [
        instruction(LOAD_WORD, 0, 0, 4),
        instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        instruction(RETURN, 0, 0, KILL),
        instruction(LOAD_WORD, 0, 0, 0),
        instruction(JUMP_GREATER_EQUAL, 0, 1, X32_BIT),
        instruction(RETURN, 0, 0, KILL),
    ]
    for position, number in enumerate(numbers):
        program.append(instruction(JUMP_EQUAL, len(numbers) - position, 0, number))
    program.append(instruction(RETURN, 0, 0, ALLOW))
    program.append(instruction(RETURN, 0, 0, ERRNO_EPERM))
    return program


def install():
    """True where the filter is in force; False on a processor for which there is none."""
    if platform.machine() != "x86_64":
        return False
    program = _program()
    code = ctypes.create_string_buffer(b"".join(program))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    description = Filter(len(program), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(description), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")
    return True
