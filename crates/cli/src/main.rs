//! The command `owui-token-tracking`: one file for each group of commands.

mod audit;
mod balance;
mod completion;
mod connect;
mod credit_group;
mod credits;
mod database;
mod demo;
mod doctor;
mod escape;
mod help;
mod init;
mod install;
mod key;
mod ledger;
mod man;
mod members;
mod memory;
mod models;
mod open_webui;
mod original;
mod output;
mod pricing;
mod private_file;
mod serve;
mod settings;
mod signals;
mod sponsored;
mod upstream;
mod usage;
mod user;
mod verify;
mod when;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tracks what each user of Open WebUI spends on paid models, and stops anyone who would spend more than granted.
#[derive(Debug, Parser)]
#[command(name = "owui-token-tracking", version, propagate_version = true, after_help = help::AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a database: tables, prices, settings. Safe to repeat.
    Init(init::Arguments),
    /// Put the tracked pipes into a running Open WebUI, over its API.
    Install(install::Arguments),
    /// Migrate the database, or show its state.
    #[command(subcommand)]
    Database(database::Command),
    /// Run the gateway: an OpenAI-compatible server that tracks and limits.
    Serve(serve::Arguments),
    /// Show it all at work, with a simulated model server and simulated users.
    Demo(demo::Arguments),
    /// Check every account against the ledger; exit code 1 if one differs.
    Verify(verify::Arguments),
    /// Check everything that this program depends on, and say for each problem what to do.
    Doctor(doctor::Arguments),
    /// Show what users have left today.
    Balance(balance::Arguments),
    /// Show who used what.
    Usage(Box<usage::Arguments>),
    /// Look into the ledger.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Manage prices.
    #[command(subcommand)]
    Pricing(Box<pricing::Command>),
    /// Manage settings.
    #[command(subcommand)]
    Settings(settings::Command),
    /// Manage credit groups.
    #[command(subcommand)]
    CreditGroup(credit_group::Command),
    /// Grant or revoke credits beside all limits.
    #[command(subcommand)]
    Credits(credits::Command),
    /// Manage sponsored allowances.
    #[command(subcommand)]
    Sponsored(sponsored::Command),
    /// Find users.
    #[command(subcommand)]
    User(user::Command),
    /// Manage the gateway's keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Show who changed what.
    Audit(audit::Arguments),
    /// Print what a shell needs to complete commands.
    Completion(completion::Arguments),
    /// Print the manual page, or write those of all commands.
    Man(man::Arguments),
    /// Run the private gateway of one process of Open WebUI's: the tracked pipes start it.
    Worker(worker::Arguments),
}

#[expect(clippy::print_stderr, reason = "errors go to people")]
fn main() -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match runtime.enable_all().thread_keep_alive(memory::IDLE_THREAD).build() {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => {
            eprintln!("error: no threads can be started: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "errors go to people")]
async fn run() -> ExitCode {
    let matches = help::grouped(Arguments::command()).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match arguments.command {
        Command::Init(arguments) => init::run(arguments).await,
        Command::Install(arguments) => install::run(arguments).await,
        Command::Database(command) => database::run(command).await,
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Balance(arguments) => balance::run(arguments).await,
        Command::Usage(arguments) => usage::run(*arguments).await,
        Command::Ledger(command) => ledger::run(command).await,
        Command::Pricing(command) => pricing::run(*command).await,
        Command::Settings(command) => settings::run(command).await,
        Command::CreditGroup(command) => credit_group::run(command).await,
        Command::Credits(command) => credits::run(command).await,
        Command::Sponsored(command) => sponsored::run(command).await,
        Command::User(command) => user::run(command).await,
        Command::Key(command) => key::run(command).await,
        Command::Audit(arguments) => audit::run(arguments).await,
        Command::Completion(arguments) => completion::run(&arguments, Arguments::command()),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
        Command::Worker(arguments) => worker::run(arguments).await,
    };
    let code = match done {
        Ok(code) => code,
        // Whoever reads has enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", escape::terminal(&format!("{error:#}")));
            if let Some(said) = connect::locked_by(&error) {
                eprintln!("{}", escape::terminal(&said));
            }
            ExitCode::FAILURE
        }
    };
    connect::close_all().await;
    code
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref::<std::io::Error>().is_some_and(broken)
}
