//! Names made from templates: `order_{id}`.
//!
//! A placeholder is what stands between two braces that enclose no other brace, at least one byte;
//! any other brace stands for itself. A placeholder without a value is an error, never an empty or a
//! literal piece: two resources would get one name, or one resource two.

use super::MAX_NAME;
use crate::error::printable;
use crate::{Error, Result};

/// A piece of a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// Bytes as they stand.
    Text(&'a [u8]),
    /// The name between two braces.
    Placeholder(&'a [u8]),
}

/// The pieces of a template, in order.
#[derive(Clone, Debug)]
pub struct Pieces<'a>(&'a [u8]);

/// Takes a template apart.
pub fn pieces(template: &[u8]) -> Pieces<'_> {
    Pieces(template)
}

/// Where the first placeholder begins and ends, its braces included.
fn next_placeholder(text: &[u8]) -> Option<(usize, usize)> {
    let mut open = None;
    for (at, byte) in text.iter().enumerate() {
        match (byte, open) {
            (b'{', _) => open = Some(at),
            (b'}', Some(start)) if at > start + 1 => return Some((start, at + 1)),
            (b'}', _) => open = None,
            _ => {}
        }
    }
    None
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        match next_placeholder(text) {
            Some((0, end)) => {
                self.0 = &text[end..];
                Some(Piece::Placeholder(&text[1..end - 1]))
            }
            Some((start, _)) => {
                self.0 = &text[start..];
                Some(Piece::Text(&text[..start]))
            }
            None => {
                self.0 = &[];
                Some(Piece::Text(text))
            }
        }
    }
}

/// Puts values in the place of the placeholders. A value is taken as it stands: what looks like a
/// placeholder in it is none.
///
/// # Errors
/// `InvalidArgument` for a placeholder without a value, or if the name gets longer than [`MAX_NAME`].
pub fn render<V: AsRef<[u8]>>(
    template: &[u8],
    mut value: impl FnMut(&[u8]) -> Option<V>,
) -> Result<Vec<u8>> {
    let mut name = Vec::with_capacity(template.len() + 32);
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => name.extend_from_slice(text),
            Piece::Placeholder(placeholder) => {
                let value = value(placeholder).ok_or_else(|| missing(template, placeholder))?;
                name.extend_from_slice(value.as_ref());
            }
        }
        if name.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "the template “{}” makes a name of more than {MAX_NAME} bytes",
                printable(template)
            )));
        }
    }
    Ok(name)
}

/// As [`render`], with the values in a list.
///
/// # Errors
/// As [`render`].
pub fn render_with<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    template: &[u8],
    values: &[(K, V)],
) -> Result<Vec<u8>> {
    render(template, |name| find(values, name))
}

/// The value of a name in a list; the last one if there are several.
pub(crate) fn find<'a, K: AsRef<[u8]>, V: AsRef<[u8]>>(
    values: &'a [(K, V)],
    name: &[u8],
) -> Option<&'a [u8]> {
    let found = values.iter().rev().find(|(key, _)| key.as_ref() == name);
    found.map(|(_, value)| value.as_ref())
}

/// What a template without a value for one of its placeholders comes to.
pub(crate) fn missing(template: &[u8], placeholder: &[u8]) -> Error {
    Error::invalid(format!(
        "the name template “{}” has no value for {{{}}}",
        printable(template),
        printable(placeholder)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn rendered(template: &str, values: &[(&str, &str)]) -> String {
        String::from_utf8(render_with(template.as_bytes(), values).unwrap()).unwrap()
    }

    #[test]
    fn placeholders_get_their_values() {
        let values = [("id", "17"), ("b", "ü"), ("a-b.c d", "x")];
        assert_eq!(rendered("order", &values), "order");
        assert_eq!(rendered("order_{id}", &values), "order_17");
        assert_eq!(rendered("{id}-{b}-{id}", &values), "17-ü-17");
        assert_eq!(rendered("{a-b.c d}", &values), "x");
        assert_eq!(rendered("", &values), "");
    }

    #[test]
    fn other_braces_stand_for_themselves() {
        let values = [("id", "17")];
        for text in ["{}", "{", "}", "}{", "a}b{", "{}{"] {
            assert_eq!(rendered(text, &values), text);
        }
        assert_eq!(rendered("{{id}}", &values), "{17}");
        assert_eq!(rendered("{x{id}", &values), "{x17");
        assert_eq!(rendered("{}{id}", &values), "{}17");
    }

    #[test]
    fn values_are_not_expanded_again() {
        assert_eq!(rendered("{a}{b}", &[("a", "{b}"), ("b", "Z")]), "{b}Z");
    }

    #[test]
    fn any_bytes_will_do() {
        let name = render_with(b"\xff{\xfe}\0", &[(b"\xfe", b"\x80\0")]).unwrap();
        assert_eq!(name, b"\xff\x80\0\0");
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let error = render_with(b"order_{missing}", &[("id", "17")]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("{missing}"), "{error}");
        assert!(error.message().contains("order_"), "{error}");
    }

    #[test]
    fn a_name_does_not_grow_without_bound() {
        let long = vec![b'x'; MAX_NAME];
        assert!(render_with(b"{a}", &[("a", &long)]).is_ok());
        let error = render_with(b"{a}{a}", &[("a", &long)]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}
