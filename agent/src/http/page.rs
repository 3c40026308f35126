//! `/`: one page that shows the mesh live. Everything is in it; it loads nothing from elsewhere.

use super::reply::{self, Body};
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY};
use hyper::{Response, StatusCode};
use ring::digest::{SHA256, digest};
use std::sync::LazyLock;

const PAGE: &str = include_str!("page.html");

/// Only this very script and style may run, and they may only ask this pilot: a name or fact that somebody smuggles into
/// the state can do nothing, even if the page had a fault.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let allowed = |tag: &str| format!("'sha256-{}'", base64(digest(&SHA256, inside(PAGE, tag).as_bytes()).as_ref()));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        allowed("script"),
        allowed("style")
    )
});

pub(super) fn answer() -> Response<Body> {
    let mut response = reply::full(StatusCode::OK, reply::HTML, PAGE);
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&POLICY).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

/// What is between the page's only pair of these tags.
fn inside<'a>(page: &'a str, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    page.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map_or("", |(inside, _)| inside)
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| (bits << 8) | chunk.get(at).copied().map_or(0, usize::from));
        for digit in 0..4 {
            let shown = if digit <= chunk.len() { char::from(DIGITS[(bits >> (18 - 6 * digit)) & 63]) } else { '=' };
            text.push(shown);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn the_page_is_one_script_and_one_style_and_fetches_nothing_from_elsewhere() {
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert!(inside(PAGE, "script").contains("state/watch"));
        assert!(!inside(PAGE, "style").is_empty());
        for outside in ["http:", "https:", "src=", "innerHTML", " style=", " onclick="] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
