"""Builds every face in the release profile, into target/bench."""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
BUILT = ROOT / "target" / "bench"
FACES = ("Rust", "C", "PHP", "Python", "Node, await", "Node, sync")


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, cwd=ROOT)


def faces() -> dict[str, list]:
    """How the process of each face is started."""
    BUILT.mkdir(parents=True, exist_ok=True)
    python = ROOT / "target" / "venv" / "bin" / "python"
    if not python.exists():
        run("tests/tools/prereqs")
    os.environ.update(PYO3_PYTHON=str(python), PYO3_BUILD_EXTENSION_MODULE="1")
    print("building in the release profile (the first time takes some minutes)", flush=True)
    run("cargo", "build", "--release", "-q", "-p", "synlock-ffi", "-p", "synlock-python", "-p", "synlock-node",
        "-p", "synlock-tests", "--bin", "bench-pair", "--lib")
    release = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release"

    library = BUILT / "libsynlock.so.0"
    shutil.copyfile(release / "libsynlock.so", library)
    warnings = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
    run("gcc", *warnings, "-o", BUILT / "raw", BENCH / "raw.c", "-lpthread")
    run("gcc", *warnings, "-I", ROOT / "include", "-o", BUILT / "pair", BENCH / "pair.c", library,
        f"-Wl,-rpath,{BUILT}")

    package = BUILT / "python" / "synlock"
    shutil.copytree(ROOT / "bindings" / "python" / "python" / "synlock", package, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copyfile(release / "lib_synlock.so", package / "_synlock.abi3.so")
    os.environ["PYTHONPATH"] = str(package.parent)

    node = BUILT / "node"
    node.mkdir(exist_ok=True)
    for name in ("index.js", "errors.js", "native.js", "package.json"):
        shutil.copyfile(ROOT / "bindings" / "node" / name, node / name)
    shutil.copyfile(release / "libsynlock_node.so", node / "synlock.node")

    php = ["php", "-d", "ffi.enable=1", "-d", f"synlock.library={library}"]
    commands = (
        [release / "bench-pair"],
        [BUILT / "pair"],
        [*php, BENCH / "pair.php"],
        [python, BENCH / "pair.py"],
        ["node", BENCH / "pair.cjs", node, "await"],
        ["node", BENCH / "pair.cjs", node, "sync"],
    )
    return dict(zip(FACES, commands, strict=True))
