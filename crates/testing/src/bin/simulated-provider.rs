//! A simulated model server as a process of its own; says on its first line where it listens, and ends with its input or
//! on a signal.

use testing::simulator::Simulator;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "says where it listens")]
async fn main() -> std::io::Result<()> {
    let simulator = Simulator::start().await?;
    println!("listening on {}", simulator.base_url());
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    Ok(())
}
