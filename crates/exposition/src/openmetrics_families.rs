//! What the families of text format 0.0.4 are in OpenMetrics: their names and types, and which are one.

use std::collections::HashMap;

use crate::groups::{Group, Groups};
use crate::metadata::Kind;
use crate::openmetrics_type::OpenMetricsType;

/// A family's type and name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared<'a> {
    pub(crate) kind: OpenMetricsType,
    pub(crate) name: &'a [u8],
}

/// The families of OpenMetrics, of groups which are in their last order.
pub(crate) struct OpenMetricsFamilies<'a> {
    /// Where each group is that is not left out.
    positions: HashMap<&'a [u8], u32, foldhash::fast::RandomState>,
    /// The groups which are written with that at this position.
    joined: HashMap<u32, Vec<u32>, foldhash::fast::RandomState>,
    /// The groups which are written with another.
    joins: Vec<bool>,
}

/// What the parts whose type won say of it in OpenMetrics.
pub(crate) type Said = Option<OpenMetricsType>;

impl<'a> OpenMetricsFamilies<'a> {
    /// `said` says what the parts say of a group.
    pub(crate) fn new(groups: &Groups<'a>, said: impl Fn(&Group<'a>) -> Said) -> Self {
        let numbered = groups.groups.iter().zip(0..);
        let served = numbered.filter(|(group, _)| !group.left_out);
        let mut families = Self {
            positions: served
                .map(|(group, position)| (group.name, position))
                .collect(),
            joined: HashMap::default(),
            joins: Vec::new(),
        };
        for (group, position) in groups.groups.iter().zip(0..) {
            if !group.is_derived() || group.left_out {
                continue;
            }
            let Some(base) = families.base(groups, group.name, &said) else {
                continue;
            };
            families.joins.resize(groups.groups.len(), false);
            if let Some(joins) = families.joins.get_mut(position as usize) {
                *joins = true;
            }
            families.joined.entry(base).or_default().push(position);
        }
        families
    }

    /// Whether the group at this position is written with another.
    pub(crate) fn joins(&self, position: u32) -> bool {
        self.joins.get(position as usize).copied().unwrap_or(false)
    }

    /// The groups which are written with that at this position.
    pub(crate) fn joined(&self, position: u32) -> &[u32] {
        self.joined
            .get(&position)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The group whose family has the samples of this name in OpenMetrics.
    fn base(
        &self,
        groups: &Groups<'a>,
        name: &[u8],
        said: &impl Fn(&Group<'a>) -> Said,
    ) -> Option<u32> {
        let (stem, suffix) = name.split_at(memchr::memrchr(b'_', name)?);
        let counter = [stem, OpenMetricsType::Counter.suffix()].concat();
        [stem, &counter].into_iter().find_map(|name| {
            let position = *self.positions.get(name)?;
            let group = groups.groups.get(position as usize)?;
            let kind = self.declared(group, said(group))?.kind;
            kind.derives(suffix).then_some(position)
        })
    }

    /// The type and name of a group's family. Nothing is renamed: where a name does not end as its type asks, or another
    /// family has what remains of it, the type is one that asks for nothing.
    pub(crate) fn declared(&self, group: &Group<'a>, said: Said) -> Option<Declared<'a>> {
        let kind = group.kind?;
        let refined = said.filter(|said| said.kind() == kind);
        let wanted = refined.unwrap_or_else(|| OpenMetricsType::of(kind));
        if wanted.suffix().is_empty() {
            return Some(Declared {
                kind: wanted,
                name: group.name,
            });
        }
        let stem = group.name.strip_suffix(wanted.suffix());
        let stem = stem.filter(|stem| !stem.is_empty() && self.is_free(stem, wanted));
        Some(match (stem, kind) {
            (Some(name), _) => Declared { kind: wanted, name },
            (None, Kind::Counter) => Declared {
                kind: OpenMetricsType::Unknown,
                name: group.name,
            },
            (None, _) => Declared {
                kind: OpenMetricsType::of(kind),
                name: group.name,
            },
        })
    }

    /// Whether no other family has this name in OpenMetrics.
    fn is_free(&self, stem: &[u8], kind: OpenMetricsType) -> bool {
        let counter = || [stem, OpenMetricsType::Counter.suffix()].concat();
        !self.positions.contains_key(stem)
            && (kind == OpenMetricsType::Counter || !self.positions.contains_key(&*counter()))
    }
}
