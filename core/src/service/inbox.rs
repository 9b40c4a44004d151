//! What is handed to the service thread, and whether there is one.

use super::sync::Mutex;

/// Commands in order.
#[derive(Debug)]
pub(super) struct Inbox<C>(Mutex<State<C>>);

#[derive(Debug)]
struct State<C> {
    commands: Vec<C>,
    has_reader: bool,
}

impl<C> Inbox<C> {
    pub(super) fn new() -> Self {
        Inbox(Mutex::new(State {
            commands: Vec::new(),
            has_reader: false,
        }))
    }

    /// Hands a command over. If there is no reader yet, `start` is called first; where that fails,
    /// this command stays with the caller, and no other is touched. `ring` is called afterwards if the
    /// reader may be asleep.
    pub(super) fn put<E>(
        &self,
        command: &mut Option<C>,
        start: impl FnOnce() -> Result<(), E>,
        ring: impl FnOnce(),
    ) -> Result<(), E> {
        // Canary of row 41: the bell is heard before there is anything to take.
        if cfg!(canary = "ring_first") {
            let mut state = self.0.lock();
            if !state.has_reader {
                start()?;
                state.has_reader = true;
            }
            drop(state);
            ring();
            self.0.lock().commands.extend(command.take());
            return Ok(());
        }
        // Canary of row 41: the reader is started afterwards, and the last command taken back.
        if cfg!(canary = "start_late") {
            let is_started = {
                let mut state = self.0.lock();
                state.commands.extend(command.take());
                std::mem::replace(&mut state.has_reader, true)
            };
            if !is_started && let Err(error) = start() {
                let mut state = self.0.lock();
                state.has_reader = false;
                *command = state.commands.pop();
                return Err(error);
            }
            ring();
            return Ok(());
        }
        let is_first = {
            let mut state = self.0.lock();
            if !state.has_reader {
                start()?;
                state.has_reader = true;
            }
            state.commands.extend(command.take());
            state.commands.len() == 1
        };
        if is_first {
            ring();
        }
        Ok(())
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().commands.is_empty()
    }

    /// Takes all there is.
    pub(super) fn take(&self) -> Vec<C> {
        std::mem::take(&mut self.0.lock().commands)
    }
}
