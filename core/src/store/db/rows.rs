//! What goes into a statement, and what comes out.

use crate::{Code, Error, Result};

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    /// For `bytea`, `VARBINARY`, `BLOB`.
    Bytes(&'a [u8]),
}

/// The answer to a statement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rows {
    pub rows: Vec<Row>,
    /// Rows that a statement changed or found to be changed already.
    pub affected: u64,
    /// `LAST_INSERT_ID()` on MySQL.
    pub last_id: u64,
}

impl Rows {
    /// The first row.
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// The first field of the first row as a number; `None` if it is NULL or there is no row.
    pub fn number(&self) -> Result<Option<i64>> {
        self.first().map_or(Ok(None), |row| row.int(0))
    }
}

/// One row: fields as text, or as the bytes that they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Row(pub(super) Vec<Option<Vec<u8>>>);

impl Row {
    /// How many fields it has.
    pub fn width(&self) -> usize {
        self.0.len()
    }

    /// A field; `None` if it is NULL.
    pub fn bytes(&self, index: usize) -> Result<Option<&[u8]>> {
        self.0
            .get(index)
            .map(Option::as_deref)
            .ok_or_else(|| odd("a column is missing"))
    }

    pub fn text(&self, index: usize) -> Result<Option<&str>> {
        self.bytes(index)?
            .map(|bytes| std::str::from_utf8(bytes).map_err(|_| odd("a text is no UTF-8")))
            .transpose()
    }

    /// A whole number, or a truth.
    pub fn int(&self, index: usize) -> Result<Option<i64>> {
        self.text(index)?
            .map(|text| match text {
                "t" => Ok(1),
                "f" => Ok(0),
                text => text.parse().map_err(|_| odd("a number is none")),
            })
            .transpose()
    }

    pub fn bool(&self, index: usize) -> Result<Option<bool>> {
        Ok(self.int(index)?.map(|number| number != 0))
    }
}

/// What an answer takes up in memory. Answers are a few lines, and those of a listing come by the
/// thousand; a server that says more than this is not believed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight(usize);

impl Weight {
    const MOST: usize = 24 * 1024 * 1024;

    /// Counts bytes, before there is room for them.
    pub fn add(&mut self, bytes: usize) -> Result<()> {
        self.0 = self.0.saturating_add(bytes);
        if self.0 > Self::MOST && !cfg!(canary = "trusts_length") {
            return Err(odd("an answer of over 24 MiB"));
        }
        Ok(())
    }

    /// Counts what a row takes up beside its bytes; a list of rows that grows is there twice.
    pub fn add_row(&mut self, width: usize) -> Result<()> {
        self.add(3 * size_of::<Row>() + width * size_of::<Option<Vec<u8>>>())
    }
}

pub(super) fn odd(words: &str) -> Error {
    Error::new(
        Code::Protocol,
        format!("the server answered what it should not: {words}"),
    )
}
