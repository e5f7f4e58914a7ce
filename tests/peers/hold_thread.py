"""Holds one thread of another process still until a line comes, as a debugger does; the others go on.

    hold_thread.py THREAD

Says `held` when it does, and ends with 1 where the system does not allow it.
"""

import ctypes
import os
import sys

ATTACH, DETACH = 16, 17
WAIT_FOR_THREADS = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
thread = int(sys.argv[1])
if libc.ptrace(ATTACH, thread, None, None) != 0:
    print(os.strerror(ctypes.get_errno()), flush=True)
    sys.exit(1)
os.waitpid(thread, WAIT_FOR_THREADS)
print("held", flush=True)
sys.stdin.readline()
if libc.ptrace(DETACH, thread, None, None) != 0:
    sys.exit(1)
