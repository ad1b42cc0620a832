//! `completion SHELL`: what a shell needs to complete our commands.

use std::io;
use std::process::ExitCode;

use clap_complete::Shell;

/// Print what a shell needs to complete the commands and options of this program.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    owui-token-tracking completion bash > ~/.local/share/bash-completion/completions/owui-token-tracking\n  \
    owui-token-tracking completion zsh > \"${fpath[1]}/_owui-token-tracking\"\n  \
    owui-token-tracking completion fish > ~/.config/fish/completions/owui-token-tracking.fish")]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}
