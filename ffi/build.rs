//! Linker settings of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The soname; never unloaded, since threads of ours may run; our own symbols first; nothing of
    // the crates that we link statically is exported.
    for argument in [
        "-Wl,-soname,libsynlock.so.0",
        "-Wl,-z,nodelete",
        "-Wl,-Bsymbolic",
        "-Wl,--exclude-libs,ALL",
    ] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
}
