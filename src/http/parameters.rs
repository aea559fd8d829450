//! The query of a request for programs: what is not known is refused, so that a misspelt one does not change the meaning.

use std::array;
use std::borrow::Cow;
use std::ops::RangeInclusive;

use axum::http::StatusCode;
use axum::response::Response;

use super::refusal::refusal;

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("unknown query parameter: {0}")]
    Unknown(String),
    #[error("query parameter given twice: {0}")]
    Twice(&'static str),
    /// What the values have to be.
    #[error("{0}")]
    Value(&'static str),
}

impl From<Unreadable> for Response {
    fn from(unreadable: Unreadable) -> Self {
        refusal(StatusCode::BAD_REQUEST, &unreadable.to_string())
    }
}

/// Rows on one page of JSON, unless the request says how many.
const PER_PAGE: usize = 100;
/// And how many it may say.
const PER_PAGE_BOUNDS: RangeInclusive<usize> = 1..=1000;

/// Which of several pages is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    /// From 1.
    pub(super) page: usize,
    pub(super) per_page: usize,
}

impl Paging {
    /// The values of `page` and `per_page`; `None`: they make no sense.
    pub(super) fn read(page: Option<&str>, per_page: Option<&str>) -> Option<Self> {
        let number = |text: Option<&str>, otherwise, bounds: RangeInclusive<usize>| {
            let number = text.map_or(Some(otherwise), |text| text.parse().ok());
            number.filter(|number| bounds.contains(number))
        };
        Some(Self {
            page: number(page, 1, 1..=usize::MAX)?,
            per_page: number(per_page, PER_PAGE, PER_PAGE_BOUNDS)?,
        })
    }

    /// How many rows come before.
    pub(super) fn before(self) -> usize {
        (self.page - 1).saturating_mul(self.per_page)
    }

    /// How many pages so many rows have.
    pub(super) fn pages(self, rows: usize) -> usize {
        rows.div_ceil(self.per_page).max(1)
    }
}

/// The values of the `known` parameters, in their order.
pub(super) fn read<'q, const N: usize>(
    query: Option<&'q str>,
    known: [&'static str; N],
) -> Result<[Option<Cow<'q, str>>; N], Unreadable> {
    let mut values = array::from_fn(|_| None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = known.iter().zip(&mut values).find(|(one, _)| **one == name);
        let Some((known, slot)) = place else {
            return Err(Unreadable::Unknown(name.into_owned()));
        };
        if slot.replace(value).is_some() {
            return Err(Unreadable::Twice(known));
        }
    }
    Ok(values)
}

/// The value of one parameter, whatever else there is.
pub(super) fn find<'q>(
    query: Option<&'q str>,
    known: &'static str,
) -> Result<Option<Cow<'q, str>>, Unreadable> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut values = pairs.filter_map(|(name, value)| (name == known).then_some(value));
    let value = values.next();
    match values.next() {
        Some(_) => Err(Unreadable::Twice(known)),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_known_and_there_once() {
        let read = |query| read(Some(query), ["job", "page"]);
        let job = |job: &str| Some(Cow::from(job.to_owned()));
        assert_eq!(read(""), Ok([None, None]));
        assert_eq!(read("job=a%2Fb+c&"), Ok([job("a/b c"), None]));
        assert_eq!(
            read("page=&job=x"),
            Ok([job("x"), Some(Cow::from(String::new()))])
        );
        assert_eq!(read("jbo=x"), Err(Unreadable::Unknown("jbo".into())));
        assert_eq!(read("job=x&job=x"), Err(Unreadable::Twice("job")));
    }
}
