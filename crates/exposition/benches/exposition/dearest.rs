//! Texts of one megabyte each that are made to cost as much time as they can.

use std::fmt::Write as _;

const SIZE: usize = 1_000_000;
/// Halfway between two numbers that 64 bits can hold, and far from 1: the dearest to read as a number.
const HALFWAY: &str = "2.47032822920623272088284396434110686182529901307162382212792841250337753635104375932649918180817996189898282347722858865463328355177969898199387398005390939063150356595155702263922908583924491051844359318028499365361525003193704576782492193656236698636584807570015857692699037063119282795585513329278343384093519780155312465972635795746227664652728272200563740064854999770965994704540208281662262378573934507363390079677305775067501763246736009689513405355374585166611342237666786041621596804619144672918403005300575308490487653917113865916462395249126236538818796362393732804238910186723484976682350898633885879256283027559956575244555072551893136908362547791869486679949683240497058210285131854513962138377228261454376934125320985913276672363281250e-324";

/// What stands in each line, of a name or number of its own.
fn lines(mut line: impl FnMut(&mut String, usize)) -> String {
    let mut text = String::with_capacity(SIZE + 2_000);
    for number in 0.. {
        if text.len() >= SIZE {
            break;
        }
        line(&mut text, number);
    }
    text
}

/// A short name for each number.
fn name(mut number: usize) -> String {
    let mut name = String::new();
    loop {
        name.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return name;
        }
    }
}

fn labels(count: usize, prefix: &str) -> String {
    let labels: Vec<String> = (0..count)
        .map(|label| format!("{prefix}{label}=\"\""))
        .collect();
    labels.join(",")
}

/// Names which a filter by length and last byte cannot tell apart.
fn alike(count: usize) -> String {
    let labels: Vec<String> = (0..count)
        .map(|label| {
            format!(
                "{}{}a=\"\"",
                char::from(b'a' + (label / 26) as u8),
                char::from(b'a' + (label % 26) as u8)
            )
        })
        .collect();
    labels.join(",")
}

/// Each text with what is dear in it.
pub(crate) fn texts() -> Vec<(&'static str, String)> {
    let line = |line: &'static str| move |text: &mut String, _| text.push_str(line);
    let each = |form: fn(&mut String, usize)| lines(form);
    let with_eof = |text: String| text + "# EOF\n";
    let digits = format!("0.{}", "3".repeat(990));
    let near_one = "1.00000000000000011102230246251565404236316680908203125";
    let many = labels(100, "l");
    let alike = alike(32);
    let long = "x".repeat(1_000);
    vec![
        ("one short line", lines(line("a 1\n"))),
        ("a label", lines(line("a{b=\"c\"} 1\n"))),
        ("blank lines", lines(line("\n"))),
        ("comments", lines(line("#\n"))),
        (
            "families",
            each(|text, number| {
                let _ = writeln!(text, "{} 1", name(number));
            }),
        ),
        (
            "families with a long prefix",
            each(|text, number| {
                let _ = writeln!(text, "application_{} 1", name(number));
            }),
        ),
        (
            "families, no samples",
            each(|text, number| {
                let _ = writeln!(text, "# HELP {}", name(number));
            }),
        ),
        (
            "types, no samples",
            each(|text, number| {
                let _ = writeln!(text, "# TYPE {} gauge", name(number));
            }),
        ),
        (
            "types, no samples, EOF",
            with_eof(each(|text, number| {
                let _ = writeln!(text, "# TYPE {} info", name(number));
            })),
        ),
        (
            "counters, EOF",
            with_eof(each(|text, number| {
                let name = name(number);
                let _ = write!(text, "# TYPE {name} counter\n{name}_total 1\n");
            })),
        ),
        (
            "created, EOF",
            with_eof(each(|text, number| {
                let name = name(number);
                let _ = write!(
                    text,
                    "# TYPE {name} counter\n# HELP {name} x\n{name}_created 1\n"
                );
            })),
        ),
        ("two families in turn", lines(line("a 1\nb 1\n"))),
        (
            "families in turn",
            each(|text, number| {
                let _ = writeln!(text, "{} 1", name(number % 1_000));
            }),
        ),
        (
            "counts and sums",
            each(|text, number| {
                let name = name(number);
                let _ = write!(
                    text,
                    "# TYPE {name} summary\n{name}_sum 1\n{name}_count 1\n{name} 1\n"
                );
            }),
        ),
        (
            "late summaries",
            each(|text, number| {
                let name = name(number);
                let _ = write!(
                    text,
                    "{name}_sum 1\n{name}_count 1\n{name} 1\n# TYPE {name} summary\n"
                );
            }),
        ),
        (
            "late summaries, EOF",
            with_eof(each(|text, number| {
                let name = name(number);
                let _ = write!(
                    text,
                    "{name}_sum 1\n{name}_count 1\n{name} 1\n# TYPE {name} summary\n"
                );
            })),
        ),
        (
            "a late histogram",
            lines(line("a_bucket{le=\"0.5\"} 1\na_sum 1\na_count 1\n")) + "# TYPE a histogram\n",
        ),
        (
            "a late histogram, EOF",
            lines(line("a_bucket{le=\"0.5\"} 1\na_sum 1\na_count 1\n"))
                + "# TYPE a histogram\n# EOF\n",
        ),
        (
            "late counters, EOF",
            with_eof(
                each(|text, number| {
                    let _ = writeln!(text, "a_total{{x=\"{}\"}} 1", name(number));
                }) + "# TYPE a counter\n",
            ),
        ),
        (
            "32 labels alike",
            lines(|text, number| {
                let _ = writeln!(text, "a{number}{{{alike}}} 1");
            }),
        ),
        (
            "100 labels",
            lines(|text, number| {
                let _ = writeln!(text, "a{number}{{{many}}} 1");
            }),
        ),
        (
            "100 labels, last differ",
            lines(|text, number| {
                let _ = writeln!(text, "a{{{many},b=\"{number}\"}} 1");
            }),
        ),
        ("33 labels after 50,000", {
            let few = labels(33, "l");
            let mut text = format!("a{{{}}} 1\n", labels(50_000, "l"));
            text.push_str(&lines(|text, number| {
                let _ = writeln!(text, "a{number}{{{few}}} 1");
            }));
            text
        }),
        (
            "long prefixes",
            lines(|text, number| {
                let _ = writeln!(text, "a{{b=\"{long}{number}\"}} 1");
            }),
        ),
        (
            "numbers of 1,000 digits",
            lines(|text, _| {
                let _ = writeln!(text, "a {digits}");
            }),
        ),
        (
            "halfway numbers",
            lines(|text, _| {
                let _ = writeln!(text, "a {HALFWAY}");
            }),
        ),
        (
            "negative halfway numbers",
            lines(|text, _| {
                let _ = writeln!(text, "a -{HALFWAY}");
            }),
        ),
        (
            "short halfway numbers",
            lines(line("a 6.223015277861141707e-268\n")),
        ),
        (
            "bounds of 1,000 digits",
            "# TYPE a histogram\n".to_owned()
                + &lines(|text, _| {
                    let _ = writeln!(text, "a_bucket{{le=\"{digits}\"}} 1");
                }),
        ),
        (
            "negative buckets",
            "# TYPE a histogram\n".to_owned() + &lines(line("a_bucket{le=\"1e9\"} -0e9\n")),
        ),
        (
            "escapes",
            lines(line("a{b=\"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"} 1\n")),
        ),
        (
            "unknown escapes",
            lines(line("a{b=\"\\a\\a\\a\\a\\a\\a\\a\\a\\a\\a\\a\"} 1\n")),
        ),
        (
            "unknown escapes in help",
            each(|text, number| {
                let _ = writeln!(text, "# HELP {} \\a\\a\\a\\a\\a\\a\\a", name(number));
            }),
        ),
        ("blanks before samples", lines(line(" a 1\n"))),
        ("blanks before every second", lines(line(" a 1\na 1\n"))),
        ("timestamps", lines(line("a 1 1\n"))),
        ("timestamps, EOF", with_eof(lines(line("a 1 1\n")))),
        (
            "halfway timestamps, EOF",
            with_eof(lines(|text, _| {
                let _ = writeln!(text, "a 1 {HALFWAY}");
            })),
        ),
        (
            "timestamps near 1, EOF",
            with_eof(lines(|text, _| {
                let _ = writeln!(text, "a 1 {near_one}");
            })),
        ),
        (
            "long timestamps, EOF",
            with_eof(lines(|text, _| {
                let _ = writeln!(text, "a 1 {digits}");
            })),
        ),
        ("exemplars, EOF", with_eof(lines(line("a 1 # {} 1\n")))),
        (
            "halfway exemplars, EOF",
            with_eof(lines(|text, _| {
                let _ = writeln!(text, "a 1 # {{}} {HALFWAY}");
            })),
        ),
        (
            "one sample, EOF in front",
            "# EOF\n".to_owned() + &lines(line("a{b=\"c\"} 1\n")),
        ),
        ("almost EOF", lines(line("# EOF \n"))),
        ("umlauts", lines(line("a{b=\"äöüäöüäöü\"} 1\n"))),
    ]
}
