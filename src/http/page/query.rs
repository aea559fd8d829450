//! What a reader of the page wants to see: read from the address, and written into links.

use form_urlencoded::Serializer;

/// What the last pull of a connection may have come to, the worst first.
const OUTCOMES: [&str; 6] = ["error", "invalid", "timeout", "closed", UNPULLED, SUCCESS];
/// The outcome of a connection that no scrape has pulled yet.
pub(super) const UNPULLED: &str = "unpulled";
/// The outcome of a pull that brought valid text.
pub(super) const SUCCESS: &str = "success";

/// By what connections are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Peer,
    Outcome,
    Pulled,
    Took,
    Payload,
    Age,
    Transport,
}

impl Column {
    /// As they stand in the table.
    pub(super) const ALL: [Self; 7] = [
        Self::Peer,
        Self::Outcome,
        Self::Pulled,
        Self::Took,
        Self::Payload,
        Self::Age,
        Self::Transport,
    ];

    /// The word in addresses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Outcome => "outcome",
            Self::Pulled => "pulled",
            Self::Took => "took",
            Self::Payload => "payload",
            Self::Age => "age",
            Self::Transport => "transport",
        }
    }

    /// The word at its head.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Peer => "Peer",
            Self::Outcome => "Last pull",
            Self::Pulled => "Pulled",
            Self::Took => "Took",
            Self::Payload => "Payload",
            Self::Age => "Connected",
            Self::Transport => "Transport",
        }
    }

    /// The order that a reader most likely wants: the slowest and the largest are looked for, not the others.
    fn first_order(self) -> Order {
        match self {
            Self::Took | Self::Payload => Order::Descending,
            Self::Peer | Self::Outcome | Self::Pulled | Self::Age | Self::Transport => {
                Order::Ascending
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

impl Order {
    /// The value of `aria-sort`.
    pub(super) fn aria(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Descending => "descending",
        }
    }

    fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }
}

/// Which connections are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    All,
    /// Those whose last pull brought nothing.
    Failing,
    /// Those whose last pull came to this.
    Outcome(&'static str),
}

impl Show {
    /// Every choice, in the order of the page.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let outcomes = OUTCOMES.into_iter().map(Self::Outcome);
        [Self::All, Self::Failing].into_iter().chain(outcomes)
    }

    /// The word in addresses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failing => "failing",
            Self::Outcome(outcome) => outcome,
        }
    }

    /// The words on the page.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Failing => "Failing",
            Self::Outcome(UNPULLED) => "not pulled yet",
            Self::Outcome(outcome) => outcome,
        }
    }

    /// Whether connections with this outcome are listed.
    pub(super) fn includes(self, outcome: &str) -> bool {
        match self {
            Self::All => true,
            Self::Failing => is_failure(outcome),
            Self::Outcome(wanted) => wanted == outcome,
        }
    }
}

/// Whether an application with this outcome was pulled in vain.
pub(super) fn is_failure(outcome: &str) -> bool {
    outcome != SUCCESS && outcome != UNPULLED
}

/// The place of an outcome when the worst come first.
pub(super) fn rank(outcome: &str) -> usize {
    let place = OUTCOMES.iter().position(|known| *known == outcome);
    place.unwrap_or_default()
}

/// What a reader wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) sort: Column,
    pub(super) order: Order,
    pub(super) show: Show,
    /// Words that a row contains, all of them.
    pub(super) filter: String,
    /// From 1; past the last page, the last is meant.
    pub(super) page: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            sort: Column::Outcome,
            order: Order::Ascending,
            show: Show::All,
            filter: String::new(),
            page: 1,
        }
    }
}

impl Query {
    /// Reads the part of an address after the question mark. What makes no sense is as if it were not there.
    pub(super) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut order = None;
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "sort" => {
                    let column = Column::ALL.into_iter().find(|one| one.name() == value);
                    query.sort = column.unwrap_or(query.sort);
                }
                "order" if value == "asc" => order = Some(Order::Ascending),
                "order" if value == "desc" => order = Some(Order::Descending),
                "outcome" => {
                    let show = Show::all().find(|one| one.name() == value);
                    query.show = show.unwrap_or(query.show);
                }
                "filter" => value.trim().clone_into(&mut query.filter),
                "page" => query.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        query.order = order.unwrap_or(query.sort.first_order());
        query
    }

    /// The order in which rows stand by `column`, if they do.
    pub(super) fn order_by(&self, column: Column) -> Option<Order> {
        (self.sort == column).then_some(self.order)
    }

    /// The address of the same, sorted by `column`; the other way round where it is already.
    pub(super) fn sorted_by(&self, column: Column) -> String {
        let order = match self.order_by(column) {
            Some(order) => order.reversed(),
            None => column.first_order(),
        };
        let sorted = Self {
            sort: column,
            order,
            page: 1,
            ..self.clone()
        };
        sorted.address()
    }

    /// The address of other rows.
    pub(super) fn showing(&self, show: Show) -> String {
        let shown = Self {
            show,
            page: 1,
            ..self.clone()
        };
        shown.address()
    }

    /// The address of another page.
    pub(super) fn on_page(&self, page: usize) -> String {
        let turned = Self {
            page,
            ..self.clone()
        };
        turned.address()
    }

    /// The address of what is looked for, at another node.
    pub(super) fn elsewhere(&self) -> String {
        let looked_for = Self {
            show: self.show,
            filter: self.filter.clone(),
            ..Self::default()
        };
        looked_for.address()
    }

    /// What the filter's form sends beside the filter.
    pub(super) fn beside_filter(&self) -> Vec<(&'static str, &str)> {
        let mut pairs = self.pairs();
        pairs.retain(|(name, _)| *name != "filter");
        pairs
    }

    /// Relative to this page, so that a proxy in front may serve it under another path.
    pub(super) fn address(&self) -> String {
        let mut address = Serializer::for_suffix(String::from("?"), 1);
        address.extend_pairs(self.pairs());
        if self.page > 1 {
            address.append_pair("page", &self.page.to_string());
        }
        address.finish()
    }

    /// Everything but the page, unless it goes without saying.
    fn pairs(&self) -> Vec<(&'static str, &str)> {
        let mut pairs = Vec::new();
        let natural = self.sort.first_order();
        if self.sort != Self::default().sort {
            pairs.push(("sort", self.sort.name()));
        }
        match self.order {
            order if order == natural => {}
            Order::Ascending => pairs.push(("order", "asc")),
            Order::Descending => pairs.push(("order", "desc")),
        }
        if self.show != Show::All {
            pairs.push(("outcome", self.show.name()));
        }
        if !self.filter.is_empty() {
            pairs.push(("filter", &self.filter));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        let columns = Column::ALL.into_iter();
        for (sort, show) in columns.flat_map(|column| Show::all().map(move |show| (column, show))) {
            for order in [Order::Ascending, Order::Descending] {
                let query = Query {
                    sort,
                    order,
                    show,
                    filter: "10.0.0.1 & 50% \"ö\"".into(),
                    page: 3,
                };
                let address = query.address();
                assert_eq!(Query::parse(&address[1..]), query, "{address}");
            }
        }
    }

    #[test]
    fn what_goes_without_saying_is_not_said() {
        assert_eq!(Query::default().address(), "?");
        assert_eq!(Query::default().showing(Show::Failing), "?outcome=failing");
        assert_eq!(Query::default().sorted_by(Column::Took), "?sort=took");
    }

    #[test]
    fn what_makes_no_sense_is_as_if_it_were_not_there() {
        for text in [
            "",
            "&&=&",
            "sort=height&order=up&outcome=fine&page=-1&color=blue",
            "page=0",
            "page=99999999999999999999999",
            "filter=%20+",
        ] {
            assert_eq!(Query::parse(text), Query::default(), "{text}");
        }
        assert!(Query::parse("filter=%ff%fe").filter.chars().count() == 2);
    }

    #[test]
    fn a_second_click_on_a_column_turns_its_order_round_and_goes_to_the_first_page() {
        let first = Query::parse("sort=took&page=7");
        assert_eq!(first.order, Order::Descending);
        let second = first.sorted_by(Column::Took);
        assert_eq!(second, "?sort=took&order=asc");
        assert_eq!(
            Query::parse(&second[1..]).sorted_by(Column::Took),
            "?sort=took"
        );
    }

    #[test]
    fn the_form_keeps_everything_but_the_filter_and_the_page() {
        let query = Query::parse("sort=took&order=asc&outcome=failing&filter=x&page=2");
        let kept = [("sort", "took"), ("order", "asc"), ("outcome", "failing")];
        assert_eq!(query.beside_filter(), kept);
    }
}
