//! The `worker-agent` program. The library has its documentation.

fn main() -> std::process::ExitCode {
    worker_agent::main()
}
