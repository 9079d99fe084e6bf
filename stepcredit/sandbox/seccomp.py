"""System calls that a program under bwrap may not make, as a filter for the kernel (classic BPF).

Numbers are the kernel's; a machine that is in no table gets no filter, and the engine refuses to run there.
"""

import platform
import struct

from stepcredit.core.errors import MachineError

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_X32 = 0x40000000
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64), -1 where the machine has none.
_SURFACE = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "modify_ldt": (154, -1),
    "uselib": (134, -1),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "personality": (135, 92),
    "memfd_secret": (447, 447),
}
"""The kernel's surface: refused to the fork server too."""

_PROGRAM = {
    "clone": (56, 220),
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    "inotify_init": (253, -1),
    "inotify_init1": (294, 26),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
"""Refused to programs besides: processes, threads, other programs, mounts, sockets, memory that is no file's."""

_CLONE3 = 435  # on both; "not implemented", so that a C library falls back to clone


def server_filter(machine: str = "") -> bytes:
    """The filter of bwrap's own process and of the fork server."""
    return _filter(tuple(_SURFACE.values()), machine or platform.machine())


def program_filter(machine: str = "") -> bytes:
    """The filter of a program.

    >>> len(program_filter("x86_64")) % 8, len(program_filter("x86_64")) > len(server_filter("x86_64"))
    (0, True)
    """
    found = (*_SURFACE.values(), *_PROGRAM.values())
    return _filter(found, machine or platform.machine(), not_there=(_CLONE3,))


def _filter(calls: tuple[tuple[int, int], ...], machine: str, not_there: tuple[int, ...] = ()) -> bytes:
    if machine not in _AUDIT:
        raise MachineError(f"no system-call filter for {machine}; engine 'wasm' needs none")
    column = 0 if machine == "x86_64" else 1
    rules = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        rules += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE | _ENOSYS)]
    refused = [(number, _ENOSYS) for number in not_there] + [(pair[column], _EPERM) for pair in calls]
    for number, errno in refused:
        if number >= 0:
            rules += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | errno)]
    rules.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *rule) for rule in rules)
