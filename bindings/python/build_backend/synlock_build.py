"""Builds with maturin, and says in one line what is missing if it cannot.

Every hook of a build asks for cargo itself: maturin's own would fetch a Rust toolchain unasked.
"""

import shutil

import maturin
from maturin import build_sdist  # noqa: F401


def _need_cargo() -> None:
    if shutil.which("cargo") is None:
        raise SystemExit("synlock is built from source and needs cargo (Rust 1.89 or newer): https://rustup.rs")


def get_requires_for_build_sdist(config_settings=None):
    _need_cargo()
    return maturin.get_requires_for_build_sdist(config_settings)


def get_requires_for_build_wheel(config_settings=None):
    _need_cargo()
    return maturin.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings=None):
    _need_cargo()
    return maturin.get_requires_for_build_editable(config_settings)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    _need_cargo()
    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory, config_settings=None):
    _need_cargo()
    return maturin.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _need_cargo()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _need_cargo()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)
