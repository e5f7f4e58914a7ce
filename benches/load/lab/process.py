"""One started program with all its children: waiting until it listens, its CPU time, memory and descriptors, its end."""

import os
import pathlib
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """What a measurement cannot go on with; its text is for people."""


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Process:
    def __init__(self, name, command, folder, cores, ports, patience=30):
        self.name, self.ports = name, ports
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as out:
            started = time.monotonic()
            self.child = subprocess.Popen(["taskset", "-c", cores, *command], stdout=out, stderr=out, cwd=folder)
        try:
            for port in ports:
                self.wait_for(port, started + patience)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started

    def wait_for(self, port, deadline):
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended before it listened; its output:\n{self.log.read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
                return
            except OSError:
                time.sleep(0.01)
        raise Failure(f"{self.name} does not listen on {port}; its output:\n{self.log.read_text()[-2000:]}")

    def family(self, pid=None):
        """Process ids of the program and all it has started."""
        pid = pid or self.child.pid
        try:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            return []
        return [pid, *(member for child in children for member in self.family(int(child)))]

    def cpu(self):
        """Seconds so far: (total, user, system). The total is exact; user and system have the kernel's ticks of 10 ms."""
        total = user = system = 0
        for pid in self.family():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]) / TICKS, system + int(fields[12]) / TICKS
            total += time.clock_gettime((~pid << 3) | 2)  # the process's CPU clock, see clock_getcpuclockid(3)
        return total, user, system

    def memory_bytes(self):
        """Proportional set size: shared pages count once over the whole family."""
        total = 0
        for pid in self.family():
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
        return total

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.family())

    def send(self, signal_number):
        """To the program itself: `taskset` has become it."""
        self.child.send_signal(signal_number)

    def check_alive(self):
        if self.child.poll() is not None:
            raise Failure(f"{self.name} ended with {self.child.returncode}; its output:\n{self.log.read_text()[-2000:]}")

    def stop(self, patience=5):
        if self.child.poll() is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(patience)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.family()):
                os.kill(pid, signal.SIGKILL)
            self.child.wait()
