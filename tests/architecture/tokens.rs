//! As much of Rust's tokens as it takes to find the paths in a file.

/// A piece of source text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    Word(String),
    /// `::`
    Step,
    Sign(char),
}

/// The tokens of a file, without comments, literals, and what is there for tests or documentation only.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(end) = literal(rest) {
            end
        } else if rest.starts_with("::") {
            found.push(Token::Step);
            2
        } else if is_of_word(first) {
            let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            end
        } else {
            if !first.is_whitespace() {
                found.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[end..];
    }
    without_tests(&found)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The end of the literal that the text begins with.
fn literal(text: &str) -> Option<usize> {
    if let Some(raw) = text.strip_prefix('r').or_else(|| text.strip_prefix("br")) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let start = text.len() - raw.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(start + text[start..].find(&close)? + close.len());
        }
    }
    match text.chars().next()? {
        '"' => quoted(text, '"'),
        // A lifetime has no second quote behind one character.
        '\'' if text[1..].starts_with('\\') || text[1..].chars().nth(1) == Some('\'') => {
            quoted(text, '\'')
        }
        _ => None,
    }
}

fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Leaves out each item below `#[cfg(test)]`, `#[cfg(doc)]` and the like.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = tokens[at..].starts_with(&[Token::Sign('#'), Token::Sign('[')]);
        let end = if attribute { block(tokens, at) } else { at + 1 };
        let is = |word: &str| tokens[at..end].contains(&Token::Word(word.into()));
        if attribute && is("cfg") && (is("test") || is("doc")) && !is("not") {
            at = item(tokens, end);
        } else {
            kept.extend_from_slice(&tokens[at..end]);
            at = end;
        }
    }
    kept
}

/// The end of an item: its block's, or a semicolon.
fn item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at] {
            Token::Sign(';') => return at + 1,
            Token::Sign('{') if !in_use(tokens, at) => return block(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Whether the brace at `at` is one of a `use` with several paths.
fn in_use(tokens: &[Token], at: usize) -> bool {
    at > 0 && tokens[at - 1] == Token::Step
}

/// The end of the first block of brackets from `at` on.
fn block(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Sign('[' | '{') => depth += 1,
            Token::Sign(']' | '}') => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}
