//! `man`: the manual pages.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::output;

/// Print the manual page, or write those of all commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking man | man -l -\n  \
    owui-token-tracking man --output ~/.local/share/man/man1")]
pub(crate) struct Arguments {
    /// Write a page for each command into this folder, which is made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, command: clap::Command) -> anyhow::Result<ExitCode> {
    match &arguments.output {
        Some(folder) => {
            let written = std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(command.disable_help_subcommand(true), folder));
            written.with_context(|| format!("writing into {}", folder.display()))?;
            output::line(format!("The pages are in {}.", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
