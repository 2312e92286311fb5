//! The `worker-agent` program; documented in the library.

fn main() -> std::process::ExitCode {
    worker_agent::main()
}
