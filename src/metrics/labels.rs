//! Enums of label values.

/// An enum that is a label: each of its values is written once.
macro_rules! labels {
    ($(#[$about:meta])* $visible:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visible enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The values of all.
            pub(crate) const LABELS: &'static [&'static str] = &[$($value),+];

            /// The value of the label.
            pub(crate) fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

pub(crate) use labels;
