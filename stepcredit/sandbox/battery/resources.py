"""Hostile programs that take: time, memory, processes, disk, output."""

from stepcredit.sandbox.battery.program import Program

TAKING = (
    Program(1, "busy loop", "while True: pass", quick=False, in_short=True),
    Program(
        2,
        "loop that swallows every exception",
        """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
        quick=False,
    ),
    Program(3, "huge integer power in C", "7 ** 10 ** 9", quick=False),
    Program(4, "exponential regex", "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')", quick=False),
    Program(5, "sleep for ever", "import time\ntime.sleep(10**6)", quick=False),
    Program(6, "read stdin", "import sys\nif sys.stdin.read(): print('ESCAPED')"),
    Program(
        7,
        "ignore all signals",
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except Exception:
        pass
while True:
    pass
""",
        quick=False,
    ),
    Program(
        8,
        "stop itself",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nos.kill(0, signal.SIGSTOP)",
        quick=False,
    ),
    Program(
        9,
        "thread that outlives main",
        "import threading, time\nthreading.Thread(target=lambda: [time.sleep(1) for _ in range(10**6)]).start()",
    ),
    Program(10, "atexit hook that hangs", "import atexit, time\natexit.register(time.sleep, 10**6)"),
    Program(
        11,
        "allocate and touch 2 GB",
        """
held = bytearray(2 << 30)
for k in range(0, len(held), 4096):
    held[k] = 1
print("ESCAPED")
""",
        in_short=True,
    ),
    Program(
        12, "grow slowly to 2 GB", "held = []\nfor k in range(2048): held.append(b'x' * (1 << 20))\nprint('ESCAPED')"
    ),
    Program(
        13,
        "grow, catch MemoryError, keep it",
        """
held = []
size = 1 << 24
total = 0
while size >= 1 << 10 and total < 2 << 30:
    try:
        held.append(b"x" * size)
        total += size
    except MemoryError:
        size //= 2
if total >= 2 << 30:
    print("ESCAPED")
while True:
    pass
""",
        quick=False,
    ),
    Program(
        14,
        "anonymous memory files",
        """
import os
total = 0
for k in range(64):
    handle = os.memfd_create(f"m{k}")
    for _ in range(15):
        total += os.write(handle, b"x" * (1 << 20))
if total > 700 << 20:
    print("ESCAPED")
""",
    ),
    Program(
        15,
        "fill shared memory",
        """
import os
total = 0
for folder in ("/dev/shm", "/run/shm"):
    names = [f"{folder}/stepcredit-{os.getpid()}-{k}" for k in range(8)]
    try:
        for name in names:
            with open(name, "wb") as file:
                for _ in range(15):
                    total += file.write(b"x" * (1 << 20))
    except OSError:
        pass
    for name in names:
        try:
            os.unlink(name)
        except OSError:
            pass
if total > 64 << 20:
    print("ESCAPED")
""",
    ),
    Program(16, "unlimited recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()"),
    Program(17, "null pointer", "import ctypes\nctypes.string_at(0)\nprint('ESCAPED')"),
    Program(
        18,
        "fork bomb",
        """
import os, time
made = 0
try:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        made += 1
finally:
    if made > 20:
        print("ESCAPED")
""",
        in_short=True,
    ),
    Program(
        19,
        "thread bomb",
        """
import threading, time
made = 0
try:
    for _ in range(500):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        made += 1
finally:
    if made > 100:
        print("ESCAPED")
""",
    ),
    Program(
        20,
        "double fork and detach",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        time.sleep(20)
    os._exit(0)
""",
    ),
    Program(
        21,
        "child holds stdout open",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(20)
    os._exit(0)
print("left")
""",
    ),
    Program(
        27,
        "600 MB on stdout",
        "import sys\nfor k in range(600): sys.stdout.write('x' * (1 << 20))\nprint('ESCAPED')",
        quick=False,
    ),
    Program(
        28,
        "600 MB on stderr",
        "import sys\nfor k in range(600): sys.stderr.write('x' * (1 << 20))\nprint('ESCAPED')",
        quick=False,
    ),
    Program(
        30,
        "fill the disk",
        """
total = 0
try:
    for k in range(12):
        with open(f"f{k}", "wb") as file:
            for _ in range(8):
                total += file.write(b"x" * (1 << 20))
finally:
    if total > 64 << 20:
        print("ESCAPED")
""",
    ),
    Program(
        31,
        "60,000 empty files",
        """
made = 0
try:
    for k in range(60000):
        open(f"f{k}", "w").close()
        made += 1
finally:
    if made > 2500:
        print("ESCAPED")
""",
    ),
)
