//! `test-postgres -- COMMAND…` runs a command with a PostgreSQL server of its own, named in `OWUI_TEST_POSTGRES`.

use std::process::{Command, ExitCode};

use testing::postgres::{SERVER, Server};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).skip_while(|argument| argument == "--");
    let Some(program) = arguments.next() else {
        return fail("usage: test-postgres -- COMMAND [ARGUMENT…]");
    };
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return fail(&error.to_string()),
    };
    let status = Command::new(&program).args(arguments).env(SERVER, server.url()).status();
    drop(server);
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => fail(&format!("{} can't be run: {error}", program.display())),
    }
}

#[expect(clippy::print_stderr, reason = "the one way for a program to say why it failed")]
fn fail(why: &str) -> ExitCode {
    eprintln!("test-postgres: {why}");
    ExitCode::FAILURE
}
