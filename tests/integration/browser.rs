//! A real Chromium, driven through `tests/browser/driver.mjs`.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::peers::{CHROMIUMS, Program, found};

/// A browser with one window.
pub(crate) struct Browser {
    program: Program,
}

impl Browser {
    /// A window with these options of playwright's `newContext`.
    pub(crate) async fn open(options: Value) -> Self {
        let chromium = CHROMIUMS.into_iter().find_map(found);
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/driver.mjs");
        let mut command = Command::new("node");
        command.arg(driver).arg(chromium.expect("a Chromium"));
        let mut browser = Self {
            program: Program::start(&mut command),
        };
        browser.call("open", [options]).await;
        browser
    }

    /// Calls a method of playwright's `Page`, or one of the driver's own, and gives what it returns.
    pub(crate) async fn call<const N: usize>(
        &mut self,
        name: &str,
        arguments: [Value; N],
    ) -> Value {
        let call: Vec<_> = std::iter::once(json!(name)).chain(arguments).collect();
        self.program.say(&json!(call).to_string()).await;
        loop {
            let line = self.program.line_with("").await;
            match line.split_once(' ') {
                Some(("DONE", value)) => return value.parse().expect("JSON"),
                Some(("FAILED", why)) => panic!("{name}: {why}"),
                _ => {}
            }
        }
    }

    pub(crate) async fn go_to(&mut self, address: &str) {
        self.call("goto", [json!(address)]).await;
    }

    pub(crate) async fn click(&mut self, selector: &str) {
        self.call("click", [json!(selector)]).await;
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Value {
        self.call("evaluate", [json!(expression)]).await
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) async fn wait_for(&mut self, expression: &str) {
        self.call("waitFor", [json!(expression)]).await;
    }

    /// The text of every element that matches, without needless white space.
    pub(crate) async fn texts(&mut self, selector: &str) -> Vec<String> {
        let texts = self
            .evaluate(&format!(
                "[...document.querySelectorAll({selector:?})].map((one) => one.innerText.replace(/\\s+/g, ' ').trim())"
            ))
            .await;
        serde_json::from_value(texts).expect("texts")
    }

    /// The browser's console has nothing to complain about.
    pub(crate) async fn is_content(&mut self) {
        assert_eq!(self.call("complaints", []).await, json!([]));
    }

    /// Ends the browser in the way in which it tidies up.
    pub(crate) async fn close(mut self) {
        self.program.hang_up();
        assert!(self.program.ended().await.success());
    }
}
