//! Connections that broke with a request on its way. Until the server has ended them, what they carry may
//! still act, after whatever replaces it; so whatever is asked next ends them first.

use super::connection::Connection;
use super::nodes::Node;
use crate::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// More are not remembered, of servers that do not come back.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Unended {
    any: AtomicBool,
    /// Their numbers on their servers.
    list: Mutex<Vec<(Node, i64)>>,
}

impl Unended {
    pub fn add(&self, node: &Node, id: Option<i64>) {
        let Some(id) = id else {
            return;
        };
        let mut list = self.list.lock();
        if list.len() == MOST {
            list.remove(0);
        }
        list.push((node.clone(), id));
        self.any.store(true, Ordering::SeqCst);
    }

    /// Those of the server that `connection` leads to.
    pub fn beside(&self, connection: &Connection) -> Vec<i64> {
        if !self.any.load(Ordering::SeqCst) || cfg!(canary = "keep_unended") {
            return Vec::new();
        }
        let list = self.list.lock();
        let there = list.iter().filter(|(node, _)| *node == connection.node);
        there.map(|(_, id)| *id).collect()
    }

    /// The server has been told.
    pub fn forget(&self, connection: &Connection, told: &[i64]) {
        if told.is_empty() {
            return;
        }
        let mut list = self.list.lock();
        list.retain(|(node, id)| *node != connection.node || !told.contains(id));
        self.any.store(!list.is_empty(), Ordering::SeqCst);
    }
}
