//! How connections are spread over the active nodes, in a few numbers.

/// The active nodes of a moment, as one of them knows them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overview {
    /// Active nodes, this one among them.
    pub nodes: usize,
    /// Connections of this node.
    pub own: usize,
    /// What each node would have if all had the same.
    pub target: f64,
    /// Nodes that have less than the target.
    pub below: usize,
    /// What these lack to reach it, together: as much as the others have too many.
    pub lacking: f64,
}

impl Overview {
    /// This node's connections, and those of each other active node.
    pub fn new(own: usize, others: impl Iterator<Item = usize> + Clone) -> Self {
        let counts = std::iter::once(own).chain(others);
        let (nodes, all) = counts.clone().fold((0, 0_usize), |(nodes, all), count| {
            (nodes + 1, all.saturating_add(count))
        });
        let target = all as f64 / nodes as f64;
        let lacks = counts
            .map(|count| target - count as f64)
            .filter(|lack| *lack > 0.0);
        let (below, lacking) = lacks.fold((0, 0.0), |(below, lacking), lack| {
            (below + 1, lacking + lack)
        });
        Self {
            nodes,
            own,
            target,
            below,
            lacking,
        }
    }

    /// What this node has above the target; negative where it has less.
    pub fn surplus(&self) -> f64 {
        self.own as f64 - self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_nodes_lack_is_what_the_others_have_too_many() {
        let overview = Overview::new(40, [40, 10, 10].into_iter());
        assert_eq!((overview.nodes, overview.below), (4, 2));
        assert_eq!((overview.target, overview.lacking), (25.0, 30.0));
        assert_eq!(overview.surplus(), 15.0);
    }

    #[test]
    fn a_node_alone_has_what_it_should_have() {
        let overview = Overview::new(7, std::iter::empty());
        assert_eq!((overview.nodes, overview.below), (1, 0));
        assert_eq!((overview.target, overview.surplus()), (7.0, 0.0));
    }
}
