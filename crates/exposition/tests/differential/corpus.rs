//! Reads `cases.txt`, whose head describes its form.

/// One case of the corpus.
#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// One text per application.
    pub(crate) texts: Vec<Vec<u8>>,
    /// What is wrong with the text, if anything is.
    pub(crate) rejected: Option<String>,
    pub(crate) stricter: Option<String>,
    pub(crate) lenient: Option<String>,
    pub(crate) differs: Option<String>,
    pub(crate) rounded: Option<String>,
    pub(crate) retyped: Option<String>,
}

/// Whether a text is one of OpenMetrics.
pub(crate) fn is_openmetrics(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n')
        .any(|line| line == b"# EOF")
}

pub(crate) fn read() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in include_str!("cases.txt").lines().enumerate() {
        if let Some(name) = line.strip_prefix("== ") {
            let texts = vec![Vec::new()];
            cases.push(Case {
                name: name.to_owned(),
                texts,
                ..Case::default()
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        let text = case.texts.last_mut().unwrap();
        match line.split_at_checked(1) {
            Some(("|", rest)) => {
                text.extend(unescape(rest));
                text.push(b'\n');
            }
            Some((">", rest)) => text.extend(unescape(rest)),
            _ if line == "--" => case.texts.push(Vec::new()),
            _ => match line.split_once(' ').unwrap_or((line, "")) {
                ("" | "accept", "") => {}
                ("reject", kind) => case.rejected = Some(kind.to_owned()),
                ("stricter", reason) => case.stricter = Some(reason.to_owned()),
                ("lenient", reason) => case.lenient = Some(reason.to_owned()),
                ("differs", reason) => case.differs = Some(reason.to_owned()),
                ("retyped", reason) => case.retyped = Some(reason.to_owned()),
                ("rounded", reason) => case.rounded = Some(reason.to_owned()),
                _ => panic!("cases.txt, line {}: {line}", number + 1),
            },
        }
    }
    cases
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('%') {
        let (digits, after) = after.split_at(2);
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
