//! Tells the linker that the host provides the N-API symbols.

fn main() {
    napi_build::setup();
}
