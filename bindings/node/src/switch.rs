//! What ends a wait.

use napi_derive::napi;
use synlock_core::Cancel;

/// Ends a wait that is under way.
#[napi]
#[derive(Default)]
pub struct NativeSwitch {
    cancel: Cancel,
}

#[napi]
impl NativeSwitch {
    #[napi(constructor, catch_unwind)]
    pub fn new() -> Self {
        NativeSwitch::default()
    }

    #[napi(catch_unwind)]
    pub fn throw(&self) {
        self.cancel.cancel();
    }
}

impl NativeSwitch {
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }
}
