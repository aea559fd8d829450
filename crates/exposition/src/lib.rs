//! Prometheus text exposition: strict validation and zero-copy merge.
//!
//! [`Exposition::parse`] validates one application's text, [`merge()`] makes one valid exposition of
//! many. Both are pure: no I/O, no clock, no threads. Neither copies the text: what they keep is
//! where its families are.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use prometheus_rsocket_exposition::{Exposition, merge};
//!
//! let texts = ["# TYPE a counter\na{app=\"1\"} 1\nb 2\n", "# TYPE a counter\na{app=\"2\"} 3\n"];
//! let parts: Result<Vec<_>, _> =
//!     texts.map(|text| Exposition::parse(Bytes::from_static(text.as_bytes()))).into_iter().collect();
//! let merged = merge(parts?.into_iter().map(|part| Arc::new(part).into()).collect());
//! let text: Vec<u8> = merged.into_chunks(64 * 1024).flatten().collect();
//! assert_eq!(text, b"# TYPE a counter\na{app=\"1\"} 1\na{app=\"2\"} 3\nb 2\n");
//! # Ok::<(), prometheus_rsocket_exposition::ParseError>(())
//! ```
//!
//! # What is accepted
//!
//! Text formats 0.0.4 and 1.0.0, and OpenMetrics 1.0. Which of them a text is, [`Exposition::parse_as`] is told; else it is
//! OpenMetrics if one of its lines is exactly `# EOF`. What is served must be read alike by Prometheus's scrape parser,
//! version 2 and version 3, and by `expfmt`, which is what `promtool check metrics` uses. What the scrape parser
//! refuses is refused.
//!
//! One text may be several texts appended to each other: HELP and TYPE may repeat, follow the
//! samples, and contradict each other, and a family may be in several places.
//!
//! Reading takes time in proportion to the text's length, and not much more for one text than for another:
//! `cargo bench -p prometheus-rsocket-exposition -- dearest` measures the dearest that are known.
//!
//! ## Refused although Prometheus accepts it
//!
//! | what | why |
//! |---|---|
//! | a backslash in a quoted name that starts no escape | it would be a second spelling of one name |
//! | a label name twice, a label `__name__` | Prometheus parses it, then refuses the whole scrape |
//! | NUL bytes | Prometheus stops reading or skips bytes there, without an error |
//! | invalid UTF-8 in a comment | the text is checked as a whole, which makes that cheap |
//! | a line feed in a label value | `expfmt` refuses it, and a lost quote would swallow lines |
//! | `# HELP a.b`, `# TYPE a.counter` | Prometheus cuts the name short, `expfmt` refuses it |
//! | a number of more than 1,000 characters | Go stops counting exponents at 10,000 |
//! | OpenMetrics: a timestamp before 1970 | text has none |
//! | a text of 4 GiB | positions are kept in 32 bits |
//!
//! ## Rewritten, because `expfmt` refuses it or Prometheus reads it differently
//!
//! A missing final line feed, blanks before a sample and after a value or timestamp, missing commas
//! between labels, backslashes which start no escape, names in quotes which need none, and a quoted metric name which is
//! not the first in its braces. Comments and blank lines are left out.
//!
//! # What is written
//!
//! An [`Encoding`] says: a format, and what becomes of names which need quotes. [`merge()`] writes what every Prometheus
//! reads, [`merge_as()`] whatever is asked for. Of each sample, name, labels and value are the same in every format:
//!
//! - **OpenMetrics** has the exemplars, units and types which came in OpenMetrics. A family is named and typed there as
//!   the first part whose type won says. A counter whose name does not end with `_total`, or whose name without it is
//!   another family's, is `unknown`. Times are in seconds, such as Prometheus reads as the same milliseconds.
//! - **Text** has the families of OpenMetrics under the names of their samples.
//! - **Escaping** makes families of one name one family ([`Merged::name_conflicts`]), before all else is decided. Labels of
//!   one sample whose names would become one are kept apart.
//!
//! # How families are merged
//!
//! Every sample of every part is in the merged text once, as it was: what anybody declares costs none.
//!
//! Families come sorted by name, each with at most one HELP and one TYPE before its samples. Within
//! a family the parts come in the order given, the samples of each in the order of its text; those
//! which join it from other families of the same part follow its own.
//!
//! - **Type.** Each voter votes with the type which the first of its parts declares. The type with most votes
//!   wins; among equals, that of the voter whose first part is earlier. Parts which declare none do not vote, nor
//!   do parts without samples of the family unless there are no others. If nobody votes, no type is written, except
//!   after a histogram or summary: there `untyped` is, as Prometheus 3 would carry the type over and respell `le`
//!   and `quantile` labels.
//! - **Help.** The first that is not empty among parts whose type won, else the first that is not
//!   empty; an empty one is written only if there is no other.
//! - **Samples of a type that lost** stay in the family if they have its name or are such as the winning type has:
//!   a histogram `a` has the samples named `a`, `a_bucket`, `a_count` and `a_sum`, a summary those named `a`,
//!   `a_count` and `a_sum`. The others become families of their own names, without a type.
//! - **Samples which do not fit.** `expfmt` refuses samples of a histogram whose `le` is no number and buckets and
//!   counts below zero, and samples of a summary whose `quantile` is no number. Those with a suffix become families
//!   of their own names. Where one has the family's own name the type is given up: the family is `untyped`.
//! - **Families called like another's samples**, such as `a_count` beside a histogram `a`, stand before it, and have a
//!   TYPE, `untyped` if no other. Each keeps its samples and its type. (After the histogram, `expfmt` would take their
//!   samples for the histogram's, and refuse their TYPE. To `expfmt` the histogram's own `a_count` are then
//!   samples of that family, so its type must fit these as well.) Of two such families, one that has no samples is
//!   left out.
//! - **Conflicts.** [`Merged::type_conflicts`] counts the families which are declared with more than one type, or have
//!   samples which do not fit theirs.
//!
//! [`merge_in_front()`] puts the samples of some parts first, whatever their place among the parts.
//!
//! Merging what was merged changes nothing.

pub mod parts;

mod class;
mod convert;
mod draft;
mod encoding;
mod equal;
mod error;
mod exemplar;
mod exposition;
mod format;
mod groups;
mod labels;
mod limits;
mod line;
mod marks;
mod merge;
mod metadata;
mod names;
mod needs;
mod number;
mod openmetrics;
mod openmetrics_families;
mod openmetrics_type;
mod parse;
mod regroup;
mod relabel;
mod sample;
mod series;
mod span;
mod tidy;
mod unescaped;
mod write;
mod written_names;

pub use encoding::{Encoding, Escaping};
pub use equal::EqualSeries;
pub use error::{ParseError, ParseErrorKind};
pub use exposition::Exposition;
pub use format::Format;
pub use labels::{LabelError, Labels};
pub use limits::Limits;
pub use merge::{Part, merge, merge_as, merge_in_front};
pub use write::{Chunks, Merged};
