//! `test-postgres -- COMMAND…` runs a command with a PostgreSQL server of its own, named in `OWUI_TEST_POSTGRES`, and where
//! `OWUI_TEST_PGBOUNCER_BIN` names PgBouncer, with one in front of it, named in `OWUI_TEST_PGBOUNCER`.

use std::process::{Command, ExitCode};

use testing::pgbouncer::{self, PgBouncer};
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
    let mut command = Command::new(&program);
    command.args(arguments).env(SERVER, server.url());
    let bouncer = match std::env::var_os(pgbouncer::PROGRAM).map(|_| PgBouncer::start(server.port())) {
        Some(Ok(bouncer)) => {
            command.env(pgbouncer::RUNNING, bouncer.base());
            Some(bouncer)
        }
        Some(Err(error)) => return fail(&error.to_string()),
        None => None,
    };
    let status = command.status();
    drop(bouncer);
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
