//! Lists: which revision they tell, and in which pages.

use std::sync::Arc;

use serde_json::Value;

use super::super::error::{ApiError, Reason};
use super::super::events;
use super::super::json::{name, namespace, set};
use super::super::request::{Body, Page, Request};
use super::super::resource::KindId;
use super::super::selector::Selector;
use super::super::time::ModelTime;
use super::table::{table, wants_table};
use super::{Granted, ModelApi};

/// What a list's query asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// The one revision to tell; the newest where absent.
    exactly: Option<u64>,
    /// The newest revision the client knows of.
    not_older: u64,
    limit: Option<usize>,
    /// Where the page before ended.
    after: Option<(String, String)>,
}

/// Separates the parts of a token; cannot occur in a name.
const PART: char = '~';

impl ModelApi {
    pub(super) fn list_call(
        &self,
        now: ModelTime,
        request: &Request,
        kind: KindId,
        place: Option<&str>,
        selector: &Selector,
    ) -> Granted {
        let asked = Asked::read(request)?;
        let newest = self.store.revision();
        let beyond = asked.exactly.unwrap_or(asked.not_older);
        if beyond > newest {
            return Err(ApiError::too_new(beyond, newest));
        }
        let row = &self.resources[kind.0];
        let stored = row.stored_as.unwrap_or(kind);
        let mut items: Vec<Arc<Value>> = match (asked.exactly, place, selector.name()) {
            (Some(revision), _, _) => self.store.list_at(stored, place, revision)?,
            (None, Some(place), Some(name)) => self.store.get(stored, place, name).cloned().into_iter().collect(),
            (None, _, _) => self.store.list(stored, place).cloned().collect(),
        };
        items.retain(|object| selector.is_empty() || selector.matches(object));
        if let Some((place, last)) = &asked.after {
            items.retain(|object| (namespace(object), name(object)) > (place.as_str(), last.as_str()));
        }
        let revision = asked.exactly.unwrap_or(newest);
        let page = asked.limit.filter(|limit| items.len() > *limit).map(|limit| {
            let remaining = Some(items.len() - limit).filter(|_| selector.is_empty());
            items.truncate(limit);
            let last = items.last().map_or(("", ""), |object| (namespace(object), name(object)));
            Page { token: format!("{revision}{PART}{}{PART}{}", last.0, last.1), remaining }
        });
        if row.stored_as.is_some() {
            items = items.iter().map(|object| Arc::new(events::to_new(object))).collect();
        }
        if wants_table(&request.accept) {
            let mut made = table(kind, &items, revision, now, request);
            if let Some(page) = page {
                set(&mut made, &["metadata", "continue"], page.token);
            }
            return Ok((200, Body::Made(made)));
        }
        let (kind, api_version) = (format!("{}List", row.kind), row.api_version());
        Ok((200, Body::List { kind, api_version, revision, page, items }))
    }
}

impl Asked {
    fn read(request: &Request) -> Result<Self, ApiError> {
        let parameters = request.parameters();
        let parameter = |name: &str| parameters.get(name).map_or("", String::as_str);
        let (version, matches, token) =
            (parameter("resourceVersion"), parameter("resourceVersionMatch"), parameter("continue"));
        let forbidden =
            |why: &str| ApiError::invalid_option("ListOptions", "resourceVersionMatch", &format!("Forbidden: {why}"));
        match matches {
            "" => {}
            "Exact" | "NotOlderThan" if version.is_empty() => {
                return Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
            }
            "Exact" if version == "0" => {
                return Err(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
            }
            "Exact" | "NotOlderThan" => {}
            other => {
                let why = format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\"");
                return Err(ApiError::invalid_option("ListOptions", "resourceVersionMatch", &why));
            }
        }
        let number = match version {
            "" => 0,
            text => text.parse::<u64>().map_err(|_| {
                ApiError::bad_request(format!("Invalid value: {text:?}: resource version must be a number"))
            })?,
        };
        // Anything served from memory is served whole, as real servers do.
        let from_memory = version == "0" && token.is_empty();
        let limit = parameter("limit").parse::<usize>().ok().filter(|limit| *limit > 0 && !from_memory);
        if token.is_empty() {
            let exactly = Some(number).filter(|_| matches == "Exact");
            return Ok(Self { exactly, not_older: number, limit, after: None });
        }
        if number != 0 {
            return Err(ApiError::new(
                Reason::BadRequest,
                "specifying resource version is not allowed when using continue",
            ));
        }
        let unreadable = || ApiError::bad_request(format!("continue key is not valid: {token:?}"));
        let mut parts = token.split(PART);
        let (Some(revision), Some(place), Some(last), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unreadable());
        };
        let revision = revision.parse().map_err(|_| unreadable())?;
        let after = Some((place.to_owned(), last.to_owned()));
        Ok(Self { exactly: Some(revision), not_older: 0, limit, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, u16> {
        Asked::read(&Request::get("ann", &format!("/api/v1/pods?{query}"))).map_err(|error| error.reason.code())
    }

    #[test]
    fn a_token_names_the_revision_and_where_the_page_before_ended() {
        let after = Some(("d".to_owned(), "a-0".to_owned()));
        assert_eq!(
            asked("limit=2&continue=7~d~a-0"),
            Ok(Asked { exactly: Some(7), not_older: 0, limit: Some(2), after })
        );
        assert_eq!(asked("continue=nonsense"), Err(400));
        assert_eq!(asked("continue=7~d~a-0&resourceVersion=9"), Err(400));
    }

    #[test]
    fn an_exact_revision_is_told_exactly_and_any_other_is_only_a_floor() {
        let told = |exactly, not_older| Ok(Asked { exactly, not_older, limit: None, after: None });
        assert_eq!(asked("resourceVersion=9&resourceVersionMatch=Exact"), told(Some(9), 9));
        assert_eq!(asked("resourceVersion=9&resourceVersionMatch=NotOlderThan"), told(None, 9));
        assert_eq!(asked("resourceVersion=0&limit=2"), told(None, 0));
        assert_eq!(asked("resourceVersionMatch=Exact"), Err(422));
    }
}
