//! The `relay` program; see the library for documentation.

fn main() -> std::process::ExitCode {
    relay::main()
}
