"""What is measured on, and one sample with what others did to it."""

import json
import os
import pathlib
import platform
import resource
import subprocess

TICK = os.sysconf("SC_CLK_TCK")
#: The longest that one sample may take: its time, and the start of its interpreter.
LIMIT = 60
Cpus = frozenset[int]


def ticks(cpus: Cpus) -> tuple[int, int]:
    """Time that CPUs were busy, and all of their time. Time stolen by the host counts as busy."""
    names = {f"cpu{cpu}" for cpu in cpus}
    busy = total = 0
    with open("/proc/stat") as lines:
        for line in lines:
            words = line.split()
            if words[0] in names:
                names.remove(words[0])
                user, nice, system, idle, wait, irq, soft, steal = map(int, words[1:9])
                used = user + nice + system + irq + soft + steal
                busy, total = busy + used, total + used + idle + wait
    if names:
        raise SystemExit(f"/proc/stat lacks {names}")
    return busy, total


def quiet_cpu() -> int:
    """The CPU of ours that was busy the least since boot."""
    return min(os.sched_getaffinity(0), key=lambda cpu: ticks(frozenset({cpu}))[0])


def used_by(pid: int | None) -> float:
    """CPU seconds of our ended children, and of a server."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = usage.ru_utime + usage.ru_stime
    if pid is not None:
        with open(f"/proc/{pid}/stat") as file:
            words = file.read().rpartition(")")[2].split()
        used += (int(words[11]) + int(words[12])) / TICK
    return used


def sample(cpus: Cpus, words: list, server: int | None) -> dict:
    """Runs one program on the CPUs; its figures, and the share of the CPUs that was not ours."""
    used, (busy, total) = used_by(server), ticks(cpus)
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cpus)), *map(str, words)],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=LIMIT,
    )
    used, (busy_now, total_now) = used_by(server) - used, ticks(cpus)
    foreign = (busy_now - busy) / TICK - used
    figures = json.loads(done.stdout)
    figures["foreign"] = round(max(0.0, foreign / max(1 / TICK, (total_now - total) / TICK)), 3)
    return figures


def first_line(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[0].strip()


def file_system(folder: str) -> str:
    return first_line("stat", "-f", "-c", "%T", folder)


def describe() -> dict:
    model = platform.machine()
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
    }


def versions() -> dict:
    return {
        "rustc": first_line("rustc", "--version").split()[1],
        "gcc": first_line("gcc", "-dumpfullversion"),
        "PHP": first_line("php", "-r", "echo PHP_VERSION, PHP_EOL;"),
        "Python": platform.python_version(),
        "Node": first_line("node", "--version").lstrip("v"),
        "Redis": first_line("redis-server", "--version").split("v=")[1].split()[0],
    }


def peers(installed: pathlib.Path) -> str:
    """The versions of the libraries measured beside ours."""
    debian = [
        f"{package} {first_line('dpkg-query', '-W', '-f=${Version}', package)}"
        for package in ("php-symfony-lock", "php-redis", "php-apcu")
    ]
    return ", ".join([*debian, *installed.read_text().split()])
