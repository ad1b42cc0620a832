//! The help of the whole program: its commands by what they are for, and how they end.

use clap::Command;

/// What commands are for, and their names in the order of their use.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Set up", &["init", "install", "database", "doctor"]),
    ("Run", &["serve", "demo"]),
    ("Administer", &["pricing", "settings", "credit-group", "credits", "sponsored", "user", "key"]),
    ("Look", &["balance", "usage", "ledger", "verify", "audit"]),
    ("Shell", &["completion", "man"]),
];

pub(crate) const AFTER_HELP: &str = "`owui-token-tracking help COMMAND` has examples for each.\n\n\
    Begin with:\n  \
    owui-token-tracking demo      to see it at work\n  \
    owui-token-tracking init      on Open WebUI's database, or on one of its own\n  \
    owui-token-tracking doctor    to see what is missing\n\n\
    Exit codes:\n  \
    0  done, and nothing is wrong\n  \
    1  not done, or what was checked is not as it should be (as verify, doctor and database status do)\n  \
    2  the command line can't be understood";

/// The command with its subcommands listed by what they are for.
pub(crate) fn grouped(command: Command) -> Command {
    let width = command.get_subcommands().map(|one| one.get_name().len()).max().unwrap_or(0) + 2;
    let mut list = String::new();
    for (heading, names) in GROUPS {
        list.push_str(&format!("\n  {heading}:\n"));
        for one in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            list.push_str(&format!("  {:width$}{about}\n", one.get_name()));
        }
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\nCommands:\n{list}\nOptions:\n{{options}}{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, String)>) {
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let path = format!("{path} {}", one.get_name());
            if one.has_subcommands() {
                leaves(one, &path, found);
            } else {
                let text = one.get_after_help().map(ToString::to_string).unwrap_or_default();
                found.push((path, text));
            }
        }
    }

    #[test]
    fn every_command_is_listed() {
        let command = crate::Arguments::command();
        let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            assert!(listed.contains(&one.get_name()), "{}", one.get_name());
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && about.len() < 95, "{}: {about}", one.get_name());
        }
    }

    /// The arguments of each command in a text, as a shell takes them; variables before them and pipes behind are left out.
    fn typed(text: &str) -> Vec<Vec<String>> {
        let whole = text.replace("\\\n", " ");
        let examples = whole.lines().filter(|line| line.starts_with("  "));
        let lines = examples.filter_map(|line| line.split_once("owui-token-tracking "));
        let words = |line: &str| {
            let (mut words, mut quote) = (vec![String::new()], None);
            for letter in line.chars() {
                match (letter, quote) {
                    (letter, Some(mark)) if letter == mark => quote = None,
                    ('"' | '\'', None) => quote = Some(letter),
                    (' ', None) => words.push(String::new()),
                    (letter, _) => words.last_mut().unwrap().push(letter),
                }
            }
            words.retain(|word| !word.is_empty());
            words
        };
        let alone = |line: &str| line.split(" | ").next()?.split(" > ").next().map(words);
        lines.filter_map(|(_, line)| alone(line)).collect()
    }

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        let mut found = Vec::new();
        leaves(&crate::Arguments::command(), "owui-token-tracking", &mut found);
        assert!(found.len() > 40, "{found:?}");
        for (path, help) in found {
            assert!(help.contains(&path), "{path} has no example: {help}");
            for words in typed(&help) {
                let all = ["owui-token-tracking".to_owned()].into_iter().chain(words);
                let parsed = crate::Arguments::command().try_get_matches_from(all);
                assert!(parsed.is_ok(), "{path}: {}", parsed.unwrap_err());
            }
        }
    }
}
