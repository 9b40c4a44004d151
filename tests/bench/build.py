"""Builds every face in the release profile, into target/bench, and installs the peers."""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
BUILT = ROOT / "target" / "bench"
FACES = ("Rust", "C", "PHP", "Python", "Node, await", "Node, sync")
#: Those that can wait for their turn. (Node's other thread of the same lock is the one above.)
WAITING = FACES[:-1]
PHP_PEERS = ("FlockStore", "SemaphoreStore", "apcu", "RedisStore")
PYTHON_PEERS = ("filelock", "portalocker", "fasteners", "redis-py", "python-redis-lock")
NODE_PEERS = ("proper-lockfile", "redlock", "redis-semaphore")


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, cwd=ROOT)


def compile_all() -> pathlib.Path:
    """Where the release profile puts its files."""
    print("building in the release profile (the first time takes some minutes)", flush=True)
    run("cargo", "build", "--release", "-q", "-p", "synlock-ffi", "-p", "synlock-python", "-p", "synlock-node",
        "-p", "synlock-tests", "--bin", "bench-worker", "--lib")
    release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release"
    warnings = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
    library = BUILT / "libsynlock.so.0"
    shutil.copyfile(release / "libsynlock.so", library)
    run("gcc", *warnings, "-o", BUILT / "raw", BENCH / "raw.c", "-lpthread")
    run("gcc", *warnings, "-I", ROOT / "include", "-o", BUILT / "worker", BENCH / "worker.c", library,
        f"-Wl,-rpath,{BUILT}")
    return release


def packages(release: pathlib.Path) -> None:
    """The packages of Python and Node, with what was built."""
    package = BUILT / "python" / "synlock"
    shutil.copytree(ROOT / "bindings" / "python" / "python" / "synlock", package, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copyfile(release / "lib_synlock.so", package / "_synlock.abi3.so")
    node = BUILT / "node"
    node.mkdir(exist_ok=True)
    source = ROOT / "bindings" / "node"
    for file in (*source.glob("*.js"), source / "package.json"):
        shutil.copyfile(file, node / file.name)
    shutil.copyfile(release / "libsynlock_node.so", node / "synlock.node")
    os.environ.update(PYTHONPATH=str(package.parent), SYNLOCK_PACKAGE=str(node), PEERS=str(BUILT / "peers"))


def workers() -> dict[str, list]:
    """How the process of each face, and of each peer, is started."""
    BUILT.mkdir(parents=True, exist_ok=True)
    python = ROOT / "target" / "venv" / "bin" / "python"
    if not python.exists():
        run("tests/tools/prereqs")
    run(BENCH / "peers")
    os.environ.update(PYO3_PYTHON=str(python), PYO3_BUILD_EXTENSION_MODULE="1")
    release = compile_all()
    packages(release)
    php = ["php", "-d", "ffi.enable=1", "-d", f"synlock.library={BUILT / 'libsynlock.so.0'}", BENCH / "worker.php"]
    commands = (
        [release / "bench-worker"],
        [BUILT / "worker"],
        [*php, "synlock"],
        [python, BENCH / "worker.py", "synlock"],
        ["node", BENCH / "worker.cjs", "await"],
        ["node", BENCH / "worker.cjs", "sync"],
    )
    found = dict(zip(FACES, commands, strict=True))
    peers = (
        (PHP_PEERS, ["php", "-d", "apc.enable_cli=1", BENCH / "worker.php"]),
        (PYTHON_PEERS, [BUILT / "venv" / "bin" / "python", BENCH / "worker.py"]),
        (NODE_PEERS, ["node", BENCH / "worker.cjs"]),
    )
    asyncio = {
        "Python, asyncio": [python, BENCH / "worker.py", "asyncio"],
        "redis-py, asyncio": [BUILT / "venv" / "bin" / "python", BENCH / "worker.py", "redis-py-asyncio"],
    }
    return found | asyncio | {kind: [*command, kind] for kinds, command in peers for kind in kinds}
