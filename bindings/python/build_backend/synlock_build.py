"""Builds with maturin, and says in one line what is missing if it cannot."""

import shutil

from maturin import *  # noqa: F403
from maturin import build_editable as _build_editable
from maturin import build_wheel as _build_wheel


def _need_cargo() -> None:
    if shutil.which("cargo") is None:
        raise SystemExit("synlock is built from source and needs cargo (Rust 1.89 or newer): https://rustup.rs")


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _need_cargo()
    return _build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _need_cargo()
    return _build_editable(wheel_directory, config_settings, metadata_directory)
